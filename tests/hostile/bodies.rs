//! Where a body ends: lengths, codings, chunks, trailers (RFC 9112 §6, §7).

use crate::cases::{Case, House, Verdict};
use crate::http1::SMUGGLED;

use Verdict::{Forwarded, Harmless, Refused};

const HELLO: Verdict = Forwarded("/hello");

fn post(house: &House, fields: &str, body: &str) -> String {
    format!(
        "POST /hello HTTP/1.1\r\nHost: a\r\n{}{fields}\r\n{body}",
        house.bearer()
    )
}

pub(crate) fn lengths(house: &House) -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("Content-Length: 5\r\nContent-Length: 5", Refused(400)),
        ("Content-Length: 5\r\nContent-Length: 50", Refused(400)),
        ("Content-Length: 5\r\ncontent-length: 0", Refused(400)),
        ("Content-Length: 5\r\nContent-Length:", Refused(400)),
        ("Content-Length: 5, 5", Refused(400)),
        ("Content-Length: 5,", Refused(400)),
        ("Content-Length: 5;", Refused(400)),
        ("Content-Length: 5 5", Refused(400)),
        ("Content-Length: 5\t5", Refused(400)),
        ("Content-Length: 5x", Refused(400)),
        ("Content-Length: x5", Refused(400)),
        ("Content-Length: 0x5", Refused(400)),
        ("Content-Length: 5e0", Refused(400)),
        ("Content-Length: 5.0", Refused(400)),
        ("Content-Length: 1_0", Refused(400)),
        ("Content-Length: +5", Refused(400)),
        ("Content-Length: -5", Refused(400)),
        ("Content-Length: -0", Refused(400)),
        ("Content-Length: \"5\"", Refused(400)),
        ("Content-Length: \u{665}", Refused(400)),
        ("Content-Length: \u{ff15}", Refused(400)),
        ("Content-Length: 5\u{a0}", Refused(400)),
        ("Content-Length: 5\u{b}", Refused(400)),
        ("Content-Length: 5\0", Refused(400)),
        ("Content-Length:\r\n 5", Refused(400)),
        ("Content-Length: 5\r\n 0", Refused(400)),
        ("Content-Length : 5", Refused(400)),
        ("Content-Length\t: 5", Refused(400)),
        (" Content-Length: 5", Refused(400)),
        ("Content_Length: 5", Refused(400)),
        ("Content-Length: 99999999999999999999", Refused(413)),
        ("Content-Length: 18446744073709551615", Refused(413)),
        ("Content-Length: 18446744073709551621", Refused(413)),
        ("Content-Length: 4294967301", Refused(413)),
        ("Content-Length: 10485761", Refused(413)),
    ]
    .into_iter()
    .map(|(fields, verdict)| {
        let request = post(house, &format!("{fields}\r\n"), &format!("hello{SMUGGLED}"));
        Case::new(
            format!("length: {}", fields.escape_debug()),
            request,
            verdict,
        )
    })
    .collect();
    // Zeros in front change nothing: the length that is forwarded is the one that was read.
    for fields in [
        "Content-Length: 05\r\n",
        "Content-Length: 0000000000000000000000000005\r\n",
    ] {
        let case = Case::new(
            format!("length: {}", fields.trim()),
            post(house, fields, "hello"),
            Harmless,
        );
        cases.push(case.with_body(b"hello"));
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let request = format!(
            "{method} /hello HTTP/1.1\r\nHost: a\r\n{}Content-Length: {}\r\n\r\n{SMUGGLED}",
            house.bearer(),
            SMUGGLED.len()
        );
        cases.push(Case::new(format!("a body on {method}"), request, Harmless));
    }
    cases
}

pub(crate) fn codings(house: &House) -> Vec<Case> {
    let mut cases: Vec<Case> = [
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            Refused(400),
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            Refused(400),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length:",
            Refused(400),
        ),
        ("Transfer-Encoding: chunked, chunked", Refused(400)),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Refused(400),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
            Refused(400),
        ),
        (
            "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
            Refused(400),
        ),
        ("Transfer-Encoding: identity", Refused(400)),
        ("Transfer-Encoding: identity, chunked", Refused(400)),
        ("Transfer-Encoding: gzip, chunked", Refused(400)),
        ("Transfer-Encoding: chunked, gzip", Refused(400)),
        ("Transfer-Encoding: chunked;q=1", Refused(400)),
        ("Transfer-Encoding: chunked;", Refused(400)),
        ("Transfer-Encoding: ;chunked", Refused(400)),
        ("Transfer-Encoding: ,chunked", Refused(400)),
        ("Transfer-Encoding: chunked,", Refused(400)),
        ("Transfer-Encoding: \"chunked\"", Refused(400)),
        ("Transfer-Encoding: 'chunked'", Refused(400)),
        ("Transfer-Encoding: xchunked", Refused(400)),
        ("Transfer-Encoding: chunkedx", Refused(400)),
        ("Transfer-Encoding: chun ked", Refused(400)),
        ("Transfer-Encoding: \u{b}chunked", Refused(400)),
        ("Transfer-Encoding: \u{c}chunked", Refused(400)),
        ("Transfer-Encoding: chunked\u{b}", Refused(400)),
        ("Transfer-Encoding: \u{a0}chunked", Refused(400)),
        ("Transfer-Encoding: chunked\0", Refused(400)),
        ("Transfer-Encoding: ch\u{fc}nked", Refused(400)),
        ("Transfer-Encoding:", Refused(400)),
        ("Transfer-Encoding:\r\n chunked", Refused(400)),
        ("Transfer-Encoding : chunked", Refused(400)),
        (" Transfer-Encoding: chunked", Refused(400)),
        ("X: y\r\n Transfer-Encoding: chunked", Refused(400)),
        ("Transfer_Encoding: chunked", Refused(400)),
        ("X: y\nTransfer-Encoding: chunked", Refused(400)),
        ("X: y\rTransfer-Encoding: chunked", Refused(400)),
        ("Transfer-Encoding\0: chunked", Refused(400)),
    ]
    .into_iter()
    .map(|(fields, verdict)| {
        let body = format!("5\r\nhello\r\n0\r\n\r\n{SMUGGLED}");
        let request = post(house, &format!("{fields}\r\n"), &body);
        Case::new(
            format!("coding: {}", fields.escape_debug()),
            request,
            verdict,
        )
    })
    .collect();
    for (name, fields) in [
        ("capitals", "transfer-ENCODING: CHUNKED\r\n"),
        ("a tab", "Transfer-Encoding:\tchunked\t\r\n"),
        ("no space", "Transfer-Encoding:chunked\r\n"),
    ] {
        let request = post(house, fields, "5\r\nhello\r\n0\r\n\r\n");
        cases.push(Case::new(format!("coding with {name}"), request, HELLO).with_body(b"hello"));
    }
    for (name, line, fields) in [
        (
            "1.0",
            "POST /hello HTTP/1.0",
            "Transfer-Encoding: chunked\r\n",
        ),
        (
            "1.0 kept",
            "POST /hello HTTP/1.0",
            "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
        ),
    ] {
        let request = post(house, fields, &format!("0\r\n\r\n{SMUGGLED}")).replacen(
            "POST /hello HTTP/1.1",
            line,
            1,
        );
        cases.push(Case::new(
            format!("coding on {name}"),
            request,
            Refused(400),
        ));
    }
    cases
}

pub(crate) fn chunks(house: &House) -> Vec<Case> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut cases = Vec::new();
    // What is malformed may have been begun upstream; it never ends there as a request.
    for body in [
        "5\nhello\n0\n\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\rhello\r0\r\r",
        "5\n\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "5.\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "\u{665}\r\nhello\r\n0\r\n\r\n",
        "5\0\r\nhello\r\n0\r\n\r\n",
        "\r\n",
        ";\r\nhello\r\n0\r\n\r\n",
        ";ext\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFB\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "8000000000000005\r\nhello\r\n0\r\n\r\n",
        "100000005\r\nhello\r\n0\r\n\r\n",
        "5;a=\n\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        "5;a=\"\r\nhello\"\r\n0\r\n\r\n",
        "00\r\n\r\nX",
        "-0\r\n\r\n",
        "0\n\r\n",
        "0\r\r\n\r\n",
        "0\r\n\r",
        "0 \r\n\r\n",
    ] {
        let request = post(house, chunked, &format!("{body}{SMUGGLED}"));
        cases.push(Case::new(
            format!("chunk: {}", body.escape_debug()),
            request,
            Harmless,
        ));
    }
    for body in [
        "\r\n\r\n",
        "   \r\n\r\n",
        ";x\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "0;a\n\r\n\r\n",
        "0 \r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\nZ: w\r\n\r\n",
        "0\r\nX: \0\r\n\r\n",
    ] {
        cases.push(Case::new(
            format!("no chunk: {}", body.escape_debug()),
            post(house, chunked, &format!("{body}{SMUGGLED}")),
            Refused(400),
        ));
    }
    for (name, body) in [
        ("zeros in front", "0005\r\nhello\r\n0\r\n\r\n".to_owned()),
        (
            "many zeros for the last",
            "5\r\nhello\r\n00000\r\n\r\n".to_owned(),
        ),
        ("an extension", "5;a=b\r\nhello\r\n0\r\n\r\n".to_owned()),
        (
            "a quoted extension",
            "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "capitals",
            "5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n".to_owned(),
        ),
    ] {
        let request = post(house, chunked, &body);
        let wanted: &[u8] = if name == "capitals" {
            b"hello0123456789"
        } else {
            b"hello"
        };
        cases.push(Case::new(format!("chunk: {name}"), request, HELLO).with_body(wanted));
    }
    for (name, body) in [
        (
            "an extension of 100 KiB",
            format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(100_000)),
        ),
        (
            "a size of 100 KiB",
            format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(100_000)),
        ),
        (
            "5,000 chunks of a byte",
            format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(5_000)),
        ),
        (
            "5,000 extensions",
            format!("{}0\r\n\r\n", "1;a=b\r\nx\r\n".repeat(5_000)),
        ),
    ] {
        cases.push(Case::new(
            format!("chunk: {name}"),
            post(house, chunked, &body),
            Harmless,
        ));
    }
    // A refused request's body is not the next request.
    let hidden = format!("5\r\nhello\r\n0\r\n\r\n{SMUGGLED}");
    let request = format!("POST /hello HTTP/1.1\r\nHost: a\r\n{chunked}\r\n{hidden}");
    cases.push(Case::new(
        "a chunked body without a token",
        request,
        Refused(401),
    ));
    let admin = post(house, chunked, &hidden).replacen("/hello", "/admin", 1);
    cases.push(Case::new(
        "a chunked body without the scope",
        admin,
        Refused(403),
    ));
    cases
}

pub(crate) fn trailers(house: &House) -> Vec<Case> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut cases = Vec::new();
    for trailer in [
        "X-Auth-Subject: root",
        "X_Auth_Subject: root",
        "Authorization: Bearer x",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: guarded.test",
        "Connection: close",
        "X: y\r\nZ: w",
        "X : y",
        " X: y",
        "X",
        ": y",
        "X: y\nZ: w",
        "X: \0",
        "GET /smuggled HTTP/1.1",
    ] {
        let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n");
        let request = post(house, chunked, &format!("{body}{SMUGGLED}"));
        cases.push(Case::new(
            format!("trailer: {}", trailer.escape_debug()),
            request,
            Harmless,
        ));
    }
    for (name, trailer) in [
        ("100 KiB", format!("X: {}\r\n", "y".repeat(100_000))),
        ("3,000 fields", "X: y\r\n".repeat(3_000)),
        ("without an end", "X: y\r\n".repeat(10)),
    ] {
        let end = if name == "without an end" { "" } else { "\r\n" };
        let body = format!("5\r\nhello\r\n0\r\n{trailer}{end}");
        cases.push(Case::new(
            format!("trailer: {name}"),
            post(house, chunked, &body),
            Harmless,
        ));
    }
    // The token comes too late.
    let late = format!(
        "POST /hello HTTP/1.1\r\nHost: a\r\nTrailer: Authorization\r\n{chunked}\r\n5\r\nhello\r\n0\r\n{}\r\n",
        house.bearer()
    );
    cases.push(Case::new("the token in a trailer", late, Refused(401)));
    cases
}
