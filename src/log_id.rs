//! Log ID: the UUID that joins an error answer to exactly one log line. Other streams than the log,
//! the access log and the traces, repeat it to lead there.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use uuid::Uuid;

/// The header field that shows it in every error answer: answers to HEAD and those of gRPC have no
/// body, and a script need not parse one.
pub const LOG_ID_FIELD: &str = "x-log-id";

/// A random UUID shown in an error body and written in exactly one log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct LogId(Uuid);

impl LogId {
    /// A fresh random identifier.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// An identifier made of given bytes, for a log line that several answers share.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl FromStr for LogId {
    type Err = uuid::Error;

    /// Reads the form in which answers and log lines show it.
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
