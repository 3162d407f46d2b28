//! What is on disk, byte for byte, so that a test can say that nothing was touched.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Mode and content of every file and directory below one.
pub type Contents = BTreeMap<PathBuf, (u32, Option<Vec<u8>>)>;

/// Everything below `dir`, which need not exist. The lock file counts without its content: it
/// names its last holder.
pub fn contents(dir: &Path) -> Contents {
    let mut found = Contents::new();
    collect(dir, &mut found);
    found
}

fn collect(path: &Path, found: &mut Contents) {
    let Ok(meta) = path.symlink_metadata() else {
        return;
    };
    let is_lock = path.file_name().is_some_and(|name| name == "lock");
    let bytes = (meta.is_file() && !is_lock).then(|| std::fs::read(path).expect("a file"));
    found.insert(path.to_owned(), (meta.permissions().mode(), bytes));
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).expect("a directory") {
            collect(&entry.expect("an entry").path(), found);
        }
    }
}

/// Sets the permission bits of `path`.
pub fn set_mode(path: &Path, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).expect("the mode can be set");
}
