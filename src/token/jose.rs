//! The only user of `jsonwebtoken`, and of `ring` for signatures: one `CryptoProvider` on `ring`,
//! parsed signing keys, and the verification of a signature under a given key.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error as JwtError, ErrorKind};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm as JwtAlgorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature as ring_sig;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use thiserror::Error;

use crate::keys::{Algorithm, Kid, PublicJwk};

/// A key that cannot be used; says nothing about its bytes.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// The public half is not a key of its algorithm.
    #[error("the public key is not a valid {0} key")]
    Public(Algorithm),
    /// The private half is not a key of its algorithm.
    #[error("the private key is not a valid {0} key in PKCS#8")]
    Private(Algorithm),
    /// `ring` failed to sign.
    #[error("signing failed; the random number generator may be unavailable")]
    Sign,
}

/// Makes `ring` the cryptography of `jsonwebtoken`. Idempotent; call before the first token.
pub fn install_crypto() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory,
        verifier_factory,
        key_utils: KeyUtils::new_unimplemented(),
    };
    // An error only says that it is installed already.
    let _already = PROVIDER.install_default();
}

/// The encoded header segment that a key mints: `alg`, `kid`, `typ`, in this order.
#[must_use]
pub fn header_segment(alg: Algorithm, kid: &Kid) -> String {
    // A kid holds no character that JSON would escape.
    let header = format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"at+jwt"}}"#);
    URL_SAFE_NO_PAD.encode(header)
}

/// A public key ready to verify signatures of its one algorithm.
#[derive(Clone)]
pub struct SignatureVerifier {
    alg: Algorithm,
    key: DecodingKey,
    /// Encoded length of the only acceptable signature.
    encoded_len: usize,
}

impl fmt::Debug for SignatureVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignatureVerifier")
            .field("alg", &self.alg)
            .finish_non_exhaustive()
    }
}

impl SignatureVerifier {
    /// Parses the public half.
    ///
    /// # Errors
    /// [`KeyError::Public`] when the JWK is not of the algorithm's type or size.
    pub fn new(alg: Algorithm, jwk: &PublicJwk) -> Result<Self, KeyError> {
        let bad = KeyError::Public(alg);
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let (key, signature_len) = match (alg, jwk) {
            (Algorithm::Es256, PublicJwk::Ec { x, y, .. }) => {
                let (x, y) = bytes(x).zip(bytes(y)).ok_or(bad)?;
                if x.len() != 32 || y.len() != 32 {
                    return Err(bad);
                }
                let point = [&[4][..], &x, &y].concat();
                (DecodingKey::from_ec_der(&point), 64)
            }
            (Algorithm::EdDsa, PublicJwk::Okp { x, .. }) => {
                let x = bytes(x).filter(|x| x.len() == 32).ok_or(bad)?;
                (DecodingKey::from_ed_der(&x), 64)
            }
            (Algorithm::Rs256, PublicJwk::Rsa { n, e, .. }) => {
                let (n, e) = bytes(n).zip(bytes(e)).ok_or(bad)?;
                if !(256..=512).contains(&n.len()) {
                    return Err(bad);
                }
                (DecodingKey::from_rsa_raw_components(&n, &e), n.len())
            }
            (Algorithm::Es256 | Algorithm::EdDsa | Algorithm::Rs256, _) => return Err(bad),
        };
        Ok(Self {
            alg,
            key,
            encoded_len: (signature_len * 4).div_ceil(3),
        })
    }

    /// Whether `signature` (base64url) is this key's signature of `message`. A signature of
    /// another length is refused before any cryptography.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        signature.len() == self.encoded_len
            && jsonwebtoken::crypto::verify(signature, message, &self.key, jwt(self.alg))
                .unwrap_or(false)
    }
}

/// A parsed private key. The parsed form cannot be wiped (`ring` keeps it private); it is freed
/// with the last snapshot that holds it.
pub struct TokenSigner {
    kid: Kid,
    header_segment: String,
    pair: KeyPair,
}

enum KeyPair {
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// Parses a PKCS#8 private key.
    ///
    /// # Errors
    /// [`KeyError::Private`] when it is not a key of `alg`.
    pub fn new(
        kid: Kid,
        alg: Algorithm,
        pkcs8: &[u8],
        rng: &dyn SecureRandom,
    ) -> Result<Self, KeyError> {
        let pair = KeyPair::parse(alg, pkcs8, rng).ok_or(KeyError::Private(alg))?;
        let header_segment = header_segment(alg, &kid);
        Ok(Self {
            kid,
            header_segment,
            pair,
        })
    }

    /// The key's identifier.
    #[must_use]
    pub const fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The compact serialisation of `payload` signed by this key (RFC 7515 §3.1).
    ///
    /// # Errors
    /// [`KeyError::Sign`] when `ring` fails.
    pub fn sign(&self, payload: &[u8], rng: &dyn SecureRandom) -> Result<String, KeyError> {
        let mut token = self.header_segment.clone();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self
            .pair
            .sign(token.as_bytes(), rng)
            .ok_or(KeyError::Sign)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

impl KeyPair {
    fn parse(alg: Algorithm, pkcs8: &[u8], rng: &dyn SecureRandom) -> Option<Self> {
        match alg {
            Algorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ring_sig::ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, rng)
                    .ok()
                    .map(|pair| Self::Ecdsa(Box::new(pair)))
            }
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
                .ok()
                .map(|pair| Self::Ed25519(Box::new(pair))),
            Algorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8)
                .ok()
                .map(|pair| Self::Rsa(Box::new(pair))),
        }
    }

    fn sign(&self, message: &[u8], rng: &dyn SecureRandom) -> Option<Vec<u8>> {
        match self {
            Self::Ecdsa(pair) => pair.sign(rng, message).ok().map(|s| s.as_ref().to_vec()),
            Self::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&ring_sig::RSA_PKCS1_SHA256, rng, message, &mut signature)
                    .ok()?;
                Some(signature)
            }
        }
    }
}

const fn jwt(alg: Algorithm) -> JwtAlgorithm {
    match alg {
        Algorithm::Es256 => JwtAlgorithm::ES256,
        Algorithm::EdDsa => JwtAlgorithm::EdDSA,
        Algorithm::Rs256 => JwtAlgorithm::RS256,
    }
}

fn ours(alg: JwtAlgorithm) -> Result<Algorithm, JwtError> {
    Algorithm::ALL
        .into_iter()
        .find(|ours| jwt(*ours) == alg)
        .ok_or_else(|| ErrorKind::InvalidAlgorithm.into())
}

fn signer_factory(alg: &JwtAlgorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, JwtError> {
    let alg = ours(*alg)?;
    let pair = KeyPair::parse(alg, key.as_bytes(), &SystemRandom::new())
        .ok_or_else(|| JwtError::from(ErrorKind::InvalidKeyFormat))?;
    Ok(Box::new(ProviderSigner {
        alg,
        pair: Arc::new(pair),
    }))
}

fn verifier_factory(
    alg: &JwtAlgorithm,
    key: &DecodingKey,
) -> Result<Box<dyn JwtVerifier>, JwtError> {
    Ok(Box::new(ProviderVerifier {
        alg: ours(*alg)?,
        key: key.clone(),
    }))
}

struct ProviderSigner {
    alg: Algorithm,
    pair: Arc<KeyPair>,
}

impl Signer<Vec<u8>> for ProviderSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        self.pair
            .sign(message, &SystemRandom::new())
            .ok_or_else(signature::Error::new)
    }
}

impl JwtSigner for ProviderSigner {
    fn algorithm(&self) -> JwtAlgorithm {
        jwt(self.alg)
    }
}

struct ProviderVerifier {
    alg: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for ProviderVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let checked = match (self.alg, self.key.kind()) {
            (Algorithm::Es256, DecodingKeyKind::SecretOrDer(point)) => {
                ring_sig::UnparsedPublicKey::new(&ring_sig::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
            }
            (Algorithm::EdDsa, DecodingKeyKind::SecretOrDer(point)) => {
                ring_sig::UnparsedPublicKey::new(&ring_sig::ED25519, point)
                    .verify(message, signature)
            }
            (Algorithm::Rs256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                ring_sig::RsaPublicKeyComponents { n, e }.verify(
                    &ring_sig::RSA_PKCS1_2048_8192_SHA256,
                    message,
                    signature,
                )
            }
            (Algorithm::Es256 | Algorithm::EdDsa | Algorithm::Rs256, _) => {
                Err(ring::error::Unspecified)
            }
        };
        checked.map_err(signature::Error::from_source)
    }
}

impl JwtVerifier for ProviderVerifier {
    fn algorithm(&self) -> JwtAlgorithm {
        jwt(self.alg)
    }
}
