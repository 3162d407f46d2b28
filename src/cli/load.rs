//! `portcullis load`: a few clients that behave like real ones, so that there is something to see on
//! a dashboard. For demonstrations; bounded in rate and number.
//!
//! Each client has a thread, a token and a pace. A refused client asks for a new token at once; a
//! stubborn one goes on with its old one for a while, as clients do that ask for a token by the
//! clock only. What each of them notices is printed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use zeroize::Zeroizing;

use super::exit::Failure;
use super::out::say;
use super::trust::Trust;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after what cannot be answered at all.
const PAUSE: Duration = Duration::from_secs(1);

const MAX_CLIENTS: usize = 16;

#[derive(Debug, Args)]
pub(super) struct LoadCommand {
    /// Base URL of the gateway
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
    /// Path to call; may be repeated, the clients take them in turn
    #[arg(long = "path", default_value = "/hello", value_name = "PATH")]
    paths: Vec<String>,
    /// A client and the file with its secret; may be repeated
    #[arg(long = "client", value_name = "ID=FILE")]
    clients: Vec<String>,
    /// The same, for a client that goes on with a refused token for a while
    #[arg(long = "stubborn", value_name = "ID=FILE")]
    stubborn: Vec<String>,
    /// How long a stubborn client does so, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stubborn_for: u64,
    /// Calls per second of each client
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    rate: u64,
    /// Seconds between two lines that count
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

/// What came of the calls.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

pub(super) fn run(command: &LoadCommand) -> Result<ExitCode, Failure> {
    pingora::tls::install_default_crypto_provider();
    let counts = Arc::new(Counts::default());
    let steady = command.clients.iter().map(|of| (of, Duration::ZERO));
    let patience = Duration::from_secs(command.stubborn_for);
    let stubborn = command.stubborn.iter().map(|of| (of, patience));
    let callers = steady
        .chain(stubborn)
        .map(|(of, patience)| Caller::new(command, of, patience, Arc::clone(&counts)))
        .collect::<Result<Vec<_>, _>>()?;
    if callers.is_empty() || callers.len() > MAX_CLIENTS {
        return Err(Failure::Usage(format!(
            "name 1 to {MAX_CLIENTS} clients with --client ID=FILE or --stubborn ID=FILE"
        )));
    }
    for caller in callers {
        thread::Builder::new()
            .name(format!("client {}", caller.id))
            .spawn(move || caller.call_for_ever())
            .map_err(|error| Failure::Other(format!("cannot start a thread: {error}")))?;
    }
    // Ends with the process: there is nothing to tidy up.
    loop {
        rest(Duration::from_secs(command.every));
        say(&format!(
            "load: in {} s {} calls accepted, {} refused, {} failed",
            command.every,
            counts.accepted.swap(0, Ordering::Relaxed),
            counts.refused.swap(0, Ordering::Relaxed),
            counts.failed.swap(0, Ordering::Relaxed),
        ));
    }
}

/// One client.
struct Caller {
    agent: ureq::Agent,
    id: String,
    secret: Zeroizing<String>,
    token_url: String,
    urls: Vec<String>,
    pace: Duration,
    /// How long it goes on with a refused token.
    patience: Duration,
    counts: Arc<Counts>,
}

/// A token, from when on another one is better, and since when it is refused.
struct Held {
    authorization: Zeroizing<String>,
    renew_at: Instant,
    refused_since: Option<Instant>,
}

impl Caller {
    fn new(
        command: &LoadCommand,
        named: &str,
        patience: Duration,
        counts: Arc<Counts>,
    ) -> Result<Self, Failure> {
        let (id, file) = named
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("`{named}` is not of the form ID=FILE")))?;
        let file = PathBuf::from(file);
        let secret = std::fs::read_to_string(&file).map(Zeroizing::new);
        let secret = secret.map_err(|error| {
            Failure::NotInitialised(format!(
                "cannot read the secret {}: {error}; `portcullis init` makes it",
                file.display()
            ))
        })?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            // The gateway itself is meant, whatever proxy the environment names.
            .proxy(None)
            .tls_config(Trust::default().config(&command.url)?)
            .build();
        let base = command.url.trim_end_matches('/');
        Ok(Self {
            agent: config.new_agent(),
            id: id.to_owned(),
            secret: Zeroizing::new(secret.trim().to_owned()),
            token_url: format!("{base}/oauth2/token"),
            urls: command
                .paths
                .iter()
                .map(|path| format!("{base}{path}"))
                .collect(),
            pace: Duration::from_secs(1) / u32::try_from(command.rate).unwrap_or(u32::MAX),
            patience,
            counts,
        })
    }

    fn call_for_ever(&self) {
        let mut held: Option<Held> = None;
        for url in self.urls.iter().cycle() {
            let due = Instant::now() + self.pace;
            if held
                .as_ref()
                .is_some_and(|held| held.renew_at <= Instant::now())
            {
                held = None;
            }
            match held.take().or_else(|| self.token()) {
                Some(token) => held = self.call(url, token),
                None => {
                    self.counts.failed.fetch_add(1, Ordering::Relaxed);
                    rest(PAUSE);
                }
            }
            rest(due.saturating_duration_since(Instant::now()));
        }
    }

    /// One call; the token, unless it is to be replaced.
    fn call(&self, url: &str, mut held: Held) -> Option<Held> {
        let request = self
            .agent
            .get(url)
            .header("Authorization", held.authorization.as_str());
        let status = request.call().map(|mut response| {
            // Read to the end, so that the connection can be used again.
            let _unreadable = response.body_mut().read_to_vec();
            response.status().as_u16()
        });
        match status {
            Ok(401) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                let since = *held.refused_since.get_or_insert_with(|| {
                    say(&self.refused_line());
                    Instant::now()
                });
                (since.elapsed() < self.patience).then_some(held)
            }
            Ok(200..=299) => {
                self.counts.accepted.fetch_add(1, Ordering::Relaxed);
                Some(held)
            }
            Ok(_) | Err(_) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                Some(held)
            }
        }
    }

    fn refused_line(&self) -> String {
        let what = if self.patience.is_zero() {
            "and asks for a new token".to_owned()
        } else {
            format!(
                "and goes on with its token for {} s",
                self.patience.as_secs()
            )
        };
        format!("load: {} is refused (401) {what}", self.id)
    }

    fn token(&self) -> Option<Held> {
        let response = self
            .agent
            .post(&self.token_url)
            .header("Authorization", self.basic().as_str())
            .send_form([("grant_type", "client_credentials")]);
        let body: Value = response.ok()?.body_mut().read_json().ok()?;
        let token = body.get("access_token")?.as_str()?;
        let lives_for = body.get("expires_in").and_then(Value::as_u64).unwrap_or(60);
        Some(Held {
            authorization: Zeroizing::new(format!("Bearer {token}")),
            // Early enough that none expires on its way.
            renew_at: Instant::now() + Duration::from_secs(lives_for * 9 / 10),
            refused_since: None,
        })
    }

    /// RFC 6749 §2.3.1; identifiers and generated secrets need no escaping.
    fn basic(&self) -> Zeroizing<String> {
        use base64::Engine as _;
        let pair = Zeroizing::new(format!("{}:{}", self.id, self.secret.as_str()));
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair.as_bytes());
        Zeroizing::new(format!("Basic {encoded}"))
    }
}

/// Nothing wakes these threads early on purpose; if something does, it is a shorter rest.
fn rest(duration: Duration) {
    thread::park_timeout(duration);
}
