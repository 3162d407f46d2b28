//! `portcullis audit`: the record of every rotation, purge and retirement.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::admin;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::keys::{Actor, AuditRecord, Kid};
use crate::store::Keyring;
use crate::store::audit::{self, AuditError};

use super::ConfigFile;
use super::exit::Failure;
use super::out::{self, say, shown};
use super::serve::file_store;
use super::value::{Output, OutputFormat, print_json};
use super::watch::pause;

#[derive(Debug, Args)]
pub(super) struct AuditCommand {
    #[command(subcommand)]
    command: AuditVerb,
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Show the last records, oldest first
    Tail(TailArgs),
    /// Check that no line was changed, inserted, moved or taken out; exits with 1 when one was
    ///
    /// Lines missing at the beginning or the end cannot be seen: compare the revisions it names
    /// with `portcullis keys list`.
    ///
    /// Each line is checked under the key-encryption key that was the first one when it was
    /// written. Lines older than a key that was removed from the configured files need that key:
    /// name its file with --kek-file.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct TailArgs {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: OutputFormat,
    /// How many
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
    lines: usize,
    /// Go on with every new record until interrupted
    #[arg(long, short)]
    follow: bool,
    /// The same as --output json
    #[arg(long, hide = true)]
    json: bool,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: OutputFormat,
    /// File with older key-encryption keys, for old lines (may be repeated)
    #[arg(long = "kek-file", value_name = "FILE")]
    kek_files: Vec<PathBuf>,
}

/// Between two looks at the log's length.
const FOLLOW_LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(command: &AuditCommand) -> Result<ExitCode, Failure> {
    match &command.command {
        AuditVerb::Tail(args) => tail(args),
        AuditVerb::Verify(args) => verify(args),
    }
}

fn tail(args: &TailArgs) -> Result<ExitCode, Failure> {
    let path = log_path(&args.file.load()?)?;
    let as_json = args.json || args.output.output == Output::Json;
    let (mut last, mut length) = (0, 0);
    let mut count = args.lines;
    loop {
        let file = open(&path)?;
        // Of what is appended meanwhile the next look tells.
        length = file.metadata().map_or(length, |found| found.len());
        let records = audit::tail(BufReader::new(file), count)
            .map_err(|error| Failure::Other(error.to_string()))?;
        for record in records.iter().filter(|record| record.revision > last) {
            say_record(record, as_json);
        }
        last = records
            .last()
            .map_or(last, |record| record.revision.max(last));
        loop {
            if !args.follow || out::is_over() {
                return Ok(ExitCode::SUCCESS);
            }
            pause(FOLLOW_LOOK);
            // The log may be moved away; the next change begins a new one.
            let found = std::fs::metadata(&path).map_or(length, |found| found.len());
            if found != length {
                break;
            }
        }
        count = count.max(MAX_AT_ONCE);
    }
}

/// Most records that one look tells of.
const MAX_AT_ONCE: usize = 10_000;

fn say_record(record: &AuditRecord, as_json: bool) {
    if as_json {
        print_json(&admin::audit_record(record));
    } else {
        say(&sentence(record));
    }
}

fn verify(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let config = args.file.load()?;
    let files = [
        config.keys.encryption_key_files.as_slice(),
        args.kek_files.as_slice(),
    ]
    .concat();
    let keyring = Keyring::load(&files)?;
    let log = BufReader::new(open(&log_path(&config)?)?);
    let as_json = args.output.output == Output::Json;
    let verdict = match audit::verify(log, &keyring, &config.issuer.url) {
        Ok(verdict) => verdict,
        Err(AuditError::Line { number, rule }) if as_json => {
            let problem = json!({ "line": number, "rule": rule.to_string() });
            print_json(&json!({ "intact": false, "problem": problem }));
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(Failure::Other(error.to_string())),
    };
    if as_json {
        print_json(&json!({
            "intact": true,
            "lines": verdict.lines,
            "first_revision": verdict.first_revision,
            "last_revision": verdict.last_revision,
            "never_logged": verdict.gaps,
            "torn": verdict.torn,
        }));
        return Ok(ExitCode::SUCCESS);
    }
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

/// Where the log is. Reading needs no lock: lines are only appended.
fn log_path(config: &Config) -> Result<PathBuf, Failure> {
    let keyring = Arc::new(Keyring::load(&config.keys.encryption_key_files)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(file_store(config, &keyring, &clock).audit_log())
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| {
        Failure::NotInitialised(format!(
            "cannot read the audit log {}: {error}; `portcullis init` begins it",
            path.display()
        ))
    })
}

/// One record in words. The reason is an operator's text: shown escaped.
fn sentence(record: &AuditRecord) -> String {
    let actor = match &record.actor {
        Actor::Admin(name) => format!("admin {}", shown(name)),
        Actor::Offline(name) => format!("offline {}", shown(name)),
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
        text.push_str(&format!("  reason \"{}\"", shown(reason)));
    }
    text
}
