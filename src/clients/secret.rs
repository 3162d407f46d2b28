//! Client secrets are stored as hashes and compared in constant time.
//!
//! Two forms: `sha256:SALT:DIGEST` for generated secrets, whose 256 random bits need no stretching,
//! and a PHC string `$argon2id$…` for secrets that a person chose.

use std::fmt;
use std::str::FromStr;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256};
use ring::rand::SecureRandom;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

/// Longest secret that is looked at, in bytes.
pub const MAX_SECRET_BYTES: usize = 1024;

/// Highest memory cost that a configured argon2 hash may demand, in KiB: one login must not be
/// able to take the machine.
const MAX_ARGON2_KIB: u32 = 256 * 1024;
const MAX_ARGON2_PASSES: u32 = 16;

/// How a client's secret is recognised.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretHash {
    /// Salted SHA-256 of a generated secret.
    Sha256 {
        /// Random salt.
        salt: Vec<u8>,
        /// SHA-256 over salt and secret.
        digest: [u8; 32],
    },
    /// argon2id of a secret that a person chose.
    Argon2id(Box<PasswordHash>),
}

/// A hash that cannot be used. Never shows the value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "a secret hash is `sha256:SALT:DIGEST` or an argon2id PHC string; make one with `portcullis clients hash-secret`"
)]
pub struct SecretHashError;

impl SecretHash {
    /// The hash of a generated secret.
    ///
    /// # Errors
    /// [`SecretHashError`] when no randomness is to be had.
    pub fn of_generated(secret: &[u8], rng: &dyn SecureRandom) -> Result<Self, SecretHashError> {
        let mut salt = vec![0; 16];
        rng.fill(&mut salt)
            .map_err(|_unspecified| SecretHashError)?;
        let digest = salted_digest(&salt, secret);
        Ok(Self::Sha256 { salt, digest })
    }

    /// The hash of a secret that a person chose. Takes tens of milliseconds by intention.
    ///
    /// # Errors
    /// [`SecretHashError`] when no randomness is to be had.
    pub fn of_human(secret: &[u8], rng: &dyn SecureRandom) -> Result<Self, SecretHashError> {
        let mut salt = [0; 16];
        rng.fill(&mut salt)
            .map_err(|_unspecified| SecretHashError)?;
        Argon2::default()
            .hash_password_with_salt(secret, &salt)
            .map(|hash| Self::Argon2id(Box::new(hash)))
            .map_err(|_opaque| SecretHashError)
    }

    /// Whether `secret` is the one, in time that depends only on the kind of hash.
    #[must_use]
    pub fn matches(&self, secret: &[u8]) -> bool {
        if secret.len() > MAX_SECRET_BYTES {
            return false;
        }
        match self {
            Self::Sha256 { salt, digest } => salted_digest(salt, secret).ct_eq(digest).into(),
            Self::Argon2id(hash) => Argon2::default()
                .verify_password(secret, hash.as_ref())
                .is_ok(),
        }
    }

    /// Whether checking it takes so long that it must not run on a worker thread.
    #[must_use]
    pub const fn is_slow(&self) -> bool {
        matches!(self, Self::Argon2id(_))
    }
}

fn salted_digest(salt: &[u8], secret: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(salt);
    context.update(secret);
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 { .. } => "SecretHash::Sha256(..)",
            Self::Argon2id(_) => "SecretHash::Argon2id(..)",
        })
    }
}

impl fmt::Display for SecretHash {
    /// The form that a `secret_hash_file` holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256 { salt, digest } => {
                write!(
                    f,
                    "sha256:{}:{}",
                    URL_SAFE_NO_PAD.encode(salt),
                    URL_SAFE_NO_PAD.encode(digest)
                )
            }
            Self::Argon2id(hash) => hash.fmt(f),
        }
    }
}

impl FromStr for SecretHash {
    type Err = SecretHashError;

    fn from_str(text: &str) -> Result<Self, SecretHashError> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("sha256:") {
            let (salt, digest) = rest.split_once(':').ok_or(SecretHashError)?;
            let bytes = |text: &str| {
                URL_SAFE_NO_PAD
                    .decode(text)
                    .map_err(|_not_base64url| SecretHashError)
            };
            let salt = bytes(salt)?;
            let digest = bytes(digest)?
                .try_into()
                .map_err(|_length| SecretHashError)?;
            return if salt.len() >= 8 {
                Ok(Self::Sha256 { salt, digest })
            } else {
                Err(SecretHashError)
            };
        }
        let hash = PasswordHash::new(text).map_err(|_opaque| SecretHashError)?;
        let cost = |name: &str| hash.params.get_decimal(name);
        let bounded = cost("m").is_some_and(|kib| kib <= MAX_ARGON2_KIB)
            && cost("t").is_some_and(|passes| passes <= MAX_ARGON2_PASSES);
        if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || !bounded {
            return Err(SecretHashError);
        }
        Ok(Self::Argon2id(Box::new(hash)))
    }
}

/// A fresh secret of 256 random bits in base64url.
///
/// # Errors
/// [`SecretHashError`] when no randomness is to be had.
pub fn generate(rng: &dyn SecureRandom) -> Result<Zeroizing<String>, SecretHashError> {
    let mut bytes = Zeroizing::new([0; 32]);
    rng.fill(bytes.as_mut())
        .map_err(|_unspecified| SecretHashError)?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn both_forms_round_trip_and_recognise_only_their_secret() {
        let rng = SystemRandom::new();
        for hash in [
            SecretHash::of_generated(b"s3cret", &rng),
            SecretHash::of_human(b"s3cret", &rng),
        ] {
            let parsed: SecretHash = hash.unwrap().to_string().parse().unwrap();
            assert!(parsed.matches(b"s3cret"));
            assert!(!parsed.matches(b"s3cret "));
            assert!(!parsed.matches(b""));
            assert!(!parsed.matches(&[b'x'; MAX_SECRET_BYTES + 1]));
            assert!(!format!("{parsed:?}").contains(&parsed.to_string()));
        }
    }

    #[test]
    fn refuses_weak_or_expensive_hashes() {
        for bad in [
            "",
            "plain",
            "sha256:",
            "sha256:AAAA:BBBB",
            "$argon2i$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ",
        ] {
            assert!(bad.parse::<SecretHash>().is_err(), "{bad}");
        }
    }
}
