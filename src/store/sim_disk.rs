//! A disk in memory that can lose power.
//!
//! It keeps apart what programs see and what is on stable storage. Content becomes stable by
//! `sync` of the file, names by `sync_dir` of their directory; until then a power cut may keep or
//! lose each of them, in any combination: that is all that POSIX promises, and more than real
//! file systems do. [`SimDisk::after_power_cut`] lists every state that may be found afterwards.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::durable::parent;
use super::file_layer::{DIR_MODE, FILE_MODE, FileLayer, LayerFile, Lock, Stat};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    files: Vec<Content>,
    /// Names as programs see them.
    names: BTreeMap<PathBuf, Node>,
    stable_names: BTreeMap<PathBuf, Node>,
    /// Changes of names since their directory was last synced, oldest first.
    changes: Vec<Change>,
    locked: HashSet<PathBuf>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    stable: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    /// Index into `files`.
    File(usize),
}

/// One change that reaches stable storage as a whole or not at all.
#[derive(Clone, Debug)]
struct Change {
    dir: PathBuf,
    remove: Option<PathBuf>,
    put: Option<(PathBuf, Node)>,
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        if let Some(path) = &self.remove {
            names.remove(path);
        }
        if let Some((path, node)) = &self.put {
            names.insert(path.clone(), *node);
        }
    }
}

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
        let disk = self.disk();
        let mut namings = vec![disk.stable_names.clone()];
        for change in &disk.changes {
            for kept in namings.clone() {
                let mut with = kept;
                change.apply(&mut with);
                namings.push(with);
            }
        }
        let mut contents = vec![Vec::new()];
        for content in &disk.files {
            let variants = content.after_power_cut();
            contents = contents
                .iter()
                .flat_map(|before: &Vec<Vec<u8>>| {
                    variants.iter().map(|variant| {
                        let mut all = before.clone();
                        all.push(variant.clone());
                        all
                    })
                })
                .collect();
        }
        let mut states = Vec::new();
        for names in &namings {
            for content in &contents {
                states.push(Self::stable(names.clone(), content.clone()));
            }
        }
        states
    }

    fn stable(names: BTreeMap<PathBuf, Node>, contents: Vec<Vec<u8>>) -> Self {
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

impl Content {
    /// What may be found of a file: the last flushed content, the newest, half of what is new, or
    /// blocks that were allocated but never written.
    fn after_power_cut(&self) -> Vec<Vec<u8>> {
        if self.seen == self.stable {
            return vec![self.seen.clone()];
        }
        let common = self.stable.len().min(self.seen.len());
        let half = common + (self.seen.len() - common) / 2;
        let torn = self.seen.get(..half).unwrap_or_default().to_vec();
        let zeros = |from: usize, to: usize| {
            let mut bytes = self.seen.clone();
            bytes.iter_mut().take(to).skip(from).for_each(|b| *b = 0);
            bytes
        };
        vec![
            self.stable.clone(),
            self.seen.clone(),
            torn,
            zeros(common, half),
            zeros(half, self.seen.len()),
        ]
    }
}

impl Disk {
    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, dir: &Path, remove: Option<&Path>, put: Option<(&Path, Node)>) {
        let change = Change {
            dir: dir.to_owned(),
            remove: remove.map(Path::to_owned),
            put: put.map(|(path, node)| (path.to_owned(), node)),
        };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        if self.names.get(parent(path)) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.files.push(Content::default());
        let file = self.files.len() - 1;
        self.change(parent(path), None, Some((path, Node::File(file))));
        Ok(file)
    }

    fn free(&self, path: &Path) -> io::Result<()> {
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }

    fn content(&mut self, file: usize) -> io::Result<&mut Content> {
        self.files
            .get_mut(file)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
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
