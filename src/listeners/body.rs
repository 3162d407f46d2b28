//! Where the body of an HTTP/1 request ends, so that nothing behind it is read with it.

use super::chunks::Chunks;

/// What is still to come of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Until the last chunk and its trailers.
    Chunked(Chunks),
}

impl Body {
    /// Whether nothing more is to come.
    pub(super) const fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.are_done(),
        }
    }
}
