//! Every file system call of the store, behind one trait: the tests fail each of them in turn.
//!
//! Invariants: one method is one call that can fail on its own; new files have mode 0600 and new
//! directories 0700 from the moment they exist. Imports nothing of ours.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

/// Mode of every file the store makes.
pub const FILE_MODE: u32 = 0o600;

/// Mode of every directory the store makes.
pub const DIR_MODE: u32 = 0o700;

/// Longest text about its holder that is read from a lock file.
const MAX_HOLDER_BYTES: u64 = 256;

/// What the store needs to know about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Permission bits, set-id and sticky bits included.
    pub mode: u32,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes.
    pub len: u64,
}

/// The outcome of trying to lock a file.
#[derive(Debug)]
pub enum Lock {
    /// Locked, until this value is dropped.
    Held(Box<dyn fmt::Debug + Send + Sync>),
    /// Another process has it; this is what it wrote into the file.
    Taken(String),
}

/// A file open for writing.
pub trait LayerFile: fmt::Debug + Send {
    /// Writes all of `bytes` at the end.
    ///
    /// # Errors
    /// What the operating system said; a part may have been written.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file off after `len` bytes.
    ///
    /// # Errors
    /// What the operating system said.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Waits until content and length are on stable storage (fsync).
    ///
    /// # Errors
    /// What the operating system said; what was written since the last success may be lost, even
    /// when a later call succeeds.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file system.
pub trait FileLayer: fmt::Debug + Send + Sync {
    /// Facts about `path`, `None` when it does not exist.
    ///
    /// # Errors
    /// What the operating system said.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;

    /// At most the first `limit` bytes of a file.
    ///
    /// # Errors
    /// What the operating system said.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// At most `limit` bytes of a file, from `offset` on; none when it is not as long.
    ///
    /// # Errors
    /// What the operating system said.
    fn read_from(&self, path: &Path, offset: u64, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = self.read(path, offset.saturating_add(limit))?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(bytes.get(from..).unwrap_or_default().to_owned())
    }

    /// Makes one directory.
    ///
    /// # Errors
    /// What the operating system said.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a file that must not exist yet.
    ///
    /// # Errors
    /// What the operating system said.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn LayerFile>>;

    /// Opens a file to append to, and makes it if need be.
    ///
    /// # Errors
    /// What the operating system said.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LayerFile>>;

    /// Gives a file another name, replacing what had it.
    ///
    /// # Errors
    /// What the operating system said.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name, which must be free.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when it is not; else what the operating system said.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system said.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Waits until the names in a directory are on stable storage (fsync).
    ///
    /// # Errors
    /// What the operating system said.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Locks the file `path`, made if need be, against other processes without waiting. Writes
    /// `holder` into it if possible, for whoever finds it taken.
    ///
    /// # Errors
    /// What the operating system said.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Lock>;
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealLayer;

impl FileLayer for RealLayer {
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Stat {
                mode: found.permissions().mode() & 0o7777,
                is_dir: found.is_dir(),
                len: found.len(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        // The right size from the start: a buffer that grows leaves copies of secrets behind.
        let expected = file.metadata()?.len().min(limit).saturating_add(1);
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_from(&self, path: &Path, offset: u64, limit: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(DIR_MODE).create(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn LayerFile>> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LayerFile>> {
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some network file systems do not know the flag; a link refuses a taken name too.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
            result => Ok(result?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Lock> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    let mut text = Vec::new();
                    file.take(MAX_HOLDER_BYTES).read_to_end(&mut text)?;
                    return Ok(Lock::Taken(String::from_utf8_lossy(&text).into_owned()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Only a courtesy to whoever finds it taken: a full disk must not stop a start for it.
        drop(
            file.set_len(0)
                .and_then(|()| file.write_all(holder.as_bytes())),
        );
        Ok(Lock::Held(Box::new(RealLock(file))))
    }
}

/// The lock belongs to the open file and ends with it, also when the process is killed.
#[derive(Debug)]
struct RealLock(File);

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing is not enough at once: a child process that another thread is just starting
        // holds a copy of every descriptor until it executes its program.
        flock(&self.0, FlockOperation::Unlock).ok();
    }
}

#[derive(Debug)]
struct RealFile(File);

impl LayerFile for RealFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_that_is_there_can_be_flushed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(RealLayer.sync_dir(dir.path()).is_ok());
        assert!(RealLayer.sync_dir(&dir.path().join("none")).is_err());
    }
}
