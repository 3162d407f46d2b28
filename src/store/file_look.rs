//! A look at a file store from outside: what is committed, without the lock, and without a change
//! to any file. For commands that only tell.
//!
//! A file is replaced whole by a rename, so that what is read is one generation; the two documents
//! may be of different moments. Whether the key set is older than one stored before cannot be known
//! here; whoever acts opens the store.

use crate::keys::KeySet;

use super::SideDocument;
use super::envelope::{self, MAX_DOCUMENT_BYTES, corrupt};
use super::error::{AtPath as _, StoreError};
use super::file::FileStoreConfig;
use super::file_layer::{FileLayer, RealLayer};
use super::file_open::Paths;

/// What is committed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Look {
    /// The key set.
    pub set: KeySet,
    /// The clients document, `None` when it was never saved.
    pub clients: Option<Vec<u8>>,
}

/// Reads what is committed, authenticated as at a start.
///
/// # Errors
/// [`StoreError::NotInitialised`], or what is wrong with the files.
pub fn look(config: &FileStoreConfig) -> Result<Look, StoreError> {
    let paths = Paths::new(&config.dir);
    let path = &paths.key_set;
    if RealLayer.stat(path).at("look for", path)?.is_none() {
        return Err(paths.missing(&RealLayer, false)?);
    }
    paths.check_modes(&RealLayer)?;
    let bytes = read(path)?;
    let set = envelope::decode(path, bytes, &config.issuer, &config.keyring)?.set;
    let path = &paths.side(SideDocument::Clients);
    let clients = match RealLayer.stat(path).at("look for", path)? {
        None => None,
        Some(_) => {
            let (name, issuer) = (SideDocument::Clients, config.issuer.as_str());
            let side = envelope::decode_side(path, &read(path)?, name, issuer, &config.keyring)?;
            Some(side.data)
        }
    };
    Ok(Look { set, clients })
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, StoreError> {
    let bytes = RealLayer
        .read(path, MAX_DOCUMENT_BYTES + 1)
        .at("read", path)?;
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(corrupt(path, "it is longer than 16 MiB"));
    }
    Ok(bytes)
}
