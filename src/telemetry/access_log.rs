//! The access log: one line a request, apart from the log.
//!
//! The *log* tells of events, one line each, and a Log ID names exactly one of its lines. The
//! *access log* is another stream: it tells of requests, and its line for a refused request
//! repeats that Log ID, to lead from one to the other. Its lines say `"stream":"access"`.
//!
//! Invariants: a request never waits for it (invariant 20): a worker moves one record into a
//! bounded queue of its own, and a thread of the log's formats and writes. A line that finds the
//! queue full or cannot be written is counted in `portcullis_access_log_dropped_total`. Lines of
//! answers other than 1xx to 3xx, and of everything that we refused, are never sampled away. No
//! line holds a header field, a query or a token.

mod format;
mod target;
mod writer;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prometheus::IntCounter;

use self::format::Formatter;
use self::target::Output;
use self::writer::Writer;
use super::lanes::{self, Bell, Lanes};
use super::log::Log;
use super::log_writer::FlushDesk;
use super::metrics::Metrics;
use super::request_record::{Names, RequestRecord, RouteNames};
use crate::clock::Clock;

/// Lines that may wait of each worker. At 600 bytes a record about 2.4 MiB, taken at start.
const LANE_LINES: u32 = 4096;

/// What the configuration says of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// How a line looks.
    pub format: AccessFormat,
    /// Where lines go.
    pub target: AccessTarget,
    /// Which share of the successes is written.
    pub sample_successes: SampleRate,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object.
    Json,
    /// The Common Log Format, and the other fields behind it as `name=value`.
    Common,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessTarget {
    /// Standard output, between the lines of the log.
    Stdout,
    /// This file; looked for again when it was renamed or removed.
    File(PathBuf),
}

impl fmt::Display for AccessTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The whole, of which a [`SampleRate`] is a share.
const SCALE: f64 = 4_294_967_296.0;

/// A share from none to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRate(u64);

impl SampleRate {
    /// All of them.
    pub const ALL: Self = Self(1 << 32);

    /// The share `rate`, from 0 to 1; `None` beyond.
    #[must_use]
    pub fn new(rate: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 2^32"
        )]
        // Rounded up, so that 0.1 of ten thousand is a thousand and not one less.
        let scaled = |rate: f64| (rate * SCALE).ceil() as u64;
        (0.0..=1.0).contains(&rate).then(|| Self(scaled(rate)))
    }

    /// The share, from 0 to 1, to nine digits.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        const DIGITS: f64 = 1e9;
        #[expect(clippy::cast_precision_loss, reason = "at most 2^32")]
        let scaled = self.0 as f64;
        (scaled / SCALE * DIGITS).round() / DIGITS
    }

    /// Whether something whose number is spread evenly over all numbers belongs to the share.
    pub(super) fn takes(self, number: u32) -> bool {
        u64::from(number) < self.0
    }
}

/// Who writes the access log. Clones write the same one.
#[derive(Clone)]
pub struct AccessLog(Arc<Shared>);

struct Shared {
    lanes: Lanes<RequestRecord>,
    /// Of each lane.
    samplers: Box<[Sampler]>,
    rate: SampleRate,
    dropped: IntCounter,
    desk: Arc<FlushDesk>,
    bell: Bell,
}

/// What the writing thread needs to know.
#[derive(Debug)]
pub struct AccessLogParts<'a> {
    /// The routes in their order.
    pub routes: Vec<RouteNames>,
    /// How many workers there are.
    pub workers: usize,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Learns of a target that cannot be written.
    pub log: &'a Log,
    /// Where lost lines are counted.
    pub metrics: &'a Metrics,
}

impl AccessLog {
    /// Starts the thread that writes. A file must be writable now; later it may come and go.
    ///
    /// # Errors
    /// When the file cannot be opened, or the system creates no thread.
    pub fn start(settings: &AccessLogSettings, parts: AccessLogParts<'_>) -> io::Result<Self> {
        let output = Output::new(&settings.target)?;
        let (lanes, ends) = lanes::lanes(parts.workers, LANE_LINES);
        let desk = Arc::<FlushDesk>::default();
        let dropped = parts.metrics.access_log_dropped();
        let rate = settings.sample_successes;
        let writer = Writer {
            ends,
            formatter: Formatter::new(settings.format, Names::new(parts.routes), rate),
            output,
            clock: parts.clock,
            log: parts.log.clone(),
            dropped: dropped.clone(),
            desk: Arc::clone(&desk),
        };
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self(Arc::new(Shared {
            samplers: (0..lanes.len()).map(|_| Sampler::default()).collect(),
            bell: lanes.bell(),
            lanes,
            rate,
            dropped,
            desk,
        })))
    }

    /// Whether a request of this worker gets a line: a success when its turn comes, everything
    /// else always. To be asked once for each request.
    #[must_use]
    pub fn wants(&self, worker: usize, is_success: bool) -> bool {
        let samplers = &self.0.samplers;
        !is_success
            || samplers
                .get(worker)
                .or_else(|| samplers.last())
                .is_none_or(|sampler| sampler.takes(self.0.rate))
    }

    /// Hands a record to the writer; never blocks.
    pub fn write(&self, worker: usize, record: RequestRecord) {
        if self.0.lanes.push(worker, record).is_err() {
            self.0.dropped.inc();
        }
    }

    /// Hands over the record of a request that no worker saw; never blocks.
    pub fn write_unserved(&self, record: RequestRecord) {
        self.write(usize::MAX, record);
    }

    /// Waits until all lines handed over before are written or lost; false when that takes longer
    /// than `timeout`. For shutdown and tests.
    #[must_use = "false means that lines are still unwritten"]
    pub fn flush(&self, timeout: Duration) -> bool {
        let number = self.0.desk.request(false);
        self.0.bell.ring();
        self.0.desk.wait(number, timeout)
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("rate", &self.0.rate)
            .field("dropped", &self.0.dropped.get())
            .finish_non_exhaustive()
    }
}

/// Chooses successes evenly: of any n in a row it has taken the share of them, rounded down.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Sampler(AtomicU32);

impl Sampler {
    fn takes(&self, rate: SampleRate) -> bool {
        match u32::try_from(rate.0) {
            Ok(0) => false,
            // The sum of the shares has passed another whole one.
            Ok(step) => {
                let before = self.0.fetch_add(step, Ordering::Relaxed);
                before.checked_add(step).is_none()
            }
            Err(_all) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_is_exact() {
        for (rate, of, expected) in [
            (0.0, 1_000, 0),
            (1.0, 1_000, 1_000),
            (0.1, 10_000, 1_000),
            (0.25, 999, 249),
            (0.7, 10_000, 7_000),
            (0.01, 100_000, 1_000),
        ] {
            let sampler = Sampler::default();
            let rate = SampleRate::new(rate).unwrap();
            let taken = (0..of).filter(|_| sampler.takes(rate)).count();
            assert_eq!(taken, expected, "{rate:?}");
        }
    }

    #[test]
    fn a_rate_is_a_share() {
        assert_eq!(SampleRate::new(1.0), Some(SampleRate::ALL));
        assert_eq!(SampleRate::new(0.0).unwrap().as_f64(), 0.0);
        assert_eq!(SampleRate::new(0.1).unwrap().as_f64(), 0.1);
        for beyond in [-0.1, 1.1, f64::NAN] {
            assert_eq!(SampleRate::new(beyond), None);
        }
        assert!(SampleRate::ALL.takes(u32::MAX));
        assert!(!SampleRate::new(0.0).unwrap().takes(0));
    }
}
