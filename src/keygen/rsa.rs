//! The only place that uses the `rsa` crate: ring signs and verifies with RSA, but does not make such
//! keys, nor read a public one from SubjectPublicKeyInfo. Nothing here signs or decrypts
//! (RUSTSEC-2023-0071).

use ::rsa::pkcs8::{DecodePublicKey as _, EncodePrivateKey};
use ::rsa::rand_core::{OsRng, RngCore};
use ::rsa::traits::PublicKeyParts as _;
use ::rsa::{RsaPrivateKey, RsaPublicKey};
use zeroize::Zeroizing;

use crate::keys::Algorithm;

use super::KeygenError;

/// Modulus length. 2048 is what RFC 7518 §3.3 demands and every verifier accepts, and strong
/// enough for a key that signs for a day and protects nothing after its tokens have expired. 3072
/// would take several times as long to generate, while an operator waits for a purge, and makes
/// every signature dearer. Whoever wants more strength takes ES256.
const MODULUS_BITS: usize = 2048;

/// A new private key in PKCS#8 DER, public exponent 65537.
pub(super) fn generate_pkcs8() -> Result<Zeroizing<Vec<u8>>, KeygenError> {
    const ALG: Algorithm = Algorithm::Rs256;
    // The generator below would panic if the system refused random bytes; ask beforehand.
    let mut probe = Zeroizing::new([0; 32]);
    OsRng
        .try_fill_bytes(probe.as_mut_slice())
        .map_err(|_refused| KeygenError::Randomness { alg: ALG })?;

    let unusable = |rule: String| KeygenError::Unusable { alg: ALG, rule };
    let key = RsaPrivateKey::new(&mut OsRng, MODULUS_BITS)
        .map_err(|error| unusable(error.to_string()))?;
    let document = key
        .to_pkcs8_der()
        .map_err(|error| unusable(error.to_string()))?;
    Ok(Zeroizing::new(document.as_bytes().to_vec()))
}

/// Modulus and exponent of a public key in SubjectPublicKeyInfo (RFC 3279 §2.3.1), big-endian.
pub(super) fn public_components(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let key = RsaPublicKey::from_public_key_der(der).map_err(|error| error.to_string())?;
    Ok((key.n().to_bytes_be(), key.e().to_bytes_be()))
}
