//! Words about the key that a token names.

use std::time::Duration;

use crate::keys::Algorithm;

use super::{Case, NEW_TOKEN, Words};

impl Case<'_> {
    pub(super) fn key_purged(&self) -> Words {
        let undo = self.key.filter(|key| key.mistake_undo).map(|key| {
            format!(
                "; if the purge was a mistake: portcullis keys restore {}",
                key.kid
            )
        });
        (
            format!(
                "{} was purged{}; without the purge the token would be good",
                self.key_name(),
                self.ended()
            ),
            format!("{NEW_TOKEN}: it works at once{}", undo.unwrap_or_default()),
        )
    }

    pub(super) fn unknown_key(&self) -> Words {
        let issuer = &self.ground.keys.issuer;
        let foreign = self.peek.text("iss").filter(|iss| iss != issuer);
        let what = match (self.key, foreign) {
            (Some(key), _) => format!(
                "it names the {} key {}{}, and is expired or not signed by it",
                key.state,
                key.kid,
                self.ended()
            ),
            (None, Some(iss)) => format!(
                "no key of this gateway is called {}; the token says that {iss} issued it, this gateway takes tokens of {issuer}",
                self.header("kid")
            ),
            (None, None) => format!(
                "no key of this gateway is called {}, nor was one lately",
                self.header("kid")
            ),
        };
        (what, format!("{NEW_TOKEN} of {issuer}"))
    }

    pub(super) fn alg_not_allowed(&self) -> Words {
        let alg = self.header("alg");
        let what = match self.key {
            Some(key) => format!(
                "its header says alg {alg}, but {} signs with {} alone",
                self.key_name(),
                key.alg
            ),
            None => {
                let all: Vec<&str> = Algorithm::ALL.iter().map(|alg| alg.as_str()).collect();
                format!("its header says alg {alg}; allowed are {}", all.join(", "))
            }
        };
        (
            what,
            format!("no token of ours says that, so somebody made or altered it: {NEW_TOKEN}"),
        )
    }

    pub(super) fn key_name(&self) -> String {
        match self.key {
            Some(key) => format!("the {} key {}", key.state, key.kid),
            None => "the key that it names".to_owned(),
        }
    }

    pub(super) fn ended(&self) -> String {
        let ended = self
            .key
            .and_then(|key| key.ended_at.as_ref().map(|at| (at, &key.purge_id)));
        match ended {
            Some((at, Some(purge))) => format!(" at {at} (purge {purge})"),
            Some((at, None)) => format!(", which ended at {at}"),
            None => String::new(),
        }
    }

    pub(super) fn max_ttl(&self) -> Option<Duration> {
        let kid = self.peek.kid()?;
        let live = self
            .ground
            .set
            .verifying()
            .find(|(_, key)| key.kid.as_str() == kid);
        let dead = self
            .ground
            .set
            .tombstones
            .iter()
            .find(|dead| dead.kid.as_str() == kid);
        live.map(|(_, key)| key.max_ttl)
            .or_else(|| dead.map(|dead| dead.max_ttl))
    }
}
