//! What of an upstream's answer header goes on to the client: nothing that was meant for the
//! connection to us (RFC 9110 §7.6.1), and no framing that leaves open where the answer ends or that the
//! client's version does not know.

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use crate::http::ConnState;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Makes the header of an informational answer ready: it has no body.
pub(super) fn inform(response: &mut ResponseHeader) {
    strip(response);
    response.remove_header(&CONTENT_LENGTH);
    response.remove_header(&TRANSFER_ENCODING);
}

/// Makes the header ready for the client of `session`.
///
/// # Errors
/// When it says in two ways, or in one that nobody knows, where its body ends.
pub(super) fn prepare(session: &mut Session, response: &mut ResponseHeader) -> Result<()> {
    strip(response);
    frame(response)?;
    if session.req_header().version <= Version::HTTP_10 {
        // The end of the connection is the only end of a body that such a client knows (RFC 9112 §6.1).
        response.remove_header(&TRANSFER_ENCODING);
        if !response.headers.contains_key(CONTENT_LENGTH) {
            session.set_keepalive(None);
        }
    }
    if ConnState::with_current(ConnState::is_ending) == Some(true) {
        session.set_keepalive(None);
    }
    Ok(())
}

/// Leaves one length, or one coding without a length (RFC 9112 §6.3).
fn frame(response: &mut ResponseHeader) -> Result<()> {
    let unknown = |what| {
        let mut error = Error::explain(ErrorType::InvalidHTTPHeader, what);
        error.as_up();
        Err(error)
    };
    let mut codings = response.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !is_chunked || codings.next().is_some() {
            return unknown("the upstream's answer has a transfer coding other than chunked");
        }
        response.remove_header(&CONTENT_LENGTH);
    }
    if response.status == StatusCode::NO_CONTENT {
        response.remove_header(&CONTENT_LENGTH);
        response.remove_header(&TRANSFER_ENCODING);
    }
    let mut lengths = response.headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(());
    };
    let is_length = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if lengths.next().is_none() && is_length(first.as_bytes()) {
        return Ok(());
    }
    // Said twice, in one field or in several, it has to be the same (RFC 9110 §8.6).
    let mut said = response.headers.get_all(CONTENT_LENGTH).iter();
    let length = first.as_bytes().split(|byte| *byte == b',').next();
    let length = length.unwrap_or_default().trim_ascii();
    let same = |part: &[u8]| part.trim_ascii() == length;
    let agree = said.all(|value| value.as_bytes().split(|byte| *byte == b',').all(same));
    match HeaderValue::from_bytes(length) {
        Ok(one) if agree && is_length(length) => response.insert_header(CONTENT_LENGTH, one),
        _ => unknown("the upstream's answer has no clear length"),
    }
}

/// Removes what is for one connection only. `Connection` itself is rewritten by Pingora, as the
/// fields are that frame a body, whoever names them.
fn strip(response: &mut ResponseHeader) {
    let own = [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH];
    if response.headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = response
            .headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| !own.contains(name) && response.headers.contains_key(name))
            .collect();
        for name in named {
            response.remove_header(&name);
        }
        response.remove_header(&CONNECTION);
    }
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &TE, &UPGRADE] {
        if response.headers.contains_key(name) {
            response.remove_header(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_one_connection_stays_there() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("Connection", "close, X-Hop"),
            ("Connection", "content-length,,x-gone, \u{e9}"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("X-Hop", "1"),
            ("X-End", "1"),
            ("Content-Length", "2"),
        ] {
            response.append_header(name, value).unwrap();
        }
        strip(&mut response);
        let left: Vec<&str> = response.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-end", "content-length"]);
    }

    fn framed(status: u16, fields: &[(&'static str, &str)]) -> Option<Vec<String>> {
        let mut response = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        frame(&mut response).ok()?;
        let shown = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        Some(response.headers.iter().map(shown).collect())
    }

    #[test]
    fn an_answer_says_once_where_it_ends() {
        const LENGTH: &str = "Content-Length";
        const CODING: &str = "Transfer-Encoding";
        for (status, fields, left) in [
            (200, vec![(LENGTH, "5")], vec!["content-length: 5"]),
            (200, vec![(LENGTH, "5, 5")], vec!["content-length: 5"]),
            (
                200,
                vec![(LENGTH, "5"), (LENGTH, "5")],
                vec!["content-length: 5"],
            ),
            (
                200,
                vec![(CODING, "Chunked")],
                vec!["transfer-encoding: Chunked"],
            ),
            (
                200,
                vec![(LENGTH, "5"), (CODING, "chunked")],
                vec!["transfer-encoding: chunked"],
            ),
            (204, vec![(LENGTH, "5")], vec![]),
            (204, vec![(CODING, "chunked")], vec![]),
            (200, vec![], vec![]),
        ] {
            let left: Vec<String> = left.into_iter().map(str::to_owned).collect();
            assert_eq!(framed(status, &fields), Some(left), "{status} {fields:?}");
        }
        for fields in [
            vec![(LENGTH, "5, 6")],
            vec![(LENGTH, "5"), (LENGTH, "6")],
            vec![(LENGTH, "")],
            vec![(LENGTH, "5,")],
            vec![(LENGTH, "-5")],
            vec![(LENGTH, "0x5"), (LENGTH, "0x5")],
            vec![(CODING, "gzip")],
            vec![(CODING, "gzip, chunked")],
            vec![(CODING, "chunked"), (CODING, "chunked")],
            vec![(CODING, "identity")],
            vec![(CODING, "xchunked"), (LENGTH, "5")],
        ] {
            assert_eq!(framed(200, &fields), None, "{fields:?}");
        }
    }
}
