//! Telemetry from outside the crate: the process-wide bridge, a log of eight threads.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portcullis::clock::SystemClock;
use portcullis::telemetry::{Level, Log, install_bridge};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn messages_of_libraries_reach_the_log_once_the_bridge_stands() {
    let (log, capture) = Log::capture(Arc::new(SystemClock));
    install_bridge(&log).expect("no logger stands yet");
    assert!(install_bridge(&log).is_err(), "one per process");
    let address = "127.0.0.1:8080";
    log::warn!(target: "pingora_core::listeners::l4", "{address} is in use, will try again");
    log::error!(target: "pingora_proxy", "Fail to proxy: buf: {address}");
    let lines = capture
        .wait_for(|lines| !lines.is_empty(), DEADLINE)
        .expect("the message is written");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["event"], "library_message");
    assert_eq!(lines[0]["text"], "127.0.0.1:8080 is in use, will try again");
}

#[test]
fn a_wait_that_fails_tells_what_was_seen() {
    let (log, capture) = Log::capture(Arc::new(SystemClock));
    log.event(Level::Info, "seen", "a line").emit();
    let seen = capture
        .wait_for(|lines| lines.len() > 1, Duration::from_millis(50))
        .expect_err("there is one line alone");
    assert_eq!(seen[0]["event"], "seen");
}

#[test]
fn eight_threads_write_whole_lines() {
    let (log, capture) = Log::capture(Arc::new(SystemClock));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let log = log.clone();
            thread::spawn(move || {
                for line in 0..500 {
                    log.event(Level::Info, "line", "a line")
                        .field("writer", writer)
                        .field("number", line)
                        .outside("noise", "\r\n{\"event\":\"forged\"}\n")
                        .emit();
                }
            })
        })
        .collect();
    writers
        .into_iter()
        .for_each(|writer| writer.join().expect("no writer fails"));
    let lines = capture.lines();
    assert_eq!(lines.len() as u64 + log.dropped(), 8 * 500);
    assert!(lines.iter().all(|line| line["event"] == "line"));
}
