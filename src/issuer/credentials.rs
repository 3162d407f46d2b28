//! Client authentication at the token endpoint: `client_secret_basic` and `client_secret_post`
//! (RFC 6749 §2.3.1), exactly one of them.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use crate::telemetry::TokenError;

use super::oauth_error::Refusal;

/// The parameters of a token request, each at most once.
#[derive(Debug)]
pub(super) struct Form(HashMap<String, String>);

impl Form {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let mut parameters = HashMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            if parameters
                .insert(name.into_owned(), value.into_owned())
                .is_some()
            {
                return Err(Refusal::new(
                    TokenError::InvalidRequest,
                    "a parameter is repeated",
                ));
            }
        }
        Ok(Self(parameters))
    }

    /// A parameter; one without a value counts as omitted (RFC 6749 §3.2).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

/// What a client says of itself.
pub(super) struct Credentials {
    pub(super) client_id: String,
    pub(super) secret: Zeroizing<Vec<u8>>,
    /// Whether it used the header, so that a refusal must challenge (RFC 6749 §5.2).
    pub(super) by_header: bool,
}

impl Credentials {
    pub(super) fn of(headers: &HeaderMap, form: &Form) -> Result<Self, Refusal> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let posted = form.get("client_secret");
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(Refusal::new(
                TokenError::InvalidRequest,
                "more than one Authorization header",
            )),
            (Some(_), None) if posted.is_some() => Err(Refusal::new(
                TokenError::InvalidRequest,
                "use one way of client authentication: the Authorization header or client_secret",
            )),
            (Some(value), None) => Self::basic(value.as_bytes(), form),
            (None, _) => match (form.get("client_id"), posted) {
                (Some(client_id), Some(secret)) => Ok(Self {
                    client_id: client_id.to_owned(),
                    secret: Zeroizing::new(secret.as_bytes().to_vec()),
                    by_header: false,
                }),
                _ => Err(Refusal::new(
                    TokenError::InvalidClient,
                    "client authentication is required",
                )),
            },
        }
    }

    fn basic(value: &[u8], form: &Form) -> Result<Self, Refusal> {
        let bad = || Refusal {
            challenge: true,
            ..Refusal::new(
                TokenError::InvalidClient,
                "the Authorization header is not valid Basic credentials",
            )
        };
        let (scheme, rest) = value.split_at_checked(6).ok_or_else(bad)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return Err(bad());
        }
        let decoded = STANDARD
            .decode(rest.trim_ascii())
            .map(Zeroizing::new)
            .map_err(|_not_base64| bad())?;
        let colon = decoded.iter().position(|b| *b == b':').ok_or_else(bad)?;
        let (id, secret) = decoded.split_at(colon);
        let client_id = String::from_utf8(form_decoded(id)).map_err(|_not_text| bad())?;
        if form
            .get("client_id")
            .is_some_and(|posted| posted != client_id)
        {
            return Err(Refusal::new(
                TokenError::InvalidRequest,
                "client_id differs from the Authorization header",
            ));
        }
        let secret = Zeroizing::new(form_decoded(secret.get(1..).unwrap_or_default()));
        Ok(Self {
            client_id,
            secret,
            by_header: true,
        })
    }
}

/// RFC 6749 §2.3.1: both parts of Basic credentials are form-encoded first.
fn form_decoded(part: &[u8]) -> Vec<u8> {
    // As the name of a lone pair; a raw `&` or `=` cannot be there after encoding, but clients that
    // do not encode send them, and then the bytes are taken as they are.
    if part.iter().any(|b| matches!(b, b'&' | b'=')) {
        return part.to_vec();
    }
    match form_urlencoded::parse(part).next() {
        Some((name, _)) => match name {
            Cow::Borrowed(text) => text.as_bytes().to_vec(),
            Cow::Owned(text) => text.into_bytes(),
        },
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(header: Option<&str>, body: &str) -> Result<(String, Vec<u8>), TokenError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            let value = format!("Basic {}", STANDARD.encode(value));
            headers.append(AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
        }
        let form = Form::parse(body.as_bytes()).map_err(|refusal| refusal.error)?;
        Credentials::of(&headers, &form)
            .map(|credentials| (credentials.client_id, credentials.secret.to_vec()))
            .map_err(|refusal| refusal.error)
    }

    #[test]
    fn takes_one_way_of_authentication() {
        assert_eq!(of(Some("a:b"), ""), Ok(("a".to_owned(), b"b".to_vec())));
        assert_eq!(
            of(Some("a%20b:c%3Ad"), ""),
            Ok(("a b".to_owned(), b"c:d".to_vec()))
        );
        assert_eq!(
            of(Some("a:x=&y"), ""),
            Ok(("a".to_owned(), b"x=&y".to_vec()))
        );
        assert_eq!(
            of(None, "client_id=a&client_secret=b"),
            Ok(("a".to_owned(), b"b".to_vec()))
        );
        assert_eq!(
            of(Some("a:b"), "client_secret=b"),
            Err(TokenError::InvalidRequest)
        );
        assert_eq!(
            of(Some("a:b"), "client_id=c"),
            Err(TokenError::InvalidRequest)
        );
        assert_eq!(of(None, "client_id=a"), Err(TokenError::InvalidClient));
        assert_eq!(of(Some("nocolon"), ""), Err(TokenError::InvalidClient));
        assert_eq!(of(None, "a=1&a=2"), Err(TokenError::InvalidRequest));
    }
}
