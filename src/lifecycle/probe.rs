//! Where tests look over a worker's shoulder. Without the feature `testing` a [`Seat`] is empty and
//! its methods do nothing, so the shipped binary has no trace of it.
//!
//! That a purge is final is a promise about the inside of a worker: no acceptance is *completed*
//! and nothing is *handed out* by a purged key after the answer. A client cannot see that moment; a
//! request that it sends after the answer finds the new snapshot even if nobody had waited for the
//! old one. Imported by `published`, `drain` and `purge` alone.

#[cfg(feature = "testing")]
pub use with_probe::Probe;

#[cfg(feature = "testing")]
pub(super) use with_probe::Seat;

#[cfg(not(feature = "testing"))]
pub(super) use without_probe::Seat;

#[cfg(feature = "testing")]
mod with_probe {
    use std::fmt;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::sync::{Arc, OnceLock};

    use crate::keys::Kid;
    use crate::lifecycle::{Lifecycle, Purpose};

    /// A test that looks at, or stops, a worker at the moments that finality is about. Its methods
    /// run on the worker's thread, while the snapshot is held.
    pub trait Probe: fmt::Debug + Send + Sync {
        /// Worker number `worker` is about to complete an acceptance by the key `kid`, or to write
        /// a token that it signed or a JWKS answer in which it is the active one.
        fn completing(&self, worker: usize, purpose: Purpose, kid: &Kid);

        /// It has done so.
        fn completed(&self, worker: usize, purpose: Purpose, kid: &Kid);

        /// A purge of `kids` has waited long enough and is about to answer.
        fn answering(&self, kids: &[Kid]);
    }

    /// Where a probe sits, shared by the life cycle and all its snapshots.
    #[derive(Clone, Debug, Default)]
    pub(in crate::lifecycle) struct Seat(Arc<Shared>);

    #[derive(Debug, Default)]
    struct Shared {
        probe: OnceLock<Arc<dyn Probe>>,
        drain_removed: AtomicBool,
    }

    impl Seat {
        pub(in crate::lifecycle) fn completing(&self, worker: usize, purpose: Purpose, kid: &Kid) {
            if let Some(probe) = self.0.probe.get() {
                probe.completing(worker, purpose, kid);
            }
        }

        pub(in crate::lifecycle) fn completed(&self, worker: usize, purpose: Purpose, kid: &Kid) {
            if let Some(probe) = self.0.probe.get() {
                probe.completed(worker, purpose, kid);
            }
        }

        pub(in crate::lifecycle) fn answering(&self, kids: &[Kid]) {
            if let Some(probe) = self.0.probe.get() {
                probe.answering(kids);
            }
        }

        pub(in crate::lifecycle) fn drain_is_removed(&self) -> bool {
            self.0.drain_removed.load(SeqCst)
        }
    }

    impl Lifecycle {
        /// Lets `probe` look on from now on; the first one stays.
        pub fn testing_probe(&self, probe: Arc<dyn Probe>) {
            drop(self.published.seat().0.probe.set(probe));
        }

        /// Takes the drain out of every later purge, or puts it back, so that a test can show what
        /// it is good for.
        pub fn testing_skip_drain(&self, skip: bool) {
            self.published.seat().0.drain_removed.store(skip, SeqCst);
        }
    }
}

#[cfg(not(feature = "testing"))]
mod without_probe {
    use crate::keys::Kid;
    use crate::lifecycle::Purpose;

    #[derive(Clone, Debug, Default)]
    pub(in crate::lifecycle) struct Seat(());

    impl Seat {
        pub(in crate::lifecycle) const fn completing(&self, _: usize, _: Purpose, _: &Kid) {}
        pub(in crate::lifecycle) const fn completed(&self, _: usize, _: Purpose, _: &Kid) {}
        pub(in crate::lifecycle) const fn answering(&self, _: &[Kid]) {}
        pub(in crate::lifecycle) const fn drain_is_removed(&self) -> bool {
            false
        }
    }
}
