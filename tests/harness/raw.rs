//! A client that speaks bytes, for requests that no client library would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// One connection.
pub struct RawClient {
    stream: TcpStream,
    /// Read but not yet part of an answer.
    rest: Vec<u8>,
}

/// An answer, taken apart.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The value of the only field of that name; panics when there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(field, _)| field == name)
            .map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} occurs twice in {self:?}");
        value
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl RawClient {
    /// Connects to `http://address`.
    pub async fn connect(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap_or(url);
        Self {
            stream: TcpStream::connect(address).await.expect("a connection"),
            rest: Vec::new(),
        }
    }

    /// Sends bytes. The other side may have answered and closed already, so failing is no failure.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _closed_early = self.stream.write_all(bytes.as_ref()).await;
    }

    /// As [`RawClient::answer`], for a while; `None` also when none comes.
    pub async fn answer_within(&mut self, patience: Duration, head_only: bool) -> Option<Answer> {
        timeout(patience, self.read_answer(head_only))
            .await
            .unwrap_or_default()
    }

    /// Reads one whole answer; `None` when the connection ends without one. `head_only` for HEAD.
    pub async fn answer(&mut self, head_only: bool) -> Option<Answer> {
        timeout(PATIENCE, self.read_answer(head_only))
            .await
            .expect("an answer or an end in time")
    }

    async fn read_answer(&mut self, head_only: bool) -> Option<Answer> {
        let head_len = loop {
            if let Some(end) = find(&self.rest, b"\r\n\r\n") {
                break end + 4;
            }
            if !self.read_more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.rest.drain(..head_len).collect();
        let head = String::from_utf8(head).expect("an ASCII header");
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok());
        let fields: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer {
            status: status.expect("a status line"),
            fields,
            body: String::new(),
        };
        if head_only || matches!(answer.status, 204 | 304) {
            return Some(answer);
        }
        let body = if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().expect("a length");
            while self.rest.len() < length && self.read_more().await {}
            self.rest.drain(..length.min(self.rest.len())).collect()
        } else if answer.header("transfer-encoding").is_some() {
            self.read_chunks().await
        } else {
            while self.read_more().await {}
            std::mem::take(&mut self.rest)
        };
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Some(answer)
    }

    async fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(end) = find(&self.rest, b"\r\n") {
                    break end;
                }
                if !self.read_more().await {
                    return body;
                }
            };
            let size: Vec<u8> = self.rest.drain(..line + 2).collect();
            let size = String::from_utf8_lossy(&size);
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
            while self.rest.len() < size + 2 && self.read_more().await {}
            body.extend(self.rest.drain(..size.min(self.rest.len())));
            self.rest.drain(..2.min(self.rest.len()));
            if size == 0 {
                return body;
            }
        }
    }

    async fn read_more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.rest).await;
        read.is_ok_and(|read| read > 0)
    }

    /// Waits for the end of the connection, however long that takes.
    pub async fn ended(&mut self) {
        while self.read_more().await {}
    }

    /// Whether the other side closes the connection within a while, saying nothing more.
    pub async fn closes(&mut self) -> bool {
        let ending = async { while self.read_more().await {} };
        timeout(Duration::from_secs(5), ending).await.is_ok() && self.rest.is_empty()
    }
}

/// Sends `request` on a connection of its own; `None` when it is closed without an answer.
pub async fn exchange(url: &str, request: impl AsRef<[u8]>) -> Option<Answer> {
    let head_only = request.as_ref().starts_with(b"HEAD ");
    let mut client = RawClient::connect(url).await;
    client.send(request).await;
    client.answer(head_only).await
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
