//! What keys and clients did lately, for those who look: nothing here is touched by a request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::keys::Kid;

use super::Lifecycle;
use super::admitted::Admitted;

/// Most clients whose last request is remembered; about 8 MiB.
const MAX_CLIENTS: usize = 65_536;

/// The callers of all keys are gone through at most this often, however many ask.
const FRESH: Duration = Duration::from_secs(1);

/// What a key did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyActivity {
    /// Tokens issued and not expired; at most a minute's too many.
    pub live_tokens: u64,
    /// Accepted requests of the last five minutes.
    pub requests: u64,
    /// When it was last seen to have accepted one, by looking every second; `None` when it never was
    /// since the process started.
    pub last_used_at: Option<Timestamp>,
}

/// What a client did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientActivity {
    /// Tokens that were issued to it since the process started and have not expired; an upper bound.
    /// `None` when it holds tokens from before, or is beyond the memory bound.
    pub live_tokens: Option<u64>,
    /// Its last accepted request, in whole seconds; `None` when there was none since the process
    /// started.
    pub last_seen_at: Option<Timestamp>,
}

/// When clients were last seen. Filled from what the keys know of their callers, which is forgotten
/// there after minutes.
#[derive(Debug, Default)]
pub(super) struct Sightings(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    clients: HashMap<Arc<str>, Timestamp>,
    taken_at: Option<Timestamp>,
}

impl Sightings {
    fn take<'a>(&self, keys: impl Iterator<Item = &'a Arc<Admitted>>) {
        let mut seen = self.lock();
        for key in keys {
            key.last_uses(|client, at| seen.note(client, at));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Whole entries alone; valid whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note(&mut self, client: &Arc<str>, at: Timestamp) {
        if let Some(last) = self.clients.get_mut(client) {
            *last = at.max(*last);
            return;
        }
        if self.clients.len() >= MAX_CLIENTS {
            self.forget_oldest();
        }
        self.clients.insert(Arc::clone(client), at);
    }

    /// A quarter of them at a time, so that it happens seldom.
    fn forget_oldest(&mut self) {
        let mut dates: Vec<Timestamp> = self.clients.values().copied().collect();
        let (_, border, _) = dates.select_nth_unstable(MAX_CLIENTS / 4);
        let border = *border;
        self.clients.retain(|_, at| *at > border);
    }
}

impl Lifecycle {
    /// What each key that verifies did.
    pub async fn key_activity(&self) -> HashMap<Kid, KeyActivity> {
        self.watched_figures().await.activity()
    }

    /// What each of these clients did, in their order.
    pub async fn client_activity(&self, clients: Vec<String>) -> Vec<ClientActivity> {
        let now = self.parts.clock.now();
        if self.is_due(now) {
            self.sight_clients();
        }
        let seen: Vec<Option<Timestamp>> = {
            let seen = self.sightings.lock();
            let of = |client: &String| seen.clients.get(client.as_str()).copied();
            clients.iter().map(of).collect()
        };
        let (leeway, kids) = (self.policy.timing.leeway, self.live_kids());
        let asked = clients.len();
        let held = self.issued.ask(move |counted| {
            let of = |client: &String| counted.held(client, &kids, leeway, now);
            clients.iter().map(of).collect::<Vec<Option<u64>>>()
        });
        let mut held = held.await;
        held.resize(asked, None);
        let activity = held.into_iter().zip(seen);
        activity
            .map(|(live_tokens, last_seen_at)| ClientActivity {
                live_tokens,
                last_seen_at,
            })
            .collect()
    }

    /// Takes over what the keys know of their callers, before it is forgotten there.
    pub(super) fn sight_clients(&self) {
        let receipts = self.receipts();
        let dead = receipts.iter().flat_map(|receipt| receipt.admitted());
        let snapshot = self.published.load();
        self.sightings.take(snapshot.admitted.iter().chain(dead));
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let mut seen = self.sightings.lock();
        let is_fresh = |at: Timestamp| at <= now && now.since(at) < FRESH;
        let is_due = !seen.taken_at.is_some_and(is_fresh);
        if is_due {
            seen.taken_at = Some(now);
        }
        is_due
    }

    fn live_kids(&self) -> Vec<Kid> {
        let snapshot = self.published.load();
        let live = snapshot.keys.live().iter();
        live.map(|key| key.kid.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_seen_stays_seen_when_the_keys_have_forgotten() {
        let (key, sightings) = (Arc::new(Admitted::default()), Sightings::default());
        let at = Timestamp::from_seconds;
        drop(key.enter("a", 0, at(100)));
        sightings.take([&key].into_iter());
        key.prune(at(1000));
        sightings.take([&key].into_iter());
        assert_eq!(sightings.lock().clients.get("a"), Some(&at(100)));
        drop(key.enter("a", 0, at(1000)));
        sightings.take([&key].into_iter());
        assert_eq!(sightings.lock().clients.get("a"), Some(&at(1000)));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut seen = Seen::default();
        for number in 0..=MAX_CLIENTS {
            let at = Timestamp::from_seconds(i64::try_from(number).unwrap());
            seen.note(&Arc::from(number.to_string()), at);
        }
        assert!(seen.clients.len() <= MAX_CLIENTS * 3 / 4 + 1);
        assert!(!seen.clients.contains_key("0"));
        let newest = MAX_CLIENTS.to_string();
        assert!(seen.clients.contains_key(newest.as_str()));
        seen.note(&Arc::from(newest.as_str()), Timestamp::from_seconds(0));
        let kept = seen.clients[newest.as_str()].as_seconds();
        assert_eq!(kept, i64::try_from(MAX_CLIENTS).unwrap());
    }
}
