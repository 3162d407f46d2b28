//! What the key-encryption keys do: seal private halves, authenticate documents.
//!
//! Invariants: the first key of a [`Keyring`] seals and authenticates, all of them open and
//! check, so a new one is put in front and the old one stays until nothing needs it; whoever
//! shares a keyring sees a new first key at once, and no key is ever taken out of a running one;
//! a private half in the clear is wiped when dropped; nothing secret is ever shown.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::{Algorithm, Kid, SealedPrivate};

use super::kek::{Kek, Purpose};
use super::kek_file::KeyringError;
use super::kek_renewal::KekFiles;

pub use super::kek::{KEK_BYTES, KekSecret};

/// The key-encryption keys of an installation, at least one.
pub struct Keyring {
    keks: ArcSwap<Keks>,
    /// Where they came from; `None` for a keyring that lives in memory alone.
    pub(super) files: Option<KekFiles>,
}

/// One unchanging list of them.
pub(super) struct Keks {
    first: Arc<Kek>,
    others: Vec<Arc<Kek>>,
}

/// A code over some text, and which key-encryption key it was made under.
pub(super) struct Mac {
    pub(super) kek: String,
    pub(super) code: String,
}

/// Why a private half could not be sealed or opened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// No key-encryption key at hand has this identifier.
    #[error(
        "the private half of {kid} is sealed under the key-encryption key {kek}, which is not \
         among the configured ones; add its file to keys.encryption_key_files"
    )]
    NoKey {
        /// The signing key.
        kid: Kid,
        /// Identifier of the missing key-encryption key.
        kek: String,
    },
    /// It does not open: another issuer, kid, algorithm or revision, or changed bytes.
    #[error(
        "the private half of {kid} does not open: it was sealed for another key or issuer, or \
         changed since; rotate with purge to replace it"
    )]
    Tampered {
        /// The signing key.
        kid: Kid,
    },
    /// An issuer that would make the authenticated text ambiguous.
    #[error("the issuer {0:?} contains `|`, which a URL may not; percent-encode it")]
    Issuer(String),
    /// No random bytes for a nonce.
    #[error(
        "nothing was sealed: the operating system gave no random bytes; check that getrandom(2) \
         works here, then try again"
    )]
    Randomness,
}

/// A document's authenticity could not be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MacError {
    /// The key-encryption key it names is not at hand.
    NoKey,
    /// The bytes are not those that were authenticated.
    Mismatch,
}

impl Keyring {
    /// A keyring of these secrets; the first one seals.
    ///
    /// # Errors
    /// [`KeyringError::Empty`] when there is none.
    pub fn new(secrets: impl IntoIterator<Item = KekSecret>) -> Result<Self, KeyringError> {
        Ok(Self::of(Keks::new(secrets)?, None))
    }

    pub(super) fn of(keks: Keks, files: Option<KekFiles>) -> Self {
        Self {
            keks: ArcSwap::from_pointee(keks),
            files,
        }
    }

    /// Identifier of the key-encryption key that seals.
    #[must_use]
    pub fn first_id(&self) -> String {
        self.keks.load().first.id.clone()
    }

    /// Identifiers of all, the one that seals first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.keks.load().all().map(|kek| kek.id.clone()).collect()
    }

    /// Puts `keks` in front of those at hand, each once.
    pub(super) fn put_in_front(&self, keks: Keks) {
        let known = self.keks.load();
        let others = keks.others.into_iter().chain(known.all().cloned());
        let mut next = Keks {
            first: keks.first,
            others: Vec::new(),
        };
        for kek in others {
            if next.all().all(|earlier| earlier.id != kek.id) {
                next.others.push(kek);
            }
        }
        self.keks.store(Arc::new(next));
    }

    /// Encrypts the private half of the key `kid` under the first key-encryption key.
    ///
    /// # Errors
    /// [`SealError::Issuer`] or [`SealError::Randomness`].
    pub fn seal(
        &self,
        issuer: &str,
        kid: &Kid,
        alg: Algorithm,
        sealed_at_revision: u64,
        private: &[u8],
    ) -> Result<SealedPrivate, SealError> {
        let aad = associated_data(issuer, kid, alg, sealed_at_revision)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_refused| SealError::Randomness)?;

        // Encrypted in place; wiped all the same, because a failure leaves plain text behind.
        // Room for the tag is made beforehand, so that growing leaves no copy.
        let mut buffer = Zeroizing::new(Vec::with_capacity(private.len() + AES_256_GCM.tag_len()));
        buffer.extend_from_slice(private);
        let first = Arc::clone(&self.keks.load().first);
        first
            .sealing_key()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut *buffer,
            )
            // Only for more than 64 GiB.
            .map_err(|_too_long| SealError::Tampered { kid: kid.clone() })?;
        Ok(SealedPrivate {
            kek: first.id.clone(),
            sealed_at_revision,
            data: URL_SAFE_NO_PAD.encode([&nonce, buffer.as_slice()].concat()),
        })
    }

    /// Decrypts what [`Keyring::seal`] made for the same issuer, kid and algorithm.
    ///
    /// # Errors
    /// [`SealError::NoKey`] or [`SealError::Tampered`].
    pub fn open(
        &self,
        issuer: &str,
        kid: &Kid,
        alg: Algorithm,
        sealed: &SealedPrivate,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let tampered = || SealError::Tampered { kid: kid.clone() };
        let kek = self.find(&sealed.kek).ok_or_else(|| SealError::NoKey {
            kid: kid.clone(),
            kek: sealed.kek.clone(),
        })?;
        let aad = associated_data(issuer, kid, alg, sealed.sealed_at_revision)?;
        let data = URL_SAFE_NO_PAD
            .decode(&sealed.data)
            .map_err(|_not_base64url| tampered())?;
        let (nonce, ciphertext) = data.split_first_chunk::<NONCE_LEN>().ok_or_else(tampered)?;

        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let length = kek
            .sealing_key()
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(aad),
                buffer.as_mut_slice(),
            )
            .map_err(|_unauthentic| tampered())?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }

    /// HMAC-SHA256 over `input` under the first key-encryption key, in base64url.
    pub(super) fn mac(&self, purpose: Purpose, input: &[u8]) -> Mac {
        let keks = self.keks.load();
        let tag = hmac::sign(&keks.first.mac_key(purpose), input);
        Mac {
            kek: keks.first.id.clone(),
            code: URL_SAFE_NO_PAD.encode(tag),
        }
    }

    /// Checks what [`Keyring::mac`] made under the key-encryption key `kek`, in constant time.
    pub(super) fn check_mac(
        &self,
        kek: &str,
        purpose: Purpose,
        input: &[u8],
        mac: &str,
    ) -> Result<(), MacError> {
        let kek = self.find(kek).ok_or(MacError::NoKey)?;
        let tag = URL_SAFE_NO_PAD
            .decode(mac)
            .map_err(|_not_base64url| MacError::Mismatch)?;
        hmac::verify(&kek.mac_key(purpose), input, &tag).map_err(|_differs| MacError::Mismatch)
    }

    fn find(&self, id: &str) -> Option<Arc<Kek>> {
        self.keks.load().all().find(|kek| kek.id == id).cloned()
    }
}

impl Keks {
    /// # Errors
    /// [`KeyringError::Empty`] when there is none.
    pub(super) fn new(secrets: impl IntoIterator<Item = KekSecret>) -> Result<Self, KeyringError> {
        let mut keks = secrets.into_iter().map(|secret| Arc::new(Kek::new(secret)));
        Ok(Self {
            first: keks.next().ok_or(KeyringError::Empty)?,
            others: keks.collect(),
        })
    }

    pub(super) fn first_id(&self) -> &str {
        &self.first.id
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Kek>> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

/// Binds a sealed private half to its place. An issuer without `|` in front, and an algorithm and
/// a number behind, leave one way to read the text whatever the kid contains.
fn associated_data(
    issuer: &str,
    kid: &Kid,
    alg: Algorithm,
    sealed_at_revision: u64,
) -> Result<String, SealError> {
    if issuer.contains('|') {
        return Err(SealError::Issuer(issuer.to_owned()));
    }
    Ok(format!(
        "portcullis1|{issuer}|{kid}|{alg}|{sealed_at_revision}"
    ))
}

/// The parts of a text to authenticate, each behind its length, so that no two lists of parts
/// give the same bytes.
pub(super) fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut input = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        input.extend_from_slice(&(part.len() as u64).to_be_bytes());
        input.extend_from_slice(part);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keygen::{FixtureKeys, KeyGenerator};

    const ISSUER: &str = "https://issuer.example";

    fn keyring(first_bytes: &[u8]) -> Keyring {
        Keyring::new(first_bytes.iter().map(|byte| KekSecret::new([*byte; 32]))).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_only_in_its_place() {
        let keyring = keyring(&[1]);
        let key = FixtureKeys::new().generate(Algorithm::Es256).unwrap();
        let sealed = keyring
            .seal(ISSUER, &key.kid, key.alg, 7, &key.private_pkcs8)
            .unwrap();
        let open = |issuer: &str, kid: &Kid, alg, sealed: &SealedPrivate| {
            keyring.open(issuer, kid, alg, sealed)
        };
        assert_eq!(
            open(ISSUER, &key.kid, key.alg, &sealed).unwrap(),
            key.private_pkcs8
        );

        let tampered = Err(SealError::Tampered {
            kid: key.kid.clone(),
        });
        let moved = SealedPrivate {
            sealed_at_revision: 8,
            ..sealed.clone()
        };
        assert_eq!(open(ISSUER, &key.kid, key.alg, &moved), tampered);
        assert_eq!(
            open("https://other.example", &key.kid, key.alg, &sealed),
            tampered
        );
        assert_eq!(open(ISSUER, &key.kid, Algorithm::EdDsa, &sealed), tampered);
        let other: Kid = "other".parse().unwrap();
        assert!(open(ISSUER, &other, key.alg, &sealed).is_err());
    }

    #[test]
    fn every_byte_of_sealed_data_matters() {
        let keyring = keyring(&[1]);
        let kid: Kid = "k".parse().unwrap();
        let sealed = keyring
            .seal(ISSUER, &kid, Algorithm::EdDsa, 1, b"private half")
            .unwrap();
        for at in 0..sealed.data.len() {
            for replacement in ["A", "B", "!", ""] {
                let mut data = sealed.data.clone();
                data.replace_range(at..=at, replacement);
                if data == sealed.data {
                    continue;
                }
                let changed = SealedPrivate {
                    data,
                    ..sealed.clone()
                };
                assert!(
                    keyring
                        .open(ISSUER, &kid, Algorithm::EdDsa, &changed)
                        .is_err(),
                    "byte {at} became {replacement:?}"
                );
            }
        }
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let old = keyring(&[1]);
        let both = keyring(&[2, 1]);
        let new = keyring(&[2]);
        let kid: Kid = "k".parse().unwrap();
        let seal = |keyring: &Keyring| {
            keyring
                .seal(ISSUER, &kid, Algorithm::EdDsa, 1, b"x")
                .unwrap()
        };
        let open = |keyring: &Keyring, sealed| keyring.open(ISSUER, &kid, Algorithm::EdDsa, sealed);

        let by_old = seal(&old);
        assert_eq!(open(&both, &by_old).unwrap().as_slice(), b"x");
        let by_both = seal(&both);
        assert_eq!(by_both.kek, new.first_id());
        assert_eq!(open(&new, &by_both).unwrap().as_slice(), b"x");
        assert_eq!(
            open(&old, &by_both),
            Err(SealError::NoKey {
                kid: kid.clone(),
                kek: new.first_id()
            })
        );
    }

    #[test]
    fn a_mac_is_bound_to_purpose_key_and_the_borders_of_its_parts() {
        let both = keyring(&[2, 1]);
        let mac = both.mac(Purpose::Doc, &framed(&[b"ab", b"c"]));
        let check = |keyring: &Keyring, purpose, parts: &[&[u8]]| {
            keyring.check_mac(&mac.kek, purpose, &framed(parts), &mac.code)
        };
        assert_eq!(check(&both, Purpose::Doc, &[b"ab", b"c"]), Ok(()));
        assert_eq!(check(&keyring(&[2]), Purpose::Doc, &[b"ab", b"c"]), Ok(()));
        let mismatch = Err(MacError::Mismatch);
        assert_eq!(check(&both, Purpose::Doc, &[b"a", b"bc"]), mismatch);
        assert_eq!(check(&both, Purpose::Doc, &[b"abc"]), mismatch);
        assert_eq!(check(&both, Purpose::Audit, &[b"ab", b"c"]), mismatch);
        assert_eq!(
            check(&keyring(&[1]), Purpose::Doc, &[b"ab", b"c"]),
            Err(MacError::NoKey)
        );
    }

    #[test]
    fn a_new_key_in_front_seals_at_once_and_the_old_ones_still_open() {
        let keyring = keyring(&[1, 2]);
        let kid: Kid = "k".parse().unwrap();
        let seal = || {
            keyring
                .seal(ISSUER, &kid, Algorithm::EdDsa, 1, b"x")
                .unwrap()
        };
        let before = seal();
        let [one, two] = [keyring.ids()[0].clone(), keyring.ids()[1].clone()];
        keyring.put_in_front(Keks::new([3, 1].map(|byte| KekSecret::new([byte; 32]))).unwrap());
        let after = seal();
        assert_eq!(after.kek, keyring.first_id());
        assert_eq!(keyring.ids(), [keyring.first_id(), one, two]);
        for sealed in [before, after] {
            keyring
                .open(ISSUER, &kid, Algorithm::EdDsa, &sealed)
                .unwrap();
        }
    }

    #[test]
    fn the_borders_of_the_associated_data_are_unambiguous() {
        let kid: Kid = "a|b".parse().unwrap();
        assert_eq!(
            associated_data("https://i", &kid, Algorithm::Es256, 3).unwrap(),
            "portcullis1|https://i|a|b|ES256|3"
        );
        assert!(associated_data("https://i|x", &kid, Algorithm::Es256, 3).is_err());
    }

    #[test]
    fn debug_shows_identifiers_only() {
        let keyring = keyring(&[7]);
        assert_eq!(
            format!("{keyring:?}"),
            format!("[{:?}]", keyring.first_id())
        );
    }
}
