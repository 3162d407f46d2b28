//! A gateway whose private keys the tests hold: its own, and those of former systems that it has
//! imported.

use std::sync::Arc;

use portcullis::clock::{Clock as _, Timestamp};
use portcullis::keygen::{FixtureKeys, KeyGenerator as _};
use portcullis::keys::{Algorithm, PublicJwk};
use serde_json::json;

use crate::harness::forge::{PrivateKey, encode, good_claims};
use crate::harness::{Gateway, Options};

/// Somebody who can sign.
pub(crate) struct Holder {
    pub(crate) key: PrivateKey,
    pub(crate) jwk: PublicJwk,
    pub(crate) is_imported: bool,
}

/// The gateway and every holder.
pub(crate) struct House {
    pub(crate) gateway: Gateway,
    pub(crate) ours: Holder,
    pub(crate) pending: Holder,
    former: Vec<Holder>,
}

impl House {
    /// A gateway that signs with `algorithm`, with an imported key of every algorithm whose earlier
    /// tokens said `typ: JWT` and had another issuer and audience.
    pub(crate) async fn new(algorithm: Algorithm) -> Self {
        let keygen = Arc::new(FixtureKeys::new());
        let former: Vec<Holder> = Algorithm::ALL
            .into_iter()
            .map(|alg| {
                let made = keygen.generate(alg).expect("a key");
                let kid = format!("prev-{alg}").parse().expect("a kid");
                Holder {
                    key: PrivateKey::foreign(kid, alg, &made.private_pkcs8),
                    jwk: made.jwk.clone(),
                    is_imported: true,
                }
            })
            .collect();
        let gateway = Gateway::start(Options {
            algorithm,
            keygen,
            ..Options::default()
        })
        .await;
        let whole = gateway.clock.now().as_seconds() + 1;
        gateway.clock.set(Timestamp::from_seconds(whole));
        for holder in &former {
            let body = json!({
                "public_jwk": holder.jwk, "kid": holder.key.kid.as_str(), "max_ttl": "1h",
                "legacy": { "iss": "https://old.example", "aud": "old-api", "typ": "JWT" },
            });
            let (status, answer) = gateway.admin_post("/admin/v1/keys/import", body).await;
            assert_eq!(status, 200, "{answer}");
        }
        let set = gateway.lifecycle.current_set();
        let own = |key, jwk: &PublicJwk| Holder {
            key,
            jwk: jwk.clone(),
            is_imported: false,
        };
        Self {
            ours: own(PrivateKey::active(&gateway), &set.active.public.jwk),
            pending: own(PrivateKey::pending(&gateway), &set.pending.public.jwk),
            former,
            gateway,
        }
    }

    /// The imported key of `alg`.
    pub(crate) fn former(&self, alg: Algorithm) -> &Holder {
        let found = self.former.iter().find(|holder| holder.key.alg == alg);
        found.expect("one of each")
    }

    /// The gateway's time, in whole seconds.
    pub(crate) fn now(&self) -> i64 {
        self.gateway.clock.now().as_seconds()
    }

    /// Claims that `/hello` accepts now.
    pub(crate) fn claims(&self) -> Members {
        let claims = good_claims(&self.gateway);
        let members = claims.as_object().expect("an object");
        let raw = members.iter();
        Members(raw.map(|(k, v)| (k.clone(), v.to_string())).collect())
    }
}

impl Holder {
    pub(crate) fn name(&self) -> String {
        let whose = if self.is_imported { "imported" } else { "own" };
        format!("{whose} {}", self.key.alg)
    }

    /// The header of its tokens, to the byte.
    pub(crate) fn header(&self) -> String {
        let (alg, kid) = (self.key.alg, &self.key.kid);
        format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"at+jwt"}}"#)
    }

    /// The same header in parts.
    pub(crate) fn members(&self) -> Members {
        Members(vec![
            ("alg".to_owned(), format!("\"{}\"", self.key.alg)),
            ("kid".to_owned(), format!("\"{}\"", self.key.kid)),
            ("typ".to_owned(), "\"at+jwt\"".to_owned()),
        ])
    }

    /// A token with any bytes for header and payload.
    pub(crate) fn sign(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        self.sign_segments(&encode(header), &encode(payload))
    }

    /// A token with any text for the first two segments.
    pub(crate) fn sign_segments(&self, header: &str, payload: &str) -> String {
        let message = format!("{header}.{payload}");
        let signature = self.key.signature(message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    /// A token with its usual header.
    pub(crate) fn mint(&self, payload: impl AsRef<[u8]>) -> String {
        self.sign(self.header(), payload)
    }
}

/// The members of a JSON object as raw text, so that anything at all can stand for a value.
#[derive(Clone)]
pub(crate) struct Members(pub(crate) Vec<(String, String)>);

impl Members {
    /// Puts `raw` in the place of `name`, or at the end.
    pub(crate) fn with(mut self, name: &str, raw: impl Into<String>) -> Self {
        match self.0.iter_mut().find(|(own, _)| own == name) {
            Some((_, value)) => *value = raw.into(),
            None => self.0.push((name.to_owned(), raw.into())),
        }
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(own, _)| own != name);
        self
    }

    /// The name again, at the end.
    pub(crate) fn twice(mut self, name: &str, raw: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), raw.into()));
        self
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(own, _)| own == name);
        &found.expect("a member").1
    }

    pub(crate) fn text(&self) -> String {
        let members: Vec<String> = self
            .0
            .iter()
            .map(|(name, raw)| format!("\"{name}\":{raw}"))
            .collect();
        format!("{{{}}}", members.join(","))
    }
}
