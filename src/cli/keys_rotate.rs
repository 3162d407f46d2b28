//! `portcullis keys rotate`: Rotate, and Rotate and purge with its question.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::admin_client::{AdminClient, AdminTarget};
use super::exit::Failure;
use super::keys::print_keys;
use super::out::{say, shown};
use super::value::{Output, OutputFormat, joined, member, number, plain, print_json, text};

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// Purge: only new keys are valid, at once; every token issued so far is refused
    #[arg(long)]
    purge: bool,
    /// The revision of the key set you looked at; a plain Rotate is refused when it has changed
    /// since, a purge ends only if a key of that revision still verifies (default: the current one)
    #[arg(long, value_name = "N")]
    seen_revision: Option<u64>,
    /// With --purge: end this key alone (may be repeated)
    #[arg(
        long = "kid",
        value_name = "KID",
        requires = "purge",
        allow_hyphen_values = true
    )]
    kids: Vec<String>,
    /// With --kid of the active key: trust the pending key, which becomes active
    #[arg(long, requires = "kids")]
    keep_pending: bool,
    /// With --purge: the keys are not compromised, and `keys restore` may bring them back
    #[arg(long, requires = "purge")]
    mistake_undo: bool,
    /// A name for this attempt, kept for 24 hours: a repeated call with it gets the first one's
    /// result (1 to 64 visible ASCII characters)
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Why, for the audit (at most 256 characters)
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not ask before a purge
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(args: &RotateArgs) -> Result<ExitCode, Failure> {
    let client = args.target.client()?;
    let mut body = serde_json::Map::new();
    body.insert("purge".to_owned(), json!(args.purge));
    if let Some(reason) = &args.reason {
        body.insert("reason".to_owned(), json!(reason));
    }
    if args.purge {
        body.insert(
            "seen_revision".to_owned(),
            json!(seen_revision(args, &client)?),
        );
    } else if let Some(seen) = args.seen_revision {
        body.insert("seen_revision".to_owned(), json!(seen));
    }
    if !args.kids.is_empty() {
        body.insert("kids".to_owned(), json!(args.kids));
    }
    for (name, said) in [
        ("keep_pending", args.keep_pending),
        ("mistake_undo", args.mistake_undo),
    ] {
        if said {
            body.insert(name.to_owned(), json!(true));
        }
    }
    let answer = client.post_once(
        "/admin/v1/keys/rotate",
        &Value::Object(body),
        args.idempotency_key.as_deref(),
    )?;
    match args.output.output {
        Output::Json => print_json(&answer),
        Output::Table => print_rotation(&answer),
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks before a purge, unless told not to; the key set is shown first.
fn seen_revision(args: &RotateArgs, client: &AdminClient) -> Result<u64, Failure> {
    if let (Some(seen), true) = (args.seen_revision, args.yes) {
        return Ok(seen);
    }
    let set = client.get("/admin/v1/keys")?;
    let current = number(&set, "revision").unwrap_or_default();
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage(
                "a purge asks first; in a script add --yes".to_owned(),
            ));
        }
        print_keys(&set);
        confirm(&args.kids)?;
    }
    Ok(args.seen_revision.unwrap_or(current))
}

#[expect(
    clippy::print_stderr,
    reason = "a question to the person at the terminal"
)]
fn confirm(kids: &[String]) -> Result<(), Failure> {
    let which = if kids.is_empty() {
        "All of these keys die at once, and every access token issued so far is refused.".to_owned()
    } else {
        format!(
            "At once every token is refused that was signed by {}.",
            kids.join(", ")
        )
    };
    eprint!("{which}\nType purge to go on: ");
    let _unwritable = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.is_ok() && line.trim() == "purge" {
        return Ok(());
    }
    Err(Failure::Other(
        "not confirmed; nothing was changed".to_owned(),
    ))
}

fn print_rotation(answer: &Value) {
    let kind = if plain(answer, "kind") == "purge" {
        "Rotate and purge"
    } else {
        "Rotate"
    };
    if *member(answer, "changed") == json!(true) {
        say(&format!(
            "{kind} done: {} is active, revision {}",
            text(answer, "activated"),
            member(answer, "revision")
        ));
    } else {
        say(&format!(
            "nothing changed: {kind} was already done at {}; a new Rotate is possible from {}",
            text(answer, "at"),
            text(answer, "idempotency_window_until")
        ));
    }
    if let Some(unseen) = answer.get("unseen") {
        say(&format!(
            "it also ended keys that are newer than the revision you had seen: {}",
            shown(&unseen.to_string())
        ));
    }
    print_keys(answer);
    super::reseal::print_demand(answer);
    let Some(receipt) = answer.get("receipt") else {
        return;
    };
    match member(receipt, "drained_at").as_str() {
        Some(at) => say(&format!(
            "over since {}: no worker of this gateway holds a purged key",
            shown(at)
        )),
        None => say(&format!(
            "NOT over: still held by {}",
            joined(receipt, "still_held_by")
        )),
    }
    say(&format!(
        "requests admitted before and still open: {}; verifiers elsewhere may use a cached JWKS until {}",
        member(receipt, "open_requests"),
        text(receipt, "external_verifiers_until")
    ));
}
