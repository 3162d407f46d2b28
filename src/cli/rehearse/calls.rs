//! The rehearsal's HTTP client. Everything that it sends and gets goes into the history.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::clock::Timestamp;

use super::control::{Control, Place, lock};
use super::history::{Call, History, Outcome, Refusal, Token};
use super::json::{part, text};
use super::scratch::{CLIENT, Scratch};

/// Longer than any answer may take; a new RSA key is behind some of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// The scratch installation's credentials.
#[derive(Default)]
pub(super) struct Credentials {
    client: Zeroizing<String>,
    admin: Zeroizing<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    pub(super) fn read(scratch: &Scratch) -> Result<Arc<Self>, String> {
        use base64::Engine as _;
        let read = |name: &str| {
            std::fs::read_to_string(scratch.path(name))
                .map(|text| Zeroizing::new(text.trim().to_owned()))
                .map_err(|error| format!("`init` did not leave {name}: {error}"))
        };
        let secret = read("secrets/load.secret")?;
        let pair = Zeroizing::new(format!("{CLIENT}:{}", secret.as_str()));
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair.as_bytes());
        Ok(Arc::new(Self {
            client: Zeroizing::new(format!("Basic {encoded}")),
            admin: Zeroizing::new(format!("Bearer {}", read("secrets/admin.token")?.as_str())),
        }))
    }
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn log_id(&self) -> Option<String> {
        Some(text(&self.json(), "log_id").to_owned()).filter(|id| !id.is_empty())
    }
}

/// A client of one start of the gateway, so that no connection of an earlier one is in its pool.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    agent: ureq::Agent,
    pub(super) place: Place,
    credentials: Arc<Credentials>,
    pub(super) history: Arc<History>,
}

/// No proxy of the environment may come between.
pub(super) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .timeout_global(Some(PATIENCE))
        .build()
        .new_agent()
}

impl Caller {
    pub(super) fn new(
        control: &Control,
        credentials: &Arc<Credentials>,
        history: &Arc<History>,
    ) -> Option<Self> {
        Some(Self {
            agent: agent(),
            place: control.place()?,
            credentials: Arc::clone(credentials),
            history: Arc::clone(history),
        })
    }

    /// Asks for a token: its index in the history.
    pub(super) fn issue(&self) -> Result<usize, String> {
        let url = format!("http://{}/oauth2/token", self.place.proxy);
        let sent = Instant::now();
        let result = self
            .agent
            .post(&url)
            .header(AUTHORIZATION, self.credentials.client.as_str())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .send("grant_type=client_credentials");
        let answer = self.read(result, sent);
        let body = answer.as_ref().map(Answer::json).unwrap_or_default();
        let compact = text(&body, "access_token");
        self.history.with(|records| match answer {
            Some(answer) if answer.status == 200 && !compact.is_empty() => {
                let seconds = part(compact, 1).get("exp").and_then(Value::as_i64);
                records.tokens.push(Token {
                    text: compact.into(),
                    kid: text(&part(compact, 0), "kid").into(),
                    expires_at: Timestamp::from_seconds(seconds.unwrap_or_default()),
                    sent,
                    answered: answer.answered,
                    life: self.place.life,
                });
                Ok(records.tokens.len() - 1)
            }
            Some(answer) => {
                records.unissued.push((answer.status, sent));
                records.refused(&answer, self.place.life, false, false);
                Err(format!("the token endpoint answered {}", answer.status))
            }
            None => {
                records.unissued.push((0, sent));
                Err("the token endpoint did not answer".to_owned())
            }
        })
    }

    /// Shows a token to the gateway.
    pub(super) fn verify(&self, token: usize) -> Outcome {
        let Some(known) = self.history.token(token) else {
            return Outcome::Silence;
        };
        let sent = Instant::now();
        let (outcome, answered) = self.show(&known.text, sent);
        self.history.with(|records| {
            records.calls.push(Call {
                token,
                sent,
                answered,
                outcome,
                life: self.place.life,
            });
        });
        outcome
    }

    /// Shows a token that nobody issued.
    pub(super) fn show_forged(&self, compact: &str) -> Outcome {
        self.show(compact, Instant::now()).0
    }

    fn show(&self, compact: &str, sent: Instant) -> (Outcome, Instant) {
        let url = format!("http://{}/rehearsal", self.place.proxy);
        let bearer = format!("Bearer {compact}");
        let result = self
            .agent
            .get(&url)
            .header(AUTHORIZATION, bearer.as_str())
            .call();
        let Some(answer) = self.read(result, sent) else {
            return (Outcome::Silence, Instant::now());
        };
        let purged = answer.status == 401 && text(&answer.json(), "detail").contains("revoked");
        if answer.status >= 400 {
            let on_route = matches!(answer.status, 400 | 401 | 403 | 429);
            self.history
                .with(|records| records.refused(&answer, self.place.life, on_route, purged));
        }
        let outcome = if purged {
            Outcome::Purged
        } else {
            Outcome::Status(answer.status)
        };
        (outcome, answer.answered)
    }

    pub(super) fn jwks(&self) -> Result<Vec<u8>, String> {
        let url = format!("http://{}/.well-known/jwks.json", self.place.proxy);
        let sent = Instant::now();
        let answer = self.read(self.agent.get(&url).call(), sent);
        match answer {
            Some(answer) if answer.status == 200 => {
                lock(&self.history.sightings).saw_jwks(&answer.body, sent, answer.answered);
                Ok(answer.body)
            }
            Some(answer) => Err(format!("the JWKS answered {}", answer.status)),
            None => Err("the JWKS did not answer".to_owned()),
        }
    }

    pub(super) fn keys(&self) -> Result<Value, String> {
        let answer = self.admin_get("/admin/v1/keys")?;
        if answer.status != 200 {
            return Err(format!("GET keys answered {}", answer.status));
        }
        let set = answer.json();
        lock(&self.history.sightings).saw_keys(&set, answer.sent, answer.answered);
        Ok(set)
    }

    pub(super) fn admin_get(&self, path: &str) -> Result<Answer, String> {
        let url = format!("http://{}{path}", self.place.admin);
        let sent = Instant::now();
        let request = self.agent.get(&url);
        let request = request.header(AUTHORIZATION, self.credentials.admin.as_str());
        self.admin(self.read(request.call(), sent), path)
    }

    pub(super) fn admin_post(&self, path: &str, body: &Value) -> Result<Answer, String> {
        let url = format!("http://{}{path}", self.place.admin);
        let sent = Instant::now();
        let request = self.agent.post(&url);
        let request = request.header(AUTHORIZATION, self.credentials.admin.as_str());
        self.admin(self.read(request.send_json(body), sent), path)
    }

    fn admin(&self, answer: Option<Answer>, path: &str) -> Result<Answer, String> {
        let answer = answer.ok_or_else(|| format!("{path} did not answer"))?;
        if answer.status >= 400 {
            self.history
                .with(|records| records.refused(&answer, self.place.life, false, false));
        }
        Ok(answer)
    }

    pub(super) fn scrape(&self) -> Result<String, String> {
        let url = format!("http://{}/metrics", self.place.metrics);
        let sent = Instant::now();
        self.read(self.agent.get(&url).call(), sent)
            .filter(|answer| answer.status == 200)
            .map(|answer| String::from_utf8_lossy(&answer.body).into_owned())
            .ok_or_else(|| "the metrics listener did not answer".to_owned())
    }

    fn read(
        &self,
        result: Result<http::Response<ureq::Body>, ureq::Error>,
        sent: Instant,
    ) -> Option<Answer> {
        let mut response = result.ok()?;
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_vec().ok()?;
        Some(Answer {
            status,
            body,
            sent,
            answered: Instant::now(),
        })
    }
}

impl super::history::Records {
    fn refused(&mut self, answer: &Answer, life: u32, on_route: bool, purged: bool) {
        self.refusals.push(Refusal {
            log_id: answer.log_id(),
            status: answer.status,
            life,
            on_route,
            purged,
        });
    }
}
