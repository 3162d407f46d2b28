//! Tokens in text from outside are left out.
//!
//! People put tokens where they do not belong: into a path, a method, a name. A log is the last
//! place where one should be found, be it ours or somebody else's, valid or not: those who read a
//! log are not those who may use the token. Used by `telemetry` alone.

/// How the header of every compact token begins: a JSON object begins with `{"`, which is this in
/// base64url.
const OBJECT: [u8; 3] = *b"eyJ";

/// Whether some token begins in `text`, percent-encoded or not.
pub(super) fn holds_token(text: &[u8]) -> bool {
    let is_plain = |text: &[u8]| text.windows(OBJECT.len()).any(|window| window == OBJECT);
    is_plain(text) || (text.contains(&b'%') && is_plain(&decoded(text)))
}

/// `text` without the pieces that hold a token; a piece ends at a slash or a space, so that in a path
/// it is a segment and in a sentence a word.
pub(super) fn without_tokens(text: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(text.len());
    let is_end = |byte: &u8| *byte == b'/' || byte.is_ascii_whitespace();
    for piece in text.split_inclusive(is_end) {
        let (body, end) = match piece.split_last() {
            Some((last, body)) if is_end(last) => (body, std::slice::from_ref(last)),
            _ => (piece, &[][..]),
        };
        let body = if holds_token(body) {
            b"[redacted]"
        } else {
            body
        };
        shown.extend_from_slice(body);
        shown.extend_from_slice(end);
    }
    shown
}

/// `text` with its percent-encoding undone; what is none stays.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let value = (first == b'%')
            .then(|| Some(digit(tail.first())? * 16 + digit(tail.get(1))?))
            .flatten()
            .and_then(|value| u8::try_from(value).ok());
        out.push(value.unwrap_or(first));
        rest = match value {
            Some(_) => tail.get(2..).unwrap_or_default(),
            None => tail,
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_that_hold_a_token_are_left_out() {
        let shown = |text: &str| String::from_utf8(without_tokens(text.as_bytes())).unwrap();
        assert_eq!(shown("/a/b"), "/a/b");
        assert_eq!(shown("/a/eyJhbGciOiJFUzI1NiJ9.e30.x/b"), "/a/[redacted]/b");
        assert_eq!(shown("/Bearer%20eyJx"), "/[redacted]");
        assert_eq!(shown("/%65y%4ahbGci.e30.x//"), "/[redacted]//");
        assert_eq!(
            shown("no client \"eyJ0.e30.x\" is known"),
            "no client [redacted] is known"
        );
        for whole in ["", "/", "%", "/%6", "/%zz/%65%79", " a  b "] {
            assert_eq!(shown(whole), whole);
            assert!(!holds_token(whole.as_bytes()));
        }
    }
}
