//! What a change makes of the clients document: pure decisions, `now` and secrets are arguments.
//!
//! Invariants: a client of the configuration is never altered, only disabled, enabled and its tokens
//! invalidated; a token issued before its client was disabled is never good again;
//! `tokens_not_before` never falls; every change that alters something raises the
//! revision by one and is in the history; what was asked for already is `None`, not a change.

use std::time::Duration;

use thiserror::Error;

use crate::clock::Timestamp;
use crate::keys::Actor;

use super::client::{ClientId, MAX_SCOPES, is_scope};
use super::document::{
    Action, ClientEvent, ClientState, ClientsDocument, DynamicClient, DynamicSecret, MAX_BYTES,
    MAX_CLIENTS, MAX_HISTORY, MAX_SECRETS, MAX_TOKEN_TTL,
};
use super::secret::SecretHash;

/// What to do to a client.
#[derive(Clone, Debug)]
pub enum ClientChange {
    /// Refuse its tokens and its logins; the tokens issued so far stay refused for good.
    Disable,
    /// Let it ask for tokens again.
    Enable,
    /// Refuse the tokens issued so far.
    Invalidate,
    /// Make a client of the store.
    Add(NewClient),
    /// Give it this secret beside the last one.
    RotateSecret(SecretHash),
    /// End the older one of two secrets.
    DropOldSecret,
    /// End a client of the store and its tokens.
    Remove,
}

/// A client of the store in the making.
#[derive(Clone, Debug)]
pub struct NewClient {
    /// Its first secret.
    pub secret: SecretHash,
    /// Scopes it may ask for.
    pub scopes: Vec<String>,
    /// Life time of its tokens; whole seconds count.
    pub token_ttl: Duration,
}

/// A change by somebody.
#[derive(Clone, Debug)]
pub struct ClientOrder {
    /// Whom it is about.
    pub client: ClientId,
    /// What to do.
    pub change: ClientChange,
    /// Who wants it.
    pub actor: Actor,
    /// In whose words why, if any.
    pub reason: Option<String>,
}

/// Why a change is refused; nothing has changed then.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClientRefusal {
    /// Nobody knows it.
    #[error(
        "there is no client `{0}`, neither in the configuration nor in the store; \
         `portcullis clients list` shows every one"
    )]
    Unknown(ClientId),
    /// The id is taken.
    #[error("there is a client `{0}` already; choose another id, or rotate its secret")]
    Exists(ClientId),
    /// The store does not alter what the configuration says.
    #[error(
        "the client `{0}` is defined in the configuration file; change it there. \
         Only disable, enable and invalidate work on it here"
    )]
    Static(ClientId),
    /// The id of a new client cannot stand in a URL.
    #[error("a client id is neither `.` nor `..`: no URL can name it; choose another id")]
    Dots,
    /// No room.
    #[error(
        "the store keeps at most {MAX_CLIENTS} clients in 8 MiB; remove clients that nobody uses"
    )]
    Full,
    /// A scope of a new client is none.
    #[error(
        "a client has at most 64 scopes, each of 1 to 128 printable ASCII characters without \
         space, `\"` and `\\` (RFC 6749 §3.3)"
    )]
    Scopes,
    /// Its tokens would live too long, or not at all.
    #[error(
        "the tokens of a client live whole seconds, 1 to {most}: no longer than the longest life \
         time that the configuration knows"
    )]
    TokenTtl {
        /// Longest life time in seconds.
        most: u64,
    },
    /// The caller looked at another revision.
    #[error("the clients are at revision {current} now; look at them again")]
    Stale {
        /// The current revision.
        current: u64,
    },
}

impl ClientChange {
    /// Its name.
    #[must_use]
    pub const fn action(&self) -> Action {
        match self {
            Self::Disable => Action::Disable,
            Self::Enable => Action::Enable,
            Self::Invalidate => Action::Invalidate,
            Self::Add(_) => Action::Add,
            Self::RotateSecret(_) => Action::RotateSecret,
            Self::DropOldSecret => Action::DropOldSecret,
            Self::Remove => Action::Remove,
        }
    }

    /// Whether tokens issued before it are refused after it, though its client lives on or may come
    /// back. While such a change is committed no token may be handed out.
    #[must_use]
    pub const fn ends_tokens(&self) -> bool {
        matches!(self, Self::Disable | Self::Invalidate | Self::Remove)
    }
}

/// The document after `order`, `None` when it changes nothing. `is_static` says whether the
/// configuration knows the client, `max_ttl` how long a token may live.
///
/// # Errors
/// [`ClientRefusal`]
pub fn apply(
    document: &ClientsDocument,
    order: &ClientOrder,
    is_static: bool,
    max_ttl: Duration,
    now: Timestamp,
) -> Result<Option<ClientsDocument>, ClientRefusal> {
    let id = &order.client;
    let dynamic = document.dynamic.get(id);
    let state = document.clients.get(id);
    if !is_static && dynamic.is_none() && state.is_none() && order.change.action() != Action::Add {
        return Err(ClientRefusal::Unknown(id.clone()));
    }
    let of_store = || match dynamic {
        Some(client) if !is_static => Ok(client.clone()),
        _ if is_static => Err(ClientRefusal::Static(id.clone())),
        _ => Err(ClientRefusal::Unknown(id.clone())),
    };
    let (disabled_at, not_before) = state.map_or((None, None), |state| {
        (state.disabled_at, state.tokens_not_before)
    });
    let mut next = document.clone();
    let mut ended = None;
    let (disabled_at, not_before) = match &order.change {
        ClientChange::Disable if disabled_at.is_some() => return Ok(None),
        ClientChange::Disable => (Some(now), invalidated(not_before, now)),
        ClientChange::Enable if disabled_at.is_none() => return Ok(None),
        // Earlier versions disabled without a date; since then it has got no token.
        ClientChange::Enable => (None, not_before.max(disabled_at.map(next_second))),
        ClientChange::Invalidate => {
            let invalidated = invalidated(not_before, now);
            if invalidated == not_before {
                return Ok(None);
            }
            (disabled_at, invalidated)
        }
        ClientChange::Add(_) if is_static || dynamic.is_some() => {
            return Err(ClientRefusal::Exists(id.clone()));
        }
        ClientChange::Add(_) if id.is_dots() => return Err(ClientRefusal::Dots),
        ClientChange::Add(client) => {
            let client = added(client, max_ttl, now)?;
            next.dynamic.insert(id.clone(), client);
            // One that was disabled under this id stays so until somebody enables it.
            (disabled_at, not_before)
        }
        ClientChange::RotateSecret(hash) => {
            let mut client = of_store()?;
            client.secrets.push(DynamicSecret {
                hash: hash.clone(),
                created_at: now,
            });
            let surplus = client.secrets.len().saturating_sub(MAX_SECRETS);
            ended = client.secrets.drain(..surplus).next_back();
            next.dynamic.insert(id.clone(), client);
            (disabled_at, not_before)
        }
        ClientChange::DropOldSecret => {
            let mut client = of_store()?;
            let surplus = client.secrets.len().saturating_sub(1);
            if surplus == 0 {
                return Ok(None);
            }
            ended = client.secrets.drain(..surplus).next_back();
            next.dynamic.insert(id.clone(), client);
            (disabled_at, not_before)
        }
        // The configuration's client of the same id goes on as it is.
        ClientChange::Remove if is_static && dynamic.is_some() => {
            next.dynamic.remove(id);
            (disabled_at, not_before)
        }
        ClientChange::Remove => {
            of_store()?;
            next.dynamic.remove(id);
            (None, invalidated(not_before, now))
        }
    };
    let state = ClientState {
        disabled_at,
        tokens_not_before: not_before,
        changed_at: now,
        changed_by: order.actor.clone(),
        reason: order.reason.clone(),
    };
    note(&mut next, order, state, ended.map(|of| of.created_at))?;
    Ok(Some(next))
}

/// The first whole second after `now`: no token issued so far has such a date, every one issued
/// from then on has. Never less than before.
fn invalidated(before: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let next = next_second(now);
    Some(match before {
        // The clock was ahead then: tokens of that second may be out, so it takes one more.
        Some(before) if before > next => next_second(before),
        _ => next,
    })
}

fn next_second(at: Timestamp) -> Timestamp {
    Timestamp::from_seconds(at.as_seconds().saturating_add(1))
}

fn added(
    client: &NewClient,
    max_ttl: Duration,
    now: Timestamp,
) -> Result<DynamicClient, ClientRefusal> {
    if client.scopes.len() > MAX_SCOPES || !client.scopes.iter().all(|scope| is_scope(scope)) {
        return Err(ClientRefusal::Scopes);
    }
    let most = max_ttl.as_secs().min(MAX_TOKEN_TTL);
    let token_ttl_seconds = client.token_ttl.as_secs();
    if !(1..=most).contains(&token_ttl_seconds) {
        return Err(ClientRefusal::TokenTtl { most });
    }
    Ok(DynamicClient {
        secrets: vec![DynamicSecret {
            hash: client.secret.clone(),
            created_at: now,
        }],
        scopes: client.scopes.clone(),
        token_ttl_seconds,
        created_at: now,
    })
}

/// Writes down who did what, within the bounds.
fn note(
    next: &mut ClientsDocument,
    order: &ClientOrder,
    state: ClientState,
    ended_secret_created_at: Option<Timestamp>,
) -> Result<(), ClientRefusal> {
    let now = state.changed_at;
    next.revision = next.revision.saturating_add(1);
    next.clients.insert(order.client.clone(), state);
    if next.clients.len() > MAX_CLIENTS {
        forget_spent(next, &order.client, now);
    }
    next.history.push_back(ClientEvent {
        revision: next.revision,
        at: now,
        client: order.client.clone(),
        action: order.change.action(),
        actor: order.actor.clone(),
        reason: order.reason.clone(),
        ended_secret_created_at,
    });
    let surplus = next.history.len().saturating_sub(MAX_HISTORY);
    next.history.drain(..surplus);
    if next.clients.len() > MAX_CLIENTS || next.dynamic.len() > MAX_CLIENTS {
        return Err(ClientRefusal::Full);
    }
    // History makes room first: it must never stand in the way of a revocation.
    while next.encode().len() > MAX_BYTES {
        let half = next.history.len().div_ceil(2);
        if half == 0 {
            return Err(ClientRefusal::Full);
        }
        next.history.drain(..half);
    }
    Ok(())
}

/// Forgets what has no effect any more: nothing is disabled, and no token of that age can be alive.
fn forget_spent(next: &mut ClientsDocument, keep: &ClientId, now: Timestamp) {
    // An hour covers every leeway and clock offset.
    let oldest_token = now.minus(Duration::from_secs(MAX_TOKEN_TTL + 3600));
    next.clients.retain(|id, state| {
        id == keep
            || state.disabled_at.is_some()
            || state
                .tokens_not_before
                .is_some_and(|first| first >= oldest_token)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(3600);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn hash(secret: &[u8]) -> SecretHash {
        SecretHash::of_generated(secret, &ring::rand::SystemRandom::new()).unwrap()
    }

    fn order(client: &str, change: ClientChange) -> ClientOrder {
        ClientOrder {
            client: client.parse().unwrap(),
            change,
            actor: Actor::Admin("ops".to_owned()),
            reason: Some("because".to_owned()),
        }
    }

    fn new_client() -> ClientChange {
        ClientChange::Add(NewClient {
            secret: hash(b"1"),
            scopes: vec!["read".to_owned()],
            token_ttl: TTL,
        })
    }

    fn done(
        document: &ClientsDocument,
        client: &str,
        change: ClientChange,
        now: i64,
    ) -> ClientsDocument {
        let next = apply(
            document,
            &order(client, change),
            client == "file",
            TTL,
            at(now),
        );
        let next = next.unwrap().expect("a change");
        assert_eq!(next.revision, document.revision + 1);
        assert_eq!(ClientsDocument::parse(&next.encode()).unwrap(), next);
        next
    }

    fn unchanged(document: &ClientsDocument, client: &str, change: ClientChange, now: i64) {
        let next = apply(
            document,
            &order(client, change),
            client == "file",
            TTL,
            at(now),
        );
        assert_eq!(next, Ok(None));
    }

    fn refused(document: &ClientsDocument, client: &str, change: ClientChange) -> ClientRefusal {
        apply(
            document,
            &order(client, change),
            client == "file",
            TTL,
            at(0),
        )
        .unwrap_err()
    }

    #[test]
    fn disable_and_enable_say_who_and_do_nothing_twice() {
        let none = ClientsDocument::default();
        let off = done(&none, "file", ClientChange::Disable, 1_500);
        let state = &off.clients["file"];
        assert_eq!(
            (state.disabled_at, state.changed_at),
            (Some(at(1_500)), at(1_500))
        );
        assert_eq!(state.reason.as_deref(), Some("because"));
        assert_eq!(off.history[0].action, Action::Disable);
        unchanged(&off, "file", ClientChange::Disable, 2_000);
        let on = done(&off, "file", ClientChange::Enable, 2_000);
        assert_eq!(on.clients["file"].disabled_at, None);
        assert_eq!(
            on.clients["file"].tokens_not_before,
            Some(at(2_000)),
            "what was issued before stays refused"
        );
        // Disabled by a version that wrote no date.
        let mut old = off.clone();
        if let Some(state) = old.clients.get_mut("file") {
            state.tokens_not_before = None;
        }
        let on = done(&old, "file", ClientChange::Enable, 9_000);
        assert_eq!(on.clients["file"].tokens_not_before, Some(at(2_000)));
        unchanged(&on, "file", ClientChange::Enable, 2_000);
        unchanged(&none, "file", ClientChange::Enable, 2_000);
    }

    #[test]
    fn invalidate_moves_to_the_next_whole_second_and_never_back() {
        let first = |document: &ClientsDocument| document.clients["file"].tokens_not_before;
        let none = ClientsDocument::default();
        for (now, expected) in [(1_500, 2_000), (2_000, 3_000), (2_999, 3_000)] {
            let next = done(&none, "file", ClientChange::Invalidate, now);
            assert_eq!(first(&next), Some(at(expected)));
        }
        let once = done(&none, "file", ClientChange::Invalidate, 1_500);
        // No token of second 2 can be out yet.
        unchanged(&once, "file", ClientChange::Invalidate, 1_999);
        let twice = done(&once, "file", ClientChange::Invalidate, 2_000);
        assert_eq!(first(&twice), Some(at(3_000)));
        // The clock was set back meanwhile.
        let back = done(&twice, "file", ClientChange::Invalidate, 0);
        assert_eq!(first(&back), Some(at(4_000)));
        // Disabling is an end of tokens as well, and enabling takes nothing back.
        let off = done(&back, "file", ClientChange::Disable, 5_000);
        assert_eq!(first(&off), Some(at(6_000)));
        let on = done(&off, "file", ClientChange::Enable, 5_000);
        assert_eq!(first(&on), Some(at(6_000)));
    }

    #[test]
    fn a_client_of_the_store_has_two_secrets_at_most_and_dies_with_its_tokens() {
        let none = ClientsDocument::default();
        let one = done(&none, "app", new_client(), 1_000);
        assert!(matches!(
            refused(&one, "app", new_client()),
            ClientRefusal::Exists(_)
        ));
        unchanged(&one, "app", ClientChange::DropOldSecret, 1_000);
        let two = done(&one, "app", ClientChange::RotateSecret(hash(b"2")), 2_000);
        let three = done(&two, "app", ClientChange::RotateSecret(hash(b"3")), 3_000);
        let known = |document: &ClientsDocument, secret: &[u8]| {
            let secrets = &document.dynamic["app"].secrets;
            secrets.iter().any(|own| own.hash.matches(secret))
        };
        assert_eq!([b"1", b"2"].map(|secret| known(&two, secret)), [true, true]);
        let ended = |document: &ClientsDocument| {
            let last = document.history.back().expect("a change");
            last.ended_secret_created_at
        };
        assert_eq!((ended(&two), ended(&three)), (None, Some(at(1_000))));
        let of_three = [b"1", b"2", b"3"].map(|secret| known(&three, secret));
        assert_eq!(of_three, [false, true, true]);
        let last = done(&three, "app", ClientChange::DropOldSecret, 4_000);
        assert_eq!(ended(&last), Some(at(2_000)));
        assert_eq!(
            [b"2", b"3"].map(|secret| known(&last, secret)),
            [false, true]
        );

        let off = done(&last, "app", ClientChange::Disable, 5_000);
        let gone = done(&off, "app", ClientChange::Remove, 5_500);
        assert!(gone.dynamic.is_empty());
        let state = &gone.clients["app"];
        assert_eq!(
            (state.disabled_at, state.tokens_not_before),
            (None, Some(at(6_000)))
        );
        assert!(matches!(
            refused(&gone, "app", ClientChange::Remove),
            ClientRefusal::Unknown(_)
        ));
        // Its tokens stay refused when the id comes back.
        let again = done(&gone, "app", new_client(), 5_600);
        assert_eq!(again.clients["app"].tokens_not_before, Some(at(6_000)));
    }

    #[test]
    fn the_configuration_is_not_altered_and_strangers_are_named() {
        let none = ClientsDocument::default();
        let is = |error: ClientRefusal, name: &str| assert!(error.to_string().contains(name));
        for change in [
            ClientChange::RotateSecret(hash(b"2")),
            ClientChange::DropOldSecret,
            ClientChange::Remove,
        ] {
            let error = refused(&none, "file", change);
            assert_eq!(error, ClientRefusal::Static("file".parse().unwrap()));
        }
        assert!(matches!(
            refused(&none, "file", new_client()),
            ClientRefusal::Exists(_)
        ));
        for change in [
            ClientChange::Disable,
            ClientChange::Enable,
            ClientChange::Remove,
        ] {
            is(refused(&none, "stranger", change), "stranger");
        }
        // A record of the store that the configuration shadows can be cleared away.
        let mut shadowed = done(&none, "other", new_client(), 1_000);
        let record = shadowed.dynamic.remove("other").unwrap();
        shadowed.dynamic.insert("file".parse().unwrap(), record);
        let cleared = done(&shadowed, "file", ClientChange::Remove, 2_000);
        assert!(cleared.dynamic.is_empty());
        assert_eq!(cleared.clients["file"].tokens_not_before, None);
    }

    #[test]
    fn a_new_client_is_checked() {
        let none = ClientsDocument::default();
        let with = |scopes: Vec<String>, seconds| {
            let secret = hash(b"1");
            let token_ttl = Duration::from_secs(seconds);
            refused(
                &none,
                "app",
                ClientChange::Add(NewClient {
                    secret,
                    scopes,
                    token_ttl,
                }),
            )
        };
        for dots in [".", ".."] {
            assert_eq!(refused(&none, dots, new_client()), ClientRefusal::Dots);
        }
        assert_eq!(with(vec!["re ad".to_owned()], 60), ClientRefusal::Scopes);
        assert_eq!(with(vec![String::new()], 60), ClientRefusal::Scopes);
        assert_eq!(with(vec!["s".to_owned(); 65], 60), ClientRefusal::Scopes);
        assert_eq!(with(Vec::new(), 0), ClientRefusal::TokenTtl { most: 3600 });
        assert_eq!(
            with(Vec::new(), 3601),
            ClientRefusal::TokenTtl { most: 3600 }
        );
    }

    #[test]
    fn bounds_make_room_by_what_has_no_effect_and_history_never_blocks_a_revocation() {
        let state = |disabled: Option<i64>, not_before: Option<i64>| ClientState {
            disabled_at: disabled.map(at),
            tokens_not_before: not_before.map(at),
            changed_at: at(0),
            changed_by: Actor::Scheduler,
            reason: None,
        };
        let day = 24 * 3_600_000;
        let now = 10 * day;
        let full = |state: &ClientState| ClientsDocument {
            clients: (0..MAX_CLIENTS)
                .map(|n| (format!("c{n}").parse().unwrap(), state.clone()))
                .collect(),
            ..ClientsDocument::default()
        };
        let spent = full(&state(None, Some(now - 2 * day)));
        let next = done(&spent, "file", ClientChange::Disable, now);
        assert_eq!(next.clients.len(), 1, "what had no effect made room");
        for in_force in [state(Some(0), None), state(None, Some(now - day))] {
            let order = order("file", ClientChange::Disable);
            let next = apply(&full(&in_force), &order, true, TTL, at(now));
            assert_eq!(next, Err(ClientRefusal::Full));
        }

        let mut document = ClientsDocument::default();
        let mut order = order("file", ClientChange::Disable);
        order.reason = None;
        for number in 0..1_200 {
            order.change = if number % 2 == 0 {
                ClientChange::Disable
            } else {
                ClientChange::Enable
            };
            let next = apply(&document, &order, true, TTL, at(number));
            document = next.unwrap().expect("a change");
        }
        assert_eq!(document.history.len(), MAX_HISTORY);
        assert_eq!(document.history.back().unwrap().revision, 1_200);

        let event = ClientEvent {
            reason: Some("x".repeat(9_000)),
            ..document.history[0].clone()
        };
        document.history = vec![event; MAX_HISTORY].into();
        let next = done(&document, "file", ClientChange::Disable, 5_000);
        assert!(next.encode().len() <= MAX_BYTES);
        assert!(next.history.len() < MAX_HISTORY && next.clients["file"].disabled_at.is_some());
    }
}
