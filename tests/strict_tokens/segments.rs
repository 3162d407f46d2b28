//! The compact form itself: how many segments, and the base64url of each.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::cases::{Case, Verdict};
use crate::harness::forge::encode;
use crate::holder::{Holder, House};

use Verdict::{Accepted, Refused};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(crate) fn hostile(house: &House, holder: &Holder) -> Vec<Case> {
    let mut cases = parts(house, holder);
    cases.extend(alphabets(house, holder));
    cases.extend(sizes(house, holder));
    cases
}

fn parts(house: &House, holder: &Holder) -> Vec<Case> {
    let claims = house.claims().text();
    let token = holder.mint(&claims);
    let (h, p, s) = split(&token);
    let malformed = Refused("malformed");
    let open = encode("{}");
    [
        ("none", String::new(), Refused("broken_syntax")),
        ("one dot", ".".to_owned(), malformed),
        ("two dots", "..".to_owned(), malformed),
        ("three dots", "...".to_owned(), malformed),
        ("eight thousand dots", ".".repeat(8000), malformed),
        ("a word", "x".to_owned(), malformed),
        ("a header", h.to_owned(), malformed),
        ("a header and a dot", format!("{h}."), malformed),
        ("a payload", p.to_owned(), malformed),
        ("a signature", s.to_owned(), malformed),
        ("header and payload", format!("{h}.{p}"), malformed),
        ("header and signature", format!("{h}.{s}"), malformed),
        (
            "an empty signature",
            format!("{h}.{p}."),
            Refused("bad_signature"),
        ),
        ("an empty payload", format!("{h}..{s}"), malformed),
        (
            "an empty payload, signed",
            holder.sign_segments(h, ""),
            malformed,
        ),
        ("an empty header", format!(".{p}.{s}"), malformed),
        (
            "an empty header, signed",
            holder.sign_segments("", p),
            malformed,
        ),
        ("only a signature", format!("..{s}"), malformed),
        ("only a payload", format!(".{p}."), malformed),
        ("only a header", format!("{h}.."), malformed),
        ("a dot before it", format!(".{token}"), malformed),
        ("a dot after it", format!("{token}."), malformed),
        ("two dots inside", format!("{h}..{p}.{s}"), malformed),
        ("two signatures", format!("{token}.{s}"), malformed),
        ("two payloads", format!("{h}.{p}.{p}.{s}"), malformed),
        (
            "an encrypted token",
            format!("{h}.{p}.{p}.{p}.{s}"),
            malformed,
        ),
        ("six", format!("{token}.{token}"), malformed),
        (
            "five, signed over four",
            holder.sign_segments(h, &format!("{p}.{p}.{p}")),
            malformed,
        ),
        ("in another order", format!("{p}.{h}.{s}"), malformed),
        ("backwards", format!("{s}.{p}.{h}"), malformed),
        (
            "the header thrice",
            format!("{h}.{h}.{h}"),
            Refused("bad_signature"),
        ),
        ("empty objects", format!("{open}.{open}.{open}"), malformed),
        (
            "commas for dots",
            token.replace('.', ","),
            Refused("broken_syntax"),
        ),
        (
            "colons for dots",
            token.replace('.', ":"),
            Refused("broken_syntax"),
        ),
        ("tildes for dots", token.replace('.', "~"), malformed),
        ("disclosures after it", format!("{token}~{p}~"), malformed),
        (
            "the JSON form",
            format!(r#"{{"payload":"{p}","protected":"{h}","signature":"{s}"}}"#),
            Refused("broken_syntax"),
        ),
        ("the whole in base64url", encode(&token), malformed),
        (
            "a macaroon",
            "MDAxY2xvY2F0aW9uIGh0dHA6Ly9teWJhbmsvCg".to_owned(),
            malformed,
        ),
        (
            "a PASETO",
            "v4.public.eyJzdWIiOiJkZW1vIn0".to_owned(),
            malformed,
        ),
        (
            "an opaque token",
            "2YotnFZFEjr1zCsicMWpAA".to_owned(),
            malformed,
        ),
    ]
    .into_iter()
    .map(|(name, token, verdict)| Case::new(format!("parts: {name}"), token, verdict))
    .collect()
}

fn alphabets(house: &House, holder: &Holder) -> Vec<Case> {
    let claims = house
        .claims()
        .with("pad", "\"\u{3ff}\u{3fe}\u{fffd}~~~???>>>\"");
    // Of a length that leaves unused bits in the last character.
    let claims = (0..3)
        .map(|n| {
            claims
                .clone()
                .with("fill", format!("\"{}\"", "x".repeat(n)))
                .text()
        })
        .find(|text| text.len() % 3 == 1)
        .expect("one of three");
    let token = holder.mint(&claims);
    let (h, p, s) = split(&token);
    let segments = [("header", h), ("payload", p), ("signature", s)];
    let mut cases = Vec::new();
    for (at, (what, good)) in segments.into_iter().enumerate() {
        let mut add = |name: &str, segment: String, verdict: Verdict| {
            let mut parts = [h, p, s];
            parts[at] = &segment;
            // Signed over the very text, so that the form alone is wrong.
            let token = if at == 2 {
                parts.join(".")
            } else {
                holder.sign_segments(parts[0], parts[1])
            };
            let verdict = match verdict {
                // Padding is of the alphabet of RFC 6750 only at the end of the token.
                Refused("padding") if at == 2 => Refused("malformed"),
                Refused("padding") => Refused("broken_syntax"),
                verdict => verdict,
            };
            cases.push(Case::new(format!("{what}: {name}"), token, verdict));
        };
        let malformed = Refused("malformed");
        let middle = good.len() / 2;
        for padding in ["=", "==", "===", "===="] {
            add(
                &format!("{padding} after it"),
                format!("{good}{padding}"),
                Refused("padding"),
            );
        }
        add(
            "% escapes for padding",
            format!("{good}%3D%3D"),
            Refused("broken_syntax"),
        );
        for odd in ["+", "/", "~"] {
            let segment = format!("{}{odd}{}", &good[..middle], &good[middle + 1..]);
            add(&format!("a {odd} inside"), segment, malformed);
        }
        for odd in [
            " ", "\t", "=", "%", ",", ";", ":", "\"", "'", "\\", "{", "*", "!", "$", "&", "|", "<",
            "@", "#", "?", "\u{e9}", "\u{200b}", "\u{ff21}",
        ] {
            let segment = format!("{}{odd}{}", &good[..middle], &good[middle..]);
            add(
                &format!("{} inside", odd.escape_unicode()),
                segment,
                Refused("broken_syntax"),
            );
        }
        let whole = good.len() / 4 * 4;
        add(
            "one character over",
            format!("{}A", &good[..whole]),
            malformed,
        );
        assert_ne!(whole, good.len(), "{what} has unused bits");
        let last = good.as_bytes()[good.len() - 1];
        let value = ALPHABET.iter().position(|c| *c == last).expect("base64url");
        for bits in [1, 2, 3] {
            let stray = char::from(ALPHABET[value | bits]);
            let segment = format!("{}{stray}", &good[..good.len() - 1]);
            add(&format!("unused bits {bits}"), segment, malformed);
        }
        add("one character", "A".to_owned(), malformed);
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(good)
            .expect("base64url");
        add("with padding", URL_SAFE.encode(&bytes), Refused("padding"));
        let standard = STANDARD.encode(&bytes);
        let standard = standard.trim_end_matches('=');
        if standard != good {
            add("the standard alphabet", standard.to_owned(), malformed);
        }
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let verdict = if at == 2 && hex.len().is_multiple_of(4) {
            Refused("bad_signature")
        } else {
            malformed
        };
        if hex.len() < 6000 {
            add("hexadecimal", hex, verdict);
        }
        let verdict = if at == 2 {
            Refused("bad_signature")
        } else {
            malformed
        };
        add("encoded twice", encode(good), verdict);
    }
    // Changed after it was signed.
    for (name, token) in [
        (
            "another payload",
            format!(
                "{h}.{}.{s}",
                encode(house.claims().with("sub", "\"root\"").text())
            ),
        ),
        ("a payload with more", format!("{h}.{p}AAAA.{s}")),
        (
            "a payload with less",
            format!("{h}.{}.{s}", &p[..p.len() / 4 * 4]),
        ),
        (
            "a payload in capitals",
            format!("{h}.{}.{s}", p[..p.len() / 4 * 4].to_ascii_uppercase()),
        ),
        ("the signature of another token", {
            let other = holder.mint(house.claims().with("jti", "\"x\"").text());
            format!("{h}.{p}.{}", split(&other).2)
        }),
    ] {
        cases.push(Case::new(
            format!("changed: {name}"),
            token,
            Refused("bad_signature"),
        ));
    }
    cases
}

fn sizes(house: &House, holder: &Holder) -> Vec<Case> {
    let brim = of_length(house, holder, 8192);
    vec![
        Case::new(
            "size: a byte too long",
            of_length(house, holder, 8196),
            Refused("too_large"),
        ),
        Case::new(
            "size: a byte behind the brim",
            format!("{brim}A"),
            Refused("too_large"),
        ),
        Case::new(
            "size: garbage to the brim",
            "A".repeat(8192),
            Refused("malformed"),
        ),
        Case::new(
            "size: garbage beyond",
            "A".repeat(8193),
            Refused("too_large"),
        ),
        Case::new(
            "size: twice as long",
            "A".repeat(16384),
            Refused("too_large"),
        ),
        Case::new("size: dots beyond", ".".repeat(8193), Refused("too_large")),
        Case::new(
            "size: beyond and broken",
            "\"".repeat(8193),
            Refused("too_large"),
        ),
        Case::new(
            "size: padding beyond",
            format!("{brim}="),
            Refused("too_large"),
        ),
    ]
}

/// The longest token, byte for byte.
pub(crate) fn brim(house: &House, holder: &Holder) -> Case {
    Case::new(
        "size: to the brim",
        of_length(house, holder, 8192),
        Accepted,
    )
}

/// A good token of exactly `length` bytes.
fn of_length(house: &House, holder: &Holder, length: usize) -> String {
    let base = house.claims().with("pad", "\"\"").text().len();
    let header = encode(holder.header()).len();
    let signature = encode(holder.key.signature(b"")).len();
    let payload = length - header - signature - 2;
    assert_ne!(payload % 4, 1, "a length that base64url has");
    let pad = "x".repeat(payload * 3 / 4 - base);
    let token = holder.mint(house.claims().with("pad", format!("\"{pad}\"")).text());
    assert_eq!(token.len(), length);
    token
}

fn split(token: &str) -> (&str, &str, &str) {
    let mut parts = token.split('.');
    let mut next = || parts.next().expect("three parts");
    (next(), next(), next())
}
