//! What the commands print. A reader that has seen enough is no error; a full disk is.
//!
//! Invariants: whatever a text holds, it reaches a terminal without control, bidirectional or
//! invisible characters, those appear as `\uXXXX`; colours are ours alone, and only on a terminal
//! whose owner wants them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::telemetry::is_treacherous;

/// Whether something could not be written.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Whether nobody reads any more.
static READER_GONE: AtomicBool = AtomicBool::new(false);

/// Writes a line, or several. Outside text goes in through [`shown`] first, or it could begin lines.
pub(super) fn say(line: &str) {
    raw(&format!("{}\n", printable(line)));
}

/// Writes text as it is: scripts and pages that we made.
pub(super) fn raw(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            READER_GONE.store(true, Ordering::SeqCst);
        }
        Err(error) => {
            if !FAILED.swap(true, Ordering::SeqCst) {
                complain(&format!("cannot write to standard output: {error}"));
            }
        }
    }
}

/// Whether everything was written, or nobody wanted to read it.
pub(super) fn is_complete() -> bool {
    !FAILED.load(Ordering::SeqCst)
}

/// Whether whoever prints again and again should stop.
pub(super) fn is_over() -> bool {
    READER_GONE.load(Ordering::SeqCst) || FAILED.load(Ordering::SeqCst)
}

/// Says on standard error what went wrong beside the work itself.
pub(super) fn complain(what: &str) {
    // Where standard error is gone as well, nothing is left to say.
    let _unwritable = writeln!(std::io::stderr(), "portcullis: {}", printable(what));
}

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Notice,
    Bad,
    Quiet,
}

impl Tone {
    /// The parameter of the escape sequence (ECMA-48 SGR).
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Notice => Some("33"),
            Self::Bad => Some("1;31"),
            Self::Quiet => Some("2"),
        }
    }
}

/// Writes one line of pieces, each in its tone.
pub(super) fn say_toned(pieces: &[(Tone, &str)]) {
    let coloured = has_colours();
    let mut line = String::new();
    for (tone, text) in pieces {
        let text = shown(text);
        let _infallible = match tone.code() {
            Some(code) if coloured => write!(line, "\u{1b}[{code}m{text}\u{1b}[0m"),
            _ => write!(line, "{text}"),
        };
    }
    line.push('\n');
    raw(&line);
}

/// Before a table is drawn again in the same place: the top of an empty screen.
pub(super) fn clear_screen() {
    if is_screen() {
        raw("\u{1b}[H\u{1b}[2J");
    }
}

/// Whether standard output is a terminal that can be drawn on.
pub(super) fn is_screen() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && !dumb
}

/// <https://no-color.org>: any value but an empty one means none.
fn has_colours() -> bool {
    is_screen() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text from outside on its way to a line of ours: on one line, and harmless to a terminal.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, is_treacherous)
}

/// As [`shown`], with the line breaks that we put there.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_treacherous(c))
}

/// JSON with every treacherous character in the escaped form that means the same.
pub(super) fn printable_json(json: &str) -> Cow<'_, str> {
    escaped(json, is_treacherous)
}

/// In the notation of JSON (RFC 8259 §7).
fn escaped(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _infallible = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        for (text, safe) in [
            ("plain \u{e9}\u{4e2d}", "plain \u{e9}\u{4e2d}"),
            ("\u{1b}[31mred", "\\u001b[31mred"),
            ("a\nb\tc\r", "a\\u000ab\\u0009c\\u000d"),
            ("\u{9b}2J", "\\u009b2J"),
            ("user\u{202e}nimda", "user\\u202enimda"),
            ("a\u{2066}b\u{200b}c\u{feff}", "a\\u2066b\\u200bc\\ufeff"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(shown(text), safe, "{text:?}");
        }
        assert_eq!(printable("a\nb\u{7}"), "a\nb\\u0007");
        let value = serde_json::json!({ "a\u{202e}": "b\u{9b}\u{e0041}\n" });
        let json = printable_json(&value.to_string()).into_owned();
        assert!(json.is_ascii(), "{json}");
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(back, value);
    }
}
