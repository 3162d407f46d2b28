//! `portcullis keys`: list, rotate, rotate and purge; what a purge breaks is in `keys_impact`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::admin_client::{AdminClient, AdminTarget};
use super::clock;
use super::exit::Failure;
use super::keys_impact;
use super::keys_import::{self, ImportArgs};
use super::out::say;

#[derive(Debug, Args)]
pub(super) struct KeysCommand {
    #[command(subcommand)]
    command: KeysVerb,
}

#[derive(Debug, Subcommand)]
enum KeysVerb {
    /// Show every key with its state and dates
    List {
        #[command(flatten)]
        target: AdminTarget,
        #[command(flatten)]
        output: OutputFormat,
    },
    /// Show what a purge now would break; changes nothing
    ///
    /// The numbers are upper bounds, at most a minute too high. With --shadow it counts on live
    /// traffic instead, and still changes nothing.
    Preview(keys_impact::PreviewArgs),
    /// Show the purges that were, whom each broke and who is back
    Purges(keys_impact::PurgesArgs),
    /// Make the pending key active; the old one goes on verifying what it signed
    ///
    /// Within the idempotency window (10 minutes by default) after an activation it changes
    /// nothing and shows the earlier result.
    #[command(after_help = "\
For a leaked key:
  portcullis keys rotate --purge
Every key that verifies now dies at once, and every token with it. The command asks first; in a
script add --yes, and --seen-revision so that a repeated call cannot kill clients that recovered.")]
    Rotate(RotateArgs),
    /// Take over a signing key of a former system, so that its tokens go on working
    Import(ImportArgs),
    /// Declare a key compromised whose purge was made with --mistake-undo: nothing can restore it
    Compromised {
        #[command(flatten)]
        target: AdminTarget,
        #[command(flatten)]
        output: OutputFormat,
        /// The purged key
        kid: String,
        /// Why, for the audit (at most 256 characters)
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Move everything that is stored to the first key-encryption key
    ///
    /// Reads the key-encryption key files again, then seals both private halves and authenticates
    /// every document under the first key. Signing keys and tokens stay as they are.
    #[command(after_help = super::reseal::AFTER_HELP)]
    Reseal(super::reseal::ResealArgs),
    /// Say that the clock is right after it stepped forward, so that the schedule goes on
    #[command(after_help = clock::WHEN)]
    ConfirmClock(clock::ConfirmClockArgs),
    /// Undo a purge that was made with --mistake-undo, for one key: it verifies again
    Restore {
        #[command(flatten)]
        target: AdminTarget,
        #[command(flatten)]
        output: OutputFormat,
        /// The purged key
        kid: String,
        /// Why, for the audit (at most 256 characters)
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Debug, Args)]
struct RotateArgs {
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
    #[arg(long = "kid", value_name = "KID", requires = "purge")]
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

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct OutputFormat {
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub(super) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
}

pub(super) fn run(command: &KeysCommand) -> Result<ExitCode, Failure> {
    match &command.command {
        KeysVerb::List { target, output } => list(target, output.output),
        KeysVerb::Preview(args) => keys_impact::preview(args),
        KeysVerb::Purges(args) => keys_impact::purges(args),
        KeysVerb::Rotate(args) => rotate(args),
        KeysVerb::Import(args) => keys_import::run(args),
        KeysVerb::Compromised {
            target,
            output,
            kid,
            reason,
        } => compromised(target, *output, kid, reason.as_deref()),
        KeysVerb::Reseal(args) => super::reseal::run(args),
        KeysVerb::ConfirmClock(args) => clock::confirm(args),
        KeysVerb::Restore {
            target,
            output,
            kid,
            reason,
        } => restore(target, output.output, kid, reason.as_deref()),
    }
}

fn list(target: &AdminTarget, output: Output) -> Result<ExitCode, Failure> {
    let set = target.client()?.get("/admin/v1/keys")?;
    match output {
        Output::Json => print_json(&set),
        Output::Table => {
            say(&format!(
                "issuer {}, revision {}",
                text(&set, "issuer"),
                member(&set, "revision")
            ));
            print_keys(&set);
            say(&format!(
                "next automatic rotation {}",
                text(&set, "next_rotation_at")
            ));
            super::reseal::print_demand(&set);
            clock::say_pause(&set);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn compromised(
    target: &AdminTarget,
    output: OutputFormat,
    kid: &str,
    reason: Option<&str>,
) -> Result<ExitCode, Failure> {
    let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
    let path = format!("/admin/v1/keys/{kid}/compromised");
    let set = target.client()?.post(&path, &body)?;
    let what = format!("{kid} counts as compromised and can never be restored");
    print_set(&set, output, &what);
    Ok(ExitCode::SUCCESS)
}

fn restore(
    target: &AdminTarget,
    output: Output,
    kid: &str,
    reason: Option<&str>,
) -> Result<ExitCode, Failure> {
    let client = target.client()?;
    let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
    let set = client.post(&format!("/admin/v1/keys/{kid}/restore"), &body)?;
    let what = format!("restored {kid}, to verify only");
    print_set(&set, OutputFormat { output }, &what);
    Ok(ExitCode::SUCCESS)
}

fn rotate(args: &RotateArgs) -> Result<ExitCode, Failure> {
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
    let kind = if text(answer, "kind") == "purge" {
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
            "it also ended keys that are newer than the revision you had seen: {unseen}"
        ));
    }
    print_keys(answer);
    super::reseal::print_demand(answer);
    let Some(receipt) = answer.get("receipt") else {
        return;
    };
    match member(receipt, "drained_at").as_str() {
        Some(at) => say(&format!(
            "over since {at}: no worker of this gateway holds a purged key"
        )),
        None => say(&format!(
            "NOT over: still held by {}",
            member(receipt, "still_held_by")
        )),
    }
    say(&format!(
        "requests admitted before and still open: {}; verifiers elsewhere may use a cached JWKS until {}",
        member(receipt, "open_requests"),
        text(receipt, "external_verifiers_until")
    ));
}

/// A key set as an answer to a verb: what was done, then the keys.
pub(super) fn print_set(set: &Value, output: OutputFormat, what: &str) {
    match output.output {
        Output::Json => print_json(set),
        Output::Table => {
            say(&format!("{what}; revision {}", member(set, "revision")));
            print_keys(set);
        }
    }
}

fn print_keys(set: &Value) {
    say(&format!(
        "{:<11} {:<6} {:<44} {:<25} VERIFIES UNTIL",
        "STATE", "ALG", "KID", "ACTIVE SINCE"
    ));
    for key in member(set, "keys").as_array().into_iter().flatten() {
        say(&format!(
            "{:<11} {:<6} {:<44} {:<25} {}",
            text(key, "state"),
            text(key, "alg"),
            text(key, "kid"),
            text(key, "activated_at"),
            text(key, "verify_until")
        ));
    }
}

pub(super) fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

pub(super) fn number(value: &Value, name: &str) -> Option<u64> {
    member(value, name).as_u64()
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    member(value, name).as_str().unwrap_or("-")
}

pub(super) fn print_json(value: &Value) {
    say(&value.to_string());
}
