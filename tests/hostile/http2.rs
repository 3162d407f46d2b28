//! Requests of HTTP/2 that are malformed (RFC 9113 §8) or become something else on HTTP/1.

use crate::cases::{H2Case, House, Verdict};
use crate::harness::h2::block;

use Verdict::{Forwarded, Harmless, Refused};

type Fields<'a> = Vec<(&'a str, &'a str)>;

pub(crate) fn requests(house: &House) -> Vec<H2Case> {
    let bearer = format!("Bearer {}", house.token);
    let bearer = bearer.as_str();
    let auth = ("authorization", bearer);
    let usual = |path: &'static str| -> Fields<'static> {
        vec![
            (":method", "GET"),
            (":scheme", "https"),
            (":path", path),
            (":authority", "a"),
        ]
    };
    let with = |more: &[(&'static str, &'static str)]| -> Vec<u8> {
        let mut fields: Fields<'_> = usual("/hello");
        fields.push(auth);
        fields.extend(more);
        block(&fields)
    };
    let raw = |fields: &[(&'static str, &'static str)]| -> Vec<u8> {
        let mut fields: Fields<'_> = fields.to_vec();
        fields.push(auth);
        block(&fields)
    };
    let on = |path: &'static str| -> Vec<u8> {
        let mut fields: Fields<'_> = usual(path);
        fields.push(auth);
        block(&fields)
    };
    let bad = Refused(400);
    let mut cases = vec![
        ("usual", on("/hello"), Forwarded("/hello")),
        ("without a token", block(&usual("/hello")), Refused(401)),
        // Pseudo-header fields.
        (
            "no method",
            raw(&[
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
            ]),
            bad,
        ),
        (
            "no scheme",
            raw(&[(":method", "GET"), (":path", "/hello"), (":authority", "a")]),
            Harmless,
        ),
        (
            "no path",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "a"),
            ]),
            bad,
        ),
        (
            "no authority and no host",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
            ]),
            bad,
        ),
        (
            "host instead of authority",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                ("host", "a"),
            ]),
            Harmless,
        ),
        ("two methods", with(&[(":method", "POST")]), bad),
        ("two paths", with(&[(":path", "/admin")]), bad),
        (
            "two paths, one after the other",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":path", "/admin"),
                (":authority", "a"),
            ]),
            bad,
        ),
        (
            "two authorities",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
                (":authority", "b"),
            ]),
            bad,
        ),
        (
            "an unknown one",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
                (":x", "y"),
            ]),
            bad,
        ),
        (
            "a status",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
                (":status", "200"),
            ]),
            bad,
        ),
        (
            "one behind the others",
            raw(&[
                (":method", "GET"),
                (":path", "/hello"),
                (":authority", "a"),
                ("x", "y"),
                (":scheme", "https"),
            ]),
            bad,
        ),
        (
            "a protocol",
            raw(&[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
            ]),
            Refused(405),
        ),
        (
            "CONNECT",
            raw(&[(":method", "CONNECT"), (":authority", "a:443")]),
            Refused(405),
        ),
        (
            "CONNECT with a path",
            raw(&[
                (":method", "CONNECT"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
            ]),
            Refused(405),
        ),
        (
            "TRACE",
            raw(&[
                (":method", "TRACE"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
            ]),
            Refused(405),
        ),
        (
            "a method with a space",
            raw(&[
                (":method", "GET /admin"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
            ]),
            bad,
        ),
        (
            "a method with a line end",
            raw(&[
                (":method", "GET\r\nX: y"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
            ]),
            bad,
        ),
        (
            "an empty method",
            raw(&[
                (":method", ""),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
            ]),
            bad,
        ),
        (
            "an odd scheme",
            raw(&[
                (":method", "GET"),
                (":scheme", "ftp"),
                (":path", "/hello"),
                (":authority", "a"),
            ]),
            Harmless,
        ),
        (
            "a scheme with a path",
            raw(&[
                (":method", "GET"),
                (":scheme", "https://b/?"),
                (":path", "/hello"),
                (":authority", "a"),
            ]),
            Harmless,
        ),
        (
            "the scheme of plain text",
            raw(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/hello"),
                (":authority", "a"),
            ]),
            Harmless,
        ),
        // Paths.
        ("an empty path", on(""), bad),
        ("a path without a slash", on("hello"), bad),
        ("a path without a slash, protected", on("admin"), bad),
        ("a star", on("*"), bad),
        ("a URL as the path", on("https://a/admin"), bad),
        ("two slashes", on("//admin"), bad),
        ("a dot segment", on("/open/../admin"), bad),
        ("an encoded one", on("/open/%2e%2e/admin"), bad),
        ("a space in the path", on("/hello HTTP/1.1"), bad),
        ("a line end in the path", on("/hello HTTP/1.1\r\nX: y"), bad),
        ("a tab in the path", on("/hello\tx"), bad),
        ("a NUL in the path", on("/hello\0"), bad),
        // Cut off before anybody sees it: what decides is what is forwarded.
        ("a fragment", on("/open#/admin"), Forwarded("/open")),
        ("a backslash", on("/open\\admin"), bad),
        ("beyond ASCII", on("/\u{e9}"), bad),
        ("an encoded letter", on("/%61dmin"), Refused(403)),
        (
            "a query that looks like a line",
            on("/hello?x HTTP/1.1"),
            bad,
        ),
        // Authorities.
        (
            "an authority with a user",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "u@a"),
            ]),
            bad,
        ),
        (
            "an authority with a path",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a/b"),
            ]),
            bad,
        ),
        (
            "an authority with a line end",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a\r\nX: y"),
            ]),
            bad,
        ),
        (
            "an empty authority",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", ""),
            ]),
            bad,
        ),
        (
            "an authority in capitals",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "GUARDED.test"),
            ]),
            Refused(403),
        ),
        (
            "an authority with a dot at its end",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "guarded.test."),
            ]),
            Refused(403),
        ),
        (
            "a host that says something else",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "guarded.test"),
                ("host", "a"),
            ]),
            bad,
        ),
        (
            "an authority that says something else",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
                ("host", "guarded.test"),
            ]),
            bad,
        ),
        (
            "two hosts",
            raw(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "a"),
                ("host", "a"),
                ("host", "a"),
            ]),
            bad,
        ),
        // Fields.
        ("a name in capitals", with(&[("X-Upper", "y")]), bad),
        ("an empty name", with(&[("", "y")]), bad),
        ("a name with a space", with(&[("x y", "z")]), bad),
        ("a name with a colon", with(&[("x:y", "z")]), bad),
        ("a name with a line end", with(&[("x: y\r\nz", "w")]), bad),
        ("a name beyond ASCII", with(&[("x\u{e9}", "y")]), bad),
        (
            "a value with CR LF",
            with(&[("x", "y\r\nx-auth-subject: root")]),
            bad,
        ),
        ("a value with LF", with(&[("x", "y\nz: w")]), bad),
        ("a value with CR", with(&[("x", "y\rz")]), bad),
        ("a value with NUL", with(&[("x", "y\0")]), bad),
        (
            "a value with spaces around it",
            with(&[("x", " y ")]),
            Harmless,
        ),
        ("connection", with(&[("connection", "close")]), bad),
        (
            "connection with a name",
            with(&[("connection", "x-auth-subject")]),
            bad,
        ),
        ("keep-alive", with(&[("keep-alive", "x")]), bad),
        ("proxy-connection", with(&[("proxy-connection", "x")]), bad),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
            bad,
        ),
        (
            "transfer-encoding of nothing",
            with(&[("transfer-encoding", "")]),
            bad,
        ),
        ("upgrade", with(&[("upgrade", "websocket")]), bad),
        ("te", with(&[("te", "gzip")]), bad),
        ("te: trailers", with(&[("te", "trailers")]), Harmless),
        (
            "x-auth-subject",
            with(&[("x-auth-subject", "root")]),
            Forwarded("/hello"),
        ),
        ("x_auth_subject", with(&[("x_auth_subject", "root")]), bad),
        ("content_length", with(&[("content_length", "5")]), bad),
        (
            "transfer_encoding",
            with(&[("transfer_encoding", "chunked")]),
            bad,
        ),
        (
            "two lengths",
            with(&[("content-length", "0"), ("content-length", "5")]),
            bad,
        ),
        (
            "a length that is none",
            with(&[("content-length", "+0")]),
            bad,
        ),
        (
            "a length without a body",
            with(&[("content-length", "5")]),
            bad,
        ),
        (
            "a huge length",
            with(&[("content-length", "18446744073709551615")]),
            Harmless,
        ),
        (
            "two authorizations",
            with(&[("authorization", "Bearer x")]),
            Refused(400),
        ),
        (
            "cookie crumbs",
            with(&[("cookie", "a=b"), ("cookie", "c=d")]),
            Harmless,
        ),
        ("expect", with(&[("expect", "100-continue")]), Harmless),
        (
            "a thousand fields",
            {
                let mut fields = usual("/hello");
                fields.push(auth);
                fields.extend(std::iter::repeat_n(("x", "y"), 1_000));
                block(&fields)
            },
            Refused(431),
        ),
    ]
    .into_iter()
    .map(|(name, block, verdict)| H2Case {
        name,
        block,
        data: Vec::new(),
        verdict,
    })
    .collect::<Vec<_>>();
    for (name, length, data, verdict) in [
        ("less than its length", "10", "hello", Harmless),
        ("more than its length", "3", "hello", Harmless),
        ("exactly its length", "5", "hello", Forwarded("/hello")),
        (
            "a request in a body",
            "0",
            "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            Harmless,
        ),
    ] {
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/hello"),
            (":authority", "a"),
            auth,
            ("content-length", length),
        ];
        cases.push(H2Case {
            name,
            block: block(&fields),
            data: data.into(),
            verdict,
        });
    }
    cases
}
