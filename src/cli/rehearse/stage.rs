//! What every step of the rehearsal has at hand, and the moves that several steps share.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::super::exit::Failure;
use super::calls::Caller;
use super::control::{Place, lock};
use super::gateway::{self, Binary, Running};
use super::history::Outcome;
use super::json::number;
use super::load::Common;
use super::rng::Rng;
use super::scratch::{Scratch, files_below};
use super::verdict::Board;

/// The idempotency window of the scratch configuration.
pub(super) const WINDOW: Duration = Duration::from_millis(800);
/// `keys.prepublish` of the scratch configuration.
pub(super) const PREPUBLISH: Duration = Duration::from_millis(500);
/// How long a step waits for what must happen within seconds; loaded machines are slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Why a step cannot be carried out that needs the gateway; what stopped it has been said.
pub(super) const NOT_RUNNING: &str = "the gateway does not run";

pub(super) const ROTATE: &str = "/admin/v1/keys/rotate";

/// A rehearsal in progress.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) binary: Binary,
    pub(super) scratch: Scratch,
    pub(super) common: Common,
    pub(super) board: Board,
    pub(super) rng: Rng,
    pub(super) kills: u32,
    pub(super) gateway: Option<Running>,
    pub(super) life: u32,
    pub(super) caller: Option<Caller>,
    pub(super) threads: Vec<JoinHandle<()>>,
    /// An early generation of the key set file, for tampering.
    pub(super) old_key_set: Vec<u8>,
    /// How long the last executed rotation and purge took to answer.
    pub(super) typical: Duration,
    /// Kept running for as long as the rehearsal goes on.
    pub(super) echo: Option<Running>,
}

impl Stage {
    pub(super) fn caller(&self) -> Result<Caller, String> {
        self.caller.clone().ok_or_else(|| NOT_RUNNING.to_owned())
    }

    /// A gateway that ended by itself breaks the promise that it recovers from everything.
    pub(super) fn notice_death(&mut self) {
        if let Some(status) = self.gateway.as_ref().and_then(Running::ended) {
            let said =
                std::fs::read_to_string(self.scratch.path(gateway::ERRORS)).unwrap_or_default();
            let last = said.lines().last().unwrap_or_default();
            self.board.broken(
                12,
                format!("the gateway ended by itself with {status}: {last}"),
            );
            self.common.history.down();
            self.gateway = None;
            self.caller = None;
        }
    }

    /// Starts the gateway; one whose port was taken meanwhile moves to others.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let control = Arc::clone(&self.common.control);
        let mut tries = 0;
        let running = loop {
            match self.binary.serve(&self.scratch, &control) {
                Ok(running) => break running,
                Err(refused) if refused.code == Some(4) && tries < 3 => {
                    let echo = self.scratch.echo;
                    let moved = self.scratch.new_ports();
                    self.scratch.echo = echo;
                    moved
                        .and_then(|()| self.scratch.write_config())
                        .map_err(|failure| failure.to_string())?;
                }
                Err(refused) => return Err(refused.text),
            }
            tries += 1;
        };
        self.gateway = Some(running);
        self.life += 1;
        control.moved_to(Place {
            life: self.life,
            proxy: self.scratch.proxy,
            admin: self.scratch.admin,
            metrics: self.scratch.metrics,
        });
        let common = &self.common;
        self.caller = Caller::new(&control, &common.credentials, &common.history);
        common.history.up();
        self.check_nothing_lost()
    }

    /// What was in force before a restart was committed: no start may load less.
    fn check_nothing_lost(&mut self) -> Result<(), String> {
        let newest = lock(&self.common.history.sightings)
            .revisions
            .keys()
            .next_back()
            .copied();
        let now = number(&self.caller()?.keys()?, "revision");
        if let Some(newest) = newest.filter(|newest| *newest > now) {
            let problem = format!(
                "the start loaded revision {now}, although {newest} was in force before it"
            );
            self.board.broken(7, problem.clone());
            self.board.broken(12, problem);
        }
        Ok(())
    }

    /// SIGTERM with nothing in flight; the background threads stay paused.
    pub(super) fn stop(&mut self) -> Result<String, String> {
        self.common.control.pause()?;
        let gateway = self.gateway.take().ok_or(NOT_RUNNING)?;
        self.caller = None;
        self.common.history.down();
        let started = Instant::now();
        let status = gateway.terminate(&self.common.control)?;
        let life = self.life;
        if status.code() == Some(0) {
            self.common
                .history
                .with(|records| records.whole_lives.push(life));
            self.board.held(
                super::verdict::STOP,
                format!("within {} ms", started.elapsed().as_millis()),
            );
        } else {
            self.board.broken(
                super::verdict::STOP,
                format!("SIGTERM ended it with {status}"),
            );
        }
        Ok(format!("exit {}", status.code().unwrap_or(-1)))
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        self.common.history.down();
        if let Some(gateway) = self.gateway.take() {
            gateway.kill();
        }
        self.caller = None;
    }

    /// Which of the dead keys' private halves are still in some file below `data/`.
    pub(super) fn survivors(&self, dead: &[Arc<str>]) -> Result<usize, Vec<String>> {
        let files = files_below(&self.scratch.path("data"));
        let sightings = lock(&self.common.history.sightings);
        let (mut looked_for, mut found) = (0, Vec::new());
        for kid in dead {
            for sealed in sightings.sealed.get(kid).into_iter().flatten() {
                looked_for += 1;
                let holds =
                    |bytes: &[u8]| bytes.windows(sealed.len()).any(|w| w == sealed.as_bytes());
                let holders = files.iter().filter(|(_, bytes)| holds(bytes));
                found.extend(holders.map(|(path, _)| {
                    format!(
                        "{} still holds the sealed private half of {kid}",
                        path.display()
                    )
                }));
            }
        }
        if found.is_empty() {
            Ok(looked_for)
        } else {
            Err(found)
        }
    }

    /// Reads the key set file for the private halves that it holds.
    pub(super) fn look_at_store(&self) -> Vec<u8> {
        let bytes = std::fs::read(self.scratch.key_set()).unwrap_or_default();
        lock(&self.common.history.sightings).saw_file(&bytes);
        bytes
    }

    /// Shows up to `most` unexpired tokens to the gateway, those of distinct keys first: how many
    /// were accepted, refused for a purge, refused otherwise. The history judges them.
    pub(super) fn show_tokens(&self, caller: &Caller, most: usize) -> (usize, usize, usize) {
        let fresh: Vec<(usize, Arc<str>)> = self.common.history.with(|records| {
            let tokens = records.tokens.iter().enumerate().rev();
            let fresh = tokens.filter(|(_, token)| {
                self.common
                    .history
                    .is_fresh(token, Duration::from_millis(500))
            });
            fresh
                .map(|(index, token)| (index, Arc::clone(&token.kid)))
                .collect()
        });
        let mut seen = std::collections::HashSet::new();
        let (first, rest): (Vec<_>, Vec<_>) = fresh
            .into_iter()
            .partition(|(_, kid)| seen.insert(Arc::clone(kid)));
        let (mut accepted, mut purged, mut refused) = (0, 0, 0);
        for (token, _) in first.into_iter().chain(rest).take(most) {
            match caller.verify(token) {
                Outcome::Status(200) => accepted += 1,
                Outcome::Purged => purged += 1,
                _ => refused += 1,
            }
        }
        (accepted, purged, refused)
    }

    /// Ends the background threads and every process.
    pub(super) fn close(&mut self) {
        self.common.control.end();
        self.common.control.resume();
        for thread in self.threads.drain(..) {
            // A thread that panicked has written its message already.
            let _ended = thread.join();
        }
        self.gateway = None;
        self.echo = None;
    }

    /// The echo upstream, for as long as the rehearsal goes on.
    pub(super) fn start_echo(&mut self) -> Result<(), Failure> {
        let echo = gateway::echo(&self.scratch, &self.common.control);
        self.echo = Some(echo.map_err(Failure::Other)?);
        Ok(())
    }
}
