//! The session cookie (RFC 6265): what the browser is told, and what it shows.
//!
//! Under TLS the name begins with `__Host-`: then no other host, no other path and no page without
//! TLS can set it (RFC 6265bis §4.1.3.2). It has no age of its own: the server ends sessions.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// The value of the only session cookie in a request; with two of them nobody knows who set which.
pub(super) fn read(headers: &HeaderMap, secure: bool) -> Option<&str> {
    let name = name(secure);
    let mut values = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// `Set-Cookie` for a session that was just opened.
pub(super) fn set(text: &str, secure: bool) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&with_attributes(text, secure)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `Set-Cookie` that has the browser forget it.
pub(super) fn clear(secure: bool) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{}; Max-Age=0", with_attributes("", secure))).ok()
}

fn with_attributes(text: &str, secure: bool) -> String {
    let and_secure = if secure { "; Secure" } else { "" };
    format!(
        "{}={text}; Path=/; HttpOnly; SameSite=Strict{and_secure}",
        name(secure)
    )
}

const fn name(secure: bool) -> &'static str {
    if secure {
        "__Host-portcullis_session"
    } else {
        "portcullis_session"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_among_others_and_only_once() {
        let found = |values: &[&'static str], secure| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(COOKIE, HeaderValue::from_static(value));
            }
            read(&headers, secure).map(str::to_owned)
        };
        let one = "a=b; portcullis_session=x=; c";
        assert_eq!(found(&[one], false).as_deref(), Some("x="));
        assert_eq!(
            found(&["a=b", "portcullis_session=y"], false).as_deref(),
            Some("y")
        );
        assert_eq!(found(&[one], true), None);
        assert_eq!(
            found(&["__Host-portcullis_session=z"], true).as_deref(),
            Some("z")
        );
        assert_eq!(found(&[one, "portcullis_session=y"], false), None);
        assert_eq!(
            found(&["xportcullis_session=y; portcullis_session"], false),
            None
        );
        assert_eq!(found(&[], false), None);
    }

    #[test]
    fn says_all_that_keeps_it_in_place() {
        assert_eq!(
            set("abc", false).unwrap(),
            "portcullis_session=abc; Path=/; HttpOnly; SameSite=Strict"
        );
        assert_eq!(
            set("abc", true).unwrap(),
            "__Host-portcullis_session=abc; Path=/; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(
            clear(true).unwrap(),
            "__Host-portcullis_session=; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=0"
        );
    }
}
