//! A new key-encryption key for a running installation: made, or picked up from the files.
//!
//! Invariants: a new key is on stable storage before anything is sealed under it; a file without
//! the mark of `portcullis init` is the operator's and is never written; a key that was put in
//! front but sealed nothing yet is used before another one is made, so that failed attempts do
//! not pile keys up. Whoever renews holds the lock of the store.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use zeroize::Zeroizing;

use super::durable;
use super::error::StoreError;
use super::file_layer::FileLayer;
use super::kek_file::{KekFile, KeyringError, MAX_KEYS_PER_FILE, new_lines};
use super::sealing::{Keks, Keyring};

/// The files that a keyring was read from.
pub(super) struct KekFiles {
    layer: Arc<dyn FileLayer>,
    paths: Vec<PathBuf>,
    /// One at a time: two purges at once must not make two keys.
    turn: Mutex<()>,
}

/// Why no new key-encryption key was made.
#[derive(Debug, Error)]
pub enum RenewalError {
    /// The keyring did not come from files.
    #[error("the key-encryption keys of this process lie in memory alone")]
    NoFile,
    /// The operator looks after the file.
    #[error(
        "{} is not managed by portcullis (its first line does not say so); put a new key into its \
         first line (32 random bytes in base64url) and keep the old ones below it, then run \
         `portcullis keys reseal`",
        .path.display()
    )]
    NotManaged {
        /// The first file.
        path: PathBuf,
    },
    /// No room.
    #[error(
        "{} holds {MAX_KEYS_PER_FILE} keys, the most it may; remove the last ones, which only old \
         lines of the audit log still need, then run `portcullis keys reseal --new-kek`",
        .path.display()
    )]
    Full {
        /// The first file.
        path: PathBuf,
    },
    /// The files cannot be read.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The file cannot be written.
    #[error("no key-encryption key was made: {0}")]
    Write(#[from] StoreError),
}

impl KekFiles {
    pub(super) fn new(layer: Arc<dyn FileLayer>, paths: &[&Path]) -> Self {
        Self {
            layer,
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            turn: Mutex::new(()),
        }
    }

    /// Every key, the first of the first file first.
    ///
    /// # Errors
    /// [`KeyringError`] naming the file and the violated rule.
    pub(super) fn read(&self) -> Result<Keks, KeyringError> {
        let (mut secrets, mut origins) = (Vec::new(), Vec::new());
        for path in &self.paths {
            let file = KekFile::read(&*self.layer, path)?;
            origins.extend(file.secrets.iter().map(|_| path));
            secrets.extend(file.secrets);
        }
        let keks = Keks::new(secrets)?;
        let ids: Vec<&str> = keks.all().map(|kek| kek.id.as_str()).collect();
        for (n, (id, path)) in ids.iter().zip(origins).enumerate() {
            if ids.iter().take(n).any(|earlier| earlier == id) {
                return Err(KeyringError::Twice {
                    path: path.clone(),
                    id: (*id).to_owned(),
                });
            }
        }
        Ok(keks)
    }

    /// What stands in the files now, once their names are on stable storage: an attempt that
    /// failed half-way may have left a new key whose file could vanish again.
    fn settled(&self) -> Result<Keks, KeyringError> {
        let keks = self.read()?;
        for path in &self.paths {
            let flushed = self.layer.sync_dir(durable::parent(path));
            flushed.map_err(|source| KeyringError::Io {
                path: path.clone(),
                step: "flush the directory of",
                source,
            })?;
        }
        Ok(keks)
    }

    /// Puts a new key in front of the first file.
    fn write_new(&self) -> Result<(), RenewalError> {
        let path = self.paths.first().ok_or(RenewalError::NoFile)?;
        let file = KekFile::read(&*self.layer, path)?;
        if !file.managed {
            return Err(RenewalError::NotManaged { path: path.clone() });
        }
        if file.secrets.len() >= MAX_KEYS_PER_FILE {
            return Err(RenewalError::Full { path: path.clone() });
        }
        let lines = new_lines()?;
        let (above, below) = file.text.split_at(first_key_at(&file.text));
        // Room beforehand: a buffer that grows leaves copies of secrets behind.
        let mut text = Zeroizing::new(Vec::with_capacity(file.text.len() + lines.len()));
        for part in [above, lines.as_bytes(), below] {
            text.extend_from_slice(part);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let tmp = durable::parent(path).join(format!(".{name}.new"));
        durable::replace(&*self.layer, path, &tmp, &text)?;
        Ok(())
    }
}

/// Where the first key begins in a file, its comment with the identifier included.
fn first_key_at(text: &[u8]) -> usize {
    let (mut at, mut comment_at) = (0, None);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b"#") {
            return comment_at.unwrap_or(at);
        }
        // `# ` and 16 digits, as `new_lines` writes it.
        let is_id = line.len() == 19 && line.iter().skip(2).take(16).all(u8::is_ascii_hexdigit);
        comment_at = is_id.then_some(at);
        at += line.len();
    }
    at
}

impl Keyring {
    /// Reads the files again. Keys that are new there join in, in the order of the files; none
    /// that is at hand goes away before the process ends.
    ///
    /// # Errors
    /// [`KeyringError`]; then nothing has changed. A keyring in memory has nothing to read.
    pub fn reload(&self) -> Result<(), KeyringError> {
        if let Some(files) = &self.files {
            let _turn = files.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.put_in_front(files.settled()?);
        }
        Ok(())
    }

    /// Makes sure that the first key is none of `in_use`: the files are read again, and if that
    /// brought none, a new key is made and put in front of the first file. It is on stable storage
    /// and seals from the moment this returns. Blocks on the disk.
    ///
    /// # Errors
    /// [`RenewalError`]; then the first key may be one of `in_use` still.
    pub fn renew(&self, in_use: &[String]) -> Result<(), RenewalError> {
        let is_new = |id: &str| !in_use.iter().any(|used| used == id);
        let Some(files) = &self.files else {
            let new = is_new(&self.first_id());
            return if new {
                Ok(())
            } else {
                Err(RenewalError::NoFile)
            };
        };
        let _turn = files.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keks = files.settled()?;
        if !is_new(keks.first_id()) {
            files.write_new()?;
            keks = files.read()?;
        }
        self.put_in_front(keks);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::kek_file::write_new_kek;
    use super::*;

    #[test]
    fn a_managed_file_gets_a_new_key_in_front_and_keeps_the_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets/kek");
        write_new_kek(&path).unwrap();
        let keyring = Keyring::load(&[&path]).unwrap();
        let mut ids = keyring.ids();
        for _ in 0..3 {
            keyring.renew(&keyring.ids()).unwrap();
            ids.insert(0, keyring.first_id());
            assert_eq!(keyring.ids(), ids);
            assert_eq!(Keyring::load(&[&path]).unwrap().ids(), ids);
        }
        let text = fs::read_to_string(&path).unwrap();
        let comments: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# ")).collect();
        assert_eq!(comments[2..], ids);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_sealed_nothing_yet_is_used_before_another_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        write_new_kek(&path).unwrap();
        let keyring = Keyring::load(&[&path]).unwrap();
        let in_use = keyring.ids();
        for _ in 0..10 {
            keyring.renew(&in_use).unwrap();
        }
        assert_eq!(keyring.ids().len(), 2);
        // The same after a restart.
        let restarted = Keyring::load(&[&path]).unwrap();
        restarted.renew(&in_use).unwrap();
        assert_eq!(restarted.ids(), keyring.ids());
    }

    #[test]
    fn an_operators_file_is_never_written_but_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        write_new_kek(&path).unwrap();
        let own = |keys: &[&str]| {
            fs::write(&path, format!("# ours\n{}\n", keys.join("\n"))).unwrap();
        };
        let (old, new) = ("A".repeat(43), format!("{}A", "B".repeat(42)));
        own(&[&old]);
        let keyring = Keyring::load(&[&path]).unwrap();
        let in_use = keyring.ids();
        let before = fs::read(&path).unwrap();
        let refused = keyring.renew(&in_use).unwrap_err();
        assert!(matches!(refused, RenewalError::NotManaged { .. }));
        assert!(refused.to_string().contains("keys reseal"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), before);

        own(&[&new, &old]);
        keyring.renew(&in_use).unwrap();
        assert_eq!(keyring.ids()[1..], in_use);
        // Taken out of the file too early, a key stays at hand until the process ends.
        own(&[&new]);
        keyring.reload().unwrap();
        assert_eq!(keyring.ids()[1..], in_use);
        fs::write(&path, "rubbish\n").unwrap();
        keyring.reload().unwrap_err();
        assert_eq!(keyring.ids().len(), 2);
    }

    #[test]
    fn a_full_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        write_new_kek(&path).unwrap();
        let keyring = Keyring::load(&[&path]).unwrap();
        for _ in 1..MAX_KEYS_PER_FILE {
            keyring.renew(&keyring.ids()).unwrap();
        }
        let refused = keyring.renew(&keyring.ids()).unwrap_err();
        assert!(matches!(refused, RenewalError::Full { .. }), "{refused}");
        assert_eq!(Keyring::load(&[&path]).unwrap().ids().len(), 32);
    }

    #[test]
    fn a_keyring_in_memory_has_no_file_to_write() {
        let keyring = Keyring::new([super::super::sealing::KekSecret::new([1; 32])]).unwrap();
        assert!(matches!(
            keyring.renew(&keyring.ids()),
            Err(RenewalError::NoFile)
        ));
        keyring.renew(&[]).unwrap();
        keyring.reload().unwrap();
    }
}
