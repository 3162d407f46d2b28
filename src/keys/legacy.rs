//! What tokens of a former system look like, for a key that was taken over from it.
//!
//! The rules bind to that one key and end with it; they widen what the *names* in a token may be,
//! never what its signature, its life time or its route must be.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest issuer or audience in bytes.
pub const MAX_TEXT: usize = 1024;

/// Longest `typ` in bytes.
pub const MAX_TYP: usize = 64;

/// The rules of an imported key's earlier tokens; the default allows only what ours look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LegacyForm", into = "LegacyForm")]
pub struct LegacyRules {
    issuer: Option<String>,
    audience: Option<String>,
    means: Vec<String>,
    typ: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LegacyForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    means: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
}

/// Legacy rules that cannot be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LegacyError {
    /// An issuer or audience out of bounds.
    #[error("a legacy {0} is 1 to {MAX_TEXT} bytes without control characters")]
    Text(&'static str),
    /// A `typ` that could not stand in a header.
    #[error("a legacy typ is 1 to {MAX_TYP} visible ASCII characters, like JWT")]
    Typ,
    /// An audience that stands for nothing.
    #[error("a legacy audience stands for 1 to 64 audiences of this issuer")]
    Means,
}

impl LegacyRules {
    /// Rules from their parts: the `iss` of the former system; its `aud`, and the audiences of this
    /// issuer that it `means`; its `typ`.
    ///
    /// # Errors
    /// [`LegacyError`] naming the part that is out of bounds.
    pub fn new(
        issuer: Option<String>,
        audience: Option<String>,
        means: Vec<String>,
        typ: Option<String>,
    ) -> Result<Self, LegacyError> {
        let fits =
            |text: &str| (1..=MAX_TEXT).contains(&text.len()) && !text.contains(char::is_control);
        if issuer.as_deref().is_some_and(|text| !fits(text)) {
            return Err(LegacyError::Text("issuer"));
        }
        if audience.as_deref().is_some_and(|text| !fits(text)) {
            return Err(LegacyError::Text("audience"));
        }
        if audience.is_some() != (1..=64).contains(&means.len()) {
            return Err(LegacyError::Means);
        }
        let visible = |typ: &str| {
            (1..=MAX_TYP).contains(&typ.len()) && typ.bytes().all(|b| b.is_ascii_graphic())
        };
        if typ.as_deref().is_some_and(|typ| !visible(typ)) {
            return Err(LegacyError::Typ);
        }
        Ok(Self {
            issuer,
            audience,
            means,
            typ,
        })
    }

    /// Whether `issuer` is the former system's.
    #[must_use]
    pub fn is_issuer(&self, issuer: &str) -> bool {
        self.issuer.as_deref() == Some(issuer)
    }

    /// The audiences of this issuer that the former system's `audience` stands for.
    #[must_use]
    pub fn means(&self, audience: &str) -> &[String] {
        if self.audience.as_deref() == Some(audience) {
            &self.means
        } else {
            &[]
        }
    }

    /// Whether `typ` is the former system's; media types compare without case (RFC 7515 §4.1.9).
    #[must_use]
    pub fn is_typ(&self, typ: &str) -> bool {
        self.typ
            .as_deref()
            .is_some_and(|own| own.eq_ignore_ascii_case(typ))
    }
}

impl TryFrom<LegacyForm> for LegacyRules {
    type Error = LegacyError;

    fn try_from(form: LegacyForm) -> Result<Self, LegacyError> {
        Self::new(form.issuer, form.audience, form.means, form.typ)
    }
}

impl From<LegacyRules> for LegacyForm {
    fn from(rules: LegacyRules) -> Self {
        Self {
            issuer: rules.issuer,
            audience: rules.audience,
            means: rules.means,
            typ: rules.typ,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_bounded_and_round_trip() {
        let some = |text: &str| Some(text.to_owned());
        let means = || vec!["api".to_owned()];
        let rules =
            LegacyRules::new(some("https://old"), some("old"), means(), some("JWT")).unwrap();
        assert!(rules.is_issuer("https://old") && !rules.is_issuer("https://new"));
        assert!(rules.is_typ("jwt") && !rules.is_typ("at+jwt"));
        assert_eq!(
            (rules.means("old"), rules.means("api")),
            (&means()[..], &[][..])
        );
        let text = serde_json::to_string(&rules).unwrap();
        assert_eq!(serde_json::from_str::<LegacyRules>(&text).unwrap(), rules);
        assert!(!LegacyRules::default().is_typ("") && !LegacyRules::default().is_issuer(""));

        for (issuer, audience, means, typ) in [
            (some(""), None, vec![], None),
            (some("a\nb"), None, vec![], None),
            (some(&"x".repeat(1025)), None, vec![], None),
            (None, some("old"), vec![], None),
            (None, None, means(), None),
            (None, None, vec![], some("J W T")),
            (None, None, vec![], some("")),
        ] {
            assert!(LegacyRules::new(issuer, audience, means, typ).is_err());
        }
    }
}
