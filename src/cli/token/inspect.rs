//! `portcullis token inspect`: what a token says, without believing a word of it.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::{Value, json};

use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::token::MAX_TOKEN_BYTES;

use super::super::exit::Failure;
use super::super::out::{Tone, say, say_toned, shown};
use super::super::value::{Output, OutputFormat, print_json};
use super::super::when::{moment, span};
use super::TokenSource;

const NOT_VERIFIED: &str = "NOT VERIFIED: anybody can write a token that says this; `portcullis token explain` asks a gateway";

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    output: OutputFormat,
    #[command(flatten)]
    source: TokenSource,
}

pub(super) fn run(args: &InspectArgs) -> Result<ExitCode, Failure> {
    let token = args.source.read()?;
    let decoded = Decoded::of(&token)?;
    let now = SystemClock.now();
    match args.output.output {
        Output::Json => print_json(&decoded.json(now)),
        Output::Table => decoded.say(now),
    }
    Ok(ExitCode::SUCCESS)
}

/// A token taken apart. The signature is left out: whoever reads along could use it.
struct Decoded {
    header: Value,
    claims: Value,
}

impl Decoded {
    fn of(token: &str) -> Result<Self, Failure> {
        let bad = |rule: &str| Failure::Other(format!("this is no JWT in compact form: {rule}"));
        if token.len() > MAX_TOKEN_BYTES {
            return Err(bad("it is longer than 8 KiB"));
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, _signature] = parts.as_slice() else {
            return Err(bad(&format!(
                "it has {} parts between dots instead of 3",
                parts.len()
            )));
        };
        let object = |part: &str, name: &str| {
            let json = URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_error| bad(&format!("its {name} is not base64url")))?;
            match serde_json::from_slice(&json) {
                Ok(value @ Value::Object(_)) => Ok(value),
                _ => Err(bad(&format!("its {name} is not a JSON object"))),
            }
        };
        Ok(Self {
            header: object(header, "header")?,
            claims: object(claims, "payload")?,
        })
    }

    fn json(&self, now: Timestamp) -> Value {
        json!({
            "verified": false,
            "note": NOT_VERIFIED,
            "header": self.header,
            "claims": self.claims,
            "issued_at": self.date("iat").map(|at| at.to_string()),
            "not_before": self.date("nbf").map(|at| at.to_string()),
            "expires_at": self.date("exp").map(|at| at.to_string()),
            "expired": self.date("exp").map(|at| at <= now),
            "oddities": self.oddities(now),
        })
    }

    fn say(&self, now: Timestamp) {
        say_toned(&[(Tone::Bad, NOT_VERIFIED)]);
        for (title, members) in [("header", &self.header), ("claims", &self.claims)] {
            say(title);
            for (name, value) in members.as_object().into_iter().flatten() {
                let date = if title == "claims" {
                    self.date(name)
                } else {
                    None
                };
                let words = date
                    .filter(|_| matches!(name.as_str(), "iat" | "nbf" | "exp" | "auth_time"))
                    .map(|at| format!("   {}", moment(at, now)))
                    .unwrap_or_default();
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                say(&format!("  {:<10} {}{words}", shown(name), shown(&value)));
            }
        }
        if let (Some(from), Some(to)) = (self.date("iat"), self.date("exp")) {
            say(&format!("made to live for {}", span(to.since(from))));
        }
        for oddity in self.oddities(now) {
            say_toned(&[(Tone::Notice, "note: "), (Tone::Plain, &oddity)]);
        }
    }

    /// What a gateway would not take, as far as it can be seen without a key.
    fn oddities(&self, now: Timestamp) -> Vec<String> {
        let header = |name: &str| self.header.get(name).and_then(Value::as_str);
        let mut found = Vec::new();
        match header("alg") {
            Some("ES256" | "EdDSA" | "RS256") => {}
            Some(alg) => found.push(format!("alg {alg} is taken by no Portcullis")),
            None => found.push("it names no algorithm".to_owned()),
        }
        let typ = header("typ").unwrap_or_default();
        if !typ.eq_ignore_ascii_case("at+jwt") && !typ.eq_ignore_ascii_case("application/at+jwt") {
            found.push("its typ is not at+jwt, so it is no access token of RFC 9068".to_owned());
        }
        if header("kid").is_none() {
            found.push("it names no key (kid)".to_owned());
        }
        for name in ["iss", "sub", "aud", "client_id", "jti", "iat", "exp"] {
            if self.claims.get(name).is_none() {
                found.push(format!("the claim {name} is missing"));
            }
        }
        if self.date("exp").is_some_and(|at| at <= now) {
            found.push("by this machine's clock it has expired".to_owned());
        }
        if [self.date("iat"), self.date("nbf")]
            .into_iter()
            .flatten()
            .any(|at| at > now)
        {
            found.push("by this machine's clock it comes from the future".to_owned());
        }
        found
    }

    fn date(&self, name: &str) -> Option<Timestamp> {
        let value = self.claims.get(name)?;
        value.as_i64().map(Timestamp::from_seconds)
    }
}
