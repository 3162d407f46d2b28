//! `portcullis status`: how the gateway and everything behind it is.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::clock::Timestamp;

use super::admin_client::AdminTarget;
use super::exit::Failure;
use super::out::{Tone, say_toned, shown};
use super::table::Table;
use super::value::{OutputFormat, list, member, plain};
use super::watch::{Look, Watch};
use super::when::span;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    #[command(flatten)]
    watch: Watch,
}

pub(super) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let client = args.target.client()?;
    args.watch.repeat(
        args.output.output,
        || client.get("/admin/v1/status"),
        say_status,
        |status| {
            Look::Open(if plain(status, "overall") == "ok" {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        },
    )
}

fn say_status(status: &Value) {
    let now = Timestamp::parse(plain(status, "now")).unwrap_or_default();
    let overall = plain(status, "overall");
    let up = Timestamp::parse(plain(status, "started_at"))
        .map(|since| format!(", up for {}", span(now.since(since))))
        .unwrap_or_default();
    let about = format!(
        "  portcullis {} at {}{up}",
        plain(status, "version"),
        plain(status, "issuer")
    );
    say_toned(&[(tone(overall), &word(overall)), (Tone::Plain, &about)]);
    let mut table = Table::new(&["STATUS", "COMPONENT", "SINCE", "WHY"]);
    for component in list(status, "components") {
        table.toned_row(row(component, component_name(component), now));
        for endpoint in list(component, "endpoints") {
            let name = format!("  {}", plain(endpoint, "address"));
            table.toned_row(row(endpoint, name, now));
        }
    }
    table.say();
    for component in list(status, "components") {
        let facts = member(component, "facts").as_object();
        let facts: Vec<String> = facts
            .into_iter()
            .flatten()
            .map(|(label, value)| {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                format!("{label} {value}")
            })
            .collect();
        if !facts.is_empty() {
            let name = format!("{}: ", component_name(component));
            say_toned(&[(Tone::Quiet, &name), (Tone::Plain, &facts.join("; "))]);
        }
    }
}

fn component_name(component: &Value) -> String {
    match (plain(component, "kind"), plain(component, "name")) {
        ("upstream", name) => format!("upstream {name}"),
        (_, "-") => plain(component, "id").to_owned(),
        (_, name) => name.to_owned(),
    }
}

fn row(of: &Value, name: String, now: Timestamp) -> [(Tone, String); 4] {
    let status = plain(of, "status");
    let since = Timestamp::parse(plain(of, "since")).map_or_else(
        || "-".to_owned(),
        |since| format!("{} ago", span(now.since(since))),
    );
    [
        (tone(status), word(status)),
        (Tone::Plain, name),
        (Tone::Plain, since),
        (Tone::Plain, plain(of, "reason").to_owned()),
    ]
}

fn word(status: &str) -> String {
    shown(&status.to_uppercase()).into_owned()
}

fn tone(status: &str) -> Tone {
    match status {
        "ok" => Tone::Good,
        "warning" => Tone::Notice,
        _ => Tone::Bad,
    }
}
