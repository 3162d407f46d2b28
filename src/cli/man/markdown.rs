//! `docs/cli.md`: every command with its options, examples and exit codes.

use std::fmt::Write as _;

use super::super::teach::{self, Lesson};

const PREFACE: &str = "\
<!-- Made by `portcullis man --markdown`; tests/cli_help.rs compares. -->
# The command line

Tables are for people, `--output json` is for scripts: one object a line, times in RFC 3339, the same members as the
admin API. Colours are for terminals alone, and `NO_COLOR` switches them off; control, bidirectional and invisible
characters from outside appear as `\\uXXXX`. A secret or a token is never taken from the command line. Whatever
fails says so in one message on standard error, with the Log ID where the gateway has one.

Verbs on a running gateway find it by the configuration file (`--config`, `PORTCULLIS_CONFIG`), or by `--admin-url`
and `--token-file` (`PORTCULLIS_ADMIN_URL`, `PORTCULLIS_ADMIN_TOKEN_FILE`) from anywhere else.

`portcullis man --dir DIR` writes the same as manual pages, `portcullis completions bash` makes the shell complete it.
In the examples `KID`, `PURGED_KID`, `PURGE_ID`, `LOG_ID` and `SECRET` are variables of the shell.
";

pub(super) fn reference(cli: &clap::Command) -> String {
    let mut text = PREFACE.to_owned();
    text.push_str("\n| command | |\n|---|---|\n");
    for (path, command) in super::all(cli).into_iter().skip(1) {
        let anchor = format!("portcullis-{}", path.replace(' ', "-"));
        let about = about(command);
        let _infallible = writeln!(text, "| [`{path}`](#{anchor}) | {} |", cell(&about));
    }
    for (path, command) in super::all(cli) {
        section(&mut text, &path, command);
    }
    text
}

fn about(command: &clap::Command) -> String {
    let about = command.get_about().map(ToString::to_string);
    about.unwrap_or_default()
}

fn section(text: &mut String, path: &str, command: &clap::Command) {
    let name = format!("portcullis {path}");
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim().trim_start_matches("Usage:").trim();
    let long = command.get_long_about().or_else(|| command.get_about());
    let long = long.map(ToString::to_string).unwrap_or_default();
    let _infallible = write!(
        text,
        "\n## {}\n{}\n\n```text\n{usage}\n```\n",
        name.trim_end(),
        long.trim_end()
    );
    let shown: Vec<&clap::Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version"))
        .collect();
    if !shown.is_empty() {
        text.push_str("\n| option | |\n|---|---|\n");
        for arg in shown {
            let _infallible = writeln!(text, "| {} | {} |", spelling(arg), meaning(arg));
        }
    }
    if let Some(lesson) = teach::lesson(path) {
        taught(text, lesson);
    }
}

fn spelling(arg: &clap::Arg) -> String {
    let values: String = arg
        .get_value_names()
        .into_iter()
        .flatten()
        .filter(|_| arg.get_action().takes_values())
        .map(|name| format!(" {name}"))
        .collect();
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}{values}`"),
        (None, Some(long)) => format!("`--{long}{values}`"),
        (Some(short), None) => format!("`-{short}{values}`"),
        (None, None) => format!("`{}`", values.trim_start()),
    }
}

fn meaning(arg: &clap::Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text = cell(&help.map(ToString::to_string).unwrap_or_default());
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| arg.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty() {
        let _infallible = write!(text, "; one of {}", values.join(", "));
    }
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .filter(|_| arg.get_action().takes_values())
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    if !defaults.is_empty() {
        let _infallible = write!(text, "; default {}", defaults.join(" "));
    }
    if let Some(variable) = arg.get_env() {
        let _infallible = write!(text, "; environment `{}`", variable.to_string_lossy());
    }
    text
}

fn taught(text: &mut String, lesson: &Lesson) {
    if !lesson.notes.is_empty() {
        if lesson.notes.contains("\n  ") {
            let _infallible = write!(text, "\n```text\n{}\n```\n", lesson.notes);
        } else {
            let _infallible = write!(text, "\n{}\n", lesson.flowing_notes());
        }
    }
    if !lesson.examples.is_empty() {
        text.push_str("\n```sh\n");
        for (what, command) in lesson.examples {
            let _infallible = writeln!(text, "# {what}\n{command}");
        }
        text.push_str("```\n");
    }
    text.push_str("\n| exit code | |\n|---|---|\n");
    for (code, meaning) in lesson.exits {
        let _infallible = writeln!(text, "| {code} | {} |", cell(meaning));
    }
}

/// A text in a cell of a table: one line, no bar.
fn cell(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}
