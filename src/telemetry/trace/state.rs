//! W3C Trace Context: the `tracestate`, what the tracing systems of callers say to each other.
//!
//! <https://www.w3.org/TR/trace-context/#tracestate-header>. Nothing here understands a member. Pure.

use crate::telemetry::redaction::holds_token;

/// Longest `tracestate` that is passed on, all its fields together (§3.3.1.5).
const MAX_TRACESTATE_BYTES: usize = 512;

/// Most members of a `tracestate` (§3.3.1.1).
const MAX_TRACESTATE_MEMBERS: usize = 32;

/// Whether the fields of that name may be passed on as they are: a list within the bounds that every
/// receiver must take, of members that look like some. Otherwise all of them are dropped (§3.3.1.5).
pub fn is_tracestate<'a>(fields: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut bytes, mut members) = (0, 0);
    for field in fields {
        // The comma that joins it to the one before.
        bytes += field.len() + usize::from(bytes > 0);
        if bytes > MAX_TRACESTATE_BYTES {
            return false;
        }
        for member in field.split(|byte| *byte == b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            members += 1;
            if members > MAX_TRACESTATE_MEMBERS || !is_member(member) {
                return false;
            }
        }
    }
    true
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else {
        return false;
    };
    let (key, value) = member.split_at(equals);
    let of_key =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let of_value = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b',' && *byte != b'=';
    let value = value.get(1..).unwrap_or_default();
    !key.is_empty()
        && key.len() <= 256
        && key.iter().all(of_key)
        && !value.is_empty()
        && value.len() <= 256
        && value.iter().all(of_value)
}

/// The fields of that name as one list, for a span; `None` when they may not be passed on, or say
/// nothing. A member that might hold a token of ours is left out.
#[must_use]
pub fn tracestate<'a, I: Iterator<Item = &'a [u8]>>(fields: impl Fn() -> I) -> Option<Box<str>> {
    if !is_tracestate(fields()) {
        return None;
    }
    let mut list = String::new();
    let members = fields().flat_map(|field| field.split(|byte| *byte == b','));
    for member in members.map(<[u8]>::trim_ascii) {
        let Ok(text) = std::str::from_utf8(member) else {
            continue;
        };
        if text.is_empty() || holds_token(member) {
            continue;
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(text);
    }
    (!list.is_empty()).then(|| list.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracestate_is_bounded() {
        let fine = |fields: &[&str]| is_tracestate(fields.iter().map(|field| field.as_bytes()));
        assert!(fine(&[]));
        assert!(fine(&[
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
            "a@b=c d"
        ]));
        assert!(fine(&["a=1,, ,b=2"]), "empty members are allowed");
        for bad in [
            "a", "=1", "a=", "A=1", "a=1=2", "a=\u{1}", "a=\u{e9}", "a b=1",
        ] {
            assert!(!fine(&[bad]), "{bad}");
        }
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=v")).collect();
        assert!(!fine(&[&many.join(",")]));
        assert!(fine(&[&many[..32].join(",")]));
        assert!(!fine(&[
            &format!("a={}", "x".repeat(250)),
            &format!("b={}", "x".repeat(250)),
            "c=1234567"
        ]));
    }

    #[test]
    fn a_tracestate_for_a_span_is_one_list_without_tokens() {
        let list = |fields: &[&str]| {
            let list = tracestate(|| fields.iter().map(|field| field.as_bytes()));
            list.map(String::from)
        };
        let all = |text: &str| Some(text.to_owned());
        assert_eq!(list(&["a=1, b=2", ",c=3"]), all("a=1,b=2,c=3"));
        assert_eq!(list(&["a=1,b=eyJhbGciOiJFUzI1NiJ9.e30.x"]), all("a=1"));
        assert_eq!(list(&[]), None);
        assert_eq!(list(&[" , "]), None);
        assert_eq!(list(&["a=1,B=2"]), None);
    }
}
