//! Generation of signing keys: the one place where private halves come into being.
//!
//! Invariants: the public half is read back from the very bytes that will sign, by the library
//! that will sign with them, so what is published and what signs cannot differ; a `kid` is the
//! thumbprint of the public half (RFC 7638, SHA-256); a private half never appears in `Debug`,
//! and our copy of it is wiped when dropped. Keys of a former system come in by [`import`]. May
//! import `keys`.

#[cfg(feature = "testing")]
mod doubles;
pub mod import;
mod rsa;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::{Algorithm, Kid, PublicJwk};

#[cfg(feature = "testing")]
pub use doubles::{FailingKeys, FixtureKeys};

/// Makes signing keys. RSA takes up to seconds of processor time: call it where blocking is
/// allowed, and outside any transaction.
pub trait KeyGenerator: Send + Sync + fmt::Debug {
    /// A new key for `alg`.
    ///
    /// # Errors
    /// [`KeygenError`]; nothing was made then.
    fn generate(&self, alg: Algorithm) -> Result<GeneratedKey, KeygenError>;
}

/// A newly made key pair; the private half is still in the clear.
pub struct GeneratedKey {
    /// Thumbprint of the public half.
    pub kid: Kid,
    /// What it may sign with.
    pub alg: Algorithm,
    /// Public half.
    pub jwk: PublicJwk,
    /// Private half as PKCS#8 DER (RFC 5958).
    pub private_pkcs8: Zeroizing<Vec<u8>>,
}

impl GeneratedKey {
    /// A key pair from its private half: the public one is derived, never believed.
    ///
    /// # Errors
    /// [`KeygenError::Unusable`] when `private_pkcs8` holds no key that can sign with `alg`.
    pub fn from_pkcs8(
        alg: Algorithm,
        private_pkcs8: Zeroizing<Vec<u8>>,
    ) -> Result<Self, KeygenError> {
        let jwk = public_half(alg, &private_pkcs8)?;
        Ok(Self {
            kid: thumbprint(&jwk),
            alg,
            jwk,
            private_pkcs8,
        })
    }
}

impl fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratedKey")
            .field("kid", &self.kid)
            .field("alg", &self.alg)
            .finish_non_exhaustive()
    }
}

/// Why no key was made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeygenError {
    /// The operating system refused random bytes.
    #[error(
        "no {alg} key was generated: the operating system gave no random bytes; check that \
         getrandom(2) works here, then try again"
    )]
    Randomness {
        /// The algorithm asked for.
        alg: Algorithm,
    },
    /// The private half cannot sign with its algorithm.
    #[error(
        "a private key was refused: it cannot sign with {alg} ({rule}); use a PKCS#8 key of that \
         kind"
    )]
    Unusable {
        /// The algorithm asked for.
        alg: Algorithm,
        /// What is wrong with it.
        rule: String,
    },
    /// A test double was told to fail.
    #[cfg(feature = "testing")]
    #[error("no {alg} key was generated: this generator was told to fail")]
    Injected {
        /// The algorithm asked for.
        alg: Algorithm,
    },
}

/// Keys from the operating system's randomness: ES256 and EdDSA by ring, RSA by the `rsa` crate.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingKeyGenerator;

impl KeyGenerator for RingKeyGenerator {
    fn generate(&self, alg: Algorithm) -> Result<GeneratedKey, KeygenError> {
        let random = SystemRandom::new();
        let no_random = |_: ring::error::Unspecified| KeygenError::Randomness { alg };
        let private = match alg {
            Algorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                    .map(|document| Zeroizing::new(document.as_ref().to_vec()))
                    .map_err(no_random)?
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random)
                .map(|document| Zeroizing::new(document.as_ref().to_vec()))
                .map_err(no_random)?,
            Algorithm::Rs256 => rsa::generate_pkcs8()?,
        };
        GeneratedKey::from_pkcs8(alg, private)
    }
}

/// The RFC 7638 thumbprint of a public key with SHA-256, in base64url.
#[must_use]
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "base64url of 32 bytes is always a valid kid"
)]
pub fn thumbprint(jwk: &PublicJwk) -> Kid {
    let hash = digest(&SHA256, &jwk.thumbprint_input());
    // 32 bytes in base64url are 43 characters, and each of them may stand in a kid.
    URL_SAFE_NO_PAD
        .encode(hash)
        .parse()
        .expect("43 characters of base64url are a kid")
}

fn public_half(alg: Algorithm, private_pkcs8: &[u8]) -> Result<PublicJwk, KeygenError> {
    let unusable = |rule: &dyn fmt::Display| KeygenError::Unusable {
        alg,
        rule: rule.to_string(),
    };
    match alg {
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                private_pkcs8,
                &SystemRandom::new(),
            )
            .map_err(|rejected| unusable(&rejected))?;
            // SEC 1 §2.3.3, uncompressed: 0x04, then x and y of 32 bytes each.
            let point = pair.public_key().as_ref();
            match (point.get(1..33), point.get(33..65)) {
                (Some(x), Some(y)) => Ok(PublicJwk::ec(encode(x), encode(y))),
                _ => Err(unusable(&"its public point is not uncompressed")),
            }
        }
        Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(private_pkcs8)
            .map(|pair| PublicJwk::ed25519(encode(pair.public_key().as_ref())))
            .map_err(|rejected| unusable(&rejected)),
        Algorithm::Rs256 => {
            let pair =
                RsaKeyPair::from_pkcs8(private_pkcs8).map_err(|rejected| unusable(&rejected))?;
            let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
            Ok(PublicJwk::rsa(encode(&public.n), encode(&public.e)))
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_of_the_rfc_7638_example() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = PublicJwk::rsa(n.to_owned(), "AQAB".to_owned());
        assert_eq!(
            thumbprint(&jwk).as_str(),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn thumbprint_of_the_rfc_8037_example() {
        let jwk = PublicJwk::ed25519("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned());
        assert_eq!(
            thumbprint(&jwk).as_str(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn every_algorithm_yields_a_key_that_verifies_what_it_signs() {
        use ring::signature::{
            ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
            RsaPublicKeyComponents, UnparsedPublicKey,
        };
        let decode = |text: &String| URL_SAFE_NO_PAD.decode(text).unwrap();
        let random = SystemRandom::new();
        for alg in Algorithm::ALL {
            let key = RingKeyGenerator.generate(alg).unwrap();
            assert_eq!(key.alg, alg);
            assert_eq!(key.kid, thumbprint(&key.jwk));
            let private = &key.private_pkcs8;
            match &key.jwk {
                PublicJwk::Ec { x, y, .. } => {
                    let pair = EcdsaKeyPair::from_pkcs8(
                        &ECDSA_P256_SHA256_FIXED_SIGNING,
                        private,
                        &random,
                    )
                    .unwrap();
                    let signature = pair.sign(&random, b"message").unwrap();
                    let point = [vec![4], decode(x), decode(y)].concat();
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                        .verify(b"message", signature.as_ref())
                        .unwrap();
                }
                PublicJwk::Okp { x, .. } => {
                    let signature = Ed25519KeyPair::from_pkcs8(private)
                        .unwrap()
                        .sign(b"message");
                    UnparsedPublicKey::new(&ED25519, decode(x))
                        .verify(b"message", signature.as_ref())
                        .unwrap();
                }
                PublicJwk::Rsa { n, e, .. } => {
                    assert_eq!(e, "AQAB");
                    let pair = RsaKeyPair::from_pkcs8(private).unwrap();
                    let mut signature = vec![0; pair.public().modulus_len()];
                    pair.sign(&RSA_PKCS1_SHA256, &random, b"message", &mut signature)
                        .unwrap();
                    RsaPublicKeyComponents {
                        n: decode(n),
                        e: decode(e),
                    }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, b"message", &signature)
                    .unwrap();
                }
            }
        }
    }

    #[test]
    fn debug_shows_no_private_half() {
        let key = RingKeyGenerator.generate(Algorithm::Es256).unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains(key.kid.as_str()));
        assert!(!shown.contains("private"));
        assert!(!shown.contains(&format!("{:?}", key.private_pkcs8.as_slice())));
    }

    #[test]
    fn bytes_that_hold_no_such_key_are_refused() {
        let ed25519 = RingKeyGenerator.generate(Algorithm::EdDsa).unwrap();
        for alg in [Algorithm::Es256, Algorithm::Rs256] {
            let refused = GeneratedKey::from_pkcs8(alg, ed25519.private_pkcs8.clone());
            assert!(matches!(refused, Err(KeygenError::Unusable { .. })));
        }
    }
}
