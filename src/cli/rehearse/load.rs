//! Background threads: clients that ask for tokens and show them, and an observer of the key set.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{JoinHandle, park_timeout};
use std::time::Duration;

use super::calls::{Caller, Credentials};
use super::control::{Control, lock};
use super::history::{History, Outcome};
use super::rng::Rng;

/// Client threads.
pub(super) const CLIENTS: u64 = 4;
/// Pause of a client between two calls: traffic enough to catch a bug, and a bound on it.
const PACE: Duration = Duration::from_millis(4);
/// Pause of the observer, and of a client that got no answer.
const SLOW_PACE: Duration = Duration::from_millis(20);
/// Tokens that a client holds.
const POOL: usize = 24;
/// How often a client shows a refused token again before it throws it away.
const RETRIES: u32 = 3;

/// What every background thread is given.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) control: Arc<Control>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) history: Arc<History>,
}

impl Common {
    /// The caller for the gateway that runs now, `known` if it still is the same start.
    fn refresh(&self, known: &mut Option<Caller>) {
        let life = self.control.place().map(|place| place.life);
        if known.as_ref().map(|caller| caller.place.life) != life {
            *known = Caller::new(&self.control, &self.credentials, &self.history);
        }
    }

    fn run(&self, pace: Duration, mut round: impl FnMut(&Caller) -> Option<()>) {
        let mut caller = None;
        while !self.control.has_ended() {
            let mut answered = Some(());
            self.control.round(|| {
                self.refresh(&mut caller);
                answered = caller.as_ref().and_then(&mut round);
            });
            park_timeout(answered.map_or(SLOW_PACE, |()| pace));
        }
    }
}

/// Starts the clients and the observer.
pub(super) fn start(
    common: &Common,
    key_set: std::path::PathBuf,
    seed: u64,
) -> Result<Vec<JoinHandle<()>>, String> {
    let fail = |error| format!("cannot start a thread: {error}");
    let builder = || std::thread::Builder::new();
    let mut threads = Vec::new();
    for number in 0..CLIENTS {
        let (common, rng) = (common.clone(), Rng::new(seed.wrapping_add(number)));
        threads.push(
            builder()
                .spawn(move || client(&common, rng))
                .map_err(fail)?,
        );
    }
    let common = common.clone();
    let observer = move || {
        common.run(SLOW_PACE, |caller| {
            if let Ok(bytes) = std::fs::read(&key_set) {
                lock(&common.history.sightings).saw_file(&bytes);
            }
            caller.keys().ok()?;
            caller.jwks().ok().map(|_bytes| ())
        });
    };
    threads.push(builder().spawn(observer).map_err(fail)?);
    Ok(threads)
}

fn client(common: &Common, mut rng: Rng) {
    // Each token with the number of times that it was refused.
    let mut pool: VecDeque<(usize, u32)> = VecDeque::new();
    common.run(PACE, |caller| {
        if pool.len() < 4 || rng.below(8) == 0 {
            let token = caller.issue().ok()?;
            pool.push_back((token, 0));
            if pool.len() > POOL {
                let _thrown_away = pool.remove(rng.index(POOL));
            }
            return Some(());
        }
        let at = rng.index(pool.len());
        let (token, refused) = pool.get_mut(at)?;
        match caller.verify(*token) {
            Outcome::Status(200) => {}
            Outcome::Silence => return None,
            Outcome::Status(_) | Outcome::Purged => {
                *refused += 1;
                if *refused > RETRIES {
                    let _thrown_away = pool.remove(at);
                }
            }
        }
        Some(())
    });
}
