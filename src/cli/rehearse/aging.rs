//! What needs time or a broken disk: the store taken away while requests go on, and keys that
//! retire when their last token has expired.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::control::lock;
use super::history::Outcome;
use super::json::{list, moment, text};
use super::moves::purge_of;
use super::scratch::SHORT;
use super::stage::{PATIENCE, ROTATE, Stage};
use super::story::problem;

/// Tokens shown while the store is away.
const CALLS: usize = 40;

impl Stage {
    /// Restarts with short-lived tokens, and purges the keys that promised longer ones: what
    /// follows retires within seconds.
    pub(super) fn start_with_short_tokens(&mut self) -> Result<String, String> {
        self.scratch.ttl = SHORT;
        self.scratch
            .write_config()
            .map_err(|failure| failure.to_string())?;
        self.start()?;
        self.common.control.resume();
        let caller = self.caller()?;
        let set = caller.keys()?;
        self.look_at_store();
        self.purge(&caller, &purge_of(&set, "rehearsal of retirement"))?;
        caller.issue()?;
        Ok(format!("tokens live {SHORT}"))
    }

    /// The store's directory is moved away under the running gateway, and back.
    pub(super) fn take_the_store_away(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        let token = caller.issue()?;
        let (store, away) = (self.scratch.store(), self.scratch.path("data/away"));
        let fail = |error: std::io::Error| format!("cannot move the store: {error}");
        fs::rename(&store, &away).map_err(fail)?;
        let started = Instant::now();
        let refusal = caller.admin_post(ROTATE, &json!({}));
        let (mut accepted, mut slowest) = (0, Duration::ZERO);
        for _call in 0..CALLS {
            let sent = Instant::now();
            accepted += usize::from(caller.verify(token) == Outcome::Status(200));
            slowest = slowest.max(sent.elapsed());
        }
        let fresh = self.common.history.token(token).is_some_and(|token| {
            self.common
                .history
                .is_fresh(&token, Duration::from_millis(300))
        });
        let issued = caller.issue();
        let was_away = started.elapsed();
        // Back in every case, before anything is judged.
        fs::rename(&away, &store).map_err(fail)?;
        let refusal = refusal?;
        let mut problems = problem(fresh && accepted < CALLS, || {
            format!("with the store away {accepted} of {CALLS} good tokens were accepted")
        });
        problems.extend(problem(issued.is_err(), || {
            "with the store away no token was issued".to_owned()
        }));
        problems.extend(problem(
            refusal.status != 500 || refusal.log_id().is_none(),
            || {
                format!(
                    "with the store away Rotate was answered {} and not 500 with a Log ID",
                    refusal.status
                )
            },
        ));
        problems.extend(problem(slowest > Duration::from_secs(2), || {
            format!("with the store away a call took {} ms", slowest.as_millis())
        }));
        if fresh {
            let said = format!(
                "store away for {} ms: {accepted} calls accepted, the slowest {} ms; Rotate refused with a Log ID",
                was_away.as_millis(),
                slowest.as_millis()
            );
            self.board.judge(20, problems, said);
        } else {
            self.board.skipped(
                20,
                "this machine is so slow that the tokens expired meanwhile",
            );
            problems
                .into_iter()
                .for_each(|problem| self.board.broken(20, problem));
        }
        // The failure opened no window, and nothing has to be restarted.
        match self.rotate(&caller) {
            Ok(_) => self.board.held(10, "a failed Rotate opened no window"),
            Err(why) => self
                .board
                .broken(10, format!("after the store came back: {why}")),
        }
        Ok(format!(
            "{accepted} of {CALLS} calls accepted, Rotate answered {}",
            refusal.status
        ))
    }

    /// Waits for a key to retire, and asks what became of its tokens.
    pub(super) fn wait_for_retirement(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        let signers: Vec<Arc<str>> = self.common.history.with(|records| {
            let ours = records
                .tokens
                .iter()
                .filter(|token| token.life == self.life);
            ours.map(|token| Arc::clone(&token.kid)).collect()
        });
        let started = Instant::now();
        let retired = self.common.control.wait("a key to retire", PATIENCE, || {
            let set = caller.keys().ok()?;
            let stones = list(&set, "tombstones").iter();
            let mut retired = stones.filter(|stone| text(stone, "state") == "retired");
            retired
                .find(|stone| signers.iter().any(|kid| **kid == *text(stone, "kid")))
                .cloned()
        })?;
        let kid = text(&retired, "kid").to_owned();
        let last = self.common.history.with(|records| {
            let signed = records.tokens.iter().enumerate();
            let signed = signed.filter(|(_, token)| *token.kid == *kid);
            signed.map(|(index, token)| (token.expires_at, index)).max()
        });
        let (Some((expires, index)), Some(ended)) = (last, moment(text(&retired, "ended_at")))
        else {
            return Err(format!("the retired key {kid} has no tokens or no date"));
        };
        self.board.judge(
            4,
            problem(ended < expires, || {
                format!("{kid} retired at {ended}, before its last token expired at {expires}")
            }),
            format!(
                "a key retired {} ms after its last token had expired",
                ended.since(expires).as_millis()
            ),
        );
        let outcome = caller.verify(index);
        if outcome != Outcome::Status(401) {
            self.board.broken(
                4,
                format!("a token of the retired key {kid} got {outcome:?}"),
            );
        }
        Ok(format!("after {} ms", started.elapsed().as_millis()))
    }

    /// Every tombstone stands longer than any token that its key signed.
    pub(super) fn look_at_tombstones(&mut self) {
        let mut last = std::collections::HashMap::new();
        self.common.history.with(|records| {
            for token in &records.tokens {
                let entry = last
                    .entry(Arc::clone(&token.kid))
                    .or_insert(token.expires_at);
                *entry = token.expires_at.max(*entry);
            }
        });
        let stones = lock(&self.common.history.sightings).tombstones.clone();
        let mut problems = Vec::new();
        let (mut purged, mut retired) = (0, 0);
        for (kid, (until, state)) in &stones {
            let Some(expires) = last.get(kid) else {
                continue;
            };
            if state == "retired" {
                retired += 1
            } else {
                purged += 1
            }
            problems.extend(problem(
                moment(until).is_none_or(|until| until < *expires),
                || format!("the tombstone of {kid} ends at {until}, its last token at {expires}"),
            ));
        }
        if purged + retired > 0 {
            let said = format!(
                "{purged} purged and {retired} retired keys with tokens: every tombstone ends later"
            );
            self.board.judge(18, problems, said);
        }
    }

    /// Compares the counters of the running gateway with what its callers saw. Nothing is in
    /// flight: the background is paused.
    pub(super) fn compare_metrics(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        self.common.control.pause()?;
        let scrape = caller.scrape()?;
        let count = |name: &str| super::json::metric(&scrape, name);
        let counted = (
            count("portcullis_purge_verification_failures_total"),
            count("portcullis_auth_denied_total"),
        );
        let (Some(by_purge), Some(denied)) = counted else {
            return Err("the metrics lack the counters of refusals".to_owned());
        };
        let life = self.life;
        let (seen_purged, seen_denied, silent) = self.common.history.with(|records| {
            let mine = || {
                records
                    .refusals
                    .iter()
                    .filter(|refusal| refusal.life == life && refusal.on_route)
            };
            let silent = records
                .calls
                .iter()
                .filter(|call| call.life == life && call.outcome == Outcome::Silence);
            let silent = silent.count() as u64;
            let purged = mine().filter(|refusal| refusal.purged).count() as u64;
            (purged, mine().count() as u64, silent)
        });
        // What happened to a call that got no answer nobody can know.
        let fits = |counted: u64, seen: u64| (seen..=seen + silent).contains(&counted);
        let mut problems = problem(!fits(by_purge, seen_purged), || {
            format!(
                "portcullis_purge_verification_failures_total says {by_purge}, but callers saw {seen_purged} \
                 refusals for a purged key"
            )
        });
        problems.extend(problem(!fits(denied, seen_denied), || {
            format!("portcullis_auth_denied_total sums up to {denied}, but callers saw {seen_denied} refusals")
        }));
        let violations = count("portcullis_lifecycle_violations_total").unwrap_or_default();
        if violations > 0 {
            self.board.broken(
                3,
                format!("portcullis_lifecycle_violations_total is {violations}"),
            );
        }
        let said = format!("{by_purge} purge-induced refusals counted and seen, {denied} in all");
        if by_purge > 0 {
            self.board.judge(15, problems, said.clone());
        } else {
            problems
                .into_iter()
                .for_each(|problem| self.board.broken(15, problem));
        }
        self.common.control.resume();
        Ok(said)
    }
}
