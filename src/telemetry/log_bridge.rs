//! What the libraries under us say through the `log` crate, made fit for our log.
//!
//! Pingora puts raw header bytes into some of its errors and paths with their query into others,
//! and so credentials. Invariant: the text of a library message with inserted values passes only
//! from modules known to speak of sockets and services, escaped, cut and redacted as text from
//! outside; of all others only the place in the source passes, which says what happened to a
//! reader of that source. `pingora_proxy` speaks of single requests alone, for each of which the
//! gateway writes its own line with a Log ID; it is silenced. A peer can provoke such messages, so
//! they are bounded per second like refusals.

use log::{LevelFilter, Metadata, Record, SetLoggerError};

use super::denial_log::{DenialLog, Disposition};
use super::log::{Level, Log};

/// Library messages per second that get a line of their own.
const LINES_PER_SECOND: u32 = 20;

/// Modules that speak of requests; the gateway reports those itself.
const SILENCED: [&str; 1] = ["pingora_proxy"];

/// Modules whose inserted values are addresses, names of ours and errors of the system.
const SPEAKING: [&str; 5] = [
    "pingora_core::connectors",
    "pingora_core::listeners",
    "pingora_core::server",
    "pingora_core::services",
    "pingora_runtime",
];

/// Names under which messages beyond the limit are counted.
const SOURCES: [&str; 4] = ["h2", "hyper", "pingora", "rustls"];

/// Forwards warnings and errors of libraries to `log`. Once per process: the facade is global.
///
/// # Errors
/// When a logger was installed before; that one stays.
pub fn install_bridge(log: &Log) -> Result<(), SetLoggerError> {
    log::set_boxed_logger(Box::new(Bridge::new(log)))?;
    log::set_max_level(LevelFilter::Warn);
    Ok(())
}

struct Bridge {
    log: Log,
    limit: DenialLog,
}

impl Bridge {
    fn new(log: &Log) -> Self {
        let limit = DenialLog::named(
            log,
            "library_messages_summary",
            "messages of libraries beyond the limit of individual lines",
            LINES_PER_SECOND,
            SOURCES,
        );
        Self {
            log: log.clone(),
            limit,
        }
    }
}

impl log::Log for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn && !is_within(metadata.target(), &SILENCED)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let target = record.target();
        let source = SOURCES
            .into_iter()
            .find(|source| target.starts_with(source));
        if let Disposition::Shared(_) = self.limit.note(self.log.now(), source.unwrap_or("other")) {
            return;
        }
        let level = if record.level() == log::Level::Error {
            Level::Error
        } else {
            Level::Warn
        };
        let line = self
            .log
            .event(level, "library_message", "a library reported a problem")
            .outside("module", target)
            .field("line", record.line().unwrap_or_default());
        match passable(record) {
            Some(text) => line.outside("text", text).emit(),
            None => line.emit(),
        }
    }

    fn flush(&self) {}
}

/// The text of a message, as far as it may be logged.
fn passable(record: &Record<'_>) -> Option<String> {
    match record.args().as_str() {
        Some(constant) => Some(constant.to_owned()),
        None if is_within(record.target(), &SPEAKING) => Some(redact(&record.args().to_string())),
        None => None,
    }
}

/// Whether the module path `target` is one of `modules` or lies in one.
fn is_within(target: &str, modules: &[&str]) -> bool {
    modules.iter().any(|module| {
        target
            .strip_prefix(module)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

/// Second line of defence behind [`SPEAKING`]: takes out queries and whatever looks like a secret,
/// and everything from the name of a credential field on.
fn redact(text: &str) -> String {
    const REDACTED: &str = "[redacted]";
    // A generated secret of 128 bits takes 22 characters of base64; a word of a message is shorter.
    const LONGEST_WORD: usize = 20;
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        let lower = word.to_ascii_lowercase();
        if ["authorization", "bearer", "basic", "cookie"]
            .iter()
            .any(|name| lower.contains(name))
        {
            out.push_str(REDACTED);
            return out;
        }
        let body = word.trim_end();
        let (seen, query) = body
            .split_once('?')
            .map_or((body, false), |(path, _)| (path, true));
        let secretive = |c: char| c.is_ascii_alphanumeric() || "-_+=~".contains(c);
        let longest = seen
            .split(|c| !secretive(c))
            .map(str::len)
            .max()
            .unwrap_or(0);
        if longest > LONGEST_WORD {
            out.push_str(REDACTED);
        } else {
            out.push_str(seen);
            if query {
                out.push('?');
                out.push_str(REDACTED);
            }
        }
        out.push_str(word.get(body.len()..).unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use log::Log as _;

    use super::*;
    use crate::clock::Timestamp;
    use crate::telemetry::LogCapture;
    use crate::telemetry::test_clock::TestClock;

    fn bridge() -> (Bridge, LogCapture, Arc<TestClock>) {
        let clock = TestClock::at(Timestamp::from_seconds(1_000));
        let (log, capture) = Log::capture(clock.handle());
        (Bridge::new(&log), capture, clock)
    }

    fn say(bridge: &Bridge, target: &str, level: log::Level, args: std::fmt::Arguments<'_>) {
        let record = Record::builder()
            .target(target)
            .level(level)
            .line(Some(42))
            .args(args)
            .build();
        bridge.log(&record);
    }

    #[test]
    fn header_bytes_in_a_library_error_never_reach_the_log() {
        let (bridge, capture, _) = bridge();
        let raw = "X-Pin: hidden\\r\\nGET /a?code=hidden HTTP/1.1\r\nAuthorization: Bearer hidden";
        for target in [
            "pingora_core::apps::http_app",
            "pingora_proxy",
            "pingora_proxy::proxy_h1",
        ] {
            say(
                &bridge,
                target,
                log::Level::Error,
                format_args!("fails to read: buf: {raw}"),
            );
        }
        let text = capture.text();
        assert!(!text.contains("hidden"), "{text}");
        let lines = capture.lines();
        assert_eq!(lines.len(), 1, "pingora_proxy is silent: {text}");
        assert_eq!(lines[0]["module"], "pingora_core::apps::http_app");
        assert_eq!(lines[0]["line"], 42);
        assert_eq!(lines[0]["level"], "error");
    }

    #[test]
    fn messages_about_sockets_and_constant_ones_pass() {
        let (bridge, capture, _) = bridge();
        let address = "127.0.0.1:8080";
        say(
            &bridge,
            "pingora_core::listeners::l4",
            log::Level::Warn,
            format_args!("{address} is in use, will try again"),
        );
        say(
            &bridge,
            "h2::client",
            log::Level::Warn,
            format_args!("a constant"),
        );
        say(
            &bridge,
            "pingora_core::server",
            log::Level::Info,
            format_args!("too low"),
        );
        let lines = capture.lines();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["text"], "127.0.0.1:8080 is in use, will try again");
        assert_eq!(lines[1]["text"], "a constant");
    }

    #[test]
    fn a_flood_of_messages_is_summed_up() {
        let (bridge, capture, clock) = bridge();
        for _ in 0..100 {
            say(
                &bridge,
                "rustls::conn",
                log::Level::Warn,
                format_args!("handshake failed"),
            );
        }
        clock.set(Timestamp::from_seconds(1_001));
        let lines = capture.lines();
        let own = lines
            .iter()
            .filter(|line| line["event"] == "library_message")
            .count();
        assert_eq!(own, 20);
        let summary = lines.last().unwrap();
        assert_eq!(summary["event"], "library_messages_summary");
        assert_eq!(summary["reasons"]["rustls"], 80);
    }

    #[test]
    fn whatever_looks_like_a_credential_is_redacted() {
        let token = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJpc3MiOiJodHRwOi8v.c2lnbmF0dXJl";
        for text in [
            format!("peer sent {token} to us"),
            format!("Authorization: {token}"),
            "authorization:x".to_owned(),
            "Bearer short".to_owned(),
            "GET /cb?code=short HTTP/1.1".to_owned(),
        ] {
            let redacted = redact(&text);
            for secret in [token, "short", "authorization:x"] {
                assert!(!redacted.contains(secret), "{redacted}");
            }
        }
        assert_eq!(
            redact("Accept() failed  os error 24"),
            "Accept() failed  os error 24"
        );
    }
}
