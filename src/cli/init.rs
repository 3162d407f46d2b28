//! `portcullis init`: makes what is missing, overwrites nothing.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use crate::admin::token_hash;
use crate::clients::SecretHash;
use crate::clients::secret::generate;
use crate::clock::{Clock, SystemClock};
use crate::config::{AdminTokenSource, ClientSecretSource, Config};
use crate::keygen::{KeyGenerator as _, RingKeyGenerator};
use crate::keys::{Actor, FreshKey, transition};
use crate::store::{FileStore, Keyring, StoreError, seal_fresh, write_new_kek};

use super::ConfigFile;
use super::exit::Failure;
use super::out::say;
use super::serve::{file_store, small_runtime};

/// One thing that was made.
pub(super) struct Made {
    what: String,
    path: PathBuf,
    /// Shown once; also in the file beside.
    secret: Option<Zeroizing<String>>,
}

pub(super) fn run(file: &ConfigFile) -> Result<ExitCode, Failure> {
    let config = file.load()?;
    let made = initialise(&config)?;
    if made.is_empty() {
        say("already initialised; nothing was changed");
    }
    for made in &made {
        say(&made.to_string());
        if let Some(secret) = &made.secret {
            say(&Zeroizing::new(format!(
                "     {}   (shown once)",
                secret.as_str()
            )));
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl fmt::Display for Made {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "made {}: {}", self.what, self.path.display())
    }
}

/// Makes what is missing and says what that was.
pub(super) fn initialise(config: &Config) -> Result<Vec<Made>, Failure> {
    let _lock = lock(config)?;
    let mut made = Vec::new();
    make_key_set(config, &mut made)?;
    for token in &config.listeners.admin.tokens {
        match &token.source {
            AdminTokenSource::File(path) => {
                if !exists(path)? {
                    let secret = new_secret()?;
                    write_secret(path, &secret)?;
                    made.push(Made {
                        what: format!("admin token `{}`", token.name),
                        path: path.clone(),
                        secret: None,
                    });
                }
            }
            AdminTokenSource::HashFile(path) => {
                let hash = |secret: &str| Ok(token_hash(secret.as_bytes()));
                make_hashed(
                    path,
                    "token",
                    format!("admin token `{}`", token.name),
                    hash,
                    &mut made,
                )?;
            }
        }
    }
    for client in &config.clients {
        if let ClientSecretSource::HashFile(path) = &client.secret {
            let hash = |secret: &str| {
                SecretHash::of_generated(secret.as_bytes(), &SystemRandom::new())
                    .map(|hash| hash.to_string())
                    .map_err(|error| Failure::Other(error.to_string()))
            };
            make_hashed(
                path,
                "secret",
                format!("secret of client `{}`", client.id),
                hash,
                &mut made,
            )?;
        }
    }
    Ok(made)
}

/// One at a time: a second run waits and then finds everything made.
fn lock(config: &Config) -> Result<fs::File, Failure> {
    let fail = |error: std::io::Error| {
        Failure::Other(format!("cannot lock {}: {error}", config.source.display()))
    };
    let file = fs::File::open(&config.source).map_err(fail)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| fail(error.into()))?;
    Ok(file)
}

/// The key-encryption key and the key set belong together: a new key-encryption key beside an old
/// key set could not open it, so it is never made there.
fn make_key_set(config: &Config, made: &mut Vec<Made>) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let crate::config::StoreSettings::File(dir) = &config.keys.store;
    let has_set = exists(&dir.join("keyset.json"))?;
    for path in &config.keys.encryption_key_files {
        if exists(path)? {
            continue;
        }
        if has_set {
            return Err(Failure::NotInitialised(format!(
                "the key set in {} exists, but the key-encryption key {} does not; restore that file from a backup \
                 (a new one could not open the key set), or move the key set away to start anew",
                dir.display(),
                path.display()
            )));
        }
        write_new_kek(path)?;
        made.push(Made {
            what: "key-encryption key".to_owned(),
            path: path.clone(),
            secret: None,
        });
    }
    if has_set {
        return Ok(());
    }
    let keyring = Arc::new(Keyring::load(&config.keys.encryption_key_files)?);
    let now = clock.now();
    let fresh = || -> Result<FreshKey, Failure> {
        let generated = RingKeyGenerator
            .generate(config.issuer.algorithm)
            .map_err(|error| Failure::Other(error.to_string()))?;
        seal_fresh(generated, &keyring, &config.issuer.url, 0, now)
            .map_err(|error| Failure::Other(error.to_string()))
    };
    let actor = Actor::Offline("init".to_owned());
    let set = transition::bootstrap(
        &config.issuer.url,
        fresh()?,
        fresh()?,
        &config.keys.timing,
        actor,
        now,
    );
    let runtime = small_runtime()?;
    match runtime.block_on(FileStore::create(
        file_store(config, &keyring, &clock),
        &set,
    )) {
        Ok(_store) => {
            made.push(Made {
                what: "key set".to_owned(),
                path: dir.clone(),
                secret: None,
            });
            Ok(())
        }
        // Two inits at the same time: the other one made it.
        Err(StoreError::AlreadyInitialised { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes a generated secret, its hash in `path` and the secret itself beside it.
fn make_hashed(
    path: &Path,
    extension: &str,
    what: String,
    hash: impl FnOnce(&str) -> Result<String, Failure>,
    made: &mut Vec<Made>,
) -> Result<(), Failure> {
    if exists(path)? {
        return Ok(());
    }
    let beside = path.with_extension(extension);
    // A secret without its hash is what a run leaves that was killed between the two.
    let (secret, shown) = if exists(&beside)? {
        let text = fs::read_to_string(&beside)
            .map(Zeroizing::new)
            .map_err(|error| {
                Failure::Other(format!("cannot read {}: {error}", beside.display()))
            })?;
        (Zeroizing::new(text.trim().to_owned()), false)
    } else {
        (new_secret()?, true)
    };
    let hash = hash(&secret)?;
    // The secret first: a hash without its secret would lock the client out for ever.
    if shown {
        write_secret(&beside, &secret)?;
    }
    write_secret(path, &hash)?;
    made.push(Made {
        what,
        path: beside,
        secret: shown.then_some(secret),
    });
    Ok(())
}

fn new_secret() -> Result<Zeroizing<String>, Failure> {
    generate(&SystemRandom::new()).map_err(|_no_randomness| {
        Failure::Other("the random number generator is unavailable; nothing was made".to_owned())
    })
}

/// Whether something is there; an unreadable place is an error, not an absence.
fn exists(path: &Path) -> Result<bool, Failure> {
    path.try_exists()
        .map_err(|error| Failure::Other(format!("cannot look at {}: {error}", path.display())))
}

/// Writes a file that only we may read, and never one that exists.
fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    let fail =
        |error: std::io::Error| Failure::Other(format!("cannot write {}: {error}", path.display()));
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(fail)?;
    }
    // Whole or not at all: a kill in between must leave nothing that a later run takes for a secret.
    let unfinished = path.with_extension("unfinished");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| writeln!(file, "{text}").and_then(|()| file.sync_all()))
        // A link, unlike a rename, never replaces what is there.
        .and_then(|()| fs::hard_link(&unfinished, path));
    let _leftover = fs::remove_file(&unfinished);
    written.map_err(fail)
}
