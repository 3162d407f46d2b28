//! Signing keys of a former system, read from PEM (RFC 7468): a private key in PKCS#8, or the public
//! half alone.
//!
//! The public half is derived from the private one, never believed; what ring could not sign or
//! verify with is refused here, with the rule and the way out.

use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::{Algorithm, Kid, PublicJwk};

use super::{encode, public_half, rsa, thumbprint};

/// Longest PEM text that is read, in bytes; an RSA key of 4096 bits needs a fifth of it.
pub const MAX_PEM_BYTES: usize = 16 * 1024;

/// Object identifiers as they stand in a key (RFC 5480, RFC 8410, RFC 8017).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const RSA: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
];

/// The Ed25519 points whose order divides eight, in every encoding that decodes to one, with the
/// sign cleared.
const SMALL_ORDER: [&str; 7] = [
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU",
    "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o",
    "7P_______________________________________38",
    "7f_______________________________________38",
    "7v_______________________________________38",
];

/// The algorithm's name stands in front; an identifier further behind is part of the key itself.
const ALGORITHM_WITHIN: usize = 64;

/// A key of a former system.
pub struct ForeignKey {
    /// Thumbprint of the public half (RFC 7638).
    pub thumbprint: Kid,
    /// The only algorithm that it may be used with here.
    pub alg: Algorithm,
    /// Public half.
    pub jwk: PublicJwk,
    /// Private half as PKCS#8 DER, if it was given.
    pub private_pkcs8: Option<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignKey")
            .field("thumbprint", &self.thumbprint)
            .field("alg", &self.alg)
            .finish_non_exhaustive()
    }
}

/// Why a key cannot be taken over. Never shows any of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ForeignKeyError {
    /// No PEM, or more than one key.
    #[error("a key file holds exactly one PEM block, at most {MAX_PEM_BYTES} bytes in all")]
    NotOne,
    /// A key in a form of its algorithm alone.
    #[error(
        "this is a private key in {0} form; convert it: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW"
    )]
    NotPkcs8(&'static str),
    /// A block of another kind; also an encrypted key.
    #[error(
        "a key file holds BEGIN PRIVATE KEY (PKCS#8, not encrypted) or BEGIN PUBLIC KEY; decrypt a protected one first: openssl pkcs8 -in OLD -out NEW"
    )]
    Kind,
    /// An algorithm that no token of ours may have.
    #[error(
        "the key is of no kind that can be imported: EC on P-256, Ed25519, or RSA of 2048 to 4096 bits"
    )]
    Algorithm,
    /// It claims an algorithm and is no key of it.
    #[error("the key is not a valid {alg} key: {rule}")]
    Unusable {
        /// What it claims to be.
        alg: Algorithm,
        /// What is wrong.
        rule: String,
    },
}

impl ForeignKey {
    /// Reads a private or a public key.
    ///
    /// # Errors
    /// [`ForeignKeyError`] naming the rule and the way out.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ForeignKeyError> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(ForeignKeyError::NotOne);
        }
        if contains(pem, b"-----BEGIN RSA PRIVATE KEY") {
            return Err(ForeignKeyError::NotPkcs8("PKCS#1"));
        }
        let mut blocks = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem);
        let (kind, der) = match (blocks.next(), blocks.next()) {
            (Some(Ok(block)), None) => block,
            // A kind of block that the parser does not know, such as an encrypted key, is skipped.
            (None, None) if contains(pem, b"-----BEGIN") => {
                return Err(ForeignKeyError::Kind);
            }
            _ => return Err(ForeignKeyError::NotOne),
        };
        let der = Zeroizing::new(der);
        match kind {
            SectionKind::PrivateKey => Self::from_private(der),
            SectionKind::PublicKey => Self::from_public(&der),
            SectionKind::EcPrivateKey => Err(ForeignKeyError::NotPkcs8("SEC 1")),
            _ => Err(ForeignKeyError::Kind),
        }
    }

    /// A key from its public half.
    ///
    /// # Errors
    /// [`ForeignKeyError::Unusable`] when it is no key of its kind.
    pub fn from_jwk(jwk: PublicJwk) -> Result<Self, ForeignKeyError> {
        let alg = match &jwk {
            PublicJwk::Ec { .. } => Algorithm::Es256,
            PublicJwk::Okp { .. } => Algorithm::EdDsa,
            PublicJwk::Rsa { .. } => Algorithm::Rs256,
        };
        check_public(alg, &jwk)?;
        Ok(Self {
            thumbprint: thumbprint(&jwk),
            alg,
            jwk,
            private_pkcs8: None,
        })
    }

    fn from_private(der: Zeroizing<Vec<u8>>) -> Result<Self, ForeignKeyError> {
        let alg = algorithm(&der)?;
        let jwk = match alg {
            // OpenSSL writes the first version of PKCS#8, without the public half.
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
                .map(|pair| PublicJwk::ed25519(encode(pair.public_key().as_ref())))
                .map_err(|rejected| unusable(alg, rejected))?,
            Algorithm::Es256 | Algorithm::Rs256 => {
                public_half(alg, &der).map_err(|error| unusable(alg, error))?
            }
        };
        Ok(Self {
            private_pkcs8: Some(der),
            ..Self::from_jwk(jwk)?
        })
    }

    fn from_public(der: &[u8]) -> Result<Self, ForeignKeyError> {
        let alg = algorithm(der)?;
        let tail = |length: usize| {
            der.len()
                .checked_sub(length)
                .and_then(|at| der.get(at..))
                .ok_or_else(|| unusable(alg, "it is too short"))
        };
        let jwk = match alg {
            Algorithm::Es256 => match tail(65)? {
                [4, point @ ..] => {
                    let (x, y) = point.split_at(32);
                    PublicJwk::ec(encode(x), encode(y))
                }
                _ => return Err(unusable(alg, "its point is not uncompressed")),
            },
            Algorithm::EdDsa => PublicJwk::ed25519(encode(tail(32)?)),
            Algorithm::Rs256 => {
                let (n, e) = rsa::public_components(der).map_err(|rule| unusable(alg, rule))?;
                PublicJwk::rsa(encode(&n), encode(&e))
            }
        };
        Self::from_jwk(jwk)
    }
}

fn algorithm(der: &[u8]) -> Result<Algorithm, ForeignKeyError> {
    let front = der.get(..ALGORITHM_WITHIN).unwrap_or(der);
    let names = |oid: &[u8]| contains(front, oid);
    if names(RSA) {
        Ok(Algorithm::Rs256)
    } else if names(P256) {
        Ok(Algorithm::Es256)
    } else if names(ED25519) {
        Ok(Algorithm::EdDsa)
    } else {
        Err(ForeignKeyError::Algorithm)
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// What `token` would find out later, and more: sizes, and that the point lies on its curve.
fn check_public(alg: Algorithm, jwk: &PublicJwk) -> Result<(), ForeignKeyError> {
    let bytes = |text: &str| {
        super::decode(text).ok_or_else(|| unusable(alg, "a member is not unpadded base64url"))
    };
    match jwk {
        PublicJwk::Ec { crv, kty, x, y } => {
            if crv != "P-256" || kty != "EC" {
                return Err(ForeignKeyError::Algorithm);
            }
            let (x, y) = (bytes(x)?, bytes(y)?);
            if x.len() != 32 || y.len() != 32 {
                return Err(unusable(alg, "its coordinates have 32 bytes each"));
            }
            on_curve(&[&[4][..], &x, &y].concat())
        }
        PublicJwk::Okp { crv, kty, x } => {
            if crv != "Ed25519" || kty != "OKP" {
                return Err(ForeignKeyError::Algorithm);
            }
            let point = <[u8; 32]>::try_from(bytes(x)?)
                .map_err(|_length| unusable(alg, "it has 32 bytes"))?;
            if is_small_order(point) {
                Err(unusable(
                    alg,
                    "its point has a small order, so that anybody could sign for it",
                ))
            } else {
                Ok(())
            }
        }
        PublicJwk::Rsa { e, kty, n } => {
            let (n, e) = (bytes(n)?, bytes(e)?);
            if kty != "RSA" {
                Err(ForeignKeyError::Algorithm)
            } else if !(256..=512).contains(&n.len()) || n.first() == Some(&0) {
                Err(unusable(alg, "its modulus has 2048 to 4096 bits"))
            } else if e.len() < 3 || e.len() > 4 || e.first() == Some(&0) {
                Err(unusable(alg, "its exponent is 65537 or a little larger"))
            } else {
                Ok(())
            }
        }
    }
}

/// Whether the order of an Ed25519 point divides eight: every signature that its holder could make
/// anybody can find, and `ring` verifies it. The sign does not matter.
fn is_small_order(mut point: [u8; 32]) -> bool {
    if let Some(last) = point.last_mut() {
        *last &= 0x7f;
    }
    SMALL_ORDER.contains(&encode(&point).as_str())
}

/// ring offers no check of a point alone; a key agreement with it makes the same one.
fn on_curve(point: &[u8]) -> Result<(), ForeignKeyError> {
    let alg = Algorithm::Es256;
    let private = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())
        .map_err(|rejected| unusable(alg, rejected))?;
    agree_ephemeral(
        private,
        &UnparsedPublicKey::new(&ECDH_P256, point),
        |_shared| (),
    )
    .map_err(|_off_curve| unusable(alg, "its point does not lie on the curve"))
}

fn unusable(alg: Algorithm, rule: impl ToString) -> ForeignKeyError {
    ForeignKeyError::Unusable {
        alg,
        rule: rule.to_string(),
    }
}
