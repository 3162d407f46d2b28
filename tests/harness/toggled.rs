//! An upstream on a port of its own that can be killed and started again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::process::free_ports;

/// Answers every request with 200 while it lives; each connection takes one request.
pub struct Toggled {
    pub address: SocketAddr,
    requests: Arc<AtomicUsize>,
    running: Option<JoinHandle<()>>,
}

impl Toggled {
    /// On a free port, not started yet.
    pub fn dead() -> Self {
        let [address] = free_ports();
        Self {
            address,
            requests: Arc::default(),
            running: None,
        }
    }

    pub async fn start(&mut self) {
        let listener = super::eventually("the port can be bound", || async {
            TcpListener::bind(self.address).await.ok()
        })
        .await;
        let requests = Arc::clone(&self.requests);
        self.running = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&requests)));
            }
        }));
    }

    /// Closes the port.
    pub async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _cancelled = running.await;
        }
    }

    /// How many requests it has answered.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Toggled {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

async fn answer(mut stream: TcpStream, requests: Arc<AtomicUsize>) {
    let mut seen = Vec::new();
    while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut seen).await, Ok(1..)) {
            // A health check says nothing.
            return;
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let _left = stream.write_all(answer.as_bytes()).await;
}
