//! `portcullis keys reseal`: everything stored moves to the first key-encryption key.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use crate::clock::{Clock, SystemClock};
use crate::keys::Actor;
use crate::lifecycle::{Lifecycle, reseal_offline};
use crate::store::{FileStore, Keyring};

use super::admin_client::AdminTarget;
use super::exit::Failure;
use super::out::{complain, say};
use super::serve::{file_store, small_runtime};
use super::value::{Output, OutputFormat, joined, member, print_json, text};

#[derive(Debug, Args)]
pub(super) struct ResealArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// Make a new key-encryption key first, in a file that `portcullis init` made
    #[arg(long)]
    new_kek: bool,
    /// Work on the store directly, while no gateway runs; as the user that runs the gateway
    #[arg(long)]
    offline: bool,
    /// Why, for the audit (at most 256 characters)
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(args: &ResealArgs) -> Result<ExitCode, Failure> {
    let answer = if args.offline {
        offline(args)?
    } else {
        let mut body = json!({ "new_kek": args.new_kek });
        if let (Some(reason), Some(body)) = (&args.reason, body.as_object_mut()) {
            body.insert("reason".to_owned(), json!(reason));
        }
        args.target.client()?.post("/admin/v1/keys/reseal", &body)?
    };
    match args.output.output {
        Output::Json => print_json(&answer),
        Output::Table => print(&answer),
    }
    Ok(ExitCode::SUCCESS)
}

/// The same answer as the admin API's.
fn offline(args: &ResealArgs) -> Result<Value, Failure> {
    let config = args.target.file.load()?;
    let keyring = Arc::new(Keyring::load(&config.keys.encryption_key_files)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let order = Lifecycle::order(
        Actor::Offline("keys reseal".to_owned()),
        super::store::reason(args.reason.as_deref())?,
    );
    let resealed = small_runtime()?.block_on(async {
        let store = FileStore::open(file_store(&config, &keyring, &clock)).await?;
        reseal_offline(&store, &keyring, &order, args.new_kek).await
    })?;
    for warning in &resealed.warnings {
        complain(&warning.to_string());
    }
    Ok(json!({
        "changed": resealed.changed,
        "revision": resealed.set.revision,
        "key_encryption_key": resealed.kek,
        "older_key_encryption_keys": resealed.older,
        "key_encryption_key_demand": resealed.set.kek_demand.map(|demand| json!({
            "since": demand.since.to_string(),
            "purge_id": demand.purge_id,
            "compromised": demand.compromised,
        })),
    }))
}

fn print(answer: &Value) {
    let kek = text(answer, "key_encryption_key");
    if *member(answer, "changed") == json!(true) {
        say(&format!(
            "resealed: everything lies under the key-encryption key {kek}, revision {}",
            member(answer, "revision")
        ));
    } else {
        say(&format!(
            "nothing changed: everything lies under the key-encryption key {kek} already"
        ));
    }
    let older = joined(answer, "older_key_encryption_keys");
    if !older.is_empty() {
        say(&format!(
            "only old lines of the audit log, and old backups, still need {}: keep these keys as long \
             as you want to check or restore those, then remove their lines from the file",
            older
        ));
    }
    print_demand(answer);
}

/// Says that a new key-encryption key is due, when an answer says so.
pub(super) fn print_demand(answer: &Value) {
    let Some(demand) = answer
        .get("key_encryption_key_demand")
        .filter(|demand| !demand.is_null())
    else {
        return;
    };
    say(&format!(
        "a new key-encryption key is DUE since {}: those in use may have leaked with the purged keys. Put \
         a new one into the first line of the first file in keys.encryption_key_files, leave the old \
         ones below, then run `portcullis keys reseal`",
        text(demand, "since")
    ));
}
