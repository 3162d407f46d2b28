//! An explanation in words: the verdict, why, what to do, and the facts behind it.

use serde_json::Value;

use crate::clock::Timestamp;

use super::super::keys::tone_of;
use super::super::out::{Tone, say, say_toned, shown};
use super::super::value::{joined, list, member, number, plain, text};
use super::super::when::moment;

pub(super) fn say_explanation(of: &Value) {
    let (tone, word) = match plain(of, "verdict") {
        "accepted" => (Tone::Good, "ACCEPTED"),
        "public" => (Tone::Good, "FORWARDED"),
        "own_endpoint" => (Tone::Good, "ANSWERED BY THE GATEWAY"),
        "no_route" => (Tone::Bad, "NO ROUTE"),
        "bad_request" => (Tone::Bad, "BAD REQUEST"),
        _ => (Tone::Bad, "REFUSED"),
    };
    let reason = member(of, "reason").as_str();
    let reason = reason
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default();
    say_toned(&[
        (tone, word),
        (tone, &reason),
        (Tone::Plain, ": "),
        (Tone::Plain, plain(of, "what")),
    ]);
    let to_do = plain(of, "what_to_do");
    if !to_do.is_empty() && to_do != "-" {
        say_toned(&[(Tone::Plain, "what to do: "), (Tone::Plain, to_do)]);
    }
    say("");
    let request = member(of, "request");
    say(&format!(
        "request   {} {} on {}",
        text(request, "method"),
        text(request, "path"),
        text(request, "host")
    ));
    say_route(member(of, "route"));
    say_key(member(of, "key"));
    let now = Timestamp::parse(plain(of, "now")).unwrap_or_default();
    say_token(member(of, "token"), now);
    let answer = member(of, "answer");
    if let Some(status) = number(answer, "status") {
        let error = member(answer, "error").as_str();
        let error = error
            .map(|error| format!(" {}", shown(error)))
            .unwrap_or_default();
        say(&format!(
            "answer    {status}{error}: {}",
            text(answer, "detail")
        ));
    }
    say(&format!("judged at {}", text(of, "now")));
}

fn say_route(route: &Value) {
    if route.is_null() {
        return;
    }
    say(&format!(
        "route     {}: {}, to upstream {}",
        text(route, "name"),
        text(route, "takes"),
        text(route, "upstream")
    ));
    let rules = [
        ("audiences", "an audience of"),
        ("scopes_any", "one of the scopes"),
        ("scopes_all", "all of the scopes"),
    ];
    let demands: Vec<String> = rules
        .into_iter()
        .filter(|(name, _)| list(route, name).next().is_some())
        .map(|(name, words)| format!("{words} {}", joined(route, name)))
        .collect();
    let demands = if demands.is_empty() {
        "nothing; it is public".to_owned()
    } else {
        demands.join("; ")
    };
    say(&format!("demands   {demands}"));
}

fn say_key(key: &Value) {
    if key.is_null() {
        return;
    }
    let state = plain(key, "state");
    let mut more = format!(", {} {}", text(key, "alg"), text(key, "kid"));
    for (name, words) in [
        ("verify_until", "verifies until"),
        ("ended_at", "ended at"),
        ("purge_id", "by purge"),
    ] {
        if !member(key, name).is_null() {
            more.push_str(&format!(", {words} {}", text(key, name)));
        }
    }
    say_toned(&[
        (Tone::Plain, "key       "),
        (tone_of(state), state),
        (Tone::Plain, &more),
    ]);
}

fn say_token(token: &Value, now: Timestamp) {
    if token.is_null() {
        return;
    }
    let (tone, word) = if *member(token, "verified") == Value::Bool(true) {
        (Tone::Good, "a key of this gateway signed it")
    } else {
        (
            Tone::Notice,
            "NOT VERIFIED, anybody may have written what it says",
        )
    };
    say_toned(&[(Tone::Plain, "token     "), (tone, word)]);
    let claims = member(token, "claims");
    for (name, value) in claims.as_object().into_iter().flatten() {
        let date = match name.as_str() {
            "iat" | "nbf" | "exp" => value.as_i64().map(Timestamp::from_seconds),
            _ => None,
        };
        let value = match (date, value) {
            (Some(at), _) => moment(at, now),
            (None, Value::String(text)) => text.clone(),
            (None, Value::Array(_)) => joined(claims, name),
            (None, other) => other.to_string(),
        };
        say(&format!("  {:<10} {}", shown(name), shown(&value)));
    }
    if !member(token, "accepted_until").is_null() {
        say(&format!(
            "accepted until {} unless its key is purged",
            text(token, "accepted_until")
        ));
    }
}
