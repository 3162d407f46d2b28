//! The verbs of `portcullis clients` that work on a running gateway, through its admin listener.

use std::borrow::Cow;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::admin_client::{AdminTarget, encoded};
use super::exit::Failure;
use super::out::{Tone, say, shown};
use super::table::Table;
use super::value::{Output, OutputFormat, member, plain, print_json, text};

const CLIENTS: &str = "/admin/v1/clients";

/// Clients asked for at a time.
const PAGE: usize = 1000;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct OneClient {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// The client's id
    id: String,
}

#[derive(Debug, Args)]
pub(super) struct OneClientWithReason {
    #[command(flatten)]
    client: OneClient,
    /// Why, for the history (at most 256 characters)
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    client: OneClientWithReason,
    /// A scope that it may ask for (may be repeated)
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Life time of its tokens in seconds; that of the issuer by default
    #[arg(long, value_name = "N")]
    token_ttl_seconds: Option<u64>,
}

pub(super) fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let client = args.target.client()?;
    let (mut all, mut after) = (Vec::new(), String::new());
    let mut page;
    loop {
        page = client.get(&format!("{CLIENTS}?limit={PAGE}&after={}", encoded(&after)))?;
        all.extend(
            member(&page, "clients")
                .as_array()
                .into_iter()
                .flatten()
                .cloned(),
        );
        match page.get("next").and_then(Value::as_str) {
            // It must go on, whatever answers.
            Some(next) if next > after.as_str() => after = next.to_owned(),
            _ => break,
        }
    }
    if let Some(clients) = page.get_mut("clients") {
        *clients = Value::Array(all.clone());
    }
    if args.output.output == Output::Json {
        print_json(&page);
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "clients: {} enabled, {} disabled, revision {}",
        member(&page, "enabled"),
        member(&page, "disabled"),
        member(&page, "revision")
    ));
    if page.get("clients").is_none() {
        say("names are shown to the roles operator and admin");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["STATE", "SOURCE", "ID", "TOKENS NOT BEFORE", "SCOPES"]);
    for client in &all {
        let state = plain(client, "state");
        let tone = if state == "disabled" {
            Tone::Bad
        } else {
            Tone::Good
        };
        let cell = |name| (Tone::Plain, plain(client, name).to_owned());
        table.toned_row([
            (tone, state.to_owned()),
            cell("source"),
            cell("id"),
            cell("tokens_not_before"),
            (Tone::Plain, scopes(client)),
        ]);
    }
    table.say();
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show(args: &OneClient) -> Result<ExitCode, Failure> {
    let answer = args
        .target
        .client()?
        .get(&format!("{CLIENTS}/{}", encoded(&args.id)))?;
    if args.output.output == Output::Json {
        print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    print_client(&answer);
    for event in member(&answer, "history").as_array().into_iter().flatten() {
        say(&format!(
            "{}  {:<15} by {}  {}",
            text(event, "at"),
            text(event, "action"),
            actor(member(event, "actor")),
            quoted(event)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// A verb that alters one client; `done` says in words what it did.
pub(super) fn change(
    args: &OneClientWithReason,
    verb: &str,
    done: &str,
) -> Result<ExitCode, Failure> {
    let path = format!("{CLIENTS}/{}/{verb}", encoded(&args.client.id));
    send(args, &path, Map::new(), done)
}

pub(super) fn add(args: &AddArgs) -> Result<ExitCode, Failure> {
    let mut body = Map::new();
    body.insert("id".to_owned(), json!(args.client.client.id));
    body.insert("scopes".to_owned(), json!(args.scopes));
    if let Some(seconds) = args.token_ttl_seconds {
        body.insert("token_ttl_seconds".to_owned(), json!(seconds));
    }
    send(&args.client, CLIENTS, body, "added")
}

fn send(
    args: &OneClientWithReason,
    path: &str,
    mut body: Map<String, Value>,
    done: &str,
) -> Result<ExitCode, Failure> {
    if let Some(reason) = &args.reason {
        body.insert("reason".to_owned(), json!(reason));
    }
    let client = args.client.target.client()?;
    let answer = client.post(path, &Value::Object(body))?;
    if args.client.output.output == Output::Json {
        print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let changed = *member(&answer, "changed") == json!(true);
    say(&format!(
        "{}{}: {done}, revision {}",
        if changed { "" } else { "nothing changed, " },
        shown(&args.client.id),
        member(&answer, "revision")
    ));
    print_client(member(&answer, "client"));
    if let Some(secret) = answer.get("secret").and_then(Value::as_str) {
        say(&format!("secret    {secret}"));
        say("It is shown this once and kept nowhere. Hand it to the client now.");
    }
    Ok(ExitCode::SUCCESS)
}

fn print_client(client: &Value) {
    say(&format!("client    {}", text(client, "id")));
    say(&format!(
        "state     {} ({})",
        text(client, "state"),
        text(client, "source")
    ));
    say(&format!("scopes    {}", scopes(client)));
    if let Some(at) = member(client, "tokens_not_before").as_str() {
        say(&format!(
            "tokens    refused when issued before {}",
            shown(at)
        ));
    }
    let secrets: Vec<&str> = member(client, "secrets_created_at")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !secrets.is_empty() {
        say(&format!("secrets   made at {}", shown(&secrets.join(", "))));
    }
    if let Some(at) = member(client, "changed_at").as_str() {
        say(&format!(
            "changed   {} by {}  {}",
            shown(at),
            actor(member(client, "changed_by")),
            quoted(client)
        ));
    }
}

fn scopes(client: &Value) -> String {
    let scopes = member(client, "scopes").as_array().into_iter().flatten();
    let scopes: Vec<&str> = scopes.filter_map(Value::as_str).collect();
    shown(&scopes.join(" ")).into_owned()
}

fn actor(actor: &Value) -> Cow<'_, str> {
    match member(actor, "name").as_str() {
        Some(name) => shown(name),
        None => text(actor, "kind"),
    }
}

/// The reason, escaped: somebody else wrote it, and this may be a terminal.
fn quoted(of: &Value) -> String {
    member(of, "reason")
        .as_str()
        .map(|reason| format!("\"{}\"", shown(reason)))
        .unwrap_or_default()
}
