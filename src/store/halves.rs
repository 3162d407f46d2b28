//! Private halves on their way into a key set: sealed when they are new, sealed anew when the
//! key-encryption key changes. In the clear they exist only in between.

use crate::clock::Timestamp;
use crate::keygen::GeneratedKey;
use crate::keys::{FreshKey, KeySet, PublicKey, SealedPrivate};

use super::sealing::{Keyring, SealError};

/// Seals a newly generated key for the set whose revision is `base_revision`.
///
/// # Errors
/// As [`Keyring::seal`].
pub fn seal_fresh(
    generated: GeneratedKey,
    keyring: &Keyring,
    issuer: &str,
    base_revision: u64,
    created_at: Timestamp,
) -> Result<FreshKey, SealError> {
    let sealed = keyring.seal(
        issuer,
        &generated.kid,
        generated.alg,
        base_revision,
        &generated.private_pkcs8,
    )?;
    Ok(FreshKey {
        kid: generated.kid,
        alg: generated.alg,
        jwk: generated.jwk,
        sealed,
        created_at,
    })
}

/// The private halves of `set`, active and pending, sealed under the first key-encryption key; a
/// half that is so already stays as it is.
///
/// # Errors
/// As [`Keyring::open`] and [`Keyring::seal`].
pub fn reseal_halves(
    set: &KeySet,
    keyring: &Keyring,
) -> Result<(SealedPrivate, SealedPrivate), SealError> {
    let first = keyring.first_id();
    let reseal = |key: &PublicKey, sealed: &SealedPrivate| {
        if sealed.kek == first {
            return Ok(sealed.clone());
        }
        let private = keyring.open(&set.issuer, &key.kid, key.alg, sealed)?;
        keyring.seal(&set.issuer, &key.kid, key.alg, set.revision, &private)
    };
    Ok((
        reseal(&set.active.public, &set.active.sealed)?,
        reseal(&set.pending.public, &set.pending.sealed)?,
    ))
}
