//! The canonical path: decided once, before any route is looked at, and forwarded byte for byte.
//! Routes are matched by its plain form, in which all spellings of one path are the same.
//!
//! What two readers could understand differently is refused: dot segments, empty segments,
//! encoded slashes, dots, percent signs and NULs, parameters (`;`), backslashes, fragments.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A path that may mean different things to different readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathError {
    /// Not `/…` (RFC 9112 §3.2.1).
    NotOrigin,
    /// `.` or `..` as a segment.
    DotSegment,
    /// `//`.
    EmptySegment,
    /// A percent sign without two hexadecimal digits, or an encoded byte that changes meaning.
    Encoding,
    /// A byte that has no place in a path (RFC 3986 §3.3), or `;`.
    Character,
}

impl PathError {
    /// The rule, for the client and the log.
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::NotOrigin => "the request target does not begin with a slash",
            Self::DotSegment => "the path has a dot segment",
            Self::EmptySegment => "the path has an empty segment",
            Self::Encoding => {
                "the path has a percent-encoding that is broken or hides a special character"
            }
            Self::Character => "the path has a character that is not allowed",
        }
    }
}

/// The canonical form of `raw`; `None` when `raw` already is.
///
/// Encoded unreserved characters are decoded and the hexadecimal digits of the others are put in
/// upper case (RFC 3986 §6.2.2).
///
/// # Errors
/// [`PathError`] when the path is ambiguous.
pub(super) fn canonical(raw: &str) -> Result<Option<String>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::NotOrigin);
    }
    let plain = raw.bytes().all(|b| is_path_byte(b) && b != b'%');
    let decoded = if plain { None } else { Some(decode(raw)?) };
    let path = decoded.as_deref().unwrap_or(raw);
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err(PathError::DotSegment),
            "" if segments.peek().is_some() => return Err(PathError::EmptySegment),
            _ => {}
        }
    }
    Ok(decoded.filter(|decoded| decoded != raw))
}

/// `canonical` with every character decoded that a path may hold as it is. RFC 3986 §2.2 lets `%3A`
/// and `:` name two things, but most services take them for one, so a rule for either is a rule for
/// both. What stays encoded has one spelling in a canonical path.
pub(super) fn plain_form(canonical: &str) -> Cow<'_, str> {
    let Some((start, escaped)) = canonical.split_once('%') else {
        return Cow::Borrowed(canonical);
    };
    let mut plain = String::with_capacity(canonical.len());
    plain.push_str(start);
    for part in escaped.split('%') {
        let value = part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|value| is_path_byte(*value) && !matches!(value, b'%' | b'/'));
        match (value, part.get(2..)) {
            (Some(value), Some(rest)) => {
                plain.push(char::from(value));
                plain.push_str(rest);
            }
            _ => {
                plain.push('%');
                plain.push_str(part);
            }
        }
    }
    Cow::Owned(plain)
}

fn decode(raw: &str) -> Result<String, PathError> {
    let mut path = String::with_capacity(raw.len());
    // What the path says when every encoding is taken off: it must be text.
    let mut plain = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if !is_path_byte(byte) {
                return Err(PathError::Character);
            }
            path.push(char::from(byte));
            plain.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = digit().zip(digit()).ok_or(PathError::Encoding)?;
        let value = u8::try_from(high * 16 + low).map_err(|_two_digits_fit| PathError::Encoding)?;
        plain.push(value);
        match value {
            b'/' | b'\\' | b'.' | b'%' | b';' | b'?' | b'#' | 0..0x20 | 0x7f => {
                return Err(PathError::Encoding);
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                path.push(char::from(value));
            }
            other => {
                // Writing to a String cannot fail.
                let _ = write!(path, "%{other:02X}");
            }
        }
    }
    match std::str::from_utf8(&plain) {
        Ok(_text) => Ok(path),
        Err(_not_utf8) => Err(PathError::Encoding),
    }
}

/// `pchar` and `/` of RFC 3986 §3.3, without `;`.
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
                | b'/'
                | b'%'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_stay_as_they_are() {
        for path in ["/", "/a", "/a/b/", "/a.b/..c/c..", "/@x:y,z=1"] {
            assert_eq!(canonical(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn harmless_encodings_get_one_spelling() {
        assert_eq!(canonical("/%61%2d%c3%a9"), Ok(Some("/a-%C3%A9".to_owned())));
        assert_eq!(canonical("/%20"), Ok(None));
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for (path, error) in [
            ("a", PathError::NotOrigin),
            ("*", PathError::NotOrigin),
            ("", PathError::NotOrigin),
            ("/a/../b", PathError::DotSegment),
            ("/.", PathError::DotSegment),
            ("/a/.", PathError::DotSegment),
            ("//a", PathError::EmptySegment),
            ("/a//", PathError::EmptySegment),
            ("/%2e%2e/", PathError::Encoding),
            ("/a%2fb", PathError::Encoding),
            ("/a%5Cb", PathError::Encoding),
            ("/a%00", PathError::Encoding),
            ("/a%2561", PathError::Encoding),
            ("/a%3bx", PathError::Encoding),
            ("/a%", PathError::Encoding),
            ("/a%4", PathError::Encoding),
            ("/a%zz", PathError::Encoding),
            ("/%ff", PathError::Encoding),
            ("/%c3%28", PathError::Encoding),
            ("/a;x", PathError::Character),
            ("/a\\b", PathError::Character),
            ("/a#b", PathError::Character),
            ("/\u{e9}", PathError::Character),
        ] {
            assert_eq!(canonical(path), Err(error), "{path}");
        }
    }

    #[test]
    fn the_plain_form_has_one_spelling_of_every_character() {
        for (canonical, plain) in [
            ("/a", "/a"),
            ("/v1/things%3Adelete", "/v1/things:delete"),
            ("/%40%21%24%26%27%28%29%2A%2B%2C%3D%3A", "/@!$&'()*+,=:"),
            ("/%C3%A9%20%7C", "/%C3%A9%20%7C"),
        ] {
            assert_eq!(plain_form(canonical), plain);
        }
        assert!(matches!(plain_form("/a:b"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn canonical_form_is_a_fixed_point(path in "/[ -~]{0,40}") {
            if let Ok(Some(once)) = canonical(&path) {
                prop_assert_eq!(canonical(&once), Ok(None));
            }
        }
    }
}
