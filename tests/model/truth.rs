//! Tokens with the truth about them, and what §6 of the design says must become of each.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis::clock::Timestamp;
use portcullis::keys::timing::Timing;
use portcullis::keys::{Algorithm, Kid};
use portcullis::token::{Rejection, RouteRules};

use super::oracle::{Book, Key, Legacy, Stage};

pub const ISSUER: &str = "https://issuer.test";
pub const OLD_ISSUER: &str = "https://old.test";
pub const OLD_AUDIENCE: &str = "old-api";
pub const CLIENTS: [&str; 3] = ["app", "robot", "batch"];

/// The audiences that tokens of this issuer carry, and that a former system's may stand for.
pub const AUDIENCE: [&str; 1] = ["api"];

/// One token and everything that is true of it.
#[derive(Clone, Debug)]
pub struct Token {
    pub compact: String,
    /// What its header says.
    pub kid: Kid,
    pub alg: Algorithm,
    pub typ: String,
    /// Whether its header is, byte for byte, the one that the key mints.
    pub minted_header: bool,
    /// The public half that its signature belongs to; none when it was altered after signing.
    pub signed_by: Option<Kid>,
    /// Whether the token endpoint handed it out.
    pub honest: bool,
    pub iss: String,
    pub aud: String,
    /// `client_id`, or what stands for it in a former system's token.
    pub client: String,
    /// Whether `client_id` and `jti` are there, as RFC 9068 wants.
    pub modern: bool,
    pub scope: &'static str,
    pub iat: i64,
    pub exp: i64,
    pub nbf: Option<i64>,
}

/// What became of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted {
        kid: Kid,
        state: &'static str,
        client: String,
    },
    Refused {
        why: Rejection,
        /// The dead key that it names.
        tombstone: Option<Kid>,
    },
}

/// What was done to clients.
#[derive(Clone, Debug, Default)]
pub struct Clients(BTreeMap<&'static str, Client>);

#[derive(Clone, Debug, Default)]
struct Client {
    disabled: bool,
    /// Tokens issued before this second are refused.
    not_before: Option<i64>,
}

/// What is done to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAct {
    Disable,
    Enable,
    Invalidate,
}

impl Client {
    /// Whether that changed anything.
    fn end_tokens(&mut self, now: Timestamp) -> bool {
        // The first whole second that no token so far can carry; never less than before.
        let next = now.as_seconds() + 1;
        let first = match self.not_before {
            Some(before) if before > next => before + 1,
            _ => next,
        };
        self.not_before.replace(first) != Some(first)
    }
}

impl Clients {
    /// Whether it changed anything.
    pub fn act(&mut self, client: &'static str, act: ClientAct, now: Timestamp) -> bool {
        let client = self.0.entry(client).or_default();
        match act {
            ClientAct::Disable => {
                let is_new = !std::mem::replace(&mut client.disabled, true);
                if is_new {
                    client.end_tokens(now);
                }
                is_new
            }
            ClientAct::Enable => std::mem::replace(&mut client.disabled, false),
            ClientAct::Invalidate => client.end_tokens(now),
        }
    }

    /// From when on tokens are dated; `None` for a client that gets none.
    pub fn issues_from(&self, client: &str) -> Option<Option<Timestamp>> {
        let Some(client) = self.0.get(client) else {
            return Some(None);
        };
        (!client.disabled).then(|| client.not_before.map(Timestamp::from_seconds))
    }

    fn revokes(&self, client: &str, iat: i64) -> bool {
        self.0.get(client).is_some_and(|client| {
            client.disabled || client.not_before.is_some_and(|first| iat < first)
        })
    }
}

/// The one verdict.
pub fn verdict(
    token: &Token,
    book: &Book,
    clients: &Clients,
    timing: &Timing,
    route: &RouteRules,
    now: Timestamp,
) -> Verdict {
    let key = book.named(&token.kid);
    let why = match key {
        Some(key) if key.verifies() && token.minted_header && token.alg == key.alg => {
            by_live_key(token, key, clients, timing, route, now)
        }
        _ if !is_type_known(token, key) => return refused(Rejection::BadType, None),
        None => return refused(Rejection::UnknownKey, None),
        Some(key) if token.alg != key.alg => Some(Rejection::AlgNotAllowed),
        Some(key) if key.verifies() => by_live_key(token, key, clients, timing, route, now),
        Some(key) => Some(by_dead_key(token, key, clients, timing, route, now)),
    };
    let key = key.expect("unknown keys are judged above");
    match why {
        Some(why) => refused(why, key.is_tombstone().then(|| key.kid.clone())),
        None => Verdict::Accepted {
            kid: key.kid.clone(),
            state: match key.stage {
                Stage::Pending => "pending",
                Stage::Active => "active",
                _ => "deprecated",
            },
            client: token.client.clone(),
        },
    }
}

/// "live kid → alg → signature → claims"; a header that the key never mints is odd, unless the key
/// came from elsewhere.
fn by_live_key(
    token: &Token,
    key: &Key,
    clients: &Clients,
    timing: &Timing,
    route: &RouteRules,
    now: Timestamp,
) -> Option<Rejection> {
    if token.signed_by.as_ref() != Some(&key.half) {
        return Some(Rejection::BadSignature);
    }
    if !token.minted_header && key.imported.is_none() {
        return Some(Rejection::Malformed);
    }
    claims_fail(token, key, clients, timing, route, now).or_else(|| {
        // Nobody retired it yet, but its time is over.
        let over = key.verify_until.is_some_and(|until| now >= until);
        over.then_some(Rejection::LifecycleViolation)
    })
}

/// "purged kid → …" and "retired kid → …"; never an acceptance.
fn by_dead_key(
    token: &Token,
    key: &Key,
    clients: &Clients,
    timing: &Timing,
    route: &RouteRules,
    now: Timestamp,
) -> Rejection {
    let retired = key.stage == Stage::Retired;
    let died_at = key.died_at.expect("it is dead");
    let slack = timing.sign_drain + timing.clock_offset_max;
    // All that it can have signed has expired: nobody looks at the signature.
    if retired && now >= died_at.plus(key.max_ttl + timing.leeway + slack) {
        return Rejection::UnknownKey;
    }
    if token.signed_by.as_ref() != Some(&key.half) {
        return if retired {
            Rejection::UnknownKey
        } else {
            Rejection::BadSignature
        };
    }
    if !token.minted_header && key.imported.is_none() {
        return Rejection::Malformed;
    }
    if !token.modern && key.imported.is_none() {
        return Rejection::Malformed;
    }
    if retired {
        return if is_expired(token, timing, now) {
            Rejection::UnknownKey
        } else {
            Rejection::LifecycleViolation
        };
    }
    if let Some(why) = claims_fail(token, key, clients, timing, route, now) {
        return why;
    }
    if Timestamp::from_seconds(token.iat) > died_at.plus(slack) {
        return Rejection::CompromisedKeyInUse;
    }
    // Invariant 15: it is the purge's doing only if a plain rotation would not have ended it as well.
    // Nothing that was signed while the key could sign lives longer.
    if key.verify_until.is_some_and(|until| now >= until) {
        return Rejection::CompromisedKeyInUse;
    }
    Rejection::KeyPurged
}

/// The rules in the order in which they are asked; scope comes last.
fn claims_fail(
    token: &Token,
    key: &Key,
    clients: &Clients,
    timing: &Timing,
    route: &RouteRules,
    now: Timestamp,
) -> Option<Rejection> {
    let former = key.imported.as_ref();
    let at = Timestamp::from_seconds;
    let soon = now.plus(timing.leeway);
    let served = |aud: &str| route.audiences.iter().any(|own| own == aud);
    let stands_for_ours = former.is_some_and(|rules| rules.aud.as_ref() == Some(&token.aud))
        && AUDIENCE.iter().any(|own| served(own));
    let lived = Duration::from_secs(u64::try_from(token.exp - token.iat).unwrap_or(0));
    let has = |scope: &String| token.scope.split(' ').any(|own| own == scope);
    let broken = [
        (!token.modern && former.is_none(), Rejection::Malformed),
        (is_expired(token, timing, now), Rejection::Expired),
        (
            at(token.iat) > soon || token.nbf.is_some_and(|nbf| at(nbf) > soon),
            Rejection::NotYetValid,
        ),
        (
            token.iss != ISSUER && former.and_then(|rules| rules.iss.as_ref()) != Some(&token.iss),
            Rejection::BadIssuer,
        ),
        (
            !served(&token.aud) && !stands_for_ours,
            Rejection::BadAudience,
        ),
        (
            token.exp <= token.iat || lived > key.max_ttl,
            Rejection::ClaimRule,
        ),
        (
            clients.revokes(&token.client, token.iat),
            Rejection::ClientRevoked,
        ),
        (
            !(route.scopes_any.is_empty() || route.scopes_any.iter().any(has))
                || !route.scopes_all.iter().all(has),
            Rejection::InsufficientScope,
        ),
    ];
    broken.into_iter().find_map(|(is, why)| is.then_some(why))
}

pub fn is_expired(token: &Token, timing: &Timing, now: Timestamp) -> bool {
    now >= Timestamp::from_seconds(token.exp).plus(timing.leeway)
}

/// The types of RFC 9068, and the one that the former system of this very key used.
fn is_type_known(token: &Token, key: Option<&Key>) -> bool {
    let ours = ["at+jwt", "application/at+jwt"];
    let former = key
        .and_then(|key| key.imported.as_ref())
        .and_then(|rules: &Legacy| rules.typ.as_deref());
    ours.into_iter()
        .chain(former)
        .any(|typ| typ.eq_ignore_ascii_case(&token.typ))
}

fn refused(why: Rejection, tombstone: Option<Kid>) -> Verdict {
    Verdict::Refused { why, tombstone }
}
