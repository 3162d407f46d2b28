//! What of the metrics the operator's surface shows of the gateway and the issuer, read at once.

use super::Metrics;
use super::labels::TokenError;

/// The metrics of one moment; totals count from the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Workers of the proxy listeners.
    pub workers: usize,
    /// Open connections of the proxy listeners.
    pub connections: u64,
    /// Requests that have begun and are not finished.
    pub requests_in_flight: u64,
    /// Log lines lost.
    pub log_lines_dropped: u64,
    /// Tokens issued.
    pub tokens_issued: u64,
    /// Token requests refused for what their client did.
    pub token_refusals: u64,
    /// Token requests that failed on our side.
    pub token_failures: u64,
    /// Tokens that a purged key signed after its purge.
    pub compromised_key_uses: u64,
    /// Unexpired tokens of a retired key.
    pub lifecycle_violations: u64,
}

impl Metrics {
    /// What there is to read now.
    #[must_use]
    pub fn readings(&self) -> Readings {
        let (issued, errors) = self.tokens.totals();
        let (ours, theirs): (Vec<_>, Vec<_>) = errors.partition(|(error, _)| is_ours(*error));
        let sum = |errors: Vec<(TokenError, u64)>| errors.iter().map(|(_, count)| count).sum();
        // The same two counters, whichever route is asked.
        let alarms = self.routes.values().next().map(|route| route.alarms());
        let (compromised_key_uses, lifecycle_violations) = alarms.unwrap_or_default();
        let positive = |values: i64| u64::try_from(values).unwrap_or(0);
        Readings {
            workers: self.workers.len(),
            connections: positive(self.workers.iter().map(|of| of.connections_now()).sum()),
            requests_in_flight: positive(self.routes.values().map(|of| of.in_flight_now()).sum()),
            log_lines_dropped: self.log_lines_dropped.now(),
            tokens_issued: issued,
            token_refusals: sum(theirs),
            token_failures: sum(ours),
            compromised_key_uses,
            lifecycle_violations,
        }
    }
}

const fn is_ours(error: TokenError) -> bool {
    matches!(
        error,
        TokenError::ServerError | TokenError::TemporarilyUnavailable
    )
}
