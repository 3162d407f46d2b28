//! Under which names the listener is asked, and where a request comes from: what keeps other web
//! pages in an operator's browser away from it.

use std::net::IpAddr;

use axum::extract::Request;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method};

use crate::http::OverTls;

/// The header that the page sends along, and no form or link of another page can.
const PAGE_HEADER: &str = "x-portcullis-request";

const FETCH_SITE: &str = "sec-fetch-site";

/// The names of the listener.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// In lower case, beside every address and `localhost`.
    allowed_hosts: Vec<String>,
    /// TLS ends in a proxy in front, so browsers speak it although we do not.
    tls_in_front: bool,
}

impl Origins {
    /// Those of a listener that is also called by `allowed_hosts`, all in lower case. `tls_in_front`
    /// says that browsers reach it through a proxy where TLS ends.
    #[must_use]
    pub const fn new(allowed_hosts: Vec<String>, tls_in_front: bool) -> Self {
        Self {
            allowed_hosts,
            tls_in_front,
        }
    }

    /// Whether the browser speaks TLS.
    pub(super) fn is_secure(&self, request: &Request) -> bool {
        let ours = request.extensions().get::<OverTls>();
        self.tls_in_front || ours.is_some_and(|tls| tls.0)
    }

    /// Whether the name in the request is ours. DNS rebinding needs a name: an address literal, or
    /// `localhost`, cannot be rebound.
    pub(super) fn is_ours(&self, request: &Request) -> bool {
        let Some(host) = host(request) else {
            return false;
        };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok()
            || self
                .allowed_hosts
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(name))
    }

    /// Whether nothing in the request says that another origin sent it. A browser says where a
    /// request comes from; a tool says nothing.
    pub(super) fn is_not_foreign(&self, request: &Request) -> bool {
        let mut sites = request.headers().get_all(FETCH_SITE).iter();
        self.origin(request) != Some(false)
            && sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"))
    }

    /// Whether the request says that a page of ours sent it: what a change by cookie needs, since
    /// the browser adds the cookie whoever asked for the request.
    pub(super) fn is_from_page(&self, request: &Request) -> bool {
        let headers = request.headers();
        let marked = only(headers, PAGE_HEADER).is_some_and(|value| value == b"1");
        let site = only(headers, FETCH_SITE) == Some(b"same-origin");
        marked && (site || self.origin(request) == Some(true)) && self.is_not_foreign(request)
    }

    /// Whether `Origin` is this listener; `None` without it.
    fn origin(&self, request: &Request) -> Option<bool> {
        let headers = request.headers();
        headers.get(ORIGIN)?;
        let origin = only(headers, "origin").and_then(|origin| std::str::from_utf8(origin).ok());
        let ours = origin
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(scheme, authority)| {
                let scheme = scheme == "https" || scheme == "http" && !self.is_secure(request);
                scheme && host(request).is_some_and(|host| authority.eq_ignore_ascii_case(host))
            });
        Some(ours)
    }
}

/// Whether a request of this method must not change anything.
pub(super) const fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The one name under which the request came.
fn host(request: &Request) -> Option<&str> {
    let headers = request.headers();
    if headers.contains_key(HOST) {
        return only(headers, "host").and_then(|host| std::str::from_utf8(host).ok());
    }
    request.uri().authority().map(http::uri::Authority::as_str)
}

/// The value of a field that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request {
        let builder = fields
            .iter()
            .fold(Request::builder(), |builder, (name, value)| {
                builder.header(*name, *value)
            });
        builder.body(Body::empty()).unwrap()
    }

    #[test]
    fn addresses_localhost_and_allowed_names_are_ours() {
        let origins = Origins::new(vec!["admin.example".to_owned()], false);
        for good in [
            "localhost",
            "LOCALHOST:9901",
            "127.0.0.1:9901",
            "[::1]:9901",
            "10.0.0.1",
            "admin.example",
            "Admin.Example:443",
        ] {
            assert!(origins.is_ours(&request(&[("host", good)])), "{good}");
        }
        for bad in [
            "evil.test",
            "evil.test:9901",
            "127.0.0.1.evil.test",
            "",
            "localhost.evil.test",
            "localhost.",
            "admin.example.",
            "x.admin.example",
            "admin.example:x",
        ] {
            assert!(!origins.is_ours(&request(&[("host", bad)])), "{bad}");
        }
        let two = request(&[("host", "localhost"), ("host", "localhost")]);
        assert!(!origins.is_ours(&two));
        assert!(!origins.is_ours(&request(&[])));
    }

    #[test]
    fn a_change_by_cookie_comes_from_the_page() {
        let origins = Origins::new(Vec::new(), false);
        let page = |fields: &[(&str, &str)]| {
            let host = [("host", "127.0.0.1:9901")];
            origins.is_from_page(&request(&[&host, fields].concat()))
        };
        let mark = ("x-portcullis-request", "1");
        let ours = ("origin", "http://127.0.0.1:9901");
        let same = ("sec-fetch-site", "same-origin");
        assert!(page(&[mark, ours]) && page(&[mark, same]) && page(&[mark, ours, same]));
        for bad in [
            &[mark][..],
            &[ours, same],
            &[mark, ours, ("sec-fetch-site", "same-site")],
            &[mark, same, ("origin", "http://127.0.0.1:9902")],
            &[mark, same, ("origin", "null")],
            &[mark, same, ("sec-fetch-site", "cross-site")],
            &[mark, ours, ours],
            &[mark, ("sec-fetch-site", "none")],
            &[("x-portcullis-request", "2"), ours],
            &[mark, mark, ours],
        ] {
            assert!(!page(bad), "{bad:?}");
        }
    }

    #[test]
    fn under_tls_the_origin_is_https() {
        let fields = [
            ("host", "admin.example"),
            ("origin", "http://admin.example"),
        ];
        let plain = Origins::new(Vec::new(), false);
        assert!(plain.is_not_foreign(&request(&fields)));
        let front = Origins::new(Vec::new(), true);
        assert!(!front.is_not_foreign(&request(&fields)));
        let fields = [
            ("host", "admin.example"),
            ("origin", "https://admin.example"),
        ];
        assert!(front.is_not_foreign(&request(&fields)));
    }
}
