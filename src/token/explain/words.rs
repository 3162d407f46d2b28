//! One sentence for each reason, and one about what to do.

mod keys;

use crate::token::claims::is_header_safe;
use crate::token::compact::{MAX_HEADER_BYTES, MAX_HEADER_VALUES};
use crate::token::{MAX_TOKEN_BYTES, Rejection, RouteRules};

use super::peek::Peek;
use super::{Ground, KeyFacts};

/// A token on a route, with all that can be said about both.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) peek: &'a Peek,
    pub(super) route: &'a str,
    pub(super) rules: &'a RouteRules,
    pub(super) key: Option<&'a KeyFacts>,
    pub(super) ground: Ground<'a>,
}

/// What happens, and what to do.
type Words = (String, String);

const NEW_TOKEN: &str = "get a new token from the token endpoint";

pub(super) fn without_token(rejection: Rejection, length: usize) -> Words {
    let (what, what_to_do) = if rejection == Rejection::TooLarge {
        (
            format!("the token has {length} bytes; at most {MAX_TOKEN_BYTES} are looked at"),
            "tokens of this gateway are far shorter: find out what else the client put into the header",
        )
    } else if rejection == Rejection::BrokenSyntax {
        (
            "what stands behind `Bearer` is not exactly one token: it has a character that no token has"
                .to_owned(),
            "send the token alone, without quotes, blanks or line breaks",
        )
    } else {
        (
            "the request carries no bearer token, and the route demands one".to_owned(),
            "send `Authorization: Bearer TOKEN`; `portcullis token issue` gets a token",
        )
    };
    (what, what_to_do.to_owned())
}

impl Case<'_> {
    pub(super) fn accepted(&self) -> Words {
        let key = self.key.map_or_else(String::new, |key| {
            let until = key
                .verify_until
                .as_ref()
                .map(|until| format!(", which verifies until {until}"))
                .unwrap_or_default();
            format!(", signed by the {} key {}{until}", key.state, key.kid)
        });
        let what = format!(
            "route `{}` takes the request, and its token is good{key}",
            self.route
        );
        (what, String::new())
    }

    /// One exhaustive match, so that no reason is ever without words.
    pub(super) fn refused(&self, rejection: Rejection) -> Words {
        match rejection {
            Rejection::BadAudience => self.bad_audience(),
            Rejection::BadIssuer => self.bad_issuer(),
            Rejection::BadSignature => (
                format!("the signature does not fit {}: the token was forged, altered or cut off", self.key_name()),
                "if it was copied by hand, try again with the whole token; a client that really sends this did not get it here".to_owned(),
            ),
            Rejection::BadType => (
                format!("its typ is {}, but access tokens say at+jwt (RFC 9068)", self.header("typ")),
                "an ID token or a refresh token is no access token: send the access_token".to_owned(),
            ),
            Rejection::BrokenSyntax
            | Rejection::DuplicateHeader
            | Rejection::Missing
            | Rejection::TooLarge => without_token(rejection, 0),
            Rejection::ClaimRule => self.claim_rule(),
            Rejection::ClientRevoked => self.client_revoked(),
            Rejection::CompromisedKeyInUse => (
                format!("the key {} was purged{}, and this token was signed after that or outlives all that the key could sign: whoever made it holds the private half", self.header("kid"), self.ended()),
                "treat it as an incident: find the sender in the log (event request_denied) and find out how the key leaked".to_owned(),
            ),
            Rejection::Expired => self.expired(),
            Rejection::InsufficientScope => self.insufficient_scope(),
            Rejection::KeyPurged => self.key_purged(),
            Rejection::LifecycleViolation => (
                format!("{} verifies no more, and this unexpired token outlived it: that must never happen", self.key_name()),
                format!("{NEW_TOKEN}; keep the log and the audit log, and report it"),
            ),
            Rejection::Malformed => self.malformed(),
            Rejection::NotYetValid => self.not_yet_valid(),
            Rejection::RateLimited => (
                "its source sent too many forged tokens lately".to_owned(),
                "wait; limits.forged_tokens in the configuration sets how many".to_owned(),
            ),
            Rejection::UnknownKey => self.unknown_key(),
            Rejection::AlgNotAllowed => self.alg_not_allowed(),
        }
    }

    fn bad_audience(&self) -> Words {
        (
            format!(
                "the token is for {}, but route `{}` takes tokens for {}",
                any_of(&self.peek.audience()),
                self.route,
                any_of(&self.rules.audiences)
            ),
            "the client sends it to the wrong service; if not, change auth.audiences of the route or issuer.audience".to_owned(),
        )
    }

    fn bad_issuer(&self) -> Words {
        (
            format!(
                "its iss is {}, but this gateway takes tokens of {}",
                self.claim("iss"),
                self.ground.keys.issuer
            ),
            "the key is ours, so issuer.url was changed after the token was issued: get a new token".to_owned(),
        )
    }

    fn claim_rule(&self) -> Words {
        let texts = ["sub", "client_id", "scope", "jti"];
        let odd = texts.into_iter().find(|name| {
            self.peek
                .text(name)
                .is_some_and(|text| !is_header_safe(&text))
        });
        let empty = ["sub", "client_id"]
            .into_iter()
            .find(|name| self.peek.text(name).is_some_and(|text| text.is_empty()));
        let what = match (empty, odd, self.peek.date("iat"), self.peek.date("exp")) {
            (Some(name), ..) => format!("its {name} is empty"),
            (_, Some(name), ..) => {
                format!("its {name} holds a character that no header field may hold")
            }
            (_, _, Some(iat), Some(exp)) if exp <= iat => {
                format!("it expires at {exp}, not after it was issued at {iat}")
            }
            (_, _, Some(iat), Some(exp)) => format!(
                "it lives for {} s, longer than its key may sign for{}",
                exp.since(iat).as_secs(),
                self.max_ttl()
                    .map(|ttl| format!(" ({} s)", ttl.as_secs()))
                    .unwrap_or_default()
            ),
            _ => "a claim breaks a rule".to_owned(),
        };
        (what, format!("{NEW_TOKEN}; this one was not made by it"))
    }

    fn client_revoked(&self) -> Words {
        let client = self
            .peek
            .text("client_id")
            .or_else(|| self.peek.text("sub"));
        let name = client.unwrap_or_default();
        if self.ground.clients.is_disabled(&name) {
            return (
                format!(
                    "the client {name} is disabled: neither its logins nor its tokens are taken"
                ),
                format!("when it may come back: portcullis clients enable {name}"),
            );
        }
        let since = self.ground.clients.not_before(&name);
        (
            format!(
                "tokens of the client {name} issued before {} are refused, and this one was issued at {}",
                shown(since),
                shown(self.peek.date("iat"))
            ),
            format!(
                "{NEW_TOKEN}: it works at once; `portcullis clients show {name}` says who did that, and why"
            ),
        )
    }

    fn expired(&self) -> Words {
        (
            format!(
                "it expired at {}, {} s ago (a leeway of {} s is granted)",
                shown(self.peek.date("exp")),
                self.peek
                    .date("exp")
                    .map(|exp| self.ground.now.since(exp).as_secs())
                    .unwrap_or_default(),
                self.ground.keys.leeway.as_secs()
            ),
            format!(
                "{NEW_TOKEN}; a client should do so before expires_in has passed. If it was just issued, compare the clocks"
            ),
        )
    }

    fn insufficient_scope(&self) -> Words {
        let has = self.peek.text("scope").unwrap_or_default();
        let has: Vec<String> = has
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect();
        let missing: Vec<String> = self
            .rules
            .scopes_all
            .iter()
            .filter(|scope| !has.contains(scope))
            .cloned()
            .collect();
        let demand = if missing.is_empty() {
            format!("one of {}", any_of(&self.rules.scopes_any))
        } else {
            format!("also {}", any_of(&missing))
        };
        (
            format!("the token carries {}; route `{}` demands {demand}", any_of(&has), self.route),
            "ask the token endpoint for that scope; the client must be allowed it (portcullis clients list)".to_owned(),
        )
    }

    fn malformed(&self) -> Words {
        let what = if self.peek.parts != 3 {
            format!(
                "it has {} parts between dots, an access token has 3",
                self.peek.parts
            )
        } else if self.peek.header_length > MAX_HEADER_BYTES {
            format!(
                "its header has {} bytes; at most {MAX_HEADER_BYTES} are looked at",
                self.peek.header_length
            )
        } else if self.peek.header.is_none() {
            "its header is not one JSON object in base64url without duplicate names".to_owned()
        } else if self.peek.header_values() > MAX_HEADER_VALUES {
            format!(
                "its header has {} values; at most {MAX_HEADER_VALUES} are looked at",
                self.peek.header_values()
            )
        } else if self.peek.header_text("kid").is_none() {
            "its header names no key (kid)".to_owned()
        } else if self.peek.claims.is_none() {
            "its payload is not one JSON object in base64url without duplicate names".to_owned()
        } else if let Some(name) = self.missing_claim() {
            format!("its claim {name} is missing or of the wrong type")
        } else {
            "its header holds what no access token of ours holds".to_owned()
        };
        (
            what,
            format!(
                "the token was cut off, altered, or never was one of ours: {NEW_TOKEN} and send it unchanged"
            ),
        )
    }

    fn missing_claim(&self) -> Option<&'static str> {
        let claims = self.peek.claims.as_ref()?;
        let texts = ["iss", "sub", "client_id", "jti"].into_iter();
        let dates = ["exp", "iat"].into_iter();
        let text = texts
            .into_iter()
            .find(|name| !claims.get(*name).is_some_and(serde_json::Value::is_string));
        let date = dates
            .into_iter()
            .find(|name| !claims.get(*name).is_some_and(serde_json::Value::is_i64));
        let aud = self.peek.audience().is_empty().then_some("aud");
        text.or(date).or(aud)
    }

    fn not_yet_valid(&self) -> Words {
        let now = self.ground.now;
        let later = [
            ("nbf", self.peek.date("nbf")),
            ("iat", self.peek.date("iat")),
        ];
        let found = later
            .into_iter()
            .find_map(|(name, at)| Some((name, at.filter(|at| *at > now)?)));
        let what = found.map_or_else(
            || "it lies in the future".to_owned(),
            |(name, at)| format!("its {name} is {at}, {} s after this gateway's time {now} (a leeway of {} s is granted)", at.since(now).as_secs(), self.ground.keys.leeway.as_secs()),
        );
        (
            what,
            "compare the clocks of this machine and of whoever issued the token".to_owned(),
        )
    }

    fn header(&self, name: &str) -> String {
        self.peek
            .header_text(name)
            .unwrap_or_else(|| "missing".to_owned())
    }

    fn claim(&self, name: &str) -> String {
        self.peek.text(name).unwrap_or_else(|| "missing".to_owned())
    }
}

fn shown(at: Option<crate::clock::Timestamp>) -> String {
    at.map_or_else(|| "an unknown time".to_owned(), |at| at.to_string())
}

fn any_of(texts: &[String]) -> String {
    match texts {
        [] => "nothing".to_owned(),
        texts => texts.join(", "),
    }
}
