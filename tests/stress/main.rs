//! What clients, disks and clocks can do to a gateway without any token: slow clients, floods of
//! frames, crowds of connections, costly requests, faults of the disk and odd
//! clocks. `docs/reliability.md` has the figures of the long runs, which are ignored here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod amplification;
mod clocks;
mod crowds;
mod disk;
mod floods;
mod slow;

use std::path::PathBuf;

use harness::Process;
use harness::certificates::Certificates;
use harness::process::Setup;
use harness::upstream::Upstream;

/// The real binary on HTTP/2 over TLS, its upstream, and the authority of its certificate.
struct Secure {
    process: Process,
    ca: PathBuf,
    _upstream: Upstream,
    _dir: tempfile::TempDir,
}

impl Secure {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = Certificates::make(dir.path());
        let upstream = Upstream::echo();
        let process = Process::start(&Setup {
            proxy: format!(
                ", h2: true, tls: {{ cert_file: {}, key_file: {} }}",
                made.cert.display(),
                made.key.display()
            ),
            more: "server: { workers: 2 }".to_owned(),
            ..Setup::new(upstream.address)
        })
        .await;
        Self {
            process,
            ca: made.ca,
            _upstream: upstream,
            _dir: dir,
        }
    }

    async fn connect(&self) -> harness::h2::H2Client {
        harness::h2::H2Client::connect(self.process.proxy, &self.ca).await
    }
}

/// `median` and the 99th of a hundred.
fn percentiles(mut millis: Vec<f64>) -> (f64, f64) {
    millis.sort_by(f64::total_cmp);
    let at = |share: usize| millis[(millis.len() * share / 100).min(millis.len() - 1)];
    (at(50), at(99))
}
