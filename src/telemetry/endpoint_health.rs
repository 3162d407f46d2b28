//! Whether an endpoint of an upstream can be used, as checks and requests find out.
//!
//! All of it is two words that requests read and write without a lock. An endpoint is *down* when the
//! last thing known of it is that no connection could be made, or when several requests in a row got
//! no answer from it. What was first seen as down stays dated so until it is up again.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use crate::clock::Timestamp;

/// So many requests in a row without an answer make an endpoint count as down although connections
/// to it can be made.
const STRIKES: u32 = 3;

/// After this a check that gets a connection lets an endpoint in again that did not answer requests:
/// nothing but requests can find out whether it does now. One more strike shuts it out again.
const TRIAL_AFTER: Duration = Duration::from_secs(30);

/// What is wrong with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody listens there.
    Refused,
    /// No connection came about in time.
    TimedOut,
    /// There is no way there.
    Unreachable,
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls,
    /// It took requests and did not answer them in time.
    Silent,
    /// It broke off, or what it answered is no HTTP.
    BrokeOff,
}

impl Trouble {
    const ALL: [Self; 6] = [
        Self::Refused,
        Self::TimedOut,
        Self::Unreachable,
        Self::Tls,
        Self::Silent,
        Self::BrokeOff,
    ];

    /// A log field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Silent => "silent",
            Self::BrokeOff => "broke_off",
        }
    }

    /// What is wrong, after the name of the endpoint, and what to do.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Refused => "refuses connections: start the service, or mend the address",
            Self::TimedOut => {
                "takes no connection in time: look whether the host is up and a firewall lets it through"
            }
            Self::Unreachable => "cannot be reached: look at the address and at the network",
            Self::Tls => {
                "fails the TLS handshake: look at its certificate, and at server_name and ca_file of the upstream"
            }
            Self::Silent => {
                "takes connections but does not answer requests in time: look at the service"
            }
            Self::BrokeOff => {
                "breaks off requests, or answers no HTTP: look at the log of the service"
            }
        }
    }

    /// Whether a connection that comes about disproves it.
    const fn is_about_connecting(self) -> bool {
        !matches!(self, Self::Silent | Self::BrokeOff)
    }
}

/// How an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// It can be used, as far as anybody knows.
    Up,
    /// It cannot.
    Down(Trouble),
}

/// One endpoint of one upstream.
#[derive(Debug)]
pub struct EndpointHealth {
    upstream: String,
    address: String,
    /// Since when, in Unix milliseconds, above eight bits of state: 0 is up, else one more than the
    /// place in [`Trouble::ALL`].
    word: AtomicU64,
    /// Requests in a row without an answer.
    strikes: AtomicU32,
}

impl EndpointHealth {
    /// An endpoint that nobody has tried yet counts as up.
    #[must_use]
    pub fn new(upstream: &str, address: &str) -> Self {
        Self {
            upstream: upstream.to_owned(),
            address: address.to_owned(),
            word: AtomicU64::new(0),
            strikes: AtomicU32::new(0),
        }
    }

    /// Name of its upstream.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// `host:port`, as configured.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether requests should go there: one load.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.word.load(Relaxed) & 0xff == 0
    }

    /// Whether an answer of it is no news: two loads.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.is_up() && self.strikes.load(Relaxed) == 0
    }

    /// How it is, and since when; `None` when it was never otherwise.
    #[must_use]
    pub fn state(&self) -> (EndpointState, Option<Timestamp>) {
        let word = self.word.load(SeqCst);
        let since = i64::try_from(word >> 8).ok().filter(|since| *since > 0);
        (state(word), since.map(Timestamp::from_millis))
    }

    /// It answered a request. True when that is news.
    pub fn answered(&self, now: Timestamp) -> bool {
        self.strikes.store(0, Relaxed);
        !self.is_up() && self.change(EndpointState::Up, now)
    }

    /// No connection could be made. True when that is news.
    pub fn not_connected(&self, trouble: Trouble, now: Timestamp) -> bool {
        self.change(EndpointState::Down(trouble), now)
    }

    /// It took a request and gave no answer to it. True when it counts as down for that now.
    pub fn not_answered(&self, trouble: Trouble, now: Timestamp) -> bool {
        let strikes = self.strikes.fetch_add(1, Relaxed).saturating_add(1);
        strikes >= STRIKES && self.change(EndpointState::Down(trouble), now)
    }

    /// A check made a connection. True when it is up again for that.
    pub fn connected(&self, now: Timestamp) -> bool {
        let (EndpointState::Down(trouble), since) = self.state() else {
            return false;
        };
        if trouble.is_about_connecting() {
            self.strikes.store(0, Relaxed);
        } else if since.is_some_and(|since| now.since(since) < TRIAL_AFTER) {
            return false;
        } else {
            self.strikes.store(STRIKES - 1, Relaxed);
        }
        self.change(EndpointState::Up, now)
    }

    /// True when it went up or down; another trouble of one that is down keeps the date.
    fn change(&self, to: EndpointState, now: Timestamp) -> bool {
        let changed = self.word.fetch_update(SeqCst, SeqCst, |word| {
            let from = state(word);
            let since = match (from, to) {
                _ if from == to => return None,
                (EndpointState::Down(_), EndpointState::Down(_)) => word >> 8,
                _ => u64::try_from(now.as_millis()).unwrap_or(0),
            };
            Some((since << 8) | code(to))
        });
        changed
            .is_ok_and(|before| (state(before) == EndpointState::Up) != (to == EndpointState::Up))
    }
}

fn state(word: u64) -> EndpointState {
    let trouble = Trouble::ALL
        .into_iter()
        .zip(1..)
        .find(|(_, code)| *code == word & 0xff);
    trouble.map_or(EndpointState::Up, |(trouble, _)| {
        EndpointState::Down(trouble)
    })
}

const fn code(state: EndpointState) -> u64 {
    match state {
        EndpointState::Up => 0,
        EndpointState::Down(trouble) => trouble as u64 + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    #[test]
    fn every_trouble_survives_its_code() {
        let endpoint = EndpointHealth::new("u", "a:1");
        assert_eq!(endpoint.state(), (EndpointState::Up, None));
        assert!(endpoint.not_connected(Trouble::Refused, at(5)));
        for trouble in Trouble::ALL {
            assert!(
                !endpoint.not_connected(trouble, at(9)),
                "it is down already"
            );
            assert_eq!(
                endpoint.state(),
                (EndpointState::Down(trouble), Some(at(5)))
            );
        }
        assert!(endpoint.answered(at(10)));
        assert_eq!(endpoint.state(), (EndpointState::Up, Some(at(10))));
        assert!(!endpoint.answered(at(11)));
    }

    #[test]
    fn three_requests_in_a_row_without_an_answer_are_a_trouble_that_a_connection_does_not_disprove()
    {
        let endpoint = EndpointHealth::new("u", "a:1");
        assert!(!endpoint.not_answered(Trouble::Silent, at(1)));
        assert!(!endpoint.not_answered(Trouble::Silent, at(1)));
        assert!(!endpoint.answered(at(1)), "it was up all the time");
        assert!(!endpoint.not_answered(Trouble::Silent, at(2)));
        assert!(!endpoint.not_answered(Trouble::Silent, at(2)));
        assert!(endpoint.not_answered(Trouble::Silent, at(3)));
        assert!(!endpoint.connected(at(32)));
        assert!(!endpoint.is_up());
        assert!(endpoint.connected(at(33)), "let in again on trial");
        assert!(
            endpoint.not_answered(Trouble::BrokeOff, at(34)),
            "once is enough"
        );
        // A connection that cannot be made is another matter: the next one disproves it.
        assert!(!endpoint.not_connected(Trouble::TimedOut, at(35)));
        assert!(endpoint.connected(at(36)));
    }
}
