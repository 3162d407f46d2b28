//! The request around the token: the `Authorization` header, and every other place for a token.

use crate::cases::{Case, Verdict};
use crate::holder::{Holder, House};

use Verdict::{Accepted, Refused};

fn get(target: &str, fields: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n").into_bytes()
}

fn post(media_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /hello HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

pub(crate) fn hostile(house: &House, holder: &Holder) -> Vec<Case> {
    let t = &holder.mint(house.claims().text());
    let mut cases = Vec::new();
    // Another scheme, or none.
    for value in [
        String::new(),
        t.clone(),
        format!("Bearer{t}"),
        format!("Bearer\t{t}"),
        format!("Bearer:{t}"),
        format!("Bearer: {t}"),
        format!("Bearer={t}"),
        format!("Bearer, {t}"),
        format!("\"Bearer\" {t}"),
        format!("Bearers {t}"),
        format!("Beare {t}"),
        format!("Token {t}"),
        format!("JWT {t}"),
        format!("OAuth {t}"),
        format!("DPoP {t}"),
        format!("MAC {t}"),
        format!("Negotiate {t}"),
        format!("GNAP {t}"),
        format!("Digest username=\"demo\", response=\"{t}\""),
        format!("Basic {t}"),
        "Basic ZGVtbzphLXNlY3JldC1mb3ItdGVzdHMtb25seS0wMTIzNDU2Nzg5".to_owned(),
        format!("Basic ZGVtbzp4, Bearer {t}"),
        format!("Token Bearer {t}"),
        format!("\u{412}earer {t}"),
        format!("\u{feff}Bearer {t}"),
    ] {
        let fields = format!("Authorization: {value}\r\n");
        let name = format!("scheme: {}", value.replace(t.as_str(), "…"));
        cases.push(Case::raw(name, get("/hello", &fields), Refused("missing")));
    }
    // The scheme, but not exactly one token after it.
    for value in [
        "Bearer".to_owned(),
        "bearer   ".to_owned(),
        format!("Bearer \t{t}"),
        format!("Bearer  \t {t}"),
        format!("Bearer {t} {t}"),
        format!("Bearer {t} x"),
        format!("Bearer x {t}"),
        format!("Bearer Bearer {t}"),
        format!("Bearer {t},"),
        format!("Bearer ,{t}"),
        format!("Bearer {t}, Bearer {t}"),
        format!("Bearer {t}, Basic ZGVtbzp4"),
        format!("Bearer {t};"),
        format!("Bearer {t};v=1"),
        format!("Bearer \"{t}\""),
        format!("Bearer '{t}'"),
        format!("Bearer <{t}>"),
        format!("Bearer [{t}]"),
        format!("Bearer {{{t}}}"),
        format!("Bearer token={t}"),
        format!("Bearer token=\"{t}\""),
        format!("Bearer access_token=\"{t}\", realm=\"x\""),
        format!("Bearer {t}%00"),
        format!("Bearer %20{t}"),
        format!("Bearer {t}\\n"),
        format!("Bearer {t}\u{e9}"),
        format!("Bearer \u{a0}{t}"),
        format!("Bearer {t}\u{200b}"),
        format!("Bearer {t}#x"),
        format!("Bearer {t}?x"),
        format!("Bearer {t}&x"),
        format!("Bearer ={t}"),
        "Bearer =".to_owned(),
        "Bearer ====".to_owned(),
        "Bearer \"\"".to_owned(),
        "Bearer ${jndi:ldap://127.0.0.1/x}".to_owned(),
        "Bearer <script>alert(1)</script>".to_owned(),
    ] {
        let fields = format!("Authorization: {value}\r\n");
        let name = format!("syntax: {}", value.replace(t.as_str(), "…"));
        cases.push(Case::raw(
            name,
            get("/hello", &fields),
            Refused("broken_syntax"),
        ));
    }
    for value in [
        "null",
        "undefined",
        "x",
        "0",
        "true",
        "none",
        "~",
        "+/",
        "a.b.c",
        "....",
        "Bearer",
    ] {
        let fields = format!("Authorization: Bearer {value}\r\n");
        let name = format!("word: {value}");
        cases.push(Case::raw(
            name,
            get("/hello", &fields),
            Refused("malformed"),
        ));
    }
    cases.extend(twice(t));
    cases.extend(elsewhere(t));
    cases
}

/// More than one header, whatever they say.
fn twice(t: &str) -> Vec<Case> {
    let good = format!("Bearer {t}");
    [
        (
            "the same",
            format!("Authorization: {good}\r\nAuthorization: {good}\r\n"),
        ),
        (
            "another case",
            format!("Authorization: {good}\r\nauthorization: {good}\r\n"),
        ),
        (
            "apart",
            format!("Authorization: {good}\r\nX-A: b\r\nAUTHORIZATION: {good}\r\n"),
        ),
        (
            "an empty one first",
            format!("Authorization:\r\nAuthorization: {good}\r\n"),
        ),
        (
            "an empty one last",
            format!("Authorization: {good}\r\nAuthorization:\r\n"),
        ),
        (
            "Basic first",
            format!("Authorization: Basic x\r\nAuthorization: {good}\r\n"),
        ),
        (
            "Basic last",
            format!("Authorization: {good}\r\nAuthorization: Basic x\r\n"),
        ),
        (
            "garbage last",
            format!("Authorization: {good}\r\nAuthorization: \"\"\r\n"),
        ),
        (
            "garbage first",
            format!("Authorization: ???\r\nAuthorization: {good}\r\n"),
        ),
        (
            "two of Basic",
            "Authorization: Basic x\r\nAuthorization: Basic x\r\n".to_owned(),
        ),
        (
            "two empty ones",
            "Authorization:\r\nAuthorization:\r\n".to_owned(),
        ),
        ("twelve", format!("Authorization: {good}\r\n").repeat(12)),
    ]
    .into_iter()
    .map(|(name, fields)| {
        let name = format!("twice: {name}");
        Case::raw(name, get("/hello", &fields), Refused("duplicate_header"))
    })
    .collect()
}

/// A token anywhere else is as good as none (RFC 6750 §2.2 and §2.3 are not offered).
fn elsewhere(t: &str) -> Vec<Case> {
    let mut requests: Vec<(String, Vec<u8>)> = vec![
        ("nothing at all".to_owned(), get("/hello", "")),
        (
            "in a form".to_owned(),
            post(
                "application/x-www-form-urlencoded",
                &format!("access_token={t}"),
            ),
        ),
        (
            "in JSON".to_owned(),
            post("application/json", &format!("{{\"access_token\":\"{t}\"}}")),
        ),
        (
            "in text".to_owned(),
            post("text/plain", &format!("Authorization: Bearer {t}\r\n\r\n")),
        ),
    ];
    for query in [
        "access_token",
        "token",
        "bearer_token",
        "jwt",
        "id_token",
        "authorization",
        "Authorization",
    ] {
        requests.push((
            format!("in the query as {query}"),
            get(&format!("/hello?{query}={t}"), ""),
        ));
    }
    requests.push((
        "in the query with the scheme".to_owned(),
        get(&format!("/hello?authorization=Bearer%20{t}"), ""),
    ));
    requests.push(("in the path".to_owned(), get(&format!("/hello/{t}"), "")));
    for field in [
        "Proxy-Authorization",
        "X-Authorization",
        "X-Forwarded-Authorization",
        "X-Access-Token",
        "X-Auth-Token",
        "X-Original-Authorization",
        "Authentication",
        "Authorisation",
        "Sec-WebSocket-Protocol",
        "Authorization-",
        "X-Amzn-Oidc-Data",
        "Cf-Access-Jwt-Assertion",
        "X-Goog-Iap-Jwt-Assertion",
        "DPoP",
    ] {
        let fields = format!("{field}: Bearer {t}\r\n");
        requests.push((format!("in {field}"), get("/hello", &fields)));
    }
    for cookie in ["access_token", "Authorization", "jwt", "session"] {
        let fields = format!("Cookie: {cookie}={t}\r\n");
        requests.push((format!("in the cookie {cookie}"), get("/hello", &fields)));
    }
    // Names that claim to have been let in already.
    for fields in [
        "X-Auth-Subject: demo\r\n",
        "X-Forwarded-User: demo\r\n",
        "Remote-User: demo\r\n",
        "X-Auth-Client-Id: demo\r\nX-Auth-Scopes: read write\r\n",
        "X-Original-URL: /public\r\n",
        "X-Rewrite-URL: /public\r\n",
        "X-Forwarded-Uri: /public\r\n",
        "X-Forwarded-For: 127.0.0.1\r\n",
        "X-HTTP-Method-Override: OPTIONS\r\n",
        "User-Agent: kube-probe/1.30\r\n",
    ] {
        requests.push((
            format!("only {}", fields.replace("\r\n", " ")),
            get("/hello", fields),
        ));
    }
    requests
        .into_iter()
        .map(|(name, request)| Case::raw(format!("elsewhere: {name}"), request, Refused("missing")))
        .collect()
}

/// Requests that look odd and are good.
pub(crate) fn legitimate(house: &House, holder: &Holder) -> Vec<Case> {
    let t = &holder.mint(house.claims().text());
    let mut cases = Vec::new();
    for field in [
        format!("Authorization: Bearer {t}"),
        format!("authorization: bearer {t}"),
        format!("AUTHORIZATION: BEARER {t}"),
        format!("aUtHoRiZaTiOn: bEaReR {t}"),
        format!("Authorization:Bearer {t}"),
        format!("Authorization:   Bearer {t}"),
        format!("Authorization:\tBearer {t}"),
        format!("Authorization: Bearer {t} "),
        format!("Authorization: Bearer {t}\t"),
        format!("Authorization: Bearer {t} \t \t"),
        format!("Authorization: Bearer  {t}"),
        format!("Authorization: Bearer {}{t}", " ".repeat(100)),
        format!("Proxy-Authorization: Basic x\r\nAuthorization: Bearer {t}"),
        format!("X-Authorization: Bearer x\r\nAuthorization: Bearer {t}"),
        format!("Cookie: access_token=x\r\nAuthorization: Bearer {t}"),
        format!("Authorization: Bearer {t}\r\nDPoP: x"),
        format!("X-Auth-Subject: root\r\nAuthorization: Bearer {t}"),
        format!("Accept: */*\r\nAccept: text/html\r\nAuthorization: Bearer {t}"),
    ] {
        let name = format!("field: {}", field.replace(t.as_str(), "…"));
        cases.push(Case::raw(
            name,
            get("/hello", &format!("{field}\r\n")),
            Accepted,
        ));
    }
    let fields = format!("Authorization: Bearer {t}\r\n");
    for target in [
        "/",
        "/hello?access_token=x",
        "/hello?access_token",
        "/hello?",
        "/hello?a=b&a=c",
        "/hello/a/b/c",
        "/hello/",
        "/HELLO",
        "/hell%C3%B6",
        "/hello?q=%00%2e%2e%2f",
        "/write/x",
        "/hello:world",
        "/~user",
        "/hello;?",
        "/a,b",
        "/@me",
        "/hello!",
    ] {
        // A semicolon could start a parameter that another reader strips.
        if !target.contains(';') {
            cases.push(Case::raw(
                format!("target: {target}"),
                get(target, &fields),
                Accepted,
            ));
        }
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let request = format!(
            "{method} /hello HTTP/1.1\r\nHost: gateway.test\r\n{fields}Content-Length: 2\r\n\r\nhi"
        );
        cases.push(Case::raw(format!("method: {method}"), request, Accepted));
    }
    let head = format!("HEAD /hello HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n");
    cases.push(Case::raw("method: HEAD", head, Accepted));
    let chunked = format!(
        "POST /hello HTTP/1.1\r\nHost: gateway.test\r\n{fields}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    );
    cases.push(Case::raw("a body in chunks", chunked, Accepted));
    cases
}
