//! `portcullis audit`: the record of every rotation, purge and retirement.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::keys::{Actor, AuditRecord, Kid};
use crate::store::Keyring;
use crate::store::audit;

use super::ConfigFile;
use super::exit::Failure;
use super::out::say;
use super::serve::file_store;

#[derive(Debug, Args)]
pub(super) struct AuditCommand {
    #[command(subcommand)]
    command: AuditVerb,
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Show the last records, oldest first
    Tail {
        #[command(flatten)]
        file: ConfigFile,
        /// How many
        #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
        lines: usize,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check that no line was changed, inserted, moved or taken out; exits with 1 when one was
    ///
    /// Lines missing at the beginning or the end cannot be seen: compare the revisions it names
    /// with `portcullis keys list`.
    ///
    /// Each line is checked under the key-encryption key that was the first one when it was
    /// written. Lines older than a key that was removed from the configured files need that key:
    /// name its file with --kek-file.
    Verify {
        #[command(flatten)]
        file: ConfigFile,
        /// File with older key-encryption keys, for old lines (may be repeated)
        #[arg(long = "kek-file", value_name = "FILE")]
        kek_files: Vec<PathBuf>,
    },
}

pub(super) fn run(command: &AuditCommand) -> Result<ExitCode, Failure> {
    match &command.command {
        AuditVerb::Tail { file, lines, json } => tail(&file.load()?, *lines, *json),
        AuditVerb::Verify { file, kek_files } => verify(&file.load()?, kek_files),
    }
}

fn tail(config: &Config, lines: usize, json: bool) -> Result<ExitCode, Failure> {
    let (log, _) = open(config, &[])?;
    for record in audit::tail(log, lines).map_err(|error| Failure::Other(error.to_string()))? {
        if json {
            // Serialising strings and numbers cannot fail.
            say(&serde_json::to_string(&record).unwrap_or_default());
        } else {
            say(&sentence(&record));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(config: &Config, kek_files: &[PathBuf]) -> Result<ExitCode, Failure> {
    let (log, keyring) = open(config, kek_files)?;
    let verdict = audit::verify(log, &keyring, &config.issuer.url)
        .map_err(|error| Failure::Other(error.to_string()))?;
    let revision =
        |revision: Option<u64>| revision.map_or_else(|| "-".to_owned(), |r| r.to_string());
    say(&format!(
        "intact: {} lines, revisions {} to {}",
        verdict.lines,
        revision(verdict.first_revision),
        revision(verdict.last_revision)
    ));
    for (from, to) in &verdict.gaps {
        say(&format!(
            "never logged, because appending failed at the time: revisions {from} to {to}"
        ));
    }
    if verdict.torn {
        say("the last line is incomplete; the gateway repairs it at its next start");
    }
    Ok(ExitCode::SUCCESS)
}

/// The log and the keys that authenticate it. Reading needs no lock: lines are only appended.
fn open(
    config: &Config,
    kek_files: &[PathBuf],
) -> Result<(BufReader<File>, Arc<Keyring>), Failure> {
    let files = [&config.keys.encryption_key_files, kek_files].concat();
    let keyring = Arc::new(Keyring::load(&files)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let path = file_store(config, &keyring, &clock).audit_log();
    let file = File::open(&path).map_err(|error| {
        Failure::NotInitialised(format!(
            "cannot read the audit log {}: {error}; `portcullis init` begins it",
            path.display()
        ))
    })?;
    Ok((BufReader::new(file), keyring))
}

/// One record in words. The reason is an operator's text: shown escaped.
fn sentence(record: &AuditRecord) -> String {
    let actor = match &record.actor {
        Actor::Admin(name) => format!("admin {name}"),
        Actor::Offline(name) => format!("offline {name}"),
        Actor::Scheduler => "schedule".to_owned(),
    };
    let event = serde_json::to_value(record.event).unwrap_or_default();
    let mut text = format!(
        "{}  {:>6}  {:<16}  by {actor}",
        record.at,
        record.revision,
        event.as_str().unwrap_or_default()
    );
    let one = |kid: &Option<Kid>| kid.iter().cloned().collect::<Vec<_>>();
    for (what, kids) in [
        ("activated", one(&record.activated)),
        ("deprecated", one(&record.deprecated)),
        ("purged", record.purged.clone()),
        ("retired", record.retired.clone()),
        ("restored", one(&record.restored)),
        ("imported", one(&record.imported)),
        ("compromised", record.compromised.clone()),
    ] {
        if !kids.is_empty() {
            let names: Vec<&str> = kids.iter().map(Kid::as_str).collect();
            text.push_str(&format!("  {what} {}", names.join(", ")));
        }
    }
    if let Some(reason) = &record.reason {
        text.push_str(&format!("  reason {reason:?}"));
    }
    text
}
