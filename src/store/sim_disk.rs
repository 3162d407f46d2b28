//! A disk in memory that can lose power.
//!
//! It keeps apart what programs see and what is on stable storage. Content becomes stable by
//! `sync` of the file, names by `sync_dir` of their directory; until then a power cut may keep or
//! lose each of them, in any combination: that is all that POSIX promises, and more than real
//! file systems do. [`SimDisk::after_power_cut`] lists every state that may be found afterwards.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::durable::parent;
use super::file_layer::{DIR_MODE, FILE_MODE, FileLayer, LayerFile, Lock, Stat};
use super::sim_state::{Change, Content, Disk, Names, Node};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Disk>>);

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        let disk = Self::default();
        let root = PathBuf::from("/");
        disk.disk().names.insert(root.clone(), Node::Dir);
        disk.disk().stable_names.insert(root, Node::Dir);
        disk
    }

    /// Every file with its content, as programs see it.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let disk = self.disk();
        let files = disk.names.iter().filter_map(|(path, node)| match node {
            Node::Dir => None,
            Node::File(file) => Some((path.clone(), disk.files.get(*file)?.seen.clone())),
        });
        files.collect()
    }

    /// Puts a file there at once, as somebody else would.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.disk();
        disk.files.push(Content {
            seen: bytes.to_vec(),
            stable: bytes.to_vec(),
        });
        let node = Node::File(disk.files.len() - 1);
        disk.names.insert(path.to_owned(), node);
        disk.stable_names.insert(path.to_owned(), node);
    }

    /// Another disk with the same content, all of it stable.
    #[must_use]
    pub fn copy(&self) -> Self {
        let disk = self.disk();
        let contents = disk.files.iter().map(|content| content.seen.clone());
        Self::stable(disk.names.clone(), contents.collect())
    }

    /// Every state that a power cut may leave now.
    #[must_use]
    pub fn after_power_cut(&self) -> Vec<Self> {
        let states = self.disk().after_power_cut().into_iter();
        states
            .map(|(names, contents)| Self::stable(names, contents))
            .collect()
    }

    fn stable(names: Names, contents: Vec<Vec<u8>>) -> Self {
        let files = contents.into_iter().map(|seen| Content {
            stable: seen.clone(),
            seen,
        });
        Self(Arc::new(Mutex::new(Disk {
            files: files.collect(),
            stable_names: names.clone(),
            names,
            ..Disk::default()
        })))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, file: usize) -> Box<dyn LayerFile> {
        Box::new(SimFile {
            disk: self.clone(),
            file,
        })
    }
}

impl FileLayer for SimDisk {
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let mut disk = self.disk();
        Ok(match disk.names.get(path).copied() {
            None => None,
            Some(Node::Dir) => Some(Stat {
                mode: DIR_MODE,
                is_dir: true,
                len: 0,
            }),
            Some(Node::File(file)) => Some(Stat {
                mode: FILE_MODE,
                is_dir: false,
                len: disk.content(file)?.seen.len() as u64,
            }),
        })
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut disk = self.disk();
        let file = disk.file(path)?;
        let mut bytes = disk.content(file)?.seen.clone();
        bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.free(path)?;
        disk.change(parent(path), None, Some((path, Node::Dir)));
        Ok(())
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn LayerFile>> {
        let mut disk = self.disk();
        disk.free(path)?;
        Ok(self.open(disk.create(path)?))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LayerFile>> {
        let mut disk = self.disk();
        let file = match disk.file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path)?,
            found => found?,
        };
        Ok(self.open(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let file = disk.file(from)?;
        disk.change(parent(to), Some(from), Some((to, Node::File(file))));
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().free(to)?;
        self.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.file(path)?;
        disk.change(parent(path), Some(path), None);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let (synced, waiting) = std::mem::take(&mut disk.changes)
            .into_iter()
            .partition(|change| change.dir == path);
        disk.changes = waiting;
        let synced: Vec<Change> = synced;
        for change in &synced {
            change.apply(&mut disk.stable_names);
        }
        Ok(())
    }

    fn lock(&self, path: &Path, _holder: &str) -> io::Result<Lock> {
        let mut disk = self.disk();
        if !disk.locked.insert(path.to_owned()) {
            return Ok(Lock::Taken("a simulated process".to_owned()));
        }
        Ok(Lock::Held(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_owned(),
        })))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.disk().locked.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl LayerFile for SimFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.content(self.file)?.seen.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        disk.content(self.file)?.seen.resize(len, 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let content = disk.content(self.file)?;
        content.stable = content.seen.clone();
        Ok(())
    }
}
