//! JOSE headers, each well signed by the key that the token names unless the name says otherwise.
//!
//! A key of ours opens the door to one header only; an imported key to every header that means the
//! same.

use ring::hmac;

use crate::cases::{Case, Verdict};
use crate::harness::forge::encode;
use crate::holder::{Holder, House, Members};
use crate::json;

use Verdict::{Accepted, Refused};

/// A header and what becomes of it under a key of ours and under an imported one.
struct Form {
    name: String,
    json: String,
    own: Verdict,
    imported: Verdict,
}

fn form(name: impl Into<String>, json: impl Into<String>, verdict: Verdict) -> Form {
    Form {
        name: format!("header: {}", name.into()),
        json: json.into(),
        own: verdict,
        imported: verdict,
    }
}

/// Means the same as the minted header.
fn same(name: impl Into<String>, json: impl Into<String>) -> Form {
    Form {
        imported: Accepted,
        ..form(name, json, Refused("malformed"))
    }
}

/// Each form whose verdict is a refusal.
pub(crate) fn hostile(house: &House, holder: &Holder) -> Vec<Case> {
    let claims = house.claims().text();
    let mut cases = judged(holder, &claims);
    cases.retain(|(_, verdict)| *verdict != Accepted);
    let mut cases: Vec<Case> = cases.into_iter().map(|(case, _)| case).collect();
    cases.extend(forged(house, holder, &claims));
    cases
}

/// Each form that an imported key accepts.
pub(crate) fn legitimate(house: &House, holder: &Holder) -> Vec<Case> {
    let mut cases = judged(holder, &house.claims().text());
    cases.retain(|(_, verdict)| *verdict == Accepted);
    cases.into_iter().map(|(case, _)| case).collect()
}

/// Every way of not being an object in the place of the header.
pub(crate) fn broken_json(house: &House, holder: &Holder) -> Vec<Case> {
    let claims = house.claims().text();
    json::broken(&holder.header())
        .into_iter()
        .map(|(name, header)| {
            let token = holder.sign(header, &claims);
            Case::new(format!("header: {name}"), token, Refused("malformed"))
        })
        .collect()
}

fn judged(holder: &Holder, claims: &str) -> Vec<(Case, Verdict)> {
    let good = holder.members();
    [
        algorithms(holder, &good),
        parameters(&good),
        types(&good),
        names(holder, &good),
        spellings(holder, &good),
    ]
    .into_iter()
    .flatten()
    .map(|form| {
        let verdict = if holder.is_imported {
            form.imported
        } else {
            form.own
        };
        let token = holder.sign(&form.json, claims);
        (Case::new(form.name, token, verdict), verdict)
    })
    .collect()
}

fn algorithms(holder: &Holder, good: &Members) -> Vec<Form> {
    let own = holder.key.alg.as_str();
    let mut forms = vec![form(
        "no alg",
        good.clone().without("alg").text(),
        Refused("malformed"),
    )];
    for raw in [
        "null".to_owned(),
        "0".to_owned(),
        "true".to_owned(),
        format!("[\"{own}\"]"),
        format!("{{\"alg\":\"{own}\"}}"),
    ] {
        let json = good.clone().with("alg", &raw).text();
        forms.push(form(format!("alg {raw}"), json, Refused("malformed")));
    }
    let others = [
        "",
        "none",
        "None",
        "NONE",
        "nOnE",
        " none",
        "none ",
        "HS256",
        "HS384",
        "HS512",
        "hs256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES384",
        "ES512",
        "ES256K",
        "ESB256",
        "Ed25519",
        "Ed448",
        "ML-DSA-44",
        "dir",
        "A128KW",
        "A256GCMKW",
        "RSA-OAEP",
        "RSA1_5",
        "ECDH-ES",
        "PBES2-HS256+A128KW",
        "SHA256withECDSA",
        "SHA256withRSA",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
        "*",
        "any",
    ];
    let spelt = [
        own.to_ascii_lowercase(),
        own.to_ascii_uppercase(),
        format!("{own} "),
        format!(" {own}"),
        format!("{own},none"),
        format!("{own}\\u0000"),
        format!("{own}\\n"),
        format!("\\ufeff{own}"),
        own.replace('S', "\\uff33"),
    ];
    let rivals = ["ES256", "EdDSA", "RS256"].map(str::to_owned);
    for alg in others
        .map(str::to_owned)
        .into_iter()
        .chain(spelt)
        .chain(rivals)
        .filter(|alg| alg != own)
    {
        let json = good.clone().with("alg", format!("\"{alg}\"")).text();
        forms.push(form(
            format!("alg \"{alg}\""),
            json,
            Refused("alg_not_allowed"),
        ));
    }
    for raw in [format!("\"{own}\""), "\"none\"".to_owned()] {
        let json = good.clone().twice("alg", &raw).text();
        forms.push(form(
            format!("a second alg {raw}"),
            json,
            Refused("malformed"),
        ));
    }
    forms
}

fn parameters(good: &Members) -> Vec<Form> {
    let forbidden = [
        ("crit", r#"["exp"]"#),
        ("crit", "[]"),
        ("crit", r#""exp""#),
        ("crit", "null"),
        ("crit", r#"["b64"]"#),
        ("crit", r#"["alg","typ"]"#),
        ("b64", "false"),
        ("b64", "true"),
        ("jwk", r#"{"kty":"oct","k":"AA"}"#),
        ("jwk", "null"),
        ("jku", r#""http://127.0.0.1:1/jwks""#),
        ("jku", r#""""#),
        ("x5u", r#""http://127.0.0.1:1/chain""#),
        ("x5u", r#""file:///etc/passwd""#),
        ("x5c", r#"["AA=="]"#),
        ("x5c", "[]"),
        ("x5t", r#""AA""#),
        ("x5t#S256", r#""AA""#),
        ("enc", r#""A128GCM""#),
        ("zip", r#""DEF""#),
        // The name is the decoded one.
        (r"\u0063rit", r#"["exp"]"#),
        (r"b\u00364", "false"),
        (r"j\u0077k", "{}"),
    ];
    let mut forms: Vec<Form> = forbidden
        .iter()
        .map(|(name, raw)| {
            let json = good.clone().with(name, *raw).text();
            form(format!("{name} {raw}"), json, Refused("malformed"))
        })
        .collect();
    // Unknown ones are ignored (RFC 7515 §4), and names are compared as they are.
    for (name, raw) in [
        ("cty", r#""json""#),
        ("CRIT", r#"["exp"]"#),
        ("Alg", r#""none""#),
        ("KID", r#""another""#),
        ("iss", r#""https://elsewhere.example""#),
        ("exp", "1"),
        ("nonce", r#""x""#),
        ("", "1"),
        ("crit ", "[]"),
        ("p2c", "2147483647"),
        ("x", "null"),
        ("x", "-1.5e300"),
        ("x", "99999999999999999999999999"),
        ("x", r#""\u00e9\ud83d\ude00\/""#),
        ("x", "\"\u{e9}\u{1f600}\u{202e}\""),
        ("x", r#"{"alg":"none","crit":["exp"]}"#),
        ("x", "[[[[[[[1]]]]]]]"),
    ] {
        let json = good.clone().with(name, raw).text();
        forms.push(same(format!("an unknown parameter \"{name}\" {raw}"), json));
    }
    forms.extend(crowds(good));
    forms
}

/// At the bound of 16 values in a header, three of which are its usual ones, and just beyond.
fn crowds(good: &Members) -> [Form; 4] {
    let many = |members: usize| {
        let with = |header: Members, n: usize| header.with(&format!("x{n}"), "1");
        (0..members).fold(good.clone(), with).text()
    };
    let list = |items: usize| {
        let items = vec!["1"; items].join(",");
        good.clone().with("x", format!("[{items}]")).text()
    };
    [
        same("16 values", many(13)),
        form("17 values", many(14), Refused("malformed")),
        same("16 values, most in a list", list(12)),
        form("17 values, most in a list", list(13), Refused("malformed")),
    ]
}

fn types(good: &Members) -> Vec<Form> {
    let mut forms = vec![form(
        "no typ",
        good.clone().without("typ").text(),
        Refused("bad_type"),
    )];
    for raw in ["null", "1", "true", r#"["at+jwt"]"#, r#"{"typ":"at+jwt"}"#] {
        let json = good.clone().with("typ", raw).text();
        forms.push(form(format!("typ {raw}"), json, Refused("bad_type")));
    }
    for typ in [
        "",
        "JOSE",
        "JOSE+JSON",
        "at",
        "at-jwt",
        "at jwt",
        "at+jwt ",
        " at+jwt",
        "at+jwt\\t",
        "at+jwt\\u0000",
        "at+jwt;v=1",
        "application/at+jwt; charset=utf-8",
        "application/",
        "application/application/at+jwt",
        "text/at+jwt",
        "/at+jwt",
        "application\\\\at+jwt",
        "application/jwt ",
        "dpop+jwt",
        "logout+jwt",
        "id_token",
        "id+jwt",
        "secevent+jwt",
        "oauth-authz-req+jwt",
        "token-introspection+jwt",
        "entity-statement+jwt",
        "vc+sd-jwt",
        "refresh+jwt",
        "at+jwt,JWT",
        "JWT,at+jwt",
        "\\uff41t+jwt",
        "at\\uff0bjwt",
        "at+JW\\u0054s",
    ] {
        let json = good.clone().with("typ", format!("\"{typ}\"")).text();
        forms.push(form(format!("typ \"{typ}\""), json, Refused("bad_type")));
    }
    for typ in ["JWT", "jwt", "Jwt", "J\\u0057T"] {
        let json = good.clone().with("typ", format!("\"{typ}\"")).text();
        forms.push(Form {
            own: Refused("bad_type"),
            ..same(format!("typ \"{typ}\""), json)
        });
    }
    for typ in [
        "AT+JWT",
        "At+Jwt",
        "application/at+jwt",
        "APPLICATION/AT+JWT",
        "at\\u002bjwt",
        "application\\/at+jwt",
    ] {
        let json = good.clone().with("typ", format!("\"{typ}\"")).text();
        forms.push(same(format!("typ \"{typ}\""), json));
    }
    let json = good.clone().twice("typ", "\"at+jwt\"").text();
    forms.push(form("a second typ", json, Refused("malformed")));
    // A former system's typ goes with its kid alone.
    let stranger = good
        .clone()
        .with("kid", "\"nobody\"")
        .with("typ", "\"JWT\"");
    forms.push(form(
        "typ JWT of nobody",
        stranger.text(),
        Refused("bad_type"),
    ));
    forms
}

fn names(holder: &Holder, good: &Members) -> Vec<Form> {
    let kid = holder.key.kid.as_str();
    let mut forms = vec![form(
        "no kid",
        good.clone().without("kid").text(),
        Refused("malformed"),
    )];
    for raw in [
        "null".to_owned(),
        "7".to_owned(),
        "true".to_owned(),
        format!("[\"{kid}\"]"),
        format!("{{\"kid\":\"{kid}\"}}"),
        format!("\"{}\"", "k".repeat(129)),
        format!("\"{}\"", "k".repeat(4000)),
        // 129 bytes in 43 characters.
        format!("\"{}\"", "\u{20ac}".repeat(43)),
    ] {
        let json = good.clone().with("kid", &raw).text();
        forms.push(form(format!("kid {raw}"), json, Refused("malformed")));
    }
    let swapped: String = kid
        .chars()
        .map(|c| match c {
            c if c.is_ascii_lowercase() => c.to_ascii_uppercase(),
            c => c.to_ascii_lowercase(),
        })
        .collect();
    for name in [
        String::new(),
        "k".repeat(128),
        swapped,
        format!(" {kid}"),
        format!("{kid} "),
        format!("{kid}\\n"),
        format!("{kid}\\u0000"),
        format!("{kid}\\u0000.pem"),
        format!("{kid}="),
        format!("{kid}."),
        format!("{kid},{kid}"),
        format!("./{kid}"),
        format!("x/../{kid}"),
        format!("\\u200b{kid}"),
        kid[..kid.len() - 1].to_owned(),
        kid[1..].to_owned(),
    ]
    .into_iter()
    .chain(
        [
            "../../../../dev/null",
            "/etc/passwd",
            "..\\\\..\\\\windows\\\\win.ini",
            "%2e%2e%2fkey",
            "file:///dev/null",
            "http://127.0.0.1:1/key",
            "\\\\\\\\host\\\\share",
            "x' OR '1'='1",
            "x' UNION SELECT 'AA'--",
            "\\\"; DROP TABLE keys",
            "| id",
            "$(id)",
            "`id`",
            "; sleep 9",
            "${jndi:ldap://127.0.0.1/x}",
            "{{7*7}}",
            "<script>",
            "*",
            "?",
            "%s%n",
            "\\r\\nSet-Cookie: a=b",
            "\\u001b[31m",
            "\\u202e",
            "unknown",
            "null",
            "undefined",
            "0",
            "-1",
            "NaN",
            "true",
            "__proto__",
            "constructor",
        ]
        .map(str::to_owned),
    ) {
        let json = good.clone().with("kid", format!("\"{name}\"")).text();
        forms.push(form(
            format!("kid \"{name}\""),
            json,
            Refused("unknown_key"),
        ));
    }
    for raw in [format!("\"{kid}\""), "\"nobody\"".to_owned()] {
        let json = good.clone().twice("kid", &raw).text();
        forms.push(form(
            format!("a second kid {raw}"),
            json,
            Refused("malformed"),
        ));
    }
    forms
}

/// The same object in other words.
fn spellings(holder: &Holder, good: &Members) -> Vec<Form> {
    let minted = holder.header();
    let (alg, kid) = (holder.key.alg, &holder.key.kid);
    let mut backwards = good.clone();
    backwards.0.reverse();
    let mut turned = good.clone();
    turned.0.rotate_left(1);
    let escaped: String = kid
        .as_str()
        .bytes()
        .map(|b| format!("\\u{b:04x}"))
        .collect();
    vec![
        same("members backwards", backwards.text()),
        same("members turned", turned.text()),
        same("a blank after it", format!("{minted} ")),
        same("a blank before it", format!(" {minted}")),
        same("line feeds around it", format!("\n{minted}\r\n\t")),
        same(
            "blanks inside",
            minted.replace(',', ", ").replace(':', " : "),
        ),
        same("a member a line", minted.replace(',', ",\r\n\t")),
        same(
            "many blanks",
            minted.replace(',', &format!(",{}", " ".repeat(250))),
        ),
        form(
            "blanks beyond 1 KiB",
            minted.replace(',', &format!(",{}", " ".repeat(600))),
            Refused("malformed"),
        ),
        same(
            "an escaped name",
            minted.replace("\"alg\"", r#""\u0061lg""#),
        ),
        same(
            "an escaped kid",
            good.clone().with("kid", format!("\"{escaped}\"")).text(),
        ),
        same(
            "an escaped alg",
            good.clone()
                .with(
                    "alg",
                    format!("\"{}\"", alg.as_str().replace('S', "\\u0053")),
                )
                .text(),
        ),
    ]
}

/// What needs no private key of the named one.
fn forged(house: &House, holder: &Holder, claims: &str) -> Vec<Case> {
    let good = holder.members();
    let mut cases = Vec::new();
    let mut add = |name: &str, token: String, verdict| {
        cases.push(Case::new(format!("forged: {name}"), token, verdict));
    };
    let impostor = Holder {
        key: holder.key.impostor(),
        jwk: holder.jwk.clone(),
        is_imported: holder.is_imported,
    };
    let others: Vec<&Holder> = portcullis::keys::Algorithm::ALL
        .into_iter()
        .map(|alg| house.former(alg))
        .chain([&house.ours, &house.pending])
        .filter(|other| other.key.kid != holder.key.kid)
        .collect();
    add(
        "another's signature",
        impostor.mint(claims),
        Refused("bad_signature"),
    );
    let turned = good.clone().with("x", "1").text();
    add(
        "another's signature, another header",
        impostor.sign(&turned, claims),
        Refused("bad_signature"),
    );
    for other in &others {
        // Signed by us, in the name of another.
        let alg = holder.key.alg;
        let named = good.clone().with("kid", format!("\"{}\"", other.key.kid));
        let verdict = if other.key.alg == alg {
            Refused("bad_signature")
        } else {
            Refused("alg_not_allowed")
        };
        let name = format!("in the name of {} {}", other.name(), other.key.kid);
        add(&name, holder.sign(named.text(), claims), verdict);
        // Signed by another, in our name.
        let named = other
            .members()
            .with("kid", format!("\"{}\"", holder.key.kid));
        let name = format!("signed by {} {}", other.name(), other.key.kid);
        add(&name, other.sign(named.text(), claims), verdict);
        // The header of one with the rest of another.
        let token = other.mint(claims);
        let (_, rest) = token.split_once('.').expect("three parts");
        let token = format!("{}.{rest}", encode(holder.header()));
        let name = format!(
            "the header before a token of {} {}",
            other.name(),
            other.key.kid
        );
        add(&name, token, Refused("bad_signature"));
    }
    // The public key is no shared secret, whatever its form (CVE-2015-9235).
    let jwk = serde_json::to_string(&holder.jwk).expect("JSON");
    let kid_secret = holder.key.kid.to_string();
    for (what, secret) in [
        ("the public JWK", jwk.as_bytes()),
        ("nothing", b""),
        ("the kid", kid_secret.as_bytes()),
        ("a word", b"secret"),
    ] {
        for (alg, verdict) in [
            ("HS256", Refused("alg_not_allowed")),
            (holder.key.alg.as_str(), Refused("bad_signature")),
        ] {
            let header = good.clone().with("alg", format!("\"{alg}\"")).text();
            let message = format!("{}.{}", encode(&header), encode(claims));
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let tag = hmac::sign(&key, message.as_bytes());
            let name = format!("a MAC with {what}, said to be {alg}");
            add(&name, format!("{message}.{}", encode(tag)), verdict);
        }
    }
    for alg in ["none", "None", "NONE"] {
        let header = good.clone().with("alg", format!("\"{alg}\"")).text();
        let token = format!("{}.{}.", encode(header), encode(claims));
        add(
            &format!("no signature, alg {alg}"),
            token,
            Refused("alg_not_allowed"),
        );
    }
    let bare = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(claims));
    add("the bare unsecured form", bare, Refused("alg_not_allowed"));
    // A key that the token brings along.
    let embedded = impostor.members().with("jwk", &jwk).text();
    add(
        "an embedded key",
        impostor.sign(embedded, claims),
        Refused("malformed"),
    );
    cases
}
