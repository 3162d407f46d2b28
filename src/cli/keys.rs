//! `portcullis keys`: the verbs, and how a key set is printed.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::admin_client::AdminTarget;
use super::clock;
use super::exit::Failure;
use super::keys_impact;
use super::keys_import::{self, ImportArgs};
use super::keys_rotate::{self, RotateArgs};
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
        KeysVerb::Rotate(args) => keys_rotate::run(args),
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
