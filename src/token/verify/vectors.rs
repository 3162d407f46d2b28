//! What is judged before any claim is read, for published test vectors, whose payloads are no
//! claims. Compiled only with the feature `testing`; used by `tests/`.

use crate::keys::{Algorithm, PublicJwk};

use super::super::Rejection;
use super::super::compact::{Compact, Header};
use super::super::jose::{KeyError, SignatureVerifier};

/// Judges form, header and signature of `token` under an imported key, and returns its payload.
/// `typ` and `kid` are not looked at: the vectors have none of ours.
///
/// # Errors
/// The [`Rejection`] that the request path would name; the outer [`KeyError`] when `jwk` is no key
/// of `alg`.
pub fn judge(
    token: &[u8],
    alg: Algorithm,
    jwk: &PublicJwk,
) -> Result<Result<Vec<u8>, Rejection>, KeyError> {
    let verifier = SignatureVerifier::new(alg, jwk)?;
    let verdict = || {
        let compact = Compact::split(token)?;
        let (named, _members) = Header::members(&compact.header_json)?;
        if named != alg {
            Err(Rejection::AlgNotAllowed)
        } else if verifier.verifies(compact.signed, compact.signature) {
            Ok(compact.payload)
        } else {
            Err(Rejection::BadSignature)
        }
    };
    Ok(verdict())
}
