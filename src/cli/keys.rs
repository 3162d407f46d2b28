//! `portcullis keys`: the verbs, and how a key set is printed.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin_client::{AdminTarget, encoded};
use super::clock;
use super::exit::Failure;
use super::keys_impact;
use super::keys_import::{self, ImportArgs};
use super::keys_purges::{self, PurgesArgs};
use super::keys_rotate::{self, RotateArgs};
use super::out::{Tone, say};
use super::table::Table;
use super::value::{Output, OutputFormat, list, member, plain, print_json, text};
use super::watch::{Look, Watch};

#[derive(Debug, Args)]
pub(super) struct KeysCommand {
    #[command(subcommand)]
    command: KeysVerb,
}

#[derive(Debug, Subcommand)]
enum KeysVerb {
    /// Show every key with its state and dates
    List(ListArgs),
    /// Show what a purge now would break; changes nothing
    ///
    /// The numbers are upper bounds, at most a minute too high. With --shadow it counts on live
    /// traffic instead, and still changes nothing.
    Preview(keys_impact::PreviewArgs),
    /// Show the purges that were, whom each broke and who is back
    Purges(PurgesArgs),
    /// Make the pending key active; the old one goes on verifying what it signed
    ///
    /// Within the idempotency window (10 minutes by default) after an activation it changes
    /// nothing and shows the earlier result.
    Rotate(RotateArgs),
    /// Take over a signing key of a former system, so that its tokens go on working
    Import(ImportArgs),
    /// Declare a key compromised whose purge was made with --mistake-undo: nothing can restore it
    Compromised(OneKey),
    /// Move everything that is stored to the first key-encryption key
    ///
    /// Reads the key-encryption key files again, then seals both private halves and authenticates
    /// every document under the first key. Signing keys and tokens stay as they are.
    Reseal(super::reseal::ResealArgs),
    /// Say that the clock is right after it stepped forward, so that the schedule goes on
    ConfirmClock(clock::ConfirmClockArgs),
    /// Undo a purge that was made with --mistake-undo, for one key: it verifies again
    Restore(OneKey),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    #[command(flatten)]
    watch: Watch,
}

/// A verb on one purged key.
#[derive(Debug, Args)]
struct OneKey {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// The purged key
    // Names are base64url: one in 64 begins with a hyphen.
    #[arg(allow_hyphen_values = true)]
    kid: String,
    /// Why, for the audit (at most 256 characters)
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(command: &KeysCommand) -> Result<ExitCode, Failure> {
    match &command.command {
        KeysVerb::List(args) => list_keys(args),
        KeysVerb::Preview(args) => keys_impact::preview(args),
        KeysVerb::Purges(args) => keys_purges::purges(args),
        KeysVerb::Rotate(args) => keys_rotate::run(args),
        KeysVerb::Import(args) => keys_import::run(args),
        KeysVerb::Compromised(args) => on_one(args, "compromised", |kid| {
            format!("{kid} counts as compromised and can never be restored")
        }),
        KeysVerb::Reseal(args) => super::reseal::run(args),
        KeysVerb::ConfirmClock(args) => clock::confirm(args),
        KeysVerb::Restore(args) => on_one(args, "restore", |kid| {
            format!("restored {kid}, to verify only")
        }),
    }
}

fn list_keys(args: &ListArgs) -> Result<ExitCode, Failure> {
    let client = args.target.client()?;
    args.watch.repeat(
        args.output.output,
        || client.get("/admin/v1/keys"),
        print_list,
        |_set| Look::Open(ExitCode::SUCCESS),
    )
}

fn print_list(set: &Value) {
    say(&format!(
        "issuer {}, revision {}",
        text(set, "issuer"),
        member(set, "revision")
    ));
    print_keys(set);
    say(&format!(
        "next automatic rotation {}",
        text(set, "next_rotation_at")
    ));
    super::reseal::print_demand(set);
    clock::say_pause(set);
}

fn on_one(
    args: &OneKey,
    verb: &str,
    done: impl FnOnce(&str) -> String,
) -> Result<ExitCode, Failure> {
    let reason = args.reason.as_deref();
    let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
    let path = format!("/admin/v1/keys/{}/{verb}", encoded(&args.kid));
    let set = args.target.client()?.post(&path, &body)?;
    print_set(&set, args.output, &done(&args.kid));
    Ok(ExitCode::SUCCESS)
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

pub(super) fn print_keys(set: &Value) {
    let mut table = Table::new(&["STATE", "ALG", "KID", "ACTIVE SINCE", "VERIFIES UNTIL"]);
    for key in list(set, "keys") {
        let state = plain(key, "state");
        table.toned_row([
            (tone_of(state), state.to_owned()),
            cell(key, "alg"),
            cell(key, "kid"),
            cell(key, "activated_at"),
            cell(key, "verify_until"),
        ]);
    }
    table.say();
}

fn cell(key: &Value, name: &str) -> (Tone, String) {
    (Tone::Plain, plain(key, name).to_owned())
}

/// How a key state stands out.
pub(super) fn tone_of(state: &str) -> Tone {
    match state {
        "active" => Tone::Good,
        "deprecated" => Tone::Notice,
        "purged" => Tone::Bad,
        "retired" => Tone::Quiet,
        _ => Tone::Plain,
    }
}
