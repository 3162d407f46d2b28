//! The state of a simulated disk: what programs see, what is stable, and what a power cut may
//! make of the difference.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use super::durable::parent;

pub(super) type Names = BTreeMap<PathBuf, Node>;

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) files: Vec<Content>,
    /// Names as programs see them.
    pub(super) names: Names,
    pub(super) stable_names: Names,
    /// Changes of names since their directory was last synced, oldest first.
    pub(super) changes: Vec<Change>,
    pub(super) locked: HashSet<PathBuf>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) seen: Vec<u8>,
    pub(super) stable: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    /// Index into `files`.
    File(usize),
}

/// One change that reaches stable storage as a whole or not at all.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) dir: PathBuf,
    pub(super) remove: Option<PathBuf>,
    pub(super) put: Option<(PathBuf, Node)>,
}

impl Change {
    pub(super) fn apply(&self, names: &mut Names) {
        if let Some(path) = &self.remove {
            names.remove(path);
        }
        if let Some((path, node)) = &self.put {
            names.insert(path.clone(), *node);
        }
    }
}

impl Content {
    /// What may be found of a file: the last flushed content, the newest, half of what is new, or
    /// blocks that were allocated but never written.
    pub(super) fn after_power_cut(&self) -> Vec<Vec<u8>> {
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
    /// Every combination of names and contents that a power cut may leave now.
    pub(super) fn after_power_cut(&self) -> Vec<(Names, Vec<Vec<u8>>)> {
        let mut namings = vec![self.stable_names.clone()];
        for change in &self.changes {
            for mut with in namings.clone() {
                change.apply(&mut with);
                namings.push(with);
            }
        }
        for names in &mut namings {
            let all = names.clone();
            // What lies in a directory whose own name was lost is lost with it.
            names.retain(|path, _| path.ancestors().skip(1).all(|dir| all.contains_key(dir)));
        }
        let mut contents = vec![Vec::new()];
        for content in &self.files {
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
        let pairs = namings.iter().flat_map(|names| {
            contents
                .iter()
                .map(|content| (names.clone(), content.clone()))
        });
        pairs.collect()
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn change(&mut self, dir: &Path, remove: Option<&Path>, put: Option<(&Path, Node)>) {
        let change = Change {
            dir: dir.to_owned(),
            remove: remove.map(Path::to_owned),
            put: put.map(|(path, node)| (path.to_owned(), node)),
        };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<usize> {
        if self.names.get(parent(path)) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.files.push(Content::default());
        let file = self.files.len() - 1;
        self.change(parent(path), None, Some((path, Node::File(file))));
        Ok(file)
    }

    pub(super) fn free(&self, path: &Path) -> io::Result<()> {
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }

    pub(super) fn content(&mut self, file: usize) -> io::Result<&mut Content> {
        self.files
            .get_mut(file)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
