//! What every command teaches beside its options: when to use it, examples that run as they stand,
//! and its exit codes. `--help`, the manual pages and `docs/cli.md` show the same.
//!
//! Invariant: every command that can be called has a lesson (`tests/cli_help.rs`), and its examples
//! are executed by `tests/docs_commands.rs`.

mod clients;
mod keys;
mod others;

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::Cli;

/// What one command teaches.
pub(super) struct Lesson {
    /// Its words behind `portcullis`, such as `keys rotate`; empty for the program itself.
    pub(super) path: &'static str,
    /// When to use it and what to know; may be empty.
    pub(super) notes: &'static str,
    /// What to type, each with what it does.
    pub(super) examples: &'static [Example],
    /// Each exit code with what it means.
    pub(super) exits: &'static [Exit],
}

/// What it does, and what to type.
pub(super) type Example = (&'static str, &'static str);

/// A code and what it means.
pub(super) type Exit = (u8, &'static str);

/// Of the verbs that ask a running gateway.
const ASKING: &[Exit] = &[
    (0, "done"),
    (
        1,
        "the gateway refused, or cannot be reached; the message says which, with a Log ID",
    ),
    (2, "bad usage or configuration"),
    (3, "there is no admin token to ask with"),
];

/// The definition of the whole command line, lessons included.
pub(super) fn command() -> clap::Command {
    taught(Cli::command(), "")
}

/// The lesson of a command.
pub(super) fn lesson(path: &str) -> Option<&'static Lesson> {
    [others::LESSONS, keys::LESSONS, clients::LESSONS]
        .into_iter()
        .flatten()
        .find(|lesson| lesson.path == path)
}

fn taught(command: clap::Command, path: &str) -> clap::Command {
    let command = command.mut_subcommands(|sub| {
        let name = sub.get_name().to_owned();
        let path = if path.is_empty() {
            name
        } else {
            format!("{path} {name}")
        };
        taught(sub, &path)
    });
    match lesson(path) {
        Some(lesson) => command.after_long_help(lesson.in_help()),
        None => command,
    }
}

impl Lesson {
    /// The notes with each paragraph on one line, so that whoever shows them can break it; lines
    /// that begin with blanks stay as they are.
    pub(super) fn flowing_notes(&self) -> String {
        let mut text = String::new();
        let mut joins = false;
        for line in self.notes.lines() {
            let kept = line.is_empty() || line.starts_with(' ');
            if !text.is_empty() {
                text.push(if joins && !kept { ' ' } else { '\n' });
            }
            text.push_str(line);
            joins = !kept && !line.ends_with(':');
        }
        text
    }

    fn in_help(&self) -> String {
        let mut text = String::new();
        if !self.notes.is_empty() {
            text.push_str(&self.flowing_notes());
            text.push_str("\n\n");
        }
        text.push_str("Examples:\n");
        for (what, command) in self.examples {
            let _infallible = writeln!(text, "  # {what}");
            for line in command.lines() {
                let _infallible = writeln!(text, "  {line}");
            }
        }
        text.push_str("\nExit codes:\n");
        for (code, meaning) in self.exits {
            let _infallible = writeln!(text, "  {code}  {}", hanging(meaning, 5));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Broken into lines of at most 95 characters, the second and later ones indented.
fn hanging(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut width = indent;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width > indent && width + 1 + length > 95 {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            width = indent;
        } else if width > indent {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines
}
