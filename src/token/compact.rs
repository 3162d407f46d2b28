//! The text of a token before any key is asked: three strict segments, and a strict header.

use std::str;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::keys::Algorithm;
use crate::keys::signing_key::MAX_KID_BYTES;

use super::strict_json::parse_object;
use super::{MAX_TOKEN_BYTES, Rejection};

/// Header parameters that a token of ours never has; each one has been an attack (RFC 8725 §3.10,
/// RFC 7515 §4.1.11, RFC 7797, RFC 7516).
const FORBIDDEN_PARAMETERS: [&str; 10] = [
    "crit", "b64", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "enc", "zip",
];

/// Longest header segment: 1 KiB of JSON. Ours have a tenth of it, and a header is parsed before any
/// signature vouches for it, so a longer one must not make a refusal dearer than an acceptance.
const MAX_HEADER_SEGMENT: usize = (MAX_HEADER_BYTES * 4).div_ceil(3);

/// The same, decoded.
pub(super) const MAX_HEADER_BYTES: usize = 1024;

/// Most values in a header, at all depths together: ours have three, the RFCs know eleven, and each costs
/// a tenth of a microsecond or two before a signature vouches for it.
pub(super) const MAX_HEADER_VALUES: usize = 16;

/// The three segments of a compact JWS (RFC 7515 §3.1) with the decoded header and payload.
pub(super) struct Compact<'a> {
    pub(super) header: &'a str,
    pub(super) header_json: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) signature: &'a str,
    pub(super) signed: &'a [u8],
    pub(super) whole: &'a [u8],
}

impl<'a> Compact<'a> {
    pub(super) fn split(token: &'a [u8]) -> Result<Self, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::TooLarge);
        }
        let text = str::from_utf8(token).map_err(|_not_text| Rejection::Malformed)?;
        let (signed, signature) = text.rsplit_once('.').ok_or(Rejection::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Rejection::Malformed)?;
        if header.len() > MAX_HEADER_SEGMENT {
            return Err(Rejection::Malformed);
        }
        let decode = |segment: &str| URL_SAFE_NO_PAD.decode(segment);
        // Strict base64url everywhere before any key is looked up; a stray dot is not base64url.
        match (decode(header), decode(payload)) {
            (Ok(header_json), Ok(payload))
                if !payload.is_empty() && is_strict_base64url(signature) =>
            {
                Ok(Self {
                    header,
                    header_json,
                    payload,
                    signature,
                    signed: signed.as_bytes(),
                    whole: token,
                })
            }
            _ => Err(Rejection::Malformed),
        }
    }
}

/// Unpadded base64url with no stray bits in the last character (RFC 4648 §3.5).
fn is_strict_base64url(segment: &str) -> bool {
    let mut scratch = [0; MAX_TOKEN_BYTES];
    URL_SAFE_NO_PAD.decode_slice(segment, &mut scratch).is_ok()
}

/// The header of a token that none of our keys mints.
pub(super) struct Header {
    pub(super) alg: Algorithm,
    pub(super) kid: String,
    pub(super) typ: String,
}

impl Header {
    pub(super) fn parse(json: &[u8]) -> Result<Self, Rejection> {
        let (alg, members) = Self::members(json)?;
        let typ = members
            .get("typ")
            .and_then(Value::as_str)
            .ok_or(Rejection::BadType)?;
        let kid = text(&members, "kid")?;
        if kid.len() > MAX_KID_BYTES {
            return Err(Rejection::Malformed);
        }
        Ok(Self {
            alg,
            kid: kid.to_owned(),
            typ: typ.to_owned(),
        })
    }

    /// The strict object with an algorithm of ours and nothing forbidden.
    pub(super) fn members(json: &[u8]) -> Result<(Algorithm, Map<String, Value>), Rejection> {
        let members = parse_object(json, MAX_HEADER_VALUES).ok_or(Rejection::Malformed)?;
        let alg = text(&members, "alg")?
            .parse::<Algorithm>()
            .map_err(|_other| Rejection::AlgNotAllowed)?;
        if FORBIDDEN_PARAMETERS
            .iter()
            .any(|name| members.contains_key(*name))
        {
            return Err(Rejection::Malformed);
        }
        Ok((alg, members))
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<&'a str, Rejection> {
    members
        .get(name)
        .and_then(Value::as_str)
        .ok_or(Rejection::Malformed)
}

/// RFC 9068 §4 with the optional prefix of RFC 7515 §4.1.9, case-insensitively.
pub(super) fn is_access_token_type(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_segment_has_a_bound_of_its_own() {
        let token = |length: usize| {
            let header = format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
            format!("{}.e30.e30", URL_SAFE_NO_PAD.encode(header))
        };
        assert!(Compact::split(token(MAX_HEADER_BYTES).as_bytes()).is_ok());
        let longer = token(MAX_HEADER_BYTES + 1);
        let refused = Compact::split(longer.as_bytes()).map(|_compact| ());
        assert_eq!(refused, Err(Rejection::Malformed));
    }
}
