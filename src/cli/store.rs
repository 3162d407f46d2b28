//! `portcullis store recover`: what to do when the key set file is lost or damaged.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::keygen::{KeyGenerator as _, RingKeyGenerator};
use crate::keys::transition::{self, Order};
use crate::keys::{Actor, FreshKey, KeySet, Kid};
use crate::lifecycle::Lifecycle;
use crate::store::file_recover::Later;
use crate::store::{Damaged, Keyring, RenewalError, reseal_halves, seal_fresh};

use super::ConfigFile;
use super::exit::Failure;
use super::out::{complain, say};
use super::serve::{file_store, small_runtime};

/// Longest `--reason` in characters, as in the admin API.
const MAX_REASON: usize = 256;

#[derive(Debug, Args)]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    command: StoreVerb,
}

#[derive(Debug, Subcommand)]
enum StoreVerb {
    /// Make the previous generation current, when keyset.json is missing or damaged
    ///
    /// Without --accept-rollback it only shows what it found. A backup of the whole directory,
    /// followed by `keys rotate --purge`, is the better remedy where there is one.
    Recover(RecoverArgs),
}

#[derive(Debug, Args)]
struct RecoverArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Do it: what was committed after the previous generation is lost
    #[arg(long)]
    accept_rollback: bool,
    /// Let the keys of the previous generation live on
    #[arg(long, requires = "accept_rollback")]
    keep_keys: bool,
    /// Why, for the audit (at most 256 characters)
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(command: &StoreCommand) -> Result<ExitCode, Failure> {
    match &command.command {
        StoreVerb::Recover(args) => recover(args),
    }
}

/// An operator's reason, within its bound.
pub(super) fn reason(given: Option<&str>) -> Result<Option<String>, Failure> {
    match given {
        Some(reason) if reason.chars().count() > MAX_REASON => Err(Failure::Usage(format!(
            "--reason is longer than {MAX_REASON} characters"
        ))),
        other => Ok(other.map(str::to_owned)),
    }
}

fn recover(args: &RecoverArgs) -> Result<ExitCode, Failure> {
    let reason = reason(args.reason.as_deref())?;
    let config = args.file.load()?;
    let keyring = Arc::new(Keyring::load(&config.keys.encryption_key_files)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now();
    let runtime = small_runtime()?;
    let damaged = runtime.block_on(Damaged::examine(file_store(&config, &keyring, &clock)))?;
    show(&damaged, now);
    let keep = match (&damaged.later, args.keep_keys) {
        (_, false) => None,
        (Later::Ended(ended), true) => Some(ended.clone()),
        (Later::Unknown(why), true) => {
            return Err(Failure::Other(format!(
                "nothing was changed: --keep-keys needs an intact audit log, or a purged key could come \
                 back, but {why}; leave --keep-keys out"
            )));
        }
    };
    if !args.accept_rollback {
        return Err(Failure::Other(
            "nothing was changed; to make the previous generation current, and lose what was committed \
             after it, add --accept-rollback"
                .to_owned(),
        ));
    }

    let order = Lifecycle::order(Actor::Offline("store recover".to_owned()), reason);
    let next = next(&config, &keyring, &damaged, keep.as_deref(), &order, now)?;
    let warnings = runtime.block_on(damaged.replace(&next))?;
    for warning in &warnings {
        complain(&warning.to_string());
    }
    tell(&next);
    Ok(ExitCode::SUCCESS)
}

fn show(damaged: &Damaged, now: Timestamp) {
    say(&format!("the key set cannot be used: {}", damaged.broken));
    if let Some((length, sha256)) = &damaged.damaged_file {
        say(&format!(
            "  {length} bytes, SHA-256 {sha256}; a recovery does NOT keep this file, because private halves of \
             dead keys may lie in it: copy it to a safe place first if you need it as evidence"
        ));
    }
    let previous = &damaged.previous;
    say(&format!(
        "previous generation: revision {} of {}, {} hours old; revision {} is proven to have been stored",
        previous.revision,
        previous.last_event.at,
        now.since(previous.last_event.at).as_secs() / 3600,
        damaged.proven_revision
    ));
    for (state, key) in previous.verifying() {
        say(&format!(
            "  {:<11} {:<6} {}",
            state.as_str(),
            key.alg.as_str(),
            key.kid
        ));
    }
    match &damaged.later {
        Later::Ended(ended) if ended.is_empty() => {
            say("the audit log is intact and names no key that ended later");
        }
        Later::Ended(ended) => say(&format!(
            "the audit log says that these ended later: {}",
            names(ended)
        )),
        Later::Unknown(why) => say(&format!(
            "whether a key was purged later cannot be known: {why}"
        )),
    }
}

/// The set to store, sealed under a key-encryption key that no dead key was sealed under, if there
/// is one.
fn next(
    config: &Config,
    keyring: &Keyring,
    damaged: &Damaged,
    keep: Option<&[Kid]>,
    order: &Order,
    now: Timestamp,
) -> Result<KeySet, Failure> {
    let previous = &damaged.previous;
    // Keys that nobody says are compromised give no cause for a new key-encryption key.
    let demanded = if keep.is_none() {
        renew(keyring, &damaged.keks)
    } else {
        None
    };
    let fresh = || -> Result<FreshKey, Failure> {
        let generated = RingKeyGenerator
            .generate(config.issuer.algorithm)
            .map_err(|error| Failure::Other(error.to_string()))?;
        seal_fresh(
            generated,
            keyring,
            &config.issuer.url,
            damaged.proven_revision,
            now,
        )
        .map_err(|error| Failure::Other(error.to_string()))
    };
    let mut next = transition::recover(
        previous,
        damaged.proven_revision,
        keep,
        (fresh()?, fresh()?),
        order,
        &config.keys.timing,
        now,
    );
    let (active, pending) = reseal_halves(&next, keyring)
        .map_err(|error| Failure::Other(format!("nothing was changed: {error}")))?;
    next.active.sealed = active;
    next.pending.sealed = pending;
    if let Some(compromised) = demanded {
        transition::demand_kek(&mut next, order.id, compromised);
    } else {
        transition::settle_kek_demand(&mut next, &keyring.first_id());
    }
    Ok(next)
}

/// What may have leaked, when no new key-encryption key could be had.
fn renew(keyring: &Keyring, in_use: &[String]) -> Option<Vec<String>> {
    match keyring.renew(in_use) {
        Ok(()) => None,
        Err(RenewalError::NoFile) => Some(keyring.ids()),
        Err(error) => {
            complain(&format!(
                "a new key-encryption key is due, because the old one sealed the keys that die: {error}"
            ));
            Some(keyring.ids())
        }
    }
}

fn tell(next: &KeySet) {
    let event = &next.last_event;
    say(&format!(
        "recovered: revision {}, {} is active",
        next.revision, next.active.public.kid
    ));
    if event.purged.is_empty() {
        say("no key died; rotate with purge if you cannot rule out that one leaked");
    } else {
        say(&format!(
            "dead: {}; every token that they signed is refused, clients ask for new ones",
            names(&event.purged)
        ));
    }
    say("start the gateway with `portcullis serve`, then look at `portcullis audit verify`");
}

fn names(kids: &[Kid]) -> String {
    let names: Vec<&str> = kids.iter().map(Kid::as_str).collect();
    names.join(", ")
}
