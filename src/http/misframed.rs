//! A body that breaks the rules of its framing, as a listener's guard tells it to the work on it.

use std::{fmt, io};

use pingora::Error;

/// The body of a request is not framed as RFC 9112 §7.1 demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misframed;

impl Misframed {
    /// Whether it is what a read failed of.
    #[must_use]
    pub fn is_cause_of(error: &Error) -> bool {
        let root = error.root_cause().downcast_ref::<io::Error>();
        root.and_then(io::Error::get_ref)
            .is_some_and(|inner| inner.is::<Self>())
    }
}

impl fmt::Display for Misframed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the chunked request body is malformed")
    }
}

impl std::error::Error for Misframed {}

impl From<Misframed> for io::Error {
    fn from(misframed: Misframed) -> Self {
        Self::new(io::ErrorKind::InvalidData, misframed)
    }
}
