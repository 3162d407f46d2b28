//! Finds the bearer token of a request (RFC 6750 §2.1): in exactly one `Authorization` header,
//! never in the URL or the body.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::token::{MAX_TOKEN_BYTES, Rejection};

/// The token of the request.
///
/// # Errors
/// [`Rejection::Missing`] when there is no header or it has another scheme,
/// [`Rejection::DuplicateHeader`], [`Rejection::BrokenSyntax`] and [`Rejection::TooLarge`] when the
/// request itself is broken.
pub fn token(headers: &HeaderMap) -> Result<&[u8], Rejection> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Rejection::Missing)?.as_bytes();
    if values.next().is_some() {
        return Err(Rejection::DuplicateHeader);
    }
    let scheme_len = value.iter().position(|b| *b == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme_len);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Rejection::Missing);
    }
    // Spaces only: RFC 6750 §2.1 has no tab here, and another reader might see no token.
    let token_at = rest.iter().position(|b| *b != b' ').unwrap_or(rest.len());
    let (_spaces, token) = rest.split_at(token_at);
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Rejection::TooLarge);
    }
    if !is_b64token(token) {
        return Err(Rejection::BrokenSyntax);
    }
    Ok(token)
}

/// `b64token` of RFC 6750 §2.1. Looks at every byte whatever the ones before it were, so that the
/// compiler takes many at once: this is done for every token of every request.
fn is_b64token(token: &[u8]) -> bool {
    let body_len = token
        .iter()
        .rposition(|b| *b != b'=')
        .map_or(0, |last| last + 1);
    let (body, _padding) = token.split_at(body_len);
    let of_the_alphabet = |b: &u8| {
        let letter = (*b | 0x20).wrapping_sub(b'a') < 26;
        // `-`, `.`, `/` and the digits stand side by side.
        let dash_to_nine = b.wrapping_sub(b'-') <= b'9' - b'-';
        letter | dash_to_nine | (*b == b'_') | (*b == b'~') | (*b == b'+')
    };
    !body.is_empty()
        && body
            .iter()
            .map(of_the_alphabet)
            .fold(true, |all, one| all & one)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&[u8]]) -> Result<Vec<u8>, Rejection> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        token(&headers).map(<[u8]>::to_vec)
    }

    #[test]
    fn takes_exactly_one_token_whatever_the_case_of_the_scheme() {
        for value in [
            &b"Bearer a.b-c_d~e+f/g="[..],
            b"bearer a.b-c_d~e+f/g=",
            b"BEARER   a.b-c_d~e+f/g=",
        ] {
            assert_eq!(of(&[value]), Ok(b"a.b-c_d~e+f/g=".to_vec()));
        }
    }

    #[test]
    fn knows_the_alphabet_of_b64token() {
        for byte in 0..=u8::MAX {
            let legal = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            for token in [&[byte][..], &[b'a', byte, b'z'], &[byte; 100]] {
                assert_eq!(is_b64token(token), legal, "{byte:#04x}");
            }
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let long = [b"Bearer ".to_vec(), vec![b'a'; MAX_TOKEN_BYTES + 1]].concat();
        for (values, rejection) in [
            (vec![], Rejection::Missing),
            (vec![&b"Basic Zm9vOmJhcg=="[..]], Rejection::Missing),
            (vec![b""], Rejection::Missing),
            (vec![b"Bearerx y"], Rejection::Missing),
            (vec![b"Bearer a", b"Bearer a"], Rejection::DuplicateHeader),
            (vec![b"Basic a", b"Bearer a"], Rejection::DuplicateHeader),
            (vec![b"Bearer"], Rejection::BrokenSyntax),
            (vec![b"Bearer "], Rejection::BrokenSyntax),
            (vec![b"Bearer a b"], Rejection::BrokenSyntax),
            (vec![b"Bearer a, Bearer b"], Rejection::BrokenSyntax),
            (vec![b"Bearer\ta"], Rejection::Missing),
            (vec![b"Bearer \ta"], Rejection::BrokenSyntax),
            (vec![b"Bearer a=b"], Rejection::BrokenSyntax),
            (vec![b"Bearer =="], Rejection::BrokenSyntax),
            (vec![b"Bearer \"a\""], Rejection::BrokenSyntax),
            (vec![b"Bearer \xc3\xa9"], Rejection::BrokenSyntax),
            (vec![&long], Rejection::TooLarge),
        ] {
            assert_eq!(
                of(&values),
                Err(rejection),
                "{:?}",
                values.first().map(|v| v.escape_ascii().to_string())
            );
        }
    }
}
