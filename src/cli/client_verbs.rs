//! The verbs of `portcullis clients` that work on a running gateway, through its admin listener.

use std::borrow::Cow;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::admin_client::{AdminTarget, encoded};
use super::exit::Failure;
use super::out::{Tone, say, shown};
use super::table::Table;
use super::value::{Output, OutputFormat, list as values, member, number, plain, print_json, text};

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
pub(super) struct ChangesArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// How many; 1000 are kept
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    lines: u64,
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
pub(super) struct RotateSecretArgs {
    #[command(flatten)]
    client: OneClientWithReason,
    /// End the older one of two secrets without asking
    #[arg(long)]
    yes: bool,
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
    let mut table = Table::new(&[
        "STATE",
        "SOURCE",
        "ID",
        "LIVE TOKENS>",
        "LAST SEEN",
        "LAST FAILURE",
        "TOKENS NOT BEFORE",
        "SCOPES",
    ]);
    for client in &all {
        let is_gone = plain(client, "source") == "gone";
        let state = if is_gone { "-" } else { plain(client, "state") };
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
            (Tone::Plain, live_tokens(client)),
            cell("last_seen_at"),
            (failure_tone(client), last_failure(client)),
            cell("tokens_not_before"),
            (Tone::Plain, scopes(client)),
        ]);
    }
    table.say();
    Ok(ExitCode::SUCCESS)
}

/// An upper bound, where this process knows one.
fn live_tokens(client: &Value) -> String {
    let live = number(client, "live_tokens");
    live.map_or_else(|| "unknown".to_owned(), |live| live.to_string())
}

/// When it was last refused within a day, and why.
fn last_failure(client: &Value) -> String {
    match member(client, "last_failure_at").as_str() {
        Some(at) => format!("{at} {}", plain(client, "last_failure_code")),
        None => "-".to_owned(),
    }
}

/// A refusal matters for as long as nothing was accepted after it.
fn failure_tone(client: &Value) -> Tone {
    let at = |name| member(client, name).as_str();
    match (at("last_failure_at"), at("last_seen_at")) {
        (Some(failed), seen) if seen.is_none_or(|seen| seen < failed) => Tone::Bad,
        _ => Tone::Plain,
    }
}

/// What was done to all clients, oldest first.
pub(super) fn changes(args: &ChangesArgs) -> Result<ExitCode, Failure> {
    let path = format!("/admin/v1/client-changes?limit={}", args.lines);
    let answer = args.target.client()?.get(&path)?;
    if args.output.output == Output::Json {
        print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let newest_first: Vec<&Value> = values(&answer, "changes").collect();
    for event in newest_first.into_iter().rev() {
        let client = text(event, "client");
        say(&event_in_words(event, Some(&client)));
    }
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
    for event in values(&answer, "history") {
        say(&event_in_words(event, None));
    }
    Ok(ExitCode::SUCCESS)
}

/// What was done, when, to whom, by whom and why.
fn event_in_words(event: &Value, client: Option<&str>) -> String {
    let ended = member(event, "ended_secret_created_at").as_str();
    let ended = ended.map(|made| format!("  ended the secret made at {}", shown(made)));
    let client = client.map(|client| format!("{client}  "));
    format!(
        "{}  {:<15} {}by {}  {}{}",
        text(event, "at"),
        text(event, "action"),
        client.unwrap_or_default(),
        actor(member(event, "actor")),
        quoted(event),
        ended.unwrap_or_default()
    )
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

/// A further secret; whoever is at a terminal is asked before one that works would end.
pub(super) fn rotate_secret(args: &RotateSecretArgs) -> Result<ExitCode, Failure> {
    let of = &args.client.client;
    if !args.yes && std::io::stdin().is_terminal() {
        let path = format!("{CLIENTS}/{}", encoded(&of.id));
        let client = of.target.client()?.get(&path)?;
        let made: Vec<Cow<'_, str>> = list_of(&client, "secrets_created_at").map(shown).collect();
        if let [oldest, _, ..] = &*made {
            confirm(&of.id, oldest)?;
        }
    }
    change(&args.client, "rotate-secret", "it has a new secret")
}

#[expect(
    clippy::print_stderr,
    reason = "a question to the person at the terminal"
)]
fn confirm(id: &str, oldest: &str) -> Result<(), Failure> {
    eprint!(
        "{} has two secrets that work. The older one, made at {oldest}, ends with this: whoever uses it is shut out.\n\
         Type rotate to go on: ",
        shown(id)
    );
    let _unwritable = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.is_ok() && line.trim() == "rotate" {
        return Ok(());
    }
    Err(Failure::Other(
        "not confirmed; nothing was changed".to_owned(),
    ))
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
    if let Some(made) = member(&answer, "ended_secret_created_at").as_str() {
        say(&format!(
            "ended     the secret made at {}; whoever still uses it is refused",
            shown(made)
        ));
    }
    if let Some(secret) = answer.get("secret").and_then(Value::as_str) {
        say(&format!("secret    {secret}"));
        say("It is shown this once and kept nowhere. Hand it to the client now.");
    }
    Ok(ExitCode::SUCCESS)
}

fn print_client(client: &Value) {
    say(&format!("client    {}", text(client, "id")));
    if plain(client, "source") == "gone" {
        say("state     gone: neither the configuration nor the store knows it any more");
    } else {
        say(&format!(
            "state     {} ({})",
            text(client, "state"),
            text(client, "source")
        ));
    }
    say(&format!("scopes    {}", scopes(client)));
    if let Some(at) = member(client, "tokens_not_before").as_str() {
        say(&format!(
            "tokens    refused when issued before {}",
            shown(at)
        ));
    }
    let secrets: Vec<&str> = list_of(client, "secrets_created_at").collect();
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
    let scopes: Vec<&str> = list_of(client, "scopes").collect();
    shown(&scopes.join(" ")).into_owned()
}

/// The texts of a list.
fn list_of<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    values(of, name).filter_map(Value::as_str)
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
