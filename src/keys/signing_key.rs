//! One signing key in each of its states. The state is the type: only pending and active keys
//! have a private half, and only a sealed one; a tombstone offers nothing that could accept.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::Timestamp;

use super::legacy::LegacyRules;

/// Longest key identifier in bytes.
pub const MAX_KID_BYTES: usize = 128;

/// A key identifier: for our own keys the RFC 7638 SHA-256 thumbprint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("minLength" = 1, "maxLength" = MAX_KID_BYTES, "pattern" = "^[!#-\\[\\]-~]+$"))]
pub struct Kid(Arc<str>);

/// A text that cannot name a key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a kid is 1 to 128 printable ASCII characters without quotes, backslash or space")]
pub struct KidError;

impl Kid {
    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Kid {
    type Err = KidError;

    fn from_str(text: &str) -> Result<Self, KidError> {
        let printable = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        if text.is_empty() || text.len() > MAX_KID_BYTES || !text.bytes().all(printable) {
            return Err(KidError);
        }
        Ok(Self(Arc::from(text)))
    }
}

impl TryFrom<String> for Kid {
    type Error = KidError;

    fn try_from(text: String) -> Result<Self, KidError> {
        text.parse()
    }
}

impl From<Kid> for String {
    fn from(kid: Kid) -> Self {
        kid.0.as_ref().to_owned()
    }
}

impl std::borrow::Borrow<str> for Kid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). The key decides it, never a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
}

impl Algorithm {
    /// Every algorithm that a key may have.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The JOSE name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is not one of the three algorithms.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("an algorithm is one of ES256, EdDSA, RS256")]
pub struct AlgorithmError;

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    fn from_str(name: &str) -> Result<Self, AlgorithmError> {
        Self::ALL
            .into_iter()
            .find(|a| a.as_str() == name)
            .ok_or(AlgorithmError)
    }
}

/// The public half in JWK members (RFC 7517); every value is unpadded base64url.
///
/// Members stand in the lexicographic order that RFC 7638 §3.3 wants, so that the serialised form
/// is the thumbprint input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum PublicJwk {
    /// A P-256 point (RFC 7518 §6.2).
    Ec {
        /// Always `P-256`.
        #[schemars(extend("const" = "P-256"))]
        crv: String,
        /// Always `EC`.
        #[schemars(extend("const" = "EC"))]
        kty: String,
        /// X coordinate, 32 bytes.
        x: String,
        /// Y coordinate, 32 bytes.
        y: String,
    },
    /// An Ed25519 public key (RFC 8037 §2).
    Okp {
        /// Always `Ed25519`.
        #[schemars(extend("const" = "Ed25519"))]
        crv: String,
        /// Always `OKP`.
        #[schemars(extend("const" = "OKP"))]
        kty: String,
        /// The key, 32 bytes.
        x: String,
    },
    /// An RSA public key (RFC 7518 §6.3).
    Rsa {
        /// Public exponent.
        e: String,
        /// Always `RSA`.
        #[schemars(extend("const" = "RSA"))]
        kty: String,
        /// Modulus.
        n: String,
    },
}

impl PublicJwk {
    /// A P-256 key from its coordinates in base64url.
    #[must_use]
    pub fn ec(x: String, y: String) -> Self {
        Self::Ec {
            crv: "P-256".to_owned(),
            kty: "EC".to_owned(),
            x,
            y,
        }
    }

    /// An Ed25519 key from its bytes in base64url.
    #[must_use]
    pub fn ed25519(x: String) -> Self {
        Self::Okp {
            crv: "Ed25519".to_owned(),
            kty: "OKP".to_owned(),
            x,
        }
    }

    /// An RSA key from modulus and exponent in base64url.
    #[must_use]
    pub fn rsa(n: String, e: String) -> Self {
        Self::Rsa {
            e,
            kty: "RSA".to_owned(),
            n,
        }
    }

    /// The bytes whose SHA-256 is the thumbprint (RFC 7638 §3).
    #[must_use]
    pub fn thumbprint_input(&self) -> Vec<u8> {
        // Serialising strings into a Vec cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A private half, encrypted under a key-encryption key; opaque to this layer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedPrivate {
    /// Which key-encryption key sealed it.
    pub kek: String,
    /// Revision named in the additional authenticated data.
    pub sealed_at_revision: u64,
    /// Nonce and ciphertext, base64url.
    pub data: String,
}

impl fmt::Debug for SealedPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedPrivate")
            .field("kek", &self.kek)
            .finish_non_exhaustive()
    }
}

/// What every key has in common, whatever its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Identifier.
    pub kid: Kid,
    /// The only algorithm it may be used with.
    pub alg: Algorithm,
    /// Public half.
    pub jwk: PublicJwk,
    /// When it was generated.
    pub created_at: Timestamp,
    /// When it first stood in the key set, hence in JWKS.
    pub published_at: Timestamp,
    /// Revision that published it.
    pub published_revision: u64,
    /// Longest life time of a token it may sign.
    pub max_ttl: Duration,
    /// Rules of the tokens it signed elsewhere, when it was imported.
    pub legacy: Option<LegacyRules>,
}

/// A newly generated key on its way into a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreshKey {
    /// Identifier.
    pub kid: Kid,
    /// Algorithm.
    pub alg: Algorithm,
    /// Public half.
    pub jwk: PublicJwk,
    /// Private half.
    pub sealed: SealedPrivate,
    /// When it was generated.
    pub created_at: Timestamp,
}

/// Published, waiting to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingKey {
    /// Public facts.
    pub public: PublicKey,
    /// Private half.
    pub sealed: SealedPrivate,
}

/// The one that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveKey {
    /// Public facts.
    pub public: PublicKey,
    /// Private half.
    pub sealed: SealedPrivate,
    /// When it began to sign.
    pub activated_at: Timestamp,
}

/// Signs no more, still verifies. The private half is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeprecatedKey {
    /// Public facts.
    pub public: PublicKey,
    /// When it began to sign.
    pub activated_at: Timestamp,
    /// When it stopped signing.
    pub deprecated_at: Timestamp,
    /// From this moment on it verifies nothing; stored, never recomputed.
    pub verify_until: Timestamp,
}

/// How a key came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It ran out: every token it could have signed had expired.
    Retired,
    /// An operator withdrew it.
    Purged,
}

/// What is left of a retired or purged key, kept only to classify failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// Identifier.
    pub kid: Kid,
    /// Algorithm.
    pub alg: Algorithm,
    /// Public half.
    pub public_jwk: PublicJwk,
    /// Why it ended.
    pub end: End,
    /// When it ended.
    pub died_at: Timestamp,
    /// Revision that ended it.
    pub died_revision: u64,
    /// When it was generated.
    pub created_at: Timestamp,
    /// When it began to sign; a purged pending key never did.
    pub activated_at: Option<Timestamp>,
    /// When it stopped signing, if that was before it ended.
    pub deprecated_at: Option<Timestamp>,
    /// When it would have stopped verifying, or did.
    pub verify_until: Timestamp,
    /// Longest life time of a token it may have signed, in milliseconds.
    #[serde(with = "millis")]
    pub max_ttl: Duration,
    /// From this moment on it is forgotten.
    pub tombstone_until: Timestamp,
    /// Identifier of the purge that ended it.
    pub purge_id: Option<uuid::Uuid>,
    /// Whether that purge was declared a mistake that may be undone; otherwise the key counts as
    /// compromised.
    pub mistake_undo: bool,
    /// Rules of the tokens it signed elsewhere, when it was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy: Option<LegacyRules>,
}

/// Durations in the document are integer milliseconds.
pub(super) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::keys) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    pub(in crate::keys) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}
