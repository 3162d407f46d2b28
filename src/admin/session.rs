//! Sessions: who signed in with an admin token in a browser, and until when.
//!
//! A session is named by 256 random bits that only the browser has; here lies their SHA-256. It ends
//! by signing out, by standing idle, by its age, with its credential, and with the process. No more
//! than [`MAX_SESSIONS`] are open; whoever holds the most gives up the one that was idle longest, so
//! that nobody can push out anybody else. Pure but for its lock: `now` is an argument.

use std::cmp::Reverse;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::clock::Timestamp;

use super::auth::{AdminCredential, Digest, sha256};

/// Most sessions that are open at a time.
pub const MAX_SESSIONS: usize = 256;

/// How long sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Longest time without a request that the operator caused.
    pub idle_timeout: Duration,
    /// Longest time from signing in.
    pub lifetime: Duration,
}

/// The open sessions.
#[derive(Debug)]
pub struct Sessions {
    limits: SessionLimits,
    open: Mutex<Vec<Arc<Session>>>,
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            open: Mutex::default(),
        }
    }

    /// Opens a session of `credential`; the text is for its browser alone.
    pub(super) fn open(
        &self,
        credential: &AdminCredential,
        rng: &dyn SecureRandom,
        now: Timestamp,
    ) -> Result<(Zeroizing<String>, Arc<Session>), ring::error::Unspecified> {
        let mut secret = Zeroizing::new([0_u8; 32]);
        rng.fill(secret.as_mut_slice())?;
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret.as_slice()));
        let session = Arc::new(Session {
            digest: sha256(text.as_bytes()),
            credential: *credential.digest(),
            signed_in_at: now,
            expires_at: now.plus(self.limits.lifetime),
            idle_timeout: self.limits.idle_timeout,
            used_at: AtomicI64::new(now.as_millis()),
            ended: watch::Sender::new(false),
        });
        let mut open = self.lock();
        open.retain(|session| session.is_alive(now));
        while open.len() >= MAX_SESSIONS {
            let Some(index) = surplus(&open) else { break };
            open.swap_remove(index).mark_ended();
        }
        open.push(Arc::clone(&session));
        Ok((text, session))
    }

    /// The session that `text` names, if it is alive. Compares with every one in constant time.
    pub(super) fn find(&self, text: &[u8], now: Timestamp) -> Option<Arc<Session>> {
        let presented = sha256(text);
        let open = self.lock();
        let found = open.iter().fold(None, |found, session| {
            let equal: bool = session.digest.ct_eq(&presented).into();
            if equal { Some(session) } else { found }
        });
        found
            .filter(|session| session.is_alive(now))
            .map(Arc::clone)
    }

    /// Ends a session for good.
    pub(super) fn end(&self, session: &Session) {
        session.mark_ended();
        self.lock().retain(|open| !open.is_ended());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the credential with the most sessions, the one that was idle longest.
fn surplus(open: &[Arc<Session>]) -> Option<usize> {
    let held = |of: &Digest| open.iter().filter(|other| other.credential == *of).count();
    let ranked = open.iter().enumerate();
    let last =
        ranked.max_by_key(|(_, session)| (held(&session.credential), Reverse(session.used_at())));
    last.map(|(index, _)| index)
}

/// One session. An answer that goes on (a stream of events) keeps it, and ends when it does.
pub(super) struct Session {
    digest: Digest,
    credential: Digest,
    signed_in_at: Timestamp,
    expires_at: Timestamp,
    idle_timeout: Duration,
    /// When the operator last did something; Unix milliseconds.
    used_at: AtomicI64,
    ended: watch::Sender<bool>,
}

impl Session {
    /// Whether it still stands. A clock that went back behind the sign-in ends it: it was set back
    /// after a step forward, and nobody knows how long the session would live.
    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        !self.is_ended()
            && self.signed_in_at <= now
            && now < self.expires_at
            && now < self.used_at().plus(self.idle_timeout)
    }

    /// Waits until somebody ends it; time alone does not wake the waiter.
    #[allow(dead_code, reason = "for answers that go on")]
    pub(super) async fn ended(&self) {
        let mut watch = self.ended.subscribe();
        // The sender lives as long as `self`, so this ends by the word alone.
        drop(watch.wait_for(|ended| *ended).await);
    }

    /// The operator did something.
    pub(super) fn touch(&self, now: Timestamp) {
        self.used_at.store(now.as_millis(), Ordering::Relaxed);
    }

    /// The digest of the token that it was opened with.
    pub(super) const fn credential(&self) -> &Digest {
        &self.credential
    }

    pub(super) const fn signed_in_at(&self) -> Timestamp {
        self.signed_in_at
    }

    /// When it ends whatever the operator does.
    pub(super) const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// When it ends unless the operator does something.
    pub(super) fn idle_expires_at(&self) -> Timestamp {
        self.used_at().plus(self.idle_timeout).min(self.expires_at)
    }

    fn used_at(&self) -> Timestamp {
        Timestamp::from_millis(self.used_at.load(Ordering::Relaxed))
    }

    fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }

    fn mark_ended(&self) {
        self.ended.send_replace(true);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("signed_in_at", &self.signed_in_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;
    use crate::admin::Role;

    const START: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn sessions() -> Sessions {
        Sessions::new(SessionLimits {
            idle_timeout: Duration::from_secs(30),
            lifetime: Duration::from_secs(100),
        })
    }

    fn credential(name: &str) -> AdminCredential {
        AdminCredential::of_token(name.to_owned(), Role::Viewer, name.as_bytes())
    }

    fn open(sessions: &Sessions, name: &str, now: Timestamp) -> (Zeroizing<String>, Arc<Session>) {
        sessions
            .open(&credential(name), &SystemRandom::new(), now)
            .unwrap()
    }

    fn after(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_session_ends_idle_or_of_age() {
        let sessions = sessions();
        let (text, session) = open(&sessions, "a", START);
        let alive = |now| sessions.find(text.as_bytes(), now).is_some();
        assert!(alive(after(29)) && !alive(after(30)));
        session.touch(after(29));
        assert!(alive(after(58)) && !alive(after(59)));
        session.touch(after(58));
        session.touch(after(87));
        assert_eq!(session.idle_expires_at(), after(100));
        assert!(alive(after(99)) && !alive(after(100)));
        assert!(
            !alive(START.minus(Duration::from_millis(1))),
            "a clock that was set back"
        );
        assert!(sessions.find(b"", START).is_none());
        assert!(sessions.find(&text.as_bytes()[1..], START).is_none());
    }

    #[test]
    fn ending_one_leaves_the_others() {
        let sessions = sessions();
        let (first, session) = open(&sessions, "a", START);
        let (second, _) = open(&sessions, "a", START);
        assert_ne!(first, second);
        assert_eq!(first.len(), 43);
        sessions.end(&session);
        assert!(!session.is_alive(START));
        assert!(sessions.find(first.as_bytes(), START).is_none());
        assert!(sessions.find(second.as_bytes(), START).is_some());
        assert!(!format!("{sessions:?} {session:?}").contains("digest"));
    }

    #[test]
    fn whoever_has_the_most_makes_room() {
        let sessions = sessions();
        let (admin, _) = open(&sessions, "admin", START);
        let texts: Vec<_> = (0..MAX_SESSIONS + 20)
            .map(|_| open(&sessions, "viewer", after(1)).0)
            .collect();
        assert_eq!(sessions.lock().len(), MAX_SESSIONS);
        let alive = |text: &str| sessions.find(text.as_bytes(), after(1)).is_some();
        assert!(alive(&admin));
        assert!(alive(texts.last().unwrap()));
        let left = texts.iter().filter(|text| alive(text)).count();
        assert_eq!(left, MAX_SESSIONS - 1);
        open(&sessions, "viewer", after(40));
        assert_eq!(sessions.lock().len(), 1, "what has expired goes first");
    }

    #[tokio::test]
    async fn a_waiter_learns_of_the_end() {
        let sessions = sessions();
        let (_, session) = open(&sessions, "a", START);
        let waiter = Arc::clone(&session);
        let waiting = tokio::spawn(async move { waiter.ended().await });
        sessions.end(&session);
        waiting.await.unwrap();
        session.ended().await;
    }
}
