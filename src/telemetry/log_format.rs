//! How a log line looks: one JSON object, or one line for a terminal.
//!
//! Invariant: whatever the text, a rendered line holds exactly one line feed, its last byte, and
//! no character that a terminal obeys, that re-orders text or that cannot be seen; all of those
//! appear as `\uXXXX`. Used by `telemetry` alone.

use std::fmt::Write as _;

use serde_json::Value;

use super::log::{Format, Level, Rendered};
use super::redaction::{holds_token, without_tokens};
use crate::clock::Timestamp;
use crate::log_id::LogId;

/// Longest text from outside in a log, in bytes as written; what is longer ends in `…`.
pub(super) const OUTSIDE_LIMIT: usize = 128;

/// Longest text of our own. Our texts are short; the limit bounds what the queue can hold when one
/// of them quotes something.
const OWN_LIMIT: usize = 2048;

/// A line under construction: the fixed members are rendered at once, the fields as they come.
#[derive(Debug)]
pub(super) struct LineText {
    format: Format,
    level: Level,
    head: String,
    log_id: Option<LogId>,
    fields: String,
    /// The same line as JSON.
    twin: Option<Box<Self>>,
}

impl LineText {
    pub(super) fn new(
        format: Format,
        time: Timestamp,
        level: Level,
        event: &'static str,
        message: &str,
    ) -> Self {
        let mut head = String::with_capacity(256);
        match format {
            Format::Json => {
                let _ = write!(
                    head,
                    "{{\"time\":\"{time}\",\"level\":\"{level}\",\"event\":"
                );
                quote(&mut head, event, OWN_LIMIT);
                head.push_str(",\"message\":");
                quote(&mut head, message, OWN_LIMIT);
            }
            Format::Human => {
                let _ = write!(head, "{time} {}{level:>5}{RESET} ", colour(level));
                escape(&mut head, message, OWN_LIMIT, bare_piece);
                let _ = write!(head, " event={event}");
            }
        }
        Self {
            format,
            level,
            head,
            log_id: None,
            fields: String::new(),
            twin: None,
        }
    }

    /// The same line, rendered as JSON beside its own form from now on.
    pub(super) fn with_json_twin(
        self,
        time: Timestamp,
        event: &'static str,
        message: &str,
    ) -> Self {
        let twin = Self::new(Format::Json, time, self.level, event, message);
        Self {
            twin: Some(Box::new(twin)),
            ..self
        }
    }

    pub(super) fn log_id(&mut self, log_id: LogId) {
        self.log_id = Some(log_id);
        if let Some(twin) = &mut self.twin {
            twin.log_id(log_id);
        }
    }

    pub(super) fn field(&mut self, name: &'static str, value: &Value) {
        if let Some(twin) = &mut self.twin {
            twin.field(name, value);
        }
        self.name(name);
        match (self.format, value) {
            (Format::Human, Value::String(text)) if is_bare(text) => self.fields.push_str(text),
            (_, value) => write_value(&mut self.fields, value),
        }
    }

    pub(super) fn outside(&mut self, name: &'static str, bytes: &[u8]) {
        if let Some(twin) = &mut self.twin {
            twin.outside(name, bytes);
        }
        self.name(name);
        quote_outside(&mut self.fields, bytes);
    }

    /// The finished line.
    pub(super) fn finish(mut self) -> Rendered {
        let json = self.twin.take().map(|twin| twin.text().into_boxed_str());
        Rendered {
            level: self.level,
            log_id: self.log_id,
            json,
            text: self.text(),
        }
    }

    fn text(self) -> String {
        let mut line = self.head;
        if let Some(log_id) = self.log_id {
            let _ = match self.format {
                Format::Json => write!(line, ",\"log_id\":\"{log_id}\""),
                Format::Human => write!(line, " log_id={log_id}"),
            };
        }
        line.push_str(&self.fields);
        line.push_str(match self.format {
            Format::Json => "}\n",
            Format::Human => "\n",
        });
        line
    }

    fn name(&mut self, name: &'static str) {
        let _ = match self.format {
            Format::Json => write!(self.fields, ",\"{name}\":"),
            Format::Human => write!(self.fields, " {name}="),
        };
    }
}

const RESET: &str = "\u{1b}[0m";

fn colour(level: Level) -> &'static str {
    match level {
        Level::Debug => "\u{1b}[2m",
        Level::Info => "\u{1b}[32m",
        Level::Warn => "\u{1b}[33m",
        Level::Error => "\u{1b}[1;31m",
    }
}

/// Whether a terminal line may show `text` without quotes.
fn is_bare(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/@+".contains(&b);
    !text.is_empty() && text.len() <= OWN_LIMIT && text.bytes().all(plain)
}

/// Strings are escaped and bounded like every other text, names of members included.
fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
        Value::String(text) => quote(out, text, OWN_LIMIT),
        Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (position, (name, item)) in members.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                quote(out, name, OWN_LIMIT);
                out.push(':');
                write_value(out, item);
            }
            out.push('}');
        }
    }
}

pub(super) fn quote(out: &mut String, text: &str, limit: usize) {
    out.push('"');
    escape(out, text, limit, json_piece);
    out.push('"');
}

/// A JSON string of bytes that somebody else chose. Each byte that is not UTF-8 appears as `\xNN`;
/// so that this reads one way only, a backslash of theirs appears as `\x5c`.
pub(super) fn quote_outside(out: &mut String, bytes: &[u8]) {
    out.push('"');
    escape_outside(out, bytes);
    out.push('"');
}

/// What stands between the quotes of [`quote_outside`]. All text from outside comes through here, be
/// it for the log, the access log or a span; so this is where tokens are taken out.
pub(super) fn escape_outside(out: &mut String, bytes: &[u8]) {
    // Each byte yields at least one byte of output, so what lies beyond the limit plus one
    // character cannot show; a request of a megabyte costs no more than a short one.
    let begin = |bytes| <[u8]>::get(bytes, ..OUTSIDE_LIMIT + 8).unwrap_or(bytes);
    let redacted = holds_token(begin(bytes)).then(|| without_tokens(bytes));
    let seen = begin(redacted.as_deref().unwrap_or(bytes));
    let mut budget = Budget::new(OUTSIDE_LIMIT);
    'chunks: for chunk in seen.utf8_chunks() {
        for c in chunk.valid().chars() {
            let piece = if c == '\\' {
                byte_piece(b'\\')
            } else {
                json_piece(c)
            };
            if !budget.push(out, &piece) {
                break 'chunks;
            }
        }
        for &byte in chunk.invalid() {
            if !budget.push(out, &byte_piece(byte)) {
                break 'chunks;
            }
        }
    }
}

fn escape(out: &mut String, text: &str, limit: usize, piece: fn(char) -> Piece) {
    let mut budget = Budget::new(limit);
    for c in text.chars() {
        if !budget.push(out, &piece(c)) {
            break;
        }
    }
}

/// Bytes of output that a text may still take.
struct Budget(usize);

impl Budget {
    const fn new(limit: usize) -> Self {
        Self(limit)
    }

    /// Appends `piece`, or `…` and says false when it does not fit any more.
    fn push(&mut self, out: &mut String, piece: &Piece) -> bool {
        let before = out.len();
        match piece {
            Piece::Plain(c) => out.push(*c),
            Piece::Short(text) => out.push_str(text),
            Piece::Unit(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            Piece::Byte(byte) => {
                let _ = write!(out, "\\\\x{byte:02x}");
            }
        }
        if let Some(left) = self.0.checked_sub(out.len() - before) {
            self.0 = left;
            return true;
        }
        out.truncate(before);
        out.push('…');
        false
    }
}

/// One character or byte, in the form in which it is safe to write.
enum Piece {
    Plain(char),
    Short(&'static str),
    Unit(char),
    Byte(u8),
}

fn byte_piece(byte: u8) -> Piece {
    Piece::Byte(byte)
}

fn json_piece(c: char) -> Piece {
    match c {
        '"' => Piece::Short("\\\""),
        '\\' => Piece::Short("\\\\"),
        _ => bare_piece(c),
    }
}

fn bare_piece(c: char) -> Piece {
    match c {
        '\n' => Piece::Short("\\n"),
        '\r' => Piece::Short("\\r"),
        '\t' => Piece::Short("\\t"),
        _ if is_treacherous(c) => Piece::Unit(c),
        _ => Piece::Plain(c),
    }
}

/// Characters that act on a terminal, re-order what stands around them, break lines or are
/// invisible: controls, format characters and the default-ignorable ones of Unicode, private use.
#[must_use]
pub fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::telemetry::test_clock::TestClock;
    use crate::telemetry::{Log, LogCapture};

    fn capture(format: Format) -> (Log, LogCapture) {
        Log::capture_as(
            format,
            TestClock::at(Timestamp::from_millis(1_700_000_000_123)).handle(),
        )
    }

    fn outside(bytes: &[u8]) -> String {
        let mut out = String::new();
        quote_outside(&mut out, bytes);
        out
    }

    #[test]
    fn a_json_line_has_the_fixed_members_first() {
        let (log, capture) = capture(Format::Json);
        let log_id = LogId::from_bytes([7; 16]);
        log.event(Level::Warn, "token_refused", "the token was refused")
            .field("route", "api")
            .field("count", 3)
            .log_id(log_id)
            .outside("path", "/a")
            .emit();
        assert_eq!(
            capture.text(),
            format!(
                "{{\"time\":\"2023-11-14T22:13:20.123Z\",\"level\":\"warn\",\
                 \"event\":\"token_refused\",\"message\":\"the token was refused\",\
                 \"log_id\":\"{log_id}\",\"route\":\"api\",\"count\":3,\"path\":\"/a\"}}\n"
            )
        );
        assert_eq!(capture.lines()[0]["log_id"], log_id.to_string());
    }

    #[test]
    fn a_human_line_shows_the_same() {
        let (log, capture) = capture(Format::Human);
        log.event(Level::Error, "store_failed", "cannot \"write\"")
            .field("path", "data/keys")
            .field("reason", "disk full")
            .field("codes", json!([1, "a b"]))
            .emit();
        assert_eq!(
            capture.text(),
            "2023-11-14T22:13:20.123Z \u{1b}[1;31merror\u{1b}[0m cannot \"write\" \
             event=store_failed path=data/keys reason=\"disk full\" codes=[1,\"a b\"]\n"
        );
    }

    #[test]
    fn events_below_the_threshold_are_left_out() {
        let (log, capture) = capture(Format::Json);
        log.event(Level::Debug, "detail", "unseen")
            .field("a", 1)
            .outside("b", "c")
            .emit();
        log.clone()
            .with_threshold(Level::Debug)
            .event(Level::Debug, "detail", "seen")
            .emit();
        log.with_threshold(Level::Error)
            .event(Level::Warn, "warned", "unseen")
            .emit();
        assert_eq!(capture.lines().len(), 1);
    }

    #[test]
    fn outside_text_is_escaped() {
        assert_eq!(outside(b"plain /path?x=1"), r#""plain /path?x=1""#);
        assert_eq!(outside(b"a\r\nb\tc\0"), r#""a\r\nb\tc\u0000""#);
        assert_eq!(outside(b"\x1b[2J\x7f"), r#""\u001b[2J\u007f""#);
        assert_eq!(outside("\u{9b}2J".as_bytes()), r#""\u009b2J""#);
        assert_eq!(
            outside("a\u{202e}b\u{200b}c\u{feff}".as_bytes()),
            r#""a\u202eb\u200bc\ufeff""#
        );
        assert_eq!(outside("\u{e0041}".as_bytes()), r#""\udb40\udc41""#);
        assert_eq!(
            outside("\u{2028}\u{2066}\u{ad}".as_bytes()),
            r#""\u2028\u2066\u00ad""#
        );
        assert_eq!(outside("grün 漢字".as_bytes()), "\"grün 漢字\"");
        assert_eq!(outside(b"quote\" end"), r#""quote\" end""#);
        assert_eq!(outside(b"\xff\xc3("), r#""\\xff\\xc3(""#);
        assert_eq!(outside(br"\xff"), r#""\\x5cxff""#);
        assert_eq!(
            outside(b"\xed\xa0\x80"),
            r#""\\xed\\xa0\\x80""#,
            "a lone surrogate"
        );
    }

    #[test]
    fn a_token_in_outside_text_is_left_out_before_the_text_is_cut() {
        let token = format!("eyJhbGciOiJFUzI1NiJ9.{}.sig", "x".repeat(300));
        let shown = |text: &str| outside(text.as_bytes());
        assert_eq!(shown(&format!("/a/{token}/b")), r#""/a/[redacted]/b""#);
        assert_eq!(shown(&token), r#""[redacted]""#);
        assert_eq!(
            shown(&format!("/{token}/{}", "y".repeat(200))),
            format!("\"/[redacted]/{}…\"", "y".repeat(116))
        );
    }

    #[test]
    fn outside_text_ends_after_128_bytes_as_written() {
        let full = "x".repeat(128);
        assert_eq!(outside(full.as_bytes()), format!("\"{full}\""));
        assert_eq!(
            outside(format!("{full}y").as_bytes()),
            format!("\"{full}…\"")
        );
        assert_eq!(outside(&vec![b'x'; 1 << 20]), format!("\"{full}…\""));
        assert_eq!(
            outside(&vec![0x1b; 1 << 20]),
            format!("\"{}…\"", r"\u001b".repeat(21))
        );
        assert_eq!(
            outside(&vec![0xff; 1 << 20]),
            format!("\"{}…\"", r"\\xff".repeat(25))
        );
        // A character of several bytes across the limit is left out whole, not called invalid.
        let wide = "漢".repeat(1000);
        assert_eq!(
            outside(wide.as_bytes()),
            format!("\"{}…\"", "漢".repeat(42))
        );
        let shifted = format!("x{wide}");
        assert_eq!(
            outside(shifted.as_bytes()),
            format!("\"x{}…\"", "漢".repeat(42))
        );
    }

    #[test]
    fn texts_of_ours_are_bounded_too() {
        let (log, capture) = capture(Format::Json);
        let long = "m".repeat(1 << 20);
        log.event(Level::Info, "test", &long)
            .field("value", json!({ "k": long }))
            .emit();
        assert!(capture.text().len() < 2 * OWN_LIMIT + 256);
        assert!(
            capture.lines()[0]["value"]["k"]
                .as_str()
                .unwrap()
                .ends_with('…')
        );
    }

    /// Texts that try to begin a line of their own, to end a string, or to act on a terminal.
    const FORGERIES: [&str; 6] = [
        "x\n{\"level\":\"error\",\"event\":\"forged\"}",
        "x\r\n2023-11-14T22:13:20Z error forged event=forged",
        "x\",\"event\":\"forged\",\"y\":\"",
        "\u{85}\u{2028}\u{2029}\u{b}\u{c}forged",
        "\u{1b}[1A\u{1b}[2Kforged\u{9b}1A\u{8}\u{8}",
        "\\\",\"event\":\"forged\"} ",
    ];

    #[test]
    fn no_text_forges_a_line_or_reaches_a_terminal_raw() {
        for format in [Format::Json, Format::Human] {
            for text in FORGERIES {
                let (log, capture) = capture(format);
                log.event(Level::Info, "true_event", text)
                    .field("ours", text)
                    .field("nested", json!({ text: [text] }))
                    .outside("theirs", text)
                    .emit();
                let written = capture.text();
                assert_eq!(written.matches('\n').count(), 1, "{written}");
                assert!(written.ends_with('\n'));
                let colours = written.replace(colour(Level::Info), "").replace(RESET, "");
                let raw = colours
                    .trim_end_matches('\n')
                    .chars()
                    .find(|&c| is_treacherous(c));
                assert_eq!(raw, None, "{written:?}");
                if format == Format::Json {
                    let line = &capture.lines()[0];
                    assert_eq!(line["event"], "true_event");
                    assert_eq!(line["ours"], text);
                    assert_eq!(line["nested"][text][0], text);
                    assert_eq!(line.as_object().unwrap().len(), 7);
                }
            }
        }
    }
}
