//! W3C Trace Context: the identity of a trace, and its `traceparent`.
//!
//! <https://www.w3.org/TR/trace-context/>. What comes from outside is a claim: it is taken over when
//! it is well-formed and never trusted for anything but joining spans. Pure.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Length of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// Names a trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// Names a span within a trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// A fresh one. Unpredictable for who sees others of it, and no secret.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        let halves = [random_u64(), random_u64()];
        bytes
            .iter_mut()
            .zip(halves.iter().flat_map(|half| half.to_be_bytes()))
            .for_each(|(to, from)| *to = from);
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Its last four bytes, which are random in every trace, as a number.
    #[must_use]
    pub const fn number(&self) -> u32 {
        let [.., a, b, c, d] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

impl SpanId {
    /// A fresh one.
    #[must_use]
    pub fn random() -> Self {
        Self(random_u64().to_be_bytes())
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A random number that is not 0, without a system call: each `RandomState` of a thread has keys of
/// its own, drawn from the system once a thread.
fn random_u64() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

/// What a caller says of the trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span.
    pub parent: SpanId,
    /// Whether the caller records it.
    pub sampled: bool,
}

impl Traceparent {
    /// Parses the fields of that name (§3.2); `None` when there is not exactly one, or it is not
    /// well-formed.
    #[must_use]
    pub fn parse<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let field = fields.next()?;
        if fields.next().is_some() {
            return None;
        }
        let field: &[u8] = field.trim_ascii();
        let (known, rest) = field.split_at_checked(TRACEPARENT_BYTES)?;
        let dashes = [2, 35, 52].map(|at| known.get(at));
        if dashes != [Some(&b'-'); 3] {
            return None;
        }
        let [version]: [u8; 1] = hex(known.get(..2)?)?;
        // A later version may add fields behind, after another dash.
        let is_well_ended = rest.is_empty() || (version > 0 && rest.starts_with(b"-"));
        if version == 0xff || !is_well_ended {
            return None;
        }
        let trace_id: [u8; 16] = hex(known.get(3..35)?)?;
        let parent: [u8; 8] = hex(known.get(36..52)?)?;
        let [flags]: [u8; 1] = hex(known.get(53..)?)?;
        if trace_id == [0; 16] || parent == [0; 8] {
            return None;
        }
        Some(Self {
            trace_id: TraceId(trace_id),
            parent: SpanId(parent),
            sampled: flags & 1 == 1,
        })
    }
}

impl fmt::Display for Traceparent {
    /// The field value, version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{}-{flags:02x}", self.trace_id, self.parent)
    }
}

/// Bytes out of lower-case hexadecimal digits, exactly so many.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (to, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *to = digit(*high)? * 16 + digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(field: &str) -> Option<Traceparent> {
        Traceparent::parse([field.as_bytes()].into_iter())
    }

    #[test]
    fn a_good_traceparent_reads_and_prints_alike() {
        let parsed = parse(GOOD).unwrap();
        assert_eq!(parsed.to_string(), GOOD);
        assert!(parsed.sampled);
        assert_eq!(
            parsed.trace_id.to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(parsed.parent.to_string(), "b7ad6b7169203331");
        let unsampled = parse(&GOOD.replace("-01", "-00")).unwrap();
        assert!(!unsampled.sampled);
        // Flags of the future are not passed on.
        assert_eq!(
            parse(&GOOD.replace("-01", "-ff")).unwrap().to_string(),
            GOOD
        );
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(parse(&later), parse(GOOD));
        assert_eq!(
            parse(&format!("{later}-what-the-future-brings")),
            parse(GOOD)
        );
        assert_eq!(parse(&format!("{later}.x")), None);
    }

    #[test]
    fn what_is_not_well_formed_is_no_traceparent() {
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let twice = [GOOD.as_bytes(), GOOD.as_bytes()];
        assert_eq!(Traceparent::parse(twice.into_iter()), None);
    }

    #[test]
    fn fresh_ids_differ_and_are_never_zero() {
        let ids: std::collections::HashSet<String> =
            (0..10_000).map(|_| SpanId::random().to_string()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(!ids.contains("0000000000000000"));
        assert_eq!(TraceId::random().to_string().len(), 32);
    }
}
