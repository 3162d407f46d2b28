//! Bounds on what one downstream connection or request may cost.

use std::time::Duration;

use http::Method;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use pingora::http::RequestHeader;

/// Limits of every proxy listener. Defaults are the safe edge settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time from the first byte of a request (or the accept) until its header is complete.
    pub header_timeout: Duration,
    /// Time that a keep-alive connection may idle between two requests.
    pub keepalive_timeout: Duration,
    /// Largest header block in bytes, request line included; on HTTP/2 its fields, each with 32 bytes
    /// more.
    pub max_header_bytes: usize,
    /// Most header fields.
    pub max_header_fields: usize,
    /// Largest request body in bytes.
    pub max_body_bytes: u64,
    /// Most connections of one source address at a time.
    pub max_connections_per_address: u32,
    /// Whether field names containing `_` pass; off, because origins may fold `_` into `-`.
    pub allow_underscore_names: bool,
    /// How many forged tokens one source address may send; `None` counts none.
    pub forged_tokens: Option<ForgedTokens>,
}

/// How many tokens of one source address may be refused as `bad_signature` or `malformed` before
/// the address is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForgedTokens {
    /// So many at once; at least 1.
    pub burst: u32,
    /// So many more each second; at least 1.
    pub per_second: u32,
}

impl Default for ForgedTokens {
    fn default() -> Self {
        Self {
            burst: 100,
            per_second: 20,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(75),
            max_header_bytes: 32 * 1024,
            max_header_fields: 100,
            max_body_bytes: 10 * 1024 * 1024,
            max_connections_per_address: 4096,
            allow_underscore_names: false,
            forged_tokens: Some(ForgedTokens::default()),
        }
    }
}

/// A request that is refused before anybody looks at its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// HTTP status.
    pub status: u16,
    /// The rule, for the client and the log.
    pub rule: &'static str,
}

const TOO_LARGE: &str = "the request header is too large";

const fn violation(status: u16, rule: &'static str) -> Violation {
    Violation { status, rule }
}

impl Limits {
    /// Checks a request header. `raw` is the header block as received, on HTTP/1 only.
    ///
    /// # Errors
    /// The first rule that the request breaks.
    pub fn check(&self, request: &RequestHeader, raw: Option<&[u8]>) -> Result<(), Violation> {
        if matches!(request.method, Method::TRACE | Method::CONNECT) {
            return Err(violation(405, "the method is not allowed"));
        }
        match raw {
            Some(raw) => self.check_raw(raw)?,
            None if list_size(request) > self.max_header_bytes => {
                return Err(violation(431, TOO_LARGE));
            }
            None => {}
        }
        if request.headers.len() > self.max_header_fields {
            return Err(violation(431, "the request has too many header fields"));
        }
        if !self.allow_underscore_names
            && request
                .headers
                .keys()
                .any(|name| name.as_str().as_bytes().contains(&b'_'))
        {
            return Err(violation(400, "a header field name contains an underscore"));
        }
        self.check_length(request)?;
        check_host(request)
    }

    fn check_raw(&self, raw: &[u8]) -> Result<(), Violation> {
        if raw.len() > self.max_header_bytes {
            return Err(violation(431, TOO_LARGE));
        }
        // RFC 9112 §2.2 lets a recipient take a bare LF; two recipients that differ there
        // disagree about where the request ends.
        if has_half_line_end(raw) {
            return Err(violation(
                400,
                "a line of the request header does not end with CR LF",
            ));
        }
        Ok(())
    }

    fn check_length(&self, request: &RequestHeader) -> Result<(), Violation> {
        let mut lengths = request.headers.get_all(CONTENT_LENGTH).iter();
        let Some(length) = lengths.next() else {
            return Ok(());
        };
        let digits = length.as_bytes();
        let numeric = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        if lengths.next().is_some() || !numeric || request.headers.contains_key(TRANSFER_ENCODING) {
            return Err(violation(
                400,
                "the length of the request body is ambiguous",
            ));
        }
        let length = length
            .to_str()
            .ok()
            .and_then(|digits| digits.parse::<u64>().ok());
        if length.is_none_or(|length| length > self.max_body_bytes) {
            return Err(violation(413, "the request body is too large"));
        }
        Ok(())
    }
}

/// The size of a header that came in HTTP/2, as RFC 9113 §6.5.2 reckons it: names and values, and 32
/// bytes for each field. Method and scheme are left out, they are short.
fn list_size(request: &RequestHeader) -> usize {
    const OVERHEAD: usize = 32;
    let target = request
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len() + OVERHEAD);
    let authority = request
        .uri
        .authority()
        .map_or(0, |authority| authority.as_str().len() + OVERHEAD);
    let fields = request.headers.iter();
    fields.fold(target + authority, |size, (name, value)| {
        size + name.as_str().len() + value.len() + OVERHEAD
    })
}

/// Whether a CR has no LF behind it, or a LF no CR before it; a CR at the very end is still open.
/// Without a branch in it, so that the compiler looks at many bytes at once.
fn has_half_line_end(raw: &[u8]) -> bool {
    let behind = raw.get(1..).unwrap_or_default();
    let half = |(previous, byte): (&u8, &u8)| (*previous == b'\r') != (*byte == b'\n');
    let found = raw
        .iter()
        .zip(behind)
        .map(half)
        .fold(false, |one, two| one | two);
    found | raw.starts_with(b"\n")
}

/// RFC 9112 §3.2: exactly one valid Host, whatever the version of HTTP/1.
fn check_host(request: &RequestHeader) -> Result<(), Violation> {
    let bad = violation(400, "the request needs exactly one valid Host");
    let mut hosts = request.headers.get_all(HOST).iter();
    let authority = request.uri.authority().map(http::uri::Authority::as_str);
    match (hosts.next(), hosts.next(), authority) {
        (Some(host), None, authority) => {
            let host = host.to_str().map_err(|_not_text| bad)?;
            let agrees = authority.is_none_or(|authority| authority.eq_ignore_ascii_case(host));
            if agrees && is_host(host) {
                Ok(())
            } else {
                Err(bad)
            }
        }
        (None, None, Some(authority)) if is_host(authority) => Ok(()),
        _ => Err(bad),
    }
}

/// `uri-host [ ":" port ]` of RFC 9110 §7.2, without user information.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", rest),
        Some(_) => return false,
        None => text
            .find(':')
            .map_or((text, ""), |colon| text.split_at(colon)),
    };
    let label_ok = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'~'))
    };
    let name_ok = name.len() <= 255 && without_root(name).split('.').all(label_ok);
    let port_ok = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| {
            port.len() <= 5
                && port.bytes().all(|b| b.is_ascii_digit())
                && port.parse::<u16>().is_ok()
        });
    name_ok && port_ok
}

/// `a.test.` is `a.test`, said with the root of all names (RFC 1034 §3.1).
fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// The host that routes match: without port and root. Call after [`Limits::check`].
#[must_use]
pub fn host_of(request: &RequestHeader) -> &str {
    let text = request
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| request.uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or_default();
    without_root(match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build(Method::GET, b"/x", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn status(fields: &[(&'static str, &str)]) -> Option<u16> {
        Limits::default()
            .check(&request(fields), None)
            .err()
            .map(|violation| violation.status)
    }

    #[test]
    fn hosts() {
        for good in [
            "a",
            "a.test:8080",
            "127.0.0.1:1",
            "[::1]:8080",
            "[::1]",
            "A-b",
            "a.test.",
            "a.test.:80",
        ] {
            assert_eq!(status(&[("Host", good)]), None, "{good}");
        }
        for bad in [
            "", "a b", "x/y", "u@h", "a:b", "a:99999", "[::1", "[zz]", "a:1:2", "a,b", ".", "..",
            "a..b", ".a", "a..", "a..:80",
        ] {
            assert_eq!(status(&[("Host", bad)]), Some(400), "{bad}");
        }
        assert_eq!(status(&[]), Some(400));
        assert_eq!(status(&[("Host", "a"), ("Host", "a")]), Some(400));
        assert_eq!(host_of(&request(&[("Host", "A.Test:80")])), "A.Test");
        assert_eq!(host_of(&request(&[("Host", "A.Test.:80")])), "A.Test");
        assert_eq!(host_of(&request(&[("Host", "[::1]:80")])), "[::1]");
    }

    #[test]
    fn lengths_and_names() {
        let with = |name, value| status(&[("Host", "a"), (name, value)]);
        assert_eq!(with("Content-Length", "10"), None);
        assert_eq!(with("Content-Length", "10485761"), Some(413));
        assert_eq!(with("Content-Length", "9223372036854775808"), Some(413));
        assert_eq!(with("Content-Length", "99999999999999999999999"), Some(413));
        assert_eq!(with("Content-Length", "+1"), Some(400));
        assert_eq!(with("Content-Length", ""), Some(400));
        assert_eq!(with("X_Auth_Subject", "me"), Some(400));
        assert_eq!(
            status(&[
                ("Host", "a"),
                ("Content-Length", "1"),
                ("Transfer-Encoding", "chunked")
            ]),
            Some(400)
        );
    }

    #[test]
    fn raw_header_block() {
        let limits = Limits {
            max_header_bytes: 64,
            ..Limits::default()
        };
        let check = |raw: &[u8]| {
            limits
                .check(&request(&[("Host", "a")]), Some(raw))
                .err()
                .map(|v| v.status)
        };
        assert_eq!(check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), None);
        assert_eq!(check(b"GET / HTTP/1.1\nHost: a\r\n\r\n"), Some(400));
        assert_eq!(check(b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n"), Some(400));
        assert_eq!(check(&[b'a'; 65]), Some(431));
    }

    #[test]
    fn a_header_without_raw_bytes_is_reckoned_by_its_fields() {
        let limits = Limits {
            max_header_bytes: 1024,
            ..Limits::default()
        };
        let check = |length: usize, times: usize| {
            let mut fields = vec![("Host", "a")];
            let value = "x".repeat(length);
            fields.extend(vec![("X-A", value.as_str()); times]);
            let refused = limits.check(&request(&fields), None).err();
            refused.map(|violation| violation.status)
        };
        // 34 for the path, 37 for Host, 35 beside the value.
        assert_eq!(check(1024 - 34 - 37 - 35, 1), None);
        assert_eq!(check(1024 - 34 - 37 - 35 + 1, 1), Some(431));
        assert_eq!(check(0, 27), None);
        assert_eq!(check(0, 28), Some(431));
    }
}
