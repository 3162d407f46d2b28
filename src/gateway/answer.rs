//! What of an upstream's answer header goes on to the client: nothing that was meant for the
//! connection to us (RFC 9110 §7.6.1), and no framing that the client's version does not know.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::http::ConnState;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Makes the header ready for the client of `session`.
pub(super) fn prepare(session: &mut Session, response: &mut ResponseHeader) {
    strip(response);
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
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION] {
        if response.headers.contains_key(name) {
            response.remove_header(name);
        }
    }
    if response.status == StatusCode::NO_CONTENT {
        response.remove_header(&CONTENT_LENGTH);
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
}
