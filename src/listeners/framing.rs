//! Request headers that leave open whose request it is or where it ends (RFC 9112 §3.2, §6.3).
//!
//! Pingora refuses some of them by itself, with an answer that has no Log ID, and repairs others:
//! it cuts a fragment off the target, takes equal lengths for one, drops Content-Length beside
//! Transfer-Encoding. Here they are all refused, for every application behind the guard alike.

use http::StatusCode;
use http::uri::{Authority, PathAndQuery};

use super::body::Body;
use super::chunks::Chunks;

const HOST: &str = "the request has more than one Host";
const USER: &str = "the Host has user information";
const TARGET: &str = "the request target is neither a path nor a URL that agrees with Host";
const CHARACTER: &str = "the request target has a character that is not allowed";
const FRAGMENT: &str = "the request target has a fragment";
const LENGTH: &str = "the length of the request body is ambiguous";
const CODING: &str = "the only transfer coding of a request is chunked, on HTTP/1.1";
const TOO_LONG: &str = "the request body is too large";
const NAME: &str = "the request has a field name that is far too long";

/// Status and rule of a header that is refused.
pub(super) type Fault = (StatusCode, &'static str);

/// A method that no listener knows, in any version of HTTP.
pub(super) const CONNECT: Fault = (
    StatusCode::METHOD_NOT_ALLOWED,
    "the method CONNECT is not allowed",
);

/// Longest name that the library behind Pingora's parser takes.
const MAX_NAME: usize = 65_535;

/// The fields that frame a request: how often each stands there, and its first value.
#[derive(Default)]
struct Framing<'a> {
    host: Values<'a>,
    length: Values<'a>,
    coding: Values<'a>,
    upgrade: Values<'a>,
    /// Whether a name is longer than [`MAX_NAME`].
    overlong: bool,
}

#[derive(Default)]
struct Values<'a> {
    first: Option<&'a [u8]>,
    repeated: bool,
}

impl<'a> Values<'a> {
    const fn add(&mut self, value: &'a [u8]) {
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.repeated = true,
        }
    }
}

impl<'a> Framing<'a> {
    fn of(fields: &[httparse::Header<'a>]) -> Self {
        let mut framing = Self::default();
        for field in fields {
            // Most fields are told apart by the length of their name.
            let (values, name) = match field.name.len() {
                4 => (&mut framing.host, "host"),
                7 => (&mut framing.upgrade, "upgrade"),
                14 => (&mut framing.length, "content-length"),
                17 => (&mut framing.coding, "transfer-encoding"),
                length => {
                    framing.overlong |= length > MAX_NAME;
                    continue;
                }
            };
            if field.name.eq_ignore_ascii_case(name) {
                values.add(field.value);
            }
        }
        framing
    }
}

/// What a header says of its body and its target.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) body: Body,
    /// Whether it asks for another protocol behind that body.
    pub(super) upgrades: bool,
    /// Length of the scheme and the authority in a target that name the Host in other letters, or with
    /// the port that goes without saying. Pingora takes them for another host.
    pub(super) respelt: usize,
}

/// What a header that parses says, or what is wrong with it.
pub(super) fn said(request: &httparse::Request<'_, '_>) -> Result<Said, Fault> {
    let bad = |rule| Err((StatusCode::BAD_REQUEST, rule));
    let framing = Framing::of(request.headers);
    if framing.overlong {
        return Err((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, NAME));
    }
    if framing.host.repeated {
        return bad(HOST);
    }
    let host = framing.host.first;
    if host.is_some_and(|host| host.contains(&b'@')) {
        return bad(USER);
    }
    let target = request.path.unwrap_or_default();
    let mut respelt = 0;
    if !is_plain(target) {
        if target.contains('#') {
            return bad(FRAGMENT);
        }
        let path = match absolute(target) {
            Some((authority, path)) if Some(authority.as_bytes()) == host => path,
            Some((authority, path))
                if host.is_some_and(|host| is_same(target, authority, host)) =>
            {
                respelt = target.len() - path.len();
                path
            }
            None if target.starts_with('/') => target,
            _ => return bad(TARGET),
        };
        if !path.is_empty() && path.parse::<PathAndQuery>().is_err() {
            return bad(CHARACTER);
        }
    }

    let body = body_of(&framing, request.version)?;
    Ok(Said {
        body,
        upgrades: framing.upgrade.first.is_some(),
        respelt,
    })
}

/// The body that a header announces.
fn body_of(framing: &Framing<'_>, version: Option<u8>) -> Result<Body, Fault> {
    let bad = |rule| Err((StatusCode::BAD_REQUEST, rule));
    match (framing.length.first, framing.coding.first) {
        (Some(_), Some(_)) => bad(LENGTH),
        (None, Some(coding)) => {
            let chunked = coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
            let only = chunked && !framing.coding.repeated && version == Some(1);
            if only {
                Ok(Body::Chunked(Chunks::new()))
            } else {
                bad(CODING)
            }
        }
        (Some(length), None) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            if !digits || framing.length.repeated {
                return bad(LENGTH);
            }
            let text = std::str::from_utf8(length).unwrap_or_default();
            let length = text.parse().map(Body::Length);
            length.map_err(|_overflow| (StatusCode::PAYLOAD_TOO_LARGE, TOO_LONG))
        }
        (None, None) => Ok(Body::Length(0)),
    }
}

/// Whether a target is the ordinary kind, which none of the rules forbids: a path, perhaps with a
/// query, of the characters that nearly all have. The others take the long way.
fn is_plain(target: &str) -> bool {
    let ordinary = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'/' | b'.' | b'-' | b'_' | b'~' | b'?' | b'=' | b'&' | b'%' | b','
            )
    };
    target.starts_with('/') && target.len() <= 4096 && target.bytes().all(ordinary)
}

/// Whether an authority names the host, up to what makes no difference (RFC 9110 §4.2.3).
fn is_same(target: &str, authority: &str, host: &[u8]) -> bool {
    let secure = target
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let port: &[u8] = if secure { b":443" } else { b":80" };
    let short = |name: &'_ [u8]| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    short(authority.as_bytes()) == short(host)
}

/// Authority and path of an absolute target (RFC 9112 §3.2.2).
fn absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let parses = authority.parse::<Authority>().is_ok();
    (known && parses).then_some((authority, path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(head: &str) -> Option<u16> {
        let mut fields = [httparse::EMPTY_HEADER; 8];
        let mut request = httparse::Request::new(&mut fields);
        let text = format!("{head}\r\n\r\n");
        assert!(request.parse(text.as_bytes()).unwrap().is_complete());
        said(&request).err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn one_host_that_agrees_with_the_target() {
        for good in [
            "GET / HTTP/1.1\r\nHost: a",
            "GET / HTTP/1.0",
            "GET /a://b HTTP/1.1\r\nHost: a",
            "GET http://a:80/x HTTP/1.1\r\nHost: a:80",
            "GET HTTPS://a HTTP/1.1\r\nHost: a",
            "GET http://a?x HTTP/1.1\r\nHost: a",
            "GET http://LOCALHOST/ HTTP/1.1\r\nHost: localhost",
            "GET http://a:80/x HTTP/1.1\r\nHost: A",
            "GET https://a/x HTTP/1.1\r\nHost: a:443",
        ] {
            assert_eq!(status(good), None, "{good}");
        }
        for bad in [
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b",
            "GET http://a/ HTTP/1.1\r\nHost: b",
            "GET http://a/ HTTP/1.1\r\nX: y",
            "GET http:///x HTTP/1.1\r\nHost: a",
            "GET http://a:443/x HTTP/1.1\r\nHost: a",
            "GET http://a:8080/x HTTP/1.1\r\nHost: a",
            "GET http://a./x HTTP/1.1\r\nHost: a",
            "GET ftp://a/x HTTP/1.1\r\nHost: a",
            "GET http://u@a/x HTTP/1.1\r\nHost: u@a",
            "GET http://a\\b/x HTTP/1.1\r\nHost: a\\b",
            "GET / HTTP/1.1\r\nHost: u@a",
            "GET a HTTP/1.1\r\nHost: a",
            "OPTIONS * HTTP/1.1\r\nHost: a",
            "GET /x#y HTTP/1.1\r\nHost: a",
            "GET /<x> HTTP/1.1\r\nHost: a",
            "GET /x?\"y HTTP/1.1\r\nHost: a",
            "GET http://a/<x> HTTP/1.1\r\nHost: a",
            "GET http://a#@b/ HTTP/1.1\r\nHost: a",
        ] {
            assert_eq!(status(bad), Some(400), "{bad}");
        }
    }

    proptest! {
        /// The short way may only be taken where the long way finds nothing.
        #[test]
        fn a_plain_target_breaks_no_rule(target in "/?[a-zA-Z0-9/._~?=&%,:#@ -]{0,40}") {
            if is_plain(&target) {
                prop_assert!(target.starts_with('/') && !target.contains('#'));
                prop_assert!(absolute(&target).is_none());
                prop_assert!(target.parse::<PathAndQuery>().is_ok());
            }
        }
    }

    #[test]
    fn one_length_or_one_coding() {
        let with = |fields: &str| status(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}"));
        for good in ["Content-Length: 5", "Transfer-Encoding: Chunked", "X: y"] {
            assert_eq!(with(good), None, "{good}");
        }
        for bad in [
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -1",
            "Content-Length:",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding:",
        ] {
            assert_eq!(with(bad), Some(400), "{bad}");
        }
        let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked";
        assert_eq!(status(old), Some(400));
        assert_eq!(with("Content-Length: 18446744073709551616"), Some(413));
        let long = |length: usize| with(&format!("{}: y", "x".repeat(length)));
        assert_eq!((long(65_535), long(65_536)), (None, Some(431)));
    }
}
