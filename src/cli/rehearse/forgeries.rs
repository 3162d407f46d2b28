//! Tokens that nobody issued; every one must be refused.

use serde_json::{Value, json};

use super::history::Outcome;
use super::json::{encoded, part, text};
use super::stage::Stage;

impl Stage {
    /// Tokens that nobody issued: unknown kid, another algorithm, a changed claim, a signature of
    /// another token, and the same under a purged kid if there is one.
    pub(super) fn forge(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        let real = [caller.issue()?, caller.issue()?];
        let [Some(one), Some(other)] = real.map(|index| self.common.history.token(index)) else {
            return Err("no token to forge from".to_owned());
        };
        let dead = self.common.history.with(|records| {
            let dead = records.dead_now();
            records
                .tokens
                .iter()
                .rev()
                .find(|token| dead.contains(&token.kid))
                .cloned()
        });
        let mut forged = forgeries(&one.text, &other.text);
        if let Some(dead) = dead {
            let mine = forgeries(&dead.text, &other.text).into_iter();
            forged.extend(mine.filter(|(what, _)| *what != "an unknown kid"));
        }
        let mut refused = 0;
        for (what, compact) in &forged {
            match caller.show_forged(compact) {
                Outcome::Status(401) => refused += 1,
                outcome => self
                    .board
                    .broken(16, format!("a token with {what} got {outcome:?}")),
            }
        }
        self.board.judge(
            16,
            Vec::new(),
            format!("{refused} of {} forged tokens refused", forged.len()),
        );
        Ok(format!("{refused} of {} refused", forged.len()))
    }
}

fn forgeries(one: &str, other: &str) -> Vec<(&'static str, String)> {
    let cut = |token: &str| {
        token
            .rsplit_once('.')
            .map(|(body, end)| (body.to_owned(), end.to_owned()))
    };
    let (Some((body, signature)), Some((_, foreign))) = (cut(one), cut(other)) else {
        return Vec::new();
    };
    let with = |header: &Value, claims: &Value| {
        format!("{}.{}.{signature}", encoded(header), encoded(claims))
    };
    let (header, claims) = (part(one, 0), part(one, 1));
    let change = |value: &Value, name: &str, to: &str| {
        let mut changed = value.clone();
        if let Some(members) = changed.as_object_mut() {
            members.insert(name.to_owned(), json!(to));
        }
        changed
    };
    let mut forged = vec![
        (
            "an unknown kid",
            with(&change(&header, "kid", "nobody-has-this-key"), &claims),
        ),
        (
            "a changed claim",
            with(&header, &change(&claims, "sub", "root")),
        ),
        (
            "the signature of another token",
            format!("{body}.{foreign}"),
        ),
    ];
    for alg in ["none", "HS256", "ES256", "RS256", "EdDSA"] {
        if alg != text(&header, "alg") {
            forged.push((
                "another algorithm",
                with(&change(&header, "alg", alg), &claims),
            ));
        }
    }
    forged
}
