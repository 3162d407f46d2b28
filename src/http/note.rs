//! What a handler tells about its answer to whoever keeps records of requests.

use std::time::{Duration, Instant};

use crate::log_id::LogId;

/// A handler puts it into its response's extensions; it never goes to the client.
#[derive(Clone, Debug, Default)]
pub struct AnswerNote {
    /// The Log ID in the answer.
    pub log_id: Option<LogId>,
    /// Why the request was refused: one of a closed set of names.
    pub reason: Option<&'static str>,
    /// Who asked, once that is proven.
    pub client_id: Option<String>,
    /// The key that signed what was handed out.
    pub kid: Option<String>,
    /// When the main work of the handler began, and how long it took.
    pub work: Option<(Instant, Duration)>,
}

impl AnswerNote {
    /// Of a refusal.
    #[must_use]
    pub fn refusal(log_id: LogId, reason: &'static str) -> Self {
        Self {
            log_id: Some(log_id),
            reason: Some(reason),
            ..Self::default()
        }
    }
}
