//! Payloads, each well signed: what a holder of the key could write.

use crate::cases::{Case, Verdict};
use crate::holder::{Holder, House, Members};
use crate::json;

use Verdict::{Accepted, Lacks, Refused};

const LEEWAY: i64 = 60;
const MAX_TTL: i64 = 3600;

/// Dates exactly at a border, on both sides. They hold within the second.
pub(crate) fn borders(house: &House, holder: &Holder) -> Vec<Case> {
    let now = house.now();
    let expired = Refused("expired");
    let early = Refused("not_yet_valid");
    let rule = Refused("claim_rule");
    let dates = |exp: i64, iat: i64| {
        let claims = house.claims().with("exp", exp.to_string());
        claims.with("iat", iat.to_string())
    };
    let nbf = |nbf: i64| house.claims().with("nbf", nbf.to_string());
    [
        (
            "expired at the end of the leeway",
            dates(now - LEEWAY, now - 100),
            expired,
        ),
        (
            "in the last second of the leeway",
            dates(now - LEEWAY + 1, now - 100),
            Accepted,
        ),
        (
            "expired for an hour",
            dates(now - 3600, now - 7000),
            expired,
        ),
        ("expired in 1970", dates(1, 0), expired),
        ("expired at the epoch", dates(0, 0), expired),
        (
            "issued at the end of the leeway",
            dates(now + 1800, now + LEEWAY),
            Accepted,
        ),
        (
            "issued after the leeway",
            dates(now + 1800, now + LEEWAY + 1),
            early,
        ),
        ("issued in an hour", dates(now + 7000, now + 3600), early),
        (
            "issued in milliseconds of 1978",
            dates(now + 1800, 253_402_300_799),
            early,
        ),
        (
            "valid at the end of the leeway",
            nbf(now + LEEWAY),
            Accepted,
        ),
        ("valid after the leeway", nbf(now + LEEWAY + 1), early),
        ("valid in the year 9999", nbf(253_402_300_799), early),
        ("valid since the epoch", nbf(0), Accepted),
        ("valid after its own end", nbf(now + 1801), early),
        ("of the longest life", dates(now + MAX_TTL, now), Accepted),
        ("a second too long", dates(now + MAX_TTL + 1, now), rule),
        (
            "too long, issued earlier",
            dates(now + 1, now - MAX_TTL),
            rule,
        ),
        (
            "as long, issued earlier",
            dates(now + 1, now - MAX_TTL + 1),
            Accepted,
        ),
        (
            "too long, issued in the leeway",
            dates(now + 61 + MAX_TTL, now + LEEWAY),
            rule,
        ),
        ("until the year 9999", dates(253_402_300_799, now), rule),
        ("since the epoch", dates(now + 1800, 0), rule),
        ("ending as it begins", dates(now, now), rule),
        ("ending before it begins", dates(now - 1, now), rule),
        ("of one second", dates(now + 1, now), Accepted),
    ]
    .into_iter()
    .map(|(name, claims, verdict)| {
        let token = holder.mint(claims.text());
        Case::new(format!("border: {name}"), token, verdict)
    })
    .collect()
}

/// Every way of not being an object in the place of the payload.
pub(crate) fn broken_json(house: &House, holder: &Holder) -> Vec<Case> {
    json::broken(&house.claims().text())
        .into_iter()
        .map(|(name, payload)| {
            let token = holder.mint(payload);
            Case::new(format!("payload: {name}"), token, Refused("malformed"))
        })
        .collect()
}

pub(crate) fn hostile(house: &House, holder: &Holder) -> Vec<Case> {
    let good = house.claims();
    let mut forms = [
        dates(&good, house.now()),
        texts(&good, holder),
        audiences(&good),
    ]
    .concat();
    forms.extend(issuers(&good));
    forms.extend(precedence(&good, house.now()));
    let mut cases: Vec<Case> = forms
        .into_iter()
        .map(|(name, claims, verdict)| {
            Case::new(
                format!("claims: {name}"),
                holder.mint(claims.text()),
                verdict,
            )
        })
        .collect();
    cases.extend(scopes(&good, holder));
    cases
}

type Form = (String, Members, Verdict);

fn dates(good: &Members, now: i64) -> Vec<Form> {
    let mut forms = Vec::new();
    let malformed = Refused("malformed");
    for (name, value) in [("exp", now + 1800), ("iat", now), ("nbf", now)] {
        let v = value.to_string();
        for raw in [
            format!("{v}.0"),
            format!("{v}.5"),
            format!("{v}e0"),
            format!("{v}E+0"),
            format!("{v}0e-1"),
            format!("\"{v}\""),
            format!("\" {v}\""),
            format!("[{v}]"),
            format!("{{\"{name}\":{v}}}"),
            format!("-{v}"),
            format!("{v}000"),
            format!("0{v}"),
            format!("+{v}"),
            format!("0x{value:x}"),
            format!("{v},{v}"),
        ]
        .into_iter()
        .chain(
            [
                "1e400",
                "-1e400",
                "NaN",
                "Infinity",
                "-1",
                "-0",
                "-0.0",
                "0.0",
                "1.7e9",
                "null",
                "true",
                "false",
                "[]",
                "{}",
                "\"\"",
                "\"soon\"",
                "\"2099-01-01T00:00:00Z\"",
                "253402300800",
                "4294967296000",
                "9223372036854775807",
                "9223372036854775808",
                "-9223372036854775808",
                "18446744073709551615",
                "18446744073709551616",
                "99999999999999999999999999999999",
            ]
            .map(str::to_owned),
        ) {
            forms.push((
                format!("{name} {raw}"),
                good.clone().with(name, &raw),
                malformed,
            ));
        }
        let twice = good.clone().with(name, &v).twice(name, &v);
        forms.push((format!("{name} twice"), twice, malformed));
        if name != "nbf" {
            forms.push((format!("no {name}"), good.clone().without(name), malformed));
        }
    }
    forms
}

fn texts(good: &Members, holder: &Holder) -> Vec<Form> {
    let mut forms = Vec::new();
    let malformed = Refused("malformed");
    for name in ["iss", "sub", "client_id", "jti", "scope"] {
        let value = good.get(name);
        let long = format!("\"{}\"", "x".repeat(1025));
        let list = format!("[{value}]");
        for raw in ["null", "7", "true", "{}", "[]", &list, &long] {
            forms.push((
                format!("{name} {raw}"),
                good.clone().with(name, raw),
                malformed,
            ));
        }
        let twice = good.clone().twice(name, value);
        forms.push((format!("{name} twice"), twice, malformed));
    }
    for name in ["iss", "sub"] {
        forms.push((format!("no {name}"), good.clone().without(name), malformed));
    }
    if holder.is_imported {
        let azp = good.clone().without("client_id").with("azp", "[\"demo\"]");
        forms.push(("no client_id, a list for azp".to_owned(), azp, malformed));
        let azp = good.clone().without("client_id").with("azp", r#""a\nb""#);
        forms.push((
            "no client_id, azp unprintable".to_owned(),
            azp,
            Refused("claim_rule"),
        ));
    } else {
        for name in ["client_id", "jti"] {
            forms.push((format!("no {name}"), good.clone().without(name), malformed));
        }
    }
    // What could not stand in a header field unchanged.
    for name in ["sub", "client_id", "jti", "scope"] {
        for raw in [
            r"a\r\nX-Auth-Subject: root",
            r"a\nb",
            r"a\rb",
            r"a\u0000b",
            r"\u0000",
            r"a\tb",
            r"a\u001bb",
            r"a\u007fb",
            r"a\u0085b",
            r"a\u00e9b",
            r"a\u202eb",
            r"a\ud83d\ude00",
            r"\ufeffa",
            r"\u00a0a",
            " a",
            "a ",
            " ",
            r"\ta",
        ] {
            let claims = good.clone().with(name, format!("\"{raw}\""));
            forms.push((format!("{name} \"{raw}\""), claims, Refused("claim_rule")));
        }
    }
    for name in ["sub", "client_id"] {
        let claims = good.clone().with(name, "\"\"");
        forms.push((format!("{name} empty"), claims, Refused("claim_rule")));
    }
    forms
}

fn issuers(good: &Members) -> Vec<Form> {
    [
        "",
        "http://issuer.test/",
        "https://issuer.test",
        "HTTP://issuer.test",
        "http://ISSUER.test",
        "http://issuer.test.evil.example",
        "http://issuer.test:80",
        "http://issuer.tes",
        "issuer.test",
        " http://issuer.test",
        "http://issuer.test ",
        r"http://issuer.test\u0000",
        "http://issuer.test#",
        "http://issuer.test?",
        "http://issuer.test@evil.example",
        "http://evil.example/http://issuer.test",
        "https://OLD.example",
        "https://old.example/",
        "*",
    ]
    .into_iter()
    .map(|iss| {
        let claims = good.clone().with("iss", format!("\"{iss}\""));
        (format!("iss \"{iss}\""), claims, Refused("bad_issuer"))
    })
    .collect()
}

fn audiences(good: &Members) -> Vec<Form> {
    let malformed = Refused("malformed");
    let foreign = Refused("bad_audience");
    let many = |n: usize| {
        let items: Vec<String> = (0..n).map(|i| format!("\"a{i}\"")).collect();
        format!("[{},\"api\"]", items.join(","))
    };
    let long = format!("\"{}\"", "x".repeat(1025));
    let mut forms = vec![
        ("no aud".to_owned(), good.clone().without("aud"), malformed),
        (
            "aud twice".to_owned(),
            good.clone().twice("aud", "\"api\""),
            malformed,
        ),
    ];
    for (raw, verdict) in [
        ("null", malformed),
        ("7", malformed),
        ("true", malformed),
        ("{}", malformed),
        (r#"{"api":true}"#, malformed),
        (r#"[["api"]]"#, malformed),
        (r#"["api",7]"#, malformed),
        (r#"["api",null]"#, malformed),
        (r#"["api",["api"]]"#, malformed),
        (r#"[null]"#, malformed),
        (&long, malformed),
        (&format!("[\"api\",{long}]"), malformed),
        (&many(64), malformed),
        ("[]", foreign),
        (r#"[""]"#, foreign),
        (r#""""#, foreign),
        (r#""API""#, foreign),
        (r#""Api""#, foreign),
        (r#""api ""#, foreign),
        (r#"" api""#, foreign),
        (r#""api/""#, foreign),
        (r#""ap""#, foreign),
        (r#""apis""#, foreign),
        (r#""api,other""#, foreign),
        (r#""api other""#, foreign),
        (r#""api\u0000""#, foreign),
        (r#""*""#, foreign),
        (r#""\u0430pi""#, foreign),
        (r#""other""#, foreign),
        (r#"["other","another"]"#, foreign),
        (r#""http://issuer.test""#, foreign),
        (r#""OLD-API""#, foreign),
    ] {
        forms.push((format!("aud {raw}"), good.clone().with("aud", raw), verdict));
    }
    forms
}

/// Of several defects one is named, always the same.
fn precedence(good: &Members, now: i64) -> Vec<Form> {
    let old = || {
        let past = good.clone().with("exp", (now - 1000).to_string());
        past.with("iat", (now - 2000).to_string())
    };
    let foreign = || good.clone().with("iss", "\"https://x\"");
    let elsewhere = |claims: Members| claims.with("aud", "\"x\"");
    let long = |claims: Members| claims.with("exp", (now + 9000).to_string());
    let unscoped = |claims: Members| claims.without("scope");
    vec![
        (
            "expired and everything else".to_owned(),
            unscoped(elsewhere(old().with("iss", "\"https://x\""))),
            Refused("expired"),
        ),
        (
            "foreign and everything else".to_owned(),
            unscoped(elsewhere(long(foreign()))),
            Refused("bad_issuer"),
        ),
        (
            "elsewhere, too long, no scope".to_owned(),
            unscoped(elsewhere(long(good.clone()))),
            Refused("bad_audience"),
        ),
        (
            "too long, no scope".to_owned(),
            unscoped(long(good.clone())),
            Refused("claim_rule"),
        ),
        (
            "unprintable and expired".to_owned(),
            old().with("sub", r#""a\nb""#),
            Refused("claim_rule"),
        ),
        (
            "malformed and expired".to_owned(),
            old().with("aud", "7"),
            Refused("malformed"),
        ),
    ]
}

/// A route that wants one of two scopes, and one that wants one.
fn scopes(good: &Members, holder: &Holder) -> Vec<Case> {
    let mut cases = Vec::new();
    let none = holder.mint(good.clone().without("scope").text());
    for (path, wanted) in [("/hello", "read write"), ("/write/x", "write")] {
        let name = format!("scope: none on {path}");
        cases.push(Case::on(path, name, &none, Lacks(wanted)));
        for scope in [
            "",
            "READ WRITE",
            "Write",
            "writer",
            "writ",
            "read,write",
            "write,read",
            "readwrite",
            "write-all",
            "write:x",
            "*",
            "all",
            "re ad",
            "api/write",
            "\\\"write\\\"",
            "-write",
            "openid profile",
        ] {
            let token = holder.mint(good.clone().with("scope", format!("\"{scope}\"")).text());
            let name = format!("scope: \"{scope}\" on {path}");
            cases.push(Case::on(path, name, token, Lacks(wanted)));
        }
    }
    let read = holder.mint(good.clone().with("scope", "\"read\"").text());
    cases.push(Case::on(
        "/write/x",
        "scope: \"read\" on /write/x",
        read,
        Lacks("write"),
    ));
    // The audience of the other route does not help here.
    let other = holder.mint(good.text());
    cases.push(Case::on(
        "/other",
        "aud: of another route",
        other,
        Refused("bad_audience"),
    ));
    cases
}
