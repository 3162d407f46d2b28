//! Key-encryption keys on disk: one line of base64url each, the newest first; lines that begin
//! with `#` are comments.
//!
//! Invariants: a file that its group or others may read is refused; a new file appears complete
//! or not at all and never replaces another; texts that held a secret are wiped.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use zeroize::Zeroizing;

use super::durable;
use super::file_layer::{FileLayer, RealLayer};
use super::kek::{KEK_BYTES, Kek, KekSecret};
use super::kek_renewal::KekFiles;
use super::sealing::Keyring;

/// Longest file that is read: the most keys it may hold, and comments.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Most keys in one file.
pub const MAX_KEYS_PER_FILE: usize = 32;

/// How the first line of a file begins into which the gateway itself may put new keys.
pub(super) const MANAGED: &str = "# managed by portcullis";

/// What `init` writes above the key.
const HEADER: &str = "\
# managed by portcullis: a purge of compromised keys and `portcullis keys reseal --new-kek` put a new key in front
# the first key seals, all of them open; without the line above, new keys are made by hand only
";

/// Bits that would let somebody else read the file.
const FOREIGN_BITS: u32 = 0o077;

/// Why there is no usable keyring.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// No file is configured.
    #[error("no key-encryption key is configured; name a file in keys.encryption_key_files")]
    Empty,
    /// A file does not exist.
    #[error("the key-encryption key {} does not exist; `portcullis init` makes it for a new installation, for an existing key set restore it from a backup", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others may read a file.
    #[error(
        "the key-encryption key {} has mode {mode:04o}, so others may read it; it must be 0600 or \
         narrower: chmod 0600 {}",
        .path.display(), .path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file holds something else.
    #[error(
        "the key-encryption key {} is unusable: {rule}; restore it from a backup (a new one cannot \
         open what this one sealed)",
        .path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The violated rule.
        rule: String,
    },
    /// The same key twice.
    #[error(
        "{} holds the key-encryption key {id}, which is configured already; list each once",
        .path.display()
    )]
    Twice {
        /// The second file.
        path: PathBuf,
        /// Identifier of the key.
        id: String,
    },
    /// A new key would replace an existing file.
    #[error("{} exists; a key-encryption key is never overwritten", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// No random bytes.
    #[error(
        "no key-encryption key was made: the operating system gave no random bytes; check that \
         getrandom(2) works here, then try again"
    )]
    Randomness,
    /// The operating system refused.
    #[error("cannot {step} {}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Keyring {
    /// Reads the key-encryption keys from `paths`; the first one seals.
    ///
    /// # Errors
    /// [`KeyringError`] naming the file and the violated rule.
    pub fn load<P: AsRef<Path>>(paths: &[P]) -> Result<Self, KeyringError> {
        let paths: Vec<&Path> = paths.iter().map(AsRef::as_ref).collect();
        Self::load_on(Arc::new(RealLayer), &paths)
    }

    /// As [`Keyring::load`], on a given file layer.
    ///
    /// # Errors
    /// As [`Keyring::load`].
    pub fn load_on(layer: Arc<dyn FileLayer>, paths: &[&Path]) -> Result<Self, KeyringError> {
        let files = KekFiles::new(layer, paths);
        Ok(Self::of(files.read()?, Some(files)))
    }
}

/// Makes a new key-encryption key in `path` (mode 0600), and its directory (0700) if need be. It
/// is on stable storage when this returns; whatever happens, the file is complete or absent.
///
/// # Errors
/// [`KeyringError::Exists`] when `path` exists; otherwise what went wrong.
pub fn write_new_kek(path: &Path) -> Result<(), KeyringError> {
    write_new_kek_on(&RealLayer, path)
}

/// As [`write_new_kek`], on a given file layer.
///
/// # Errors
/// As [`write_new_kek`].
pub fn write_new_kek_on(layer: &dyn FileLayer, path: &Path) -> Result<(), KeyringError> {
    let io = |step: &'static str| {
        move |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyringError::Exists {
                path: path.to_owned(),
            },
            _ => KeyringError::Io {
                path: path.to_owned(),
                step,
                source,
            },
        }
    };
    if layer.stat(path).map_err(io("look for"))?.is_some() {
        return Err(KeyringError::Exists {
            path: path.to_owned(),
        });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(HEADER.len() + 128));
    text.extend_from_slice(HEADER.as_bytes());
    text.extend_from_slice(new_lines()?.as_bytes());
    // Two that run at once must not share a temporary file, or one could publish a key which the
    // other is still writing.
    let mut suffix = [0; 8];
    SystemRandom::new()
        .fill(&mut suffix)
        .map_err(|_refused| KeyringError::Randomness)?;

    let dir = durable::parent(path);
    durable::create_dir_all(layer, dir).map_err(io("create the directory of"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let tmp = dir.join(format!(".{name}.{:016x}.tmp", u64::from_be_bytes(suffix)));
    durable::write_new(layer, &tmp, &text).map_err(io("write"))?;
    if let Err(error) = layer.rename_new(&tmp, path) {
        // Nothing was ever sealed under what a leftover holds.
        drop(layer.remove(&tmp));
        return Err(io("create")(error));
    }
    layer.sync_dir(dir).map_err(io("flush the directory of"))
}

/// A new key as it stands in a file: a comment with its identifier, then the secret.
pub(super) fn new_lines() -> Result<Zeroizing<String>, KeyringError> {
    let mut secret = KekSecret::new([0; KEK_BYTES]);
    SystemRandom::new()
        .fill(secret.as_mut_slice())
        .map_err(|_refused| KeyringError::Randomness)?;
    let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret.as_slice()));
    let id = Kek::new(secret).id;
    Ok(Zeroizing::new(format!("# {id}\n{}\n", encoded.as_str())))
}

/// The content of a file of key-encryption keys.
pub(super) struct KekFile {
    pub(super) text: Zeroizing<Vec<u8>>,
    /// Whether the gateway may put new keys into it.
    pub(super) managed: bool,
    pub(super) secrets: Vec<KekSecret>,
}

impl KekFile {
    /// # Errors
    /// [`KeyringError`] naming the file and the violated rule.
    pub(super) fn read(layer: &dyn FileLayer, path: &Path) -> Result<Self, KeyringError> {
        let malformed = |rule: &str| KeyringError::Malformed {
            path: path.to_owned(),
            rule: rule.to_owned(),
        };
        let io = |step| {
            move |source| KeyringError::Io {
                path: path.to_owned(),
                step,
                source,
            }
        };
        let stat =
            layer
                .stat(path)
                .map_err(io("look at"))?
                .ok_or_else(|| KeyringError::Missing {
                    path: path.to_owned(),
                })?;
        if stat.is_dir {
            return Err(malformed("it is a directory"));
        }
        if stat.mode & FOREIGN_BITS != 0 {
            return Err(KeyringError::Permissions {
                path: path.to_owned(),
                mode: stat.mode,
            });
        }
        let text = layer.read(path, MAX_FILE_BYTES + 1).map_err(io("read"))?;
        let text = Zeroizing::new(text);
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(malformed("it is longer than 16 KiB"));
        }
        let mut secrets = Vec::new();
        let lines = text.strip_suffix(b"\n").unwrap_or(&text);
        for (number, line) in (1..).zip(lines.split(|byte| *byte == b'\n')) {
            if !line.starts_with(b"#") {
                let rule = |rule: &str| malformed(&format!("line {number} {rule}"));
                secrets.push(decode(line).map_err(rule)?);
            }
        }
        if secrets.is_empty() {
            return Err(malformed("it holds no key"));
        }
        if secrets.len() > MAX_KEYS_PER_FILE {
            return Err(malformed("it holds more than 32 keys"));
        }
        Ok(Self {
            managed: text.starts_with(MANAGED.as_bytes()),
            text,
            secrets,
        })
    }
}

fn decode(line: &[u8]) -> Result<KekSecret, &'static str> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(line.len()));
    URL_SAFE_NO_PAD
        .decode_vec(line, &mut decoded)
        .map_err(|_not_base64url| "must be base64url without padding, or begin with #")?;
    let bytes: &[u8; KEK_BYTES] = decoded
        .as_slice()
        .try_into()
        .map_err(|_length| "must hold exactly 32 bytes in base64url")?;
    Ok(KekSecret::new(*bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_key_is_private_complete_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets/deeper/kek");
        write_new_kek(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&dir.path().join("secrets")), 0o700);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(MANAGED), "{text}");
        assert_eq!(text.lines().last().map(str::len), Some(43));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);

        let keyring = Keyring::load(&[&path]).unwrap();
        assert!(matches!(
            write_new_kek(&path),
            Err(KeyringError::Exists { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(
            Keyring::load(&[&path]).unwrap().first_id(),
            keyring.first_id()
        );

        let second = dir.path().join("secrets/kek2");
        write_new_kek(&second).unwrap();
        let both = Keyring::load(&[&second, &path]).unwrap();
        assert_eq!(both.ids()[1], keyring.first_id());
        assert!(text.contains(&format!("# {}\n", keyring.first_id())));
        assert_ne!(both.first_id(), keyring.first_id());
    }

    #[test]
    fn unusable_files_are_named_with_the_rule() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        let load = || Keyring::load(&[&path]).unwrap_err();
        assert!(matches!(load(), KeyringError::Missing { .. }));
        assert!(matches!(
            Keyring::load::<&Path>(&[]),
            Err(KeyringError::Empty)
        ));

        write_new_kek(&path).unwrap();
        for wide in [0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(wide)).unwrap();
            let error = load();
            assert!(matches!(error, KeyringError::Permissions { mode, .. } if mode == wide));
            assert!(error.to_string().contains("chmod 0600"));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        Keyring::load(&[&path]).unwrap();
        assert!(matches!(
            Keyring::load(&[&path, &path]),
            Err(KeyringError::Twice { .. })
        ));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let good = format!("{}\n", "A".repeat(43));
        for text in [
            "",
            "\n",
            "AAAA\n",
            "not base64url!\n",
            &"A".repeat(44),
            "# a comment alone\n",
            &format!("{good}\n"),
            &format!("{good}AAAA\n"),
            &good.repeat(33),
            &format!("#{}\n{good}", "x".repeat(17_000)),
        ] {
            fs::write(&path, text).unwrap();
            let error = load();
            assert!(
                matches!(error, KeyringError::Malformed { .. }),
                "{text:?}: {error}"
            );
            assert!(error.to_string().contains("kek"));
        }
    }
}
