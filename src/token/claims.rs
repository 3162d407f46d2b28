//! The claims of an access token and the rules that a route puts on them.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::clients::Revocations;
use crate::clock::Timestamp;
use crate::keys::LegacyRules;

use super::strict_json::parse_object;
use super::{MAX_TOKEN_BYTES, Rejection};

/// Numeric dates beyond the year 9999 are not dates.
const LAST_SECOND: i64 = 253_402_300_799;

/// Longest text claim in bytes.
const MAX_TEXT: usize = 1024;

/// Most audiences that a token may name.
const MAX_AUDIENCES: usize = 64;

/// What a route demands of a token. Evaluated on every request, never cached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteRules {
    /// The token must name one of these.
    pub audiences: Vec<String>,
    /// The token must carry one of these; empty demands none.
    pub scopes_any: Vec<String>,
    /// The token must carry all of these.
    pub scopes_all: Vec<String>,
}

/// The claims of one token, parsed after its signature was found good (RFC 9068 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`
    pub issuer: String,
    /// `sub`
    pub subject: String,
    /// `client_id`
    pub client_id: String,
    /// `aud`, a string or a list of strings
    pub audience: Vec<String>,
    /// `scope`, space-separated
    pub scope: String,
    /// `jti`
    pub token_id: String,
    /// `exp`
    pub expires_at: Timestamp,
    /// `iat`
    pub issued_at: Timestamp,
    /// `nbf`
    pub not_before: Option<Timestamp>,
}

/// What the issuer, the key and the state of the clients demand of every token.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenRules<'a> {
    pub(super) issuer: &'a str,
    pub(super) leeway: Duration,
    pub(super) max_ttl: Duration,
    /// Of an imported key: what else its tokens may say.
    pub(super) legacy: Option<&'a LegacyRules>,
    pub(super) clients: &'a Revocations,
}

impl Claims {
    /// Parses a payload. Tokens of an imported key may lack what RFC 9068 added: without `client_id`
    /// the party is `azp` or the subject, and `jti` may be missing.
    ///
    /// # Errors
    /// [`Rejection::Malformed`] for a missing or wrongly typed claim, [`Rejection::ClaimRule`] for
    /// text that could not be put into a header field, and for an empty `sub` or client.
    pub(super) fn parse(payload: &[u8], is_imported: bool) -> Result<Self, Rejection> {
        let members = parse_object(payload, MAX_TOKEN_BYTES).ok_or(Rejection::Malformed)?;
        let optional = |name| match members.contains_key(name) {
            true => text(&members, name).map(Some),
            false => Ok(None),
        };
        let subject = text(&members, "sub")?;
        let client_id = match optional("client_id")? {
            Some(client) => client,
            None if is_imported => optional("azp")?.unwrap_or_else(|| subject.clone()),
            None => return Err(Rejection::Malformed),
        };
        let token_id = match optional("jti")? {
            Some(id) => id,
            None if is_imported => String::new(),
            None => return Err(Rejection::Malformed),
        };
        let claims = Self {
            issuer: text(&members, "iss")?,
            subject,
            client_id,
            audience: audience(members.get("aud"))?,
            scope: optional("scope")?.unwrap_or_default(),
            token_id,
            expires_at: date(members.get("exp"))?,
            issued_at: date(members.get("iat"))?,
            not_before: members
                .get("nbf")
                .map(|value| date(Some(value)))
                .transpose()?,
        };
        let identity = [
            &claims.subject,
            &claims.client_id,
            &claims.scope,
            &claims.token_id,
        ];
        // A header field with nothing in it looks to many upstreams like none.
        let is_nobody = claims.subject.is_empty() || claims.client_id.is_empty();
        if is_nobody || identity.into_iter().any(|text| !is_header_safe(text)) {
            return Err(Rejection::ClaimRule);
        }
        Ok(claims)
    }

    /// Bytes of all texts, for bounds of memory.
    pub(super) fn text_bytes(&self) -> usize {
        let texts = [
            &self.issuer,
            &self.subject,
            &self.client_id,
            &self.scope,
            &self.token_id,
        ];
        let audience = self.audience.iter().map(|aud| aud.len() + 24);
        texts.iter().map(|text| text.len()).chain(audience).sum()
    }

    /// Whether the token has run out at `now`.
    pub(super) fn expired(&self, leeway: Duration, now: Timestamp) -> bool {
        now >= self.expires_at.plus(leeway)
    }

    /// The rules of the issuer, the key, the client and the route. Scope comes last: 403 tells the
    /// client that everything else about its token is good.
    pub(super) fn check(
        &self,
        token: TokenRules<'_>,
        route: &RouteRules,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let soon = now.plus(token.leeway);
        let is_legacy_issuer =
            |issuer: &str| token.legacy.is_some_and(|legacy| legacy.is_issuer(issuer));
        let serves = |aud: &String| {
            let means = token.legacy.map_or(&[][..], |legacy| legacy.means(aud));
            route.audiences.contains(aud) || means.iter().any(|own| route.audiences.contains(own))
        };
        if self.expired(token.leeway, now) {
            Err(Rejection::Expired)
        } else if self.not_before.is_some_and(|at| at > soon) || self.issued_at > soon {
            Err(Rejection::NotYetValid)
        } else if self.issuer != token.issuer && !is_legacy_issuer(&self.issuer) {
            Err(Rejection::BadIssuer)
        } else if !self.audience.iter().any(serves) {
            Err(Rejection::BadAudience)
        } else if self.expires_at <= self.issued_at
            || self.expires_at.since(self.issued_at) > token.max_ttl
        {
            Err(Rejection::ClaimRule)
        } else if token.clients.is_revoked(&self.client_id, self.issued_at) {
            Err(Rejection::ClientRevoked)
        } else if !self.has_scopes(route) {
            Err(Rejection::InsufficientScope)
        } else {
            Ok(())
        }
    }

    fn has_scopes(&self, route: &RouteRules) -> bool {
        let has = |wanted: &String| self.scope.split(' ').any(|scope| scope == wanted);
        (route.scopes_any.is_empty() || route.scopes_any.iter().any(has))
            && route.scopes_all.iter().all(has)
    }
}

/// Whether `text` can stand in a header field unchanged: visible ASCII and inner spaces.
#[must_use]
pub fn is_header_safe(text: &str) -> bool {
    text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) && text.trim() == text
}

fn text(members: &Map<String, Value>, name: &str) -> Result<String, Rejection> {
    match members.get(name).and_then(Value::as_str) {
        Some(text) if text.len() <= MAX_TEXT => Ok(text.to_owned()),
        _ => Err(Rejection::Malformed),
    }
}

fn audience(value: Option<&Value>) -> Result<Vec<String>, Rejection> {
    let one = |value: &Value| match value.as_str() {
        Some(text) if text.len() <= MAX_TEXT => Ok(text.to_owned()),
        _ => Err(Rejection::Malformed),
    };
    match value.and_then(Value::as_array) {
        Some(list) if list.len() <= MAX_AUDIENCES => list.iter().map(one).collect(),
        Some(_) => Err(Rejection::Malformed),
        None => value.map_or(Err(Rejection::Malformed), |value| {
            one(value).map(|aud| vec![aud])
        }),
    }
}

/// A JSON integer between 1970 and 9999; a float, a string or anything negative is malformed.
fn date(value: Option<&Value>) -> Result<Timestamp, Rejection> {
    match value.and_then(Value::as_i64) {
        Some(seconds @ 0..=LAST_SECOND) => Ok(Timestamp::from_seconds(seconds)),
        _ => Err(Rejection::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"iss":"https://i","sub":"s","client_id":"c","aud":["a","b"],"scope":"read write","jti":"j","exp":2000,"iat":1000}"#;

    fn rejection(from: &str, to: &str) -> Rejection {
        assert!(GOOD.contains(from));
        Claims::parse(GOOD.replace(from, to).as_bytes(), false).unwrap_err()
    }

    fn check(now: i64, route: &RouteRules) -> Result<(), Rejection> {
        let rules = TokenRules {
            issuer: "https://i",
            leeway: Duration::from_secs(10),
            max_ttl: Duration::from_secs(1000),
            legacy: None,
            clients: &Revocations::default(),
        };
        Claims::parse(GOOD.as_bytes(), false).unwrap().check(
            rules,
            route,
            Timestamp::from_seconds(now),
        )
    }

    #[test]
    fn wrong_types_are_errors_never_absent() {
        for (from, to) in [
            ("2000", "2000.0"),
            ("2000", "2e3"),
            ("2000", "\"2000\""),
            ("2000", "-1"),
            ("2000", "1e400"),
            ("2000", "null"),
            ("2000", "99999999999999999999"),
            ("2000", "253402300800"),
            ("1000", "[1000]"),
            ("\"exp\":2000,", ""),
            (",\"iat\":1000", ""),
            ("[\"a\",\"b\"]", "[\"a\",1]"),
            ("[\"a\",\"b\"]", "{}"),
            ("[\"a\",\"b\"]", "null"),
            ("\"https://i\"", "[\"https://i\"]"),
            ("\"s\"", "7"),
            ("\"jti\":\"j\"", "\"jti\":\"j\",\"jti\":\"j\""),
            ("\"read write\"", "[\"read\"]"),
            ("\"iat\":1000", "\"iat\":1000,\"nbf\":\"1\""),
        ] {
            assert_eq!(rejection(from, to), Rejection::Malformed, "{from} -> {to}");
        }
    }

    #[test]
    fn identity_that_cannot_be_a_header_breaks_a_rule() {
        assert_eq!(rejection("\"s\"", r#""s\r\nX: y""#), Rejection::ClaimRule);
        assert_eq!(rejection("\"s\"", "\"\u{e9}\""), Rejection::ClaimRule);
        assert_eq!(rejection("\"c\"", "\" c\""), Rejection::ClaimRule);
        assert_eq!(rejection("\"s\"", "\"\""), Rejection::ClaimRule);
        assert_eq!(rejection("\"c\"", "\"\""), Rejection::ClaimRule);
    }

    #[test]
    fn each_rule_has_its_reason() {
        let route = |aud: &str, any: &[&str], all: &[&str]| RouteRules {
            audiences: vec![aud.to_owned()],
            scopes_any: any.iter().map(|s| (*s).to_owned()).collect(),
            scopes_all: all.iter().map(|s| (*s).to_owned()).collect(),
        };
        assert_eq!(check(1500, &route("b", &["write", "x"], &["read"])), Ok(()));
        assert_eq!(check(2009, &route("a", &[], &[])), Ok(()));
        assert_eq!(check(2010, &route("a", &[], &[])), Err(Rejection::Expired));
        assert_eq!(
            check(989, &route("a", &[], &[])),
            Err(Rejection::NotYetValid)
        );
        assert_eq!(
            check(1500, &route("c", &["x"], &[])),
            Err(Rejection::BadAudience)
        );
        assert_eq!(
            check(1500, &route("a", &["x"], &[])),
            Err(Rejection::InsufficientScope)
        );
        assert_eq!(
            check(1500, &route("a", &[], &["read", "x"])),
            Err(Rejection::InsufficientScope)
        );
    }
}
