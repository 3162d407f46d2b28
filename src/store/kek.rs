//! One key-encryption key, and the keys that are derived from it.
//!
//! Invariants: every purpose has a key of its own, by HKDF (RFC 5869), so that no output of one
//! use can be passed off as that of another; the secret is wiped when dropped.

use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Okm, Prk, Salt};
use ring::hmac::{self, HMAC_SHA256};
use zeroize::Zeroizing;

/// Length of a key-encryption key.
pub const KEK_BYTES: usize = 32;

/// HKDF salt: separates these keys from those of any other product fed the same secret.
const SALT: &[u8] = b"portcullis1";

/// Bytes of a key-encryption key's identifier: enough to tell a handful of keys apart.
const ID_BYTES: usize = 8;

/// A secret key-encryption key.
pub type KekSecret = Zeroizing<[u8; KEK_BYTES]>;

/// What a derived key is for; the text is the HKDF label.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// Identifies the key-encryption key.
    Id,
    /// Seals private halves.
    Seal,
    /// Authenticates the key set document.
    Doc,
    /// Authenticates the documents beside it.
    Side,
    /// Chains the audit log.
    Audit,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Id => b"id",
            Self::Seal => b"seal",
            Self::Doc => b"doc",
            Self::Side => b"side",
            Self::Audit => b"audit",
        }
    }
}

pub(super) struct Kek {
    pub(super) id: String,
    secret: KekSecret,
}

impl Kek {
    pub(super) fn new(secret: KekSecret) -> Self {
        let mut id = [0; ID_BYTES];
        derive(&secret, Purpose::Id, Length(ID_BYTES), |okm| {
            fill(okm, &mut id);
        });
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { id, secret }
    }

    pub(super) fn sealing_key(&self) -> LessSafeKey {
        derive(&self.secret, Purpose::Seal, &AES_256_GCM, |okm| {
            LessSafeKey::new(UnboundKey::from(okm))
        })
    }

    pub(super) fn mac_key(&self, purpose: Purpose) -> hmac::Key {
        derive(&self.secret, purpose, HMAC_SHA256, |okm| {
            hmac::Key::from(okm)
        })
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive<K: KeyType, T>(
    secret: &KekSecret,
    purpose: Purpose,
    kind: K,
    into: impl FnOnce(Okm<'_, K>) -> T,
) -> T {
    let key: Prk = Salt::new(HKDF_SHA256, SALT).extract(secret.as_slice());
    // RFC 5869 §2.3 refuses more than 255 × 32 bytes; ours are 32 at most.
    #[expect(clippy::expect_used, reason = "every length asked for is at most 32")]
    into(
        key.expand(&[purpose.label()], kind)
            .expect("HKDF yields 32 bytes"),
    )
}

fn fill(okm: Okm<'_, Length>, out: &mut [u8]) {
    // Fails only for a length other than the one asked for.
    #[expect(clippy::expect_used, reason = "the length is that of the buffer")]
    okm.fill(out).expect("the buffer has the derived length");
}
