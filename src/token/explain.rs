//! What an operator is told about one request: what would happen to it, by which rule, and what to do.
//!
//! Invariants: the verdict is that of [`verify_with`], never of what is read here beside it;
//! nothing of a token leaves but its public claims, its header and whether its signature is proven,
//! never the signature. May say more than the answer on the wire does: it is for operators. May be
//! imported by `gateway`, which knows routes, and by those who show an [`Explanation`].

mod peek;
mod words;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::clients::Revocations;
use crate::clock::Timestamp;
use crate::keys::{End, KeySet, KeyState, Kid};

use super::{Effort, Rejection, RouteRules, VerificationKeys, verify_with};

use peek::Peek;

/// Longest text out of a token that is shown, in characters.
const MAX_SHOWN: usize = 256;

/// A request that somebody wonders about. Not `Debug`: it holds a token.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The bearer token; `None` for a request without one.
    pub token: Option<&'a str>,
    /// Method.
    pub method: &'a str,
    /// `Host`; that of the issuer's URL by default.
    pub host: Option<&'a str>,
    /// Path, with or without a query.
    pub path: &'a str,
}

/// Whoever can tell what would happen to a request. Counts nothing, remembers nothing, limits
/// nothing.
pub trait Explain: Send + Sync + std::fmt::Debug {
    /// What would happen to it now.
    fn explain(&self, question: Question<'_>) -> Explanation;
}

/// What would happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It would be forwarded, its token is good.
    Accepted,
    /// Its token, or the lack of one, would be refused.
    Refused,
    /// It would be forwarded without a look at any token.
    Public,
    /// No route takes it: 404.
    NoRoute,
    /// It would be refused before any route is looked for.
    BadRequest,
    /// An endpoint of the gateway's own answers it.
    OwnEndpoint,
}

/// What would happen to a request, and why.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Explanation {
    /// The moment that it holds for (RFC 3339).
    pub now: String,
    /// In a word.
    pub verdict: Verdict,
    /// The reason of a refusal: the label in metrics and logs.
    pub reason: Option<&'static str>,
    /// In a sentence.
    pub what: String,
    /// What to do about it; empty when nothing is to be done.
    pub what_to_do: String,
    /// What the client would be told; none when the upstream answers.
    pub answer: Option<WireAnswer>,
    /// The request as it is judged.
    pub request: RequestFacts,
    /// The route that takes it.
    pub route: Option<RouteFacts>,
    /// The key that the token names, when it is one of ours, dead or alive.
    pub key: Option<KeyFacts>,
    /// What the token says.
    pub token: Option<TokenFacts>,
}

/// What the client would be told (RFC 6750 §3.1).
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct WireAnswer {
    /// HTTP status.
    pub status: u16,
    /// `error` of the challenge.
    pub error: Option<&'static str>,
    /// `detail` of the body.
    pub detail: &'static str,
}

/// A request in the form in which it is judged and forwarded.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedRequest")]
pub struct RequestFacts {
    /// Method.
    pub method: String,
    /// Host without port.
    pub host: String,
    /// Canonical path.
    pub path: String,
}

/// A route in words.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedRoute")]
pub struct RouteFacts {
    /// Name.
    pub name: String,
    /// Which requests it takes.
    pub takes: String,
    /// Where they go.
    pub upstream: String,
    /// The token must name one of these; empty on a public route.
    pub audiences: Vec<String>,
    /// The token must carry one of these; empty demands none.
    pub scopes_any: Vec<String>,
    /// The token must carry all of these.
    pub scopes_all: Vec<String>,
}

/// A key of ours, dead or alive.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedKey")]
pub struct KeyFacts {
    /// Identifier.
    pub kid: String,
    /// The one algorithm that it signs with.
    pub alg: &'static str,
    /// `pending`, `active`, `deprecated`, `retired` or `purged`.
    pub state: &'static str,
    /// From then on it verifies nothing; of the active key not decided yet.
    pub verify_until: Option<String>,
    /// When it was retired or purged.
    pub ended_at: Option<String>,
    /// The purge that ended it.
    pub purge_id: Option<String>,
    /// Whether that purge can be undone.
    pub mistake_undo: bool,
}

/// What a token says of itself.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedToken")]
pub struct TokenFacts {
    /// Whether a key of ours signed it; otherwise anybody may have written what it says.
    pub verified: bool,
    /// `alg`, `kid` and `typ` of its header.
    pub header: Map<String, Value>,
    /// Its registered claims.
    pub claims: Map<String, Value>,
    /// `iat` (RFC 3339).
    pub issued_at: Option<String>,
    /// `exp` (RFC 3339).
    pub expires_at: Option<String>,
    /// Of an accepted token: from then on it is refused, unless a purge ends it sooner.
    pub accepted_until: Option<String>,
}

/// The keys and rules of the moment. `keys` are of `set`, and remember nothing.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The key set in force.
    pub set: &'a KeySet,
    /// The same, ready to verify.
    pub keys: &'a VerificationKeys,
    /// Whose tokens are revoked.
    pub clients: &'a Revocations,
    /// The moment.
    pub now: Timestamp,
}

/// What is to be said of one token on one route.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The reason when it is refused.
    pub rejection: Option<Rejection>,
    /// In a sentence.
    pub what: String,
    /// What to do about it.
    pub what_to_do: String,
    /// The key that it names.
    pub key: Option<KeyFacts>,
    /// What it says.
    pub token: TokenFacts,
}

/// Judges `token` on the route named `route`.
#[must_use]
pub fn judge(token: &[u8], route: &str, rules: &RouteRules, ground: Ground<'_>) -> Judged {
    let peek = Peek::at(token);
    let (keys, clients) = (ground.keys, ground.clients);
    let verdict = verify_with(Effort::Full, token, keys, rules, clients, ground.now);
    let (rejection, verified) = match &verdict {
        Ok(_) => (None, true),
        // A client is known of proven tokens alone.
        Err(refused) => (Some(refused.rejection), refused.client_id.is_some()),
    };
    let named = peek.kid().and_then(|kid| key_facts(ground.set, kid));
    let case = words::Case {
        peek: &peek,
        route,
        rules,
        key: named.as_ref(),
        ground,
    };
    let (what, what_to_do) = match rejection {
        None => case.accepted(),
        Some(rejection) => case.refused(rejection),
    };
    let until = verdict
        .as_ref()
        .ok()
        .map(|accepted| {
            let expired = accepted.claims.expires_at.plus(keys.leeway);
            let key_ends = accepted.key.verify_until;
            key_ends.map_or(expired, |ends| ends.min(expired))
        })
        .map(|until| until.to_string());
    Judged {
        rejection,
        what,
        what_to_do,
        key: named,
        token: TokenFacts {
            verified,
            accepted_until: until,
            ..peek.facts()
        },
    }
}

/// The words for a request that carries no token where one is demanded, or not exactly one.
#[must_use]
pub fn without_token(rejection: Rejection, length: usize) -> (String, String) {
    words::without_token(rejection, length)
}

/// The key of this name, dead or alive.
fn key_facts(set: &KeySet, kid: &str) -> Option<KeyFacts> {
    let live = set.verifying().find(|(_, key)| key.kid.as_str() == kid);
    if let Some((state, key)) = live {
        return Some(KeyFacts {
            kid: key.kid.to_string(),
            alg: key.alg.as_str(),
            state: state.as_str(),
            verify_until: verify_until(set, state, &key.kid),
            ended_at: None,
            purge_id: None,
            mistake_undo: false,
        });
    }
    let dead = set
        .tombstones
        .iter()
        .find(|dead| dead.kid.as_str() == kid)?;
    Some(KeyFacts {
        kid: dead.kid.to_string(),
        alg: dead.alg.as_str(),
        state: match dead.end {
            End::Retired => "retired",
            End::Purged => "purged",
        },
        verify_until: None,
        ended_at: Some(dead.died_at.to_string()),
        purge_id: dead.purge_id.map(|id| id.to_string()),
        mistake_undo: dead.mistake_undo,
    })
}

fn verify_until(set: &KeySet, state: KeyState, kid: &Kid) -> Option<String> {
    let deprecated = set.deprecated.iter().find(|key| key.public.kid == *kid);
    deprecated
        .filter(|_| state == KeyState::Deprecated)
        .map(|key| key.verify_until.to_string())
}

/// A text out of a token, bounded.
fn bounded(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
