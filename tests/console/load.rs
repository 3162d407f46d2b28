//! Clients that keep sending requests, some of which fetch a new token when they are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::harness::Gateway;
use crate::harness::clients::token_of;

/// Most requests that one client sends.
const MOST: usize = 20_000;

/// A running load; ends when it is dropped.
pub struct Load {
    tasks: Vec<JoinHandle<()>>,
    sent: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Load {
    /// Starts one task for each of `clients`; those of `stubborn` go on with their first token.
    pub async fn start(gateway: &Gateway, clients: &[&str], stubborn: &[&str]) -> Self {
        let (sent, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for client in clients {
            let token = token_of(&gateway.http, &gateway.proxy, client).await;
            let client = Client {
                http: gateway.http.clone(),
                proxy: gateway.proxy.clone(),
                name: (*client).to_owned(),
                learns: !stubborn.contains(client),
                sent: Arc::clone(&sent),
                refused: Arc::clone(&refused),
            };
            tasks.push(tokio::spawn(client.run(token)));
        }
        Self {
            tasks,
            sent,
            refused,
        }
    }

    /// How many requests were answered so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// How many requests were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Client {
    http: reqwest::Client,
    proxy: String,
    name: String,
    learns: bool,
    sent: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Client {
    async fn run(self, mut token: String) {
        // Paced, so that the browser has a core to live on.
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..MOST {
            pace.tick().await;
            let request = self.http.get(format!("{}/hello", self.proxy));
            let Ok(response) = request.bearer_auth(&token).send().await else {
                return;
            };
            self.sent.fetch_add(1, Ordering::SeqCst);
            if response.status() == 200 {
                continue;
            }
            self.refused.fetch_add(1, Ordering::SeqCst);
            if self.learns {
                token = token_of(&self.http, &self.proxy, &self.name).await;
            }
        }
    }
}
