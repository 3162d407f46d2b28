//! The timings of the key life cycle and the relations R1–R7 that make them safe together.
//!
//! No switch disables a relation: a configuration that violates one does not start.

use std::time::Duration;

use thiserror::Error;

use crate::clock::Timestamp;

/// Most keys (pending, active, deprecated) that a set may hold.
pub const MAX_KEYS: usize = 64;

/// Longest token life time that can be configured.
pub const MAX_TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// Largest leeway that can be configured.
pub const MAX_LEEWAY: Duration = Duration::from_secs(60);

/// How long a purged key's tombstone is kept at least, so that failures stay classified.
pub const PURGED_TOMBSTONE_MIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a retired key's tombstone outlives its `verify_until`.
pub const RETIRED_TOMBSTONE: Duration = Duration::from_secs(24 * 3600);

/// How long a replica that lost its store keeps verifying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationGrace {
    /// As long as its lease, no longer.
    Strict,
    /// This long.
    For(Duration),
    /// For ever.
    Offline,
}

/// Every duration that the life cycle depends on. Built by `config`, checked by [`Timing::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Longest life time of a token that any client may get.
    pub max_token_ttl: Duration,
    /// Tolerance for `exp`, `nbf` and `iat`.
    pub leeway: Duration,
    /// Longest `max-age` of a JWKS answer.
    pub jwks_max_age: Duration,
    /// Shortest time that a key stands published before it may sign.
    pub prepublish: Duration,
    /// How long after an activation a repeated Rotate changes nothing.
    pub idempotency_window: Duration,
    /// Time between automatic rotations.
    pub rotation_interval: Duration,
    /// How long a replica may act on what it last heard from the store.
    pub replica_lease: Duration,
    /// Time between two heartbeats of a replica.
    pub heartbeat: Duration,
    /// How long a planned activation waits for the replicas.
    pub barrier_timeout: Duration,
    /// How long a replica that lost its store goes on.
    pub isolation_grace: IsolationGrace,
    /// How long a replica that missed a commit may still sign with the old key.
    pub sign_drain: Duration,
    /// Largest difference between two clocks of the group (`k` in the design).
    pub clock_offset_max: Duration,
    /// Whether several replicas share the store; with one, `sign_drain` may be zero.
    pub replicated: bool,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            max_token_ttl: Duration::from_secs(3600),
            leeway: Duration::from_secs(60),
            jwks_max_age: Duration::from_secs(300),
            prepublish: Duration::from_secs(600),
            idempotency_window: Duration::from_secs(600),
            rotation_interval: Duration::from_secs(24 * 3600),
            replica_lease: Duration::from_secs(10),
            heartbeat: Duration::from_secs(3),
            barrier_timeout: Duration::from_secs(15),
            isolation_grace: IsolationGrace::For(Duration::from_secs(300)),
            sign_drain: Duration::ZERO,
            clock_offset_max: Duration::from_secs(5),
            replicated: false,
        }
    }
}

/// A violated relation between timings: which one, with the values that break it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("timing relation {relation} is violated: {rule}; {values}")]
pub struct TimingError {
    /// `R1` … `R7`, or `bounds`.
    pub relation: &'static str,
    /// Configuration key (below `keys` or `issuer`) that is nearest to the cause.
    pub key: &'static str,
    /// The rule in words.
    pub rule: &'static str,
    /// The values that violate it.
    pub values: String,
}

impl Timing {
    /// Time from deprecation to the last moment at which a token of a key with `max_ttl` verifies.
    #[must_use]
    pub fn verify_span(&self, max_ttl: Duration) -> Duration {
        self.sign_drain + max_ttl + self.leeway + self.clock_offset_max
    }

    /// Last moment at which a key deprecated at `deprecated_at` verifies.
    #[must_use]
    pub fn verify_until(&self, deprecated_at: Timestamp, max_ttl: Duration) -> Timestamp {
        deprecated_at.plus(self.verify_span(max_ttl))
    }

    /// Checks the bounds and R1–R7.
    ///
    /// # Errors
    /// The first violated relation, with its values.
    pub fn check(&self) -> Result<(), TimingError> {
        let relations: [(bool, &'static str, &'static str, &'static str, String); 11] = [
            (
                self.max_token_ttl > Duration::ZERO && self.max_token_ttl <= MAX_TOKEN_TTL,
                "bounds",
                "token_ttl",
                "1s ≤ token_ttl ≤ 24h",
                format!("token_ttl is {:?}", self.max_token_ttl),
            ),
            (
                self.leeway <= MAX_LEEWAY,
                "bounds",
                "leeway",
                "leeway ≤ 60s",
                format!("leeway is {:?}", self.leeway),
            ),
            (
                !self.heartbeat.is_zero() && self.heartbeat < self.replica_lease,
                "bounds",
                "heartbeat",
                "0 < heartbeat < replica_lease",
                format!(
                    "heartbeat is {:?}, replica_lease {:?}",
                    self.heartbeat, self.replica_lease
                ),
            ),
            (
                2 * self.jwks_max_age <= self.prepublish,
                "R1",
                "prepublish",
                "prepublish ≥ 2 × jwks_max_age",
                format!(
                    "prepublish is {:?}, jwks_max_age {:?}",
                    self.prepublish, self.jwks_max_age
                ),
            ),
            (
                self.prepublish >= self.jwks_max_age + self.replica_lease + self.barrier_timeout,
                "R2",
                "prepublish",
                "prepublish ≥ jwks_max_age + replica_lease + barrier_timeout",
                format!(
                    "prepublish is {:?}, jwks_max_age {:?}, replica_lease {:?}, barrier_timeout {:?}",
                    self.prepublish, self.jwks_max_age, self.replica_lease, self.barrier_timeout
                ),
            ),
            (
                self.idempotency_window >= self.prepublish,
                "R3",
                "idempotency_window",
                "idempotency_window ≥ prepublish",
                format!(
                    "idempotency_window is {:?}, prepublish {:?}",
                    self.idempotency_window, self.prepublish
                ),
            ),
            (
                self.rotation_interval >= 2 * self.idempotency_window,
                "R4",
                "rotation_interval",
                "rotation_interval ≥ 2 × idempotency_window",
                format!(
                    "rotation_interval is {:?}, idempotency_window {:?}",
                    self.rotation_interval, self.idempotency_window
                ),
            ),
            (
                self.keys_at_steady_state() <= MAX_KEYS as u128,
                "R5",
                "rotation_interval",
                "ceil((max token_ttl + sign_drain + leeway + clock_offset_max) / rotation_interval) + 3 ≤ 64 keys",
                format!("these timings need {} keys", self.keys_at_steady_state()),
            ),
            (
                self.barrier_timeout > self.replica_lease,
                "R6",
                "barrier_timeout",
                "barrier_timeout > replica_lease",
                format!(
                    "barrier_timeout is {:?}, replica_lease {:?}",
                    self.barrier_timeout, self.replica_lease
                ),
            ),
            (
                !self.replicated || self.isolation_grace != IsolationGrace::Offline,
                "R7",
                "isolation_grace",
                "sign_drain ≥ isolation_grace + replica_lease, so isolation_grace: offline needs one replica",
                "isolation_grace is offline".to_owned(),
            ),
            (
                !self.replicated || self.sign_drain >= self.isolation_span() + self.replica_lease,
                "R7",
                "sign_drain",
                "sign_drain ≥ isolation_grace + replica_lease (0 is allowed with one replica)",
                format!(
                    "sign_drain is {:?}, isolation_grace {:?}, replica_lease {:?}",
                    self.sign_drain,
                    self.isolation_span(),
                    self.replica_lease
                ),
            ),
        ];
        relations.into_iter().find(|(holds, ..)| !holds).map_or(
            Ok(()),
            |(_, relation, key, rule, values)| {
                Err(TimingError {
                    relation,
                    key,
                    rule,
                    values,
                })
            },
        )
    }

    fn isolation_span(&self) -> Duration {
        match self.isolation_grace {
            IsolationGrace::Strict => self.replica_lease,
            IsolationGrace::For(grace) => grace,
            IsolationGrace::Offline => Duration::ZERO,
        }
    }

    fn keys_at_steady_state(&self) -> u128 {
        let interval = self.rotation_interval.as_millis().max(1);
        self.verify_span(self.max_token_ttl)
            .as_millis()
            .div_ceil(interval)
            + 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violated(change: impl FnOnce(&mut Timing)) -> &'static str {
        let mut timing = Timing::default();
        change(&mut timing);
        timing.check().unwrap_err().relation
    }

    #[test]
    fn defaults_satisfy_every_relation() {
        Timing::default().check().unwrap();
    }

    #[test]
    fn each_relation_is_named_when_violated() {
        let s = Duration::from_secs;
        assert_eq!(violated(|t| t.max_token_ttl = s(24 * 3600 + 1)), "bounds");
        assert_eq!(violated(|t| t.leeway = s(61)), "bounds");
        assert_eq!(violated(|t| t.heartbeat = s(10)), "bounds");
        assert_eq!(violated(|t| t.jwks_max_age = s(301)), "R1");
        assert_eq!(violated(|t| t.barrier_timeout = s(400)), "R2");
        assert_eq!(violated(|t| t.idempotency_window = s(599)), "R3");
        assert_eq!(violated(|t| t.rotation_interval = s(1199)), "R4");
        assert_eq!(
            violated(|t| {
                t.max_token_ttl = s(24 * 3600);
                t.rotation_interval = s(1300);
            }),
            "R5"
        );
        assert_eq!(violated(|t| t.barrier_timeout = s(10)), "R6");
        assert_eq!(violated(|t| t.replicated = true), "R7");
        // A second less than the grace, or strict's lease, and the lease of a replica together.
        for (grace, span) in [
            (IsolationGrace::For(s(20)), s(20)),
            (IsolationGrace::Strict, Timing::default().replica_lease),
        ] {
            let replicated = |drain: Duration| Timing {
                replicated: true,
                isolation_grace: grace,
                sign_drain: drain,
                ..Timing::default()
            };
            let least = span + Timing::default().replica_lease;
            replicated(least).check().unwrap();
            let short = replicated(least - s(1)).check().unwrap_err();
            assert_eq!((short.relation, short.key), ("R7", "sign_drain"));
        }
    }
}
