//! Tokens that no token endpoint would hand out, signed with the real private keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::keys::{Algorithm, Kid, SealedPrivate};
use portcullis::token::jose::TokenSigner;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use super::{CLIENT, Gateway};

/// A private key taken out of a running gateway's store.
#[derive(Clone)]
pub struct PrivateKey {
    pub kid: Kid,
    pub alg: Algorithm,
    pkcs8: Vec<u8>,
}

impl PrivateKey {
    /// The key that signs now.
    pub fn active(gateway: &Gateway) -> Self {
        let set = gateway.lifecycle.current_set();
        Self::open(
            gateway,
            &set.active.public.kid,
            set.active.public.alg,
            &set.active.sealed,
        )
    }

    /// The key that signs next.
    pub fn pending(gateway: &Gateway) -> Self {
        let set = gateway.lifecycle.current_set();
        Self::open(
            gateway,
            &set.pending.public.kid,
            set.pending.public.alg,
            &set.pending.sealed,
        )
    }

    fn open(gateway: &Gateway, kid: &Kid, alg: Algorithm, sealed: &SealedPrivate) -> Self {
        let issuer = &gateway.config.issuer.url;
        let pkcs8 = gateway
            .env
            .keyring
            .open(issuer, kid, alg, sealed)
            .expect("it opens")
            .to_vec();
        Self {
            kid: kid.clone(),
            alg,
            pkcs8,
        }
    }

    /// The key of a former system.
    pub fn foreign(kid: Kid, alg: Algorithm, pkcs8: &[u8]) -> Self {
        Self {
            kid,
            alg,
            pkcs8: pkcs8.to_vec(),
        }
    }

    /// A key that no gateway knows, under the name of this one.
    pub fn impostor(&self) -> Self {
        let stranger = portcullis::keygen::KeyGenerator::generate(
            &portcullis::keygen::RingKeyGenerator,
            self.alg,
        );
        Self {
            pkcs8: stranger.expect("a key").private_pkcs8.to_vec(),
            ..self.clone()
        }
    }

    /// A token whose header is the one that this key mints.
    pub fn mint(&self, claims: &Value) -> String {
        let signer = TokenSigner::new(
            self.kid.clone(),
            self.alg,
            &self.pkcs8,
            &SystemRandom::new(),
        );
        signer
            .and_then(|signer| signer.sign(claims.to_string().as_bytes(), &SystemRandom::new()))
            .expect("it signs")
    }

    /// A well-signed token with any header and any payload.
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(payload));
        format!("{message}.{}", encode(self.signature(message.as_bytes())))
    }

    /// The raw signature over `message`.
    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        match self.alg {
            Algorithm::Es256 => self.ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, message),
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(&self.pkcs8).expect("a key");
                pair.sign(message).as_ref().to_vec()
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).expect("a key");
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .expect("it signs");
                signature
            }
        }
    }

    /// An ECDSA signature in ASN.1 DER instead of the fixed form of RFC 7518 §3.4.
    pub fn der_signature(&self, message: &[u8]) -> Vec<u8> {
        self.ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, message)
    }

    fn ecdsa(&self, form: &'static EcdsaSigningAlgorithm, message: &[u8]) -> Vec<u8> {
        let pair =
            EcdsaKeyPair::from_pkcs8(form, &self.pkcs8, &SystemRandom::new()).expect("a key");
        pair.sign(&SystemRandom::new(), message)
            .expect("it signs")
            .as_ref()
            .to_vec()
    }

    /// The header that this key mints, as JSON.
    pub fn header(&self) -> Value {
        json!({ "alg": self.alg.as_str(), "kid": self.kid.as_str(), "typ": "at+jwt" })
    }
}

/// Claims that the gateway's default route accepts now.
pub fn good_claims(gateway: &Gateway) -> Value {
    let now = portcullis::clock::Clock::now(&*gateway.clock).as_seconds();
    json!({
        "iss": gateway.config.issuer.url,
        "sub": CLIENT,
        "client_id": CLIENT,
        "aud": "api",
        "exp": now + 1800,
        "iat": now,
        "jti": "00000000-0000-4000-8000-000000000000",
        "scope": "read write",
    })
}

/// [`good_claims`] with one member replaced; `null` removes it.
pub fn claims_with(gateway: &Gateway, name: &str, value: Value) -> Value {
    let mut claims = good_claims(gateway);
    let members = claims.as_object_mut().expect("an object");
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
    claims
}

/// Unpadded base64url.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
