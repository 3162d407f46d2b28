//! Tokens that look odd and are good.

use crate::cases::{Case, Verdict};
use crate::holder::{Holder, House, Members};
use crate::{headers, requests, segments, signatures};

use Verdict::Accepted;

/// Under the key that signs now and the one that signs next.
pub(crate) fn ours(house: &House, holder: &Holder) -> Vec<Case> {
    let mut cases = payloads(house, holder);
    cases.extend(requests::legitimate(house, holder));
    cases.extend(signatures::twin(house, holder));
    cases.push(segments::brim(house, holder));
    let next = house.pending.mint(house.claims().text());
    cases.push(Case::new("signed by the next key already", next, Accepted));
    cases
}

/// Under an imported key, whose tokens somebody else wrote.
pub(crate) fn former(house: &House, holder: &Holder) -> Vec<Case> {
    let mut cases = headers::legitimate(house, holder);
    let good = house.claims();
    let legacy = holder.members().with("typ", "\"JWT\"").text();
    for (name, claims) in [
        (
            "the former issuer",
            good.clone().with("iss", "\"https://old.example\""),
        ),
        (
            "the former audience",
            good.clone().with("aud", "\"old-api\""),
        ),
        (
            "the former audience in a list",
            good.clone().with("aud", r#"["x","old-api"]"#),
        ),
        (
            "both audiences",
            good.clone().with("aud", r#"["api","old-api"]"#),
        ),
        ("no client_id", good.clone().without("client_id")),
        (
            "azp for client_id",
            good.clone().without("client_id").with("azp", "\"demo\""),
        ),
        ("client_id and an odd azp", good.clone().with("azp", "[7]")),
        ("no jti", good.clone().without("jti")),
        (
            "as the former system wrote it",
            good.without("client_id")
                .without("jti")
                .with("iss", "\"https://old.example\"")
                .with("aud", r#"["old-api"]"#),
        ),
    ] {
        let token = holder.sign(&legacy, claims.text());
        cases.push(Case::new(format!("imported: {name}"), token, Accepted));
    }
    cases
}

fn payloads(house: &House, holder: &Holder) -> Vec<Case> {
    let good = house.claims();
    let text = good.text();
    let mut backwards = good.clone();
    backwards.0.reverse();
    let mut cases: Vec<Case> = [
        ("members backwards", backwards.text()),
        ("a blank after it", format!("{text} ")),
        ("white space around it", format!("\r\n\t {text}\n\n")),
        (
            "blanks inside",
            text.replace(",\"", " , \"").replace("\":", "\" : "),
        ),
        ("a member a line", text.replace(",\"", ",\r\n\t\"")),
        ("a thousand blanks", format!("{}{text}", " ".repeat(1000))),
        ("an escaped name", text.replace("\"aud\"", r#""\u0061ud""#)),
        (
            "escaped names all over",
            text.replace("\"exp\"", r#""\u0065\u0078\u0070""#),
        ),
        ("an escaped slash", text.replace("http://", r"http:\/\/")),
    ]
    .into_iter()
    .map(|(name, payload)| Case::new(format!("payload: {name}"), holder.mint(payload), Accepted))
    .collect();
    cases.extend(claims(&good).into_iter().map(|(name, claims)| {
        Case::new(
            format!("claims: {name}"),
            holder.mint(claims.text()),
            Accepted,
        )
    }));
    let write = holder.mint(good.clone().with("scope", "\"write\"").text());
    cases.push(Case::on(
        "/write/x",
        "claims: only the scope of the route",
        write,
        Accepted,
    ));
    let other = holder.mint(good.with("aud", r#"["other"]"#).text());
    cases.push(Case::on(
        "/other",
        "claims: the audience of the route",
        other,
        Accepted,
    ));
    cases
}

fn claims(good: &Members) -> Vec<(String, Members)> {
    let many = |n: usize| {
        let items: Vec<String> = (0..n).map(|i| format!("\"a{i}\"")).collect();
        format!("[{},\"api\"]", items.join(","))
    };
    let long = |n: usize| format!("\"{}\"", "x".repeat(n));
    let mut forms: Vec<(String, Members)> = Vec::new();
    for raw in [
        r#""\u0061pi""#,
        r#"["api"]"#,
        r#"["api","api"]"#,
        r#"["other","api"]"#,
        r#"["","api"]"#,
        r#"["API","api "," api","api"]"#,
        r#"["\ud83d\ude00","api"]"#,
        &many(63),
        &format!("[{},\"api\"]", long(1024)),
    ] {
        forms.push((format!("aud {raw}"), good.clone().with("aud", raw)));
    }
    for raw in [
        r#""read""#,
        r#""write""#,
        r#""write read""#,
        r#""read read""#,
        r#""read  write""#,
        r#""a b c d e f g h read""#,
        r#""rea\u0064""#,
        r#""read:x read""#,
        r#""READ read""#,
        r#""openid urn:x:y https://x.example/z read""#,
    ] {
        forms.push((format!("scope {raw}"), good.clone().with("scope", raw)));
    }
    let brim = format!("\"read {}\"", "x".repeat(1019));
    forms.push((
        "scope to the brim".to_owned(),
        good.clone().with("scope", brim),
    ));
    for name in ["sub", "client_id", "jti"] {
        for raw in [
            r#""a b""#,
            r#""a/b?c#d%20e""#,
            r#""<a@b.example>""#,
            r#""\"quoted\"""#,
            r#""back\\slash""#,
            r#""https:\/\/id.example\/~u""#,
            r#""\u0041""#,
            r#""null""#,
            r#""0""#,
            &long(1024),
            r#""'; DROP TABLE users; --""#,
            r#""${jndi:ldap://x}""#,
            r#"":;,|&!""#,
        ] {
            forms.push((format!("{name} {raw}"), good.clone().with(name, raw)));
        }
    }
    forms.push(("jti empty".to_owned(), good.clone().with("jti", "\"\"")));
    // Unknown claims are ignored (RFC 7519 §4), whatever they hold.
    for (name, raw) in [
        ("x", "null"),
        ("x", "1.5"),
        ("x", "1e300"),
        ("x", "-1"),
        ("x", "99999999999999999999"),
        ("x", "true"),
        ("x", "[]"),
        ("x", "{}"),
        ("x", "[[[[[[[1]]]]]]]"),
        ("x", "\"\u{e9}\u{202e}\""),
        ("x", r#""\u0000\r\n""#),
        ("x", r#"{"exp":0,"sub":7}"#),
        ("x", r#"[{"a":1},{"a":1}]"#),
        ("x", "1E4"),
        ("", "1"),
        ("EXP", "0"),
        ("Sub", "7"),
        ("exp ", "0"),
        ("alg", "\"none\""),
        ("kid", "7"),
        ("crit", r#"["exp"]"#),
        ("cnf", r#"{"jkt":"x"}"#),
        ("roles", r#"["admin"]"#),
        ("scp", r#"["read"]"#),
        ("azp", "7"),
        ("auth_time", "\"now\""),
        ("act", r#"{"sub":"x"}"#),
        ("amr", r#"["pwd"]"#),
        ("https://x.example/claim", "{}"),
    ] {
        forms.push((
            format!("an unknown one \"{name}\" {raw}"),
            good.clone().with(name, raw),
        ));
    }
    forms
}
