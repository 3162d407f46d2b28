//! How answers in JSON are read and printed, and the choice between tables and JSON.

use std::borrow::Cow;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::out::{printable_json, say, shown};

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct OutputFormat {
    /// How to print the answer: a table for people, or one JSON object a line for scripts
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub(super) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
}

pub(super) fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

pub(super) fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    member(value, name).as_array().into_iter().flatten()
}

pub(super) fn number(value: &Value, name: &str) -> Option<u64> {
    member(value, name).as_u64()
}

/// A text, harmless to a terminal; `-` where there is none.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> Cow<'a, str> {
    shown(plain(value, name))
}

/// A text as it is, for comparisons.
pub(super) fn plain<'a>(value: &'a Value, name: &str) -> &'a str {
    member(value, name).as_str().unwrap_or("-")
}

/// The texts of a list, with commas between them.
pub(super) fn joined(value: &Value, name: &str) -> String {
    let texts: Vec<&str> = list(value, name).filter_map(Value::as_str).collect();
    shown(&texts.join(", ")).into_owned()
}

pub(super) fn print_json(value: &Value) {
    say(&printable_json(&value.to_string()));
}
