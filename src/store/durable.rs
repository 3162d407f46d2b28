//! The order of calls that makes a file change survive a crash: write beside, flush, rename,
//! flush the directory. Leaving out either flush loses acknowledged changes.

use std::io;
use std::path::Path;

use super::error::{AtPath, StoreError};
use super::file_layer::FileLayer;

/// The directory that holds `path`.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Makes `dir` and every missing directory above it, each durable.
pub(super) fn create_dir_all(layer: &dyn FileLayer, dir: &Path) -> io::Result<()> {
    if layer.stat(dir)?.is_some() {
        return Ok(());
    }
    let above = parent(dir);
    create_dir_all(layer, above)?;
    match layer.create_dir(dir) {
        // Somebody else was faster; what matters is that it is there.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    layer.sync_dir(above)
}

/// Writes a new file and flushes it. After a failure it tries to leave none behind.
pub(super) fn write_new(layer: &dyn FileLayer, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = layer.create_new(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync());
    drop(file);
    if written.is_err() {
        // The failure to report is the first one; a leftover is removed before the next write.
        drop(layer.remove(path));
    }
    written
}

/// Removes `path` if it exists.
pub(super) fn remove_if_present(layer: &dyn FileLayer, path: &Path) -> Result<(), StoreError> {
    match layer.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.at("remove", path),
    }
}

/// Writes `bytes` to the temporary file `tmp`, in place of a leftover.
pub(super) fn stage(layer: &dyn FileLayer, tmp: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    remove_if_present(layer, tmp)?;
    write_new(layer, tmp, bytes).at("write", tmp)
}

/// Puts `bytes` in the place of `target`: a crash leaves the old or the new content. After an
/// error either may be there.
pub(super) fn replace(
    layer: &dyn FileLayer,
    target: &Path,
    tmp: &Path,
    bytes: &[u8],
) -> Result<(), StoreError> {
    stage(layer, tmp, bytes)?;
    let renamed = layer.rename(tmp, target).at("replace", target);
    if renamed.is_err() {
        drop(layer.remove(tmp));
    }
    renamed?;
    let dir = parent(target);
    layer.sync_dir(dir).at("flush the directory", dir)
}
