//! How many live tokens each client holds, of those issued since the process started.
//!
//! The ledger knows that for keys; for clients it would be too much to store. Here each pair of key
//! and client has a few numbers: tokens by the minute in which they expire. When those run out, the two
//! that lie closest are joined under the later minute, so a count is an upper bound, by a part of a
//! token's life time at most. Memory is bounded by [`MAX_HOLDERS`]; of clients beyond it nothing is
//! known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;

use super::signing_key::Kid;

/// Most pairs of key and client, about 10 MiB.
pub const MAX_HOLDERS: usize = 50_000;

/// Numbers of each pair.
const SLOTS: usize = 6;

const MINUTE_MILLIS: i64 = 60_000;

/// Tokens by key and client.
#[derive(Debug, Default)]
pub struct Holdings {
    keys: HashMap<Kid, HashMap<Arc<str>, Held>>,
    holders: usize,
}

/// Minutes of expiry with their tokens, in order; unused ones come last, with no tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held([Slot; SLOTS]);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    minute: i64,
    tokens: u32,
}

impl Holdings {
    /// Counts a token of `kid` for `client` that expires at `expires_at`.
    pub fn issued(&mut self, kid: &Kid, client: &str, expires_at: Timestamp) {
        if !self.keys.contains_key(kid) {
            self.keys.insert(kid.clone(), HashMap::new());
        }
        let Some(clients) = self.keys.get_mut(kid) else {
            return;
        };
        let minute = expires_at.as_millis().div_euclid(MINUTE_MILLIS);
        match clients.get_mut(client) {
            Some(held) => held.add(minute),
            None if self.holders < MAX_HOLDERS => {
                let mut held = Held::default();
                held.add(minute);
                clients.insert(Arc::from(client), held);
                self.holders += 1;
            }
            None => {}
        }
    }

    /// Live tokens of `client` under the keys `kids`, given the leeway that verification grants;
    /// `None` when nothing is known of it under any of them.
    #[must_use]
    pub fn live(
        &self,
        client: &str,
        kids: &[Kid],
        leeway: Duration,
        now: Timestamp,
    ) -> Option<u64> {
        let of_kid = |kid: &Kid| self.keys.get(kid)?.get(client);
        let known = kids.iter().filter_map(of_kid);
        known
            .map(|held| held.live(leeway, now))
            .reduce(|one, two| one.saturating_add(two))
    }

    /// Forgets what has expired.
    pub fn prune(&mut self, leeway: Duration, now: Timestamp) {
        for clients in self.keys.values_mut() {
            clients.retain(|_, held| held.live(leeway, now) > 0);
        }
        self.keys.retain(|_, clients| !clients.is_empty());
        self.holders = self.keys.values().map(HashMap::len).sum();
    }
}

impl Held {
    fn add(&mut self, minute: i64) {
        let slots = &mut self.0;
        if let Some(slot) = slots
            .iter_mut()
            .find(|slot| slot.tokens > 0 && slot.minute == minute)
        {
            slot.tokens = slot.tokens.saturating_add(1);
            return;
        }
        if slots.iter().all(|slot| slot.tokens > 0) {
            self.join_closest();
        }
        let slots = &mut self.0;
        if let Some(free) = slots.iter_mut().find(|slot| slot.tokens == 0) {
            *free = Slot { minute, tokens: 1 };
        }
        slots.sort_unstable_by_key(|slot| (slot.tokens == 0, slot.minute));
    }

    /// Frees a slot: the earlier one of the two that lie closest counts as the later one.
    fn join_closest(&mut self) {
        let gaps = self.0.windows(2).map(|pair| match pair {
            [one, two] => two.minute.saturating_sub(one.minute),
            _ => i64::MAX,
        });
        let closest = gaps.enumerate().min_by_key(|(_, gap)| *gap);
        let Some((at, _)) = closest else {
            return;
        };
        if let Some([earlier, later]) = self.0.get_mut(at..at + 2) {
            later.tokens = later.tokens.saturating_add(earlier.tokens);
            earlier.tokens = 0;
        }
    }

    fn live(&self, leeway: Duration, now: Timestamp) -> u64 {
        let end = |slot: &Slot| {
            let minute = slot.minute.saturating_add(1).saturating_mul(MINUTE_MILLIS);
            Timestamp::from_millis(minute).plus(leeway)
        };
        let alive = self
            .0
            .iter()
            .filter(|slot| slot.tokens > 0 && end(slot) > now);
        alive.map(|slot| u64::from(slot.tokens)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kid(name: &str) -> Kid {
        name.parse().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    #[test]
    fn counts_by_client_over_the_keys_asked_for() {
        let mut holdings = Holdings::default();
        holdings.issued(&kid("k"), "a", at(100));
        holdings.issued(&kid("k"), "a", at(3600));
        holdings.issued(&kid("other"), "a", at(3600));
        holdings.issued(&kid("k"), "b", at(100));
        let live = |client, kids: &[&str], now| {
            let kids: Vec<Kid> = kids.iter().map(|name| kid(name)).collect();
            holdings.live(client, &kids, Duration::from_secs(10), at(now))
        };
        assert_eq!(live("a", &["k", "other"], 0), Some(3));
        assert_eq!(live("a", &["k"], 0), Some(2));
        assert_eq!(live("a", &["k"], 129), Some(2));
        assert_eq!(live("a", &["k"], 130), Some(1));
        assert_eq!(live("b", &["k"], 130), Some(0));
        assert_eq!(live("c", &["k"], 0), None);
        holdings.prune(Duration::from_secs(10), at(130));
        assert_eq!(holdings.holders, 2);
    }

    #[test]
    fn the_number_of_holders_is_bounded() {
        let mut holdings = Holdings::default();
        for number in 0..=MAX_HOLDERS {
            holdings.issued(&kid("k"), &number.to_string(), at(100));
        }
        let live = |name: &str| holdings.live(name, &[kid("k")], Duration::ZERO, at(0));
        assert_eq!(live(&(MAX_HOLDERS - 1).to_string()), Some(1));
        assert_eq!(live(&MAX_HOLDERS.to_string()), None);
    }

    proptest! {
        #[test]
        fn a_count_is_an_upper_bound_and_all_at_most(
            expiries in prop::collection::vec(0..100_000_i64, 1..60),
            now in 0..110_000_i64,
        ) {
            let mut holdings = Holdings::default();
            for expiry in &expiries {
                holdings.issued(&kid("k"), "a", at(*expiry));
            }
            let live = holdings.live("a", &[kid("k")], Duration::ZERO, at(now)).unwrap();
            let truth = expiries.iter().filter(|expiry| **expiry > now).count() as u64;
            prop_assert!(live >= truth && live <= expiries.len() as u64);
            if now > expiries.iter().max().unwrap() + 60 {
                prop_assert_eq!(live, 0);
            }
        }
    }
}
