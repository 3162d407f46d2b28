//! `portcullis keys purges`: the purges that were, whom each broke and who is back.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin_client::{AdminClient, AdminTarget, encoded};
use super::exit::Failure;
use super::out::{Tone, say};
use super::table::Table;
use super::value::{Output, OutputFormat, list, member, number, plain, text};
use super::watch::{Look, Watch};

/// Clients that the table of a purge lists; `--output json` lists all.
const TABLE_CLIENTS: usize = 20;

#[derive(Debug, Args)]
pub(super) struct PurgesArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    #[command(flatten)]
    watch: Watch,
    /// Show this purge: its receipt, whom it broke and who is back
    id: Option<String>,
}

pub(super) fn purges(args: &PurgesArgs) -> Result<ExitCode, Failure> {
    let client = args.target.client()?;
    let output = args.output.output;
    let Some(id) = &args.id else {
        return args.watch.repeat(
            output,
            || client.get("/admin/v1/keys/purges"),
            print_purges,
            |_purges| Look::Open(ExitCode::SUCCESS),
        );
    };
    if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(Failure::Usage(format!("{id:?} is no purge id")));
    }
    args.watch.repeat(
        output,
        || one_purge(&client, id, output),
        print_purge,
        |purge| {
            if is_over(purge) {
                Look::Over(ExitCode::SUCCESS)
            } else {
                Look::Open(ExitCode::SUCCESS)
            }
        },
    )
}

/// A purge with its first clients, or as JSON with all of them.
fn one_purge(client: &AdminClient, id: &str, output: Output) -> Result<Value, Failure> {
    let path = format!("/admin/v1/keys/purges/{id}");
    if output == Output::Table {
        return client.get(&format!("{path}?limit={TABLE_CLIENTS}"));
    }
    let mut purge = client.get(&format!("{path}?limit=1000"))?;
    while let Some(after) = member(member(&purge, "recovery"), "next_after").as_str() {
        let next = client.get(&format!("{path}?limit=1000&after={}", encoded(after)))?;
        append(&mut purge, next);
    }
    Ok(purge)
}

/// Adds the clients of a further page.
fn append(purge: &mut Value, next: Value) {
    let of = |mut purge: Value| purge.get_mut("recovery").map(Value::take);
    let (Some(all), Some(mut more)) = (purge.get_mut("recovery"), of(next)) else {
        return;
    };
    let rest = more.get_mut("clients").map(Value::take);
    if let (Some(Value::Array(clients)), Some(Value::Array(rest))) = (all.get_mut("clients"), rest)
    {
        clients.extend(rest);
    }
    if let Some(members) = all.as_object_mut() {
        match more.get("next_after") {
            Some(after) => drop(members.insert("next_after".to_owned(), after.clone())),
            None => drop(members.remove("next_after")),
        }
    }
}

/// Whether every client that the purge broke is back, and it broke one.
fn is_over(purge: &Value) -> bool {
    let recovery = member(purge, "recovery");
    let affected = number(recovery, "affected").unwrap_or_default();
    affected > 0 && number(recovery, "recovered") == Some(affected)
}

fn print_purges(purges: &Value) {
    let mut table = Table::new(&[
        "PURGE",
        "COMMITTED",
        "KEYS>",
        "AFFECTED>",
        "NEW TOKEN>",
        "RECOVERED>",
        "FAILURES>",
        "USED SINCE>",
    ]);
    for purge in list(purges, "purges") {
        let recovery = member(purge, "recovery");
        let cell = |text: String| (Tone::Plain, text);
        let uses = number(recovery, "compromised_key_uses").unwrap_or_default();
        let tone = if uses > 0 { Tone::Bad } else { Tone::Plain };
        table.toned_row([
            cell(plain(purge, "purge_id").to_owned()),
            cell(plain(purge, "committed_at").to_owned()),
            cell(list(purge, "kids").count().to_string()),
            cell(member(recovery, "affected").to_string()),
            cell(member(recovery, "got_new_token").to_string()),
            cell(member(recovery, "recovered").to_string()),
            cell(member(recovery, "failures").to_string()),
            (tone, uses.to_string()),
        ]);
    }
    table.say();
}

fn print_purge(purge: &Value) {
    let recovery = member(purge, "recovery");
    say(&format!(
        "purge {} at {}, over since {}; verifiers elsewhere may use a cached JWKS until {}",
        text(purge, "purge_id"),
        text(purge, "committed_at"),
        text(purge, "drained_at"),
        text(purge, "external_verifiers_until"),
    ));
    say(&format!(
        "it broke {} clients with {} requests; {} got a new token, {} are back",
        member(recovery, "affected"),
        member(recovery, "failures"),
        member(recovery, "got_new_token"),
        member(recovery, "recovered"),
    ));
    if number(recovery, "unlisted_failures").unwrap_or_default() > 0 {
        say(&format!(
            "and {} requests of more clients than are remembered",
            member(recovery, "unlisted_failures")
        ));
    }
    if number(recovery, "compromised_key_uses").unwrap_or_default() > 0 {
        say(&format!(
            "ALARM: somebody signs with a purged key: {} requests, the first at {}, the last at {}; all were refused",
            member(recovery, "compromised_key_uses"),
            text(recovery, "compromised_first_used_at"),
            text(recovery, "compromised_last_used_at"),
        ));
    }
    if list(recovery, "clients").next().is_none() {
        return;
    }
    let mut table = Table::new(&[
        "CLIENT",
        "FAILURES>",
        "FIRST FAILURE",
        "LAST FAILURE",
        "NEW TOKEN",
        "BACK SINCE",
    ]);
    for client in list(recovery, "clients") {
        let cell = |name| (Tone::Plain, plain(client, name).to_owned());
        let back = if member(client, "recovered_at").is_null() {
            (Tone::Bad, "not yet".to_owned())
        } else {
            (Tone::Good, plain(client, "recovered_at").to_owned())
        };
        table.toned_row([
            cell("client_id"),
            (Tone::Plain, member(client, "failures").to_string()),
            cell("first_failure_at"),
            cell("last_failure_at"),
            cell("new_token_at"),
            back,
        ]);
    }
    table.say();
    if recovery.get("next_after").is_some() {
        say("and more; --output json lists all");
    }
}
