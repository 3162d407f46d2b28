//! An upstream that writes down, byte by byte, what reached it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as an origin reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    /// As they were spelt.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// Values of every field whose name reads like `name` to somebody who takes `_` for `-`.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let same = |field: &str| field.to_ascii_lowercase().replace('_', "-") == name;
        let of_name = self.fields.iter().filter(|(field, _)| same(field));
        of_name.map(|(_, value)| value.as_str()).collect()
    }
}

/// The upstream, with what it has seen.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let recorder = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let seen = Arc::clone(&recorder.seen);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&seen)));
            }
        });
        recorder
    }

    /// What was seen since the last look.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn serve(mut socket: TcpStream, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut rest = Vec::new();
    while let Some(request) = read(&mut socket, &mut rest).await {
        seen.lock().unwrap().push(request);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if socket.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// One request, by the plainest reading of RFC 9112; what cannot be read shows in the line.
async fn read(socket: &mut TcpStream, rest: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        more(socket, rest).await?;
    };
    let head: Vec<u8> = rest.drain(..end + 4).collect();
    let head = String::from_utf8_lossy(&head[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut request = Seen {
        line: lines.next().unwrap_or_default().to_owned(),
        ..Seen::default()
    };
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, "NO COLON"));
        request
            .fields
            .push((name.to_owned(), value.trim().to_owned()));
    }
    if request.values("transfer-encoding") == ["chunked"] {
        request.body = chunks(socket, rest).await?;
    } else if let [length] = request.values("content-length")[..] {
        let length = length.parse().unwrap_or(0);
        while rest.len() < length {
            more(socket, rest).await?;
        }
        request.body = rest.drain(..length).collect();
    }
    Some(request)
}

async fn chunks(socket: &mut TcpStream, rest: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
                break end;
            }
            more(socket, rest).await?;
        };
        let size: Vec<u8> = rest.drain(..end + 2).collect();
        let size = usize::from_str_radix(std::str::from_utf8(&size[..end]).ok()?, 16).ok()?;
        while rest.len() < size + 2 {
            more(socket, rest).await?;
        }
        body.extend(rest.drain(..size));
        rest.drain(..2);
        if size == 0 {
            return Some(body);
        }
    }
}

async fn more(socket: &mut TcpStream, rest: &mut Vec<u8>) -> Option<()> {
    let read = socket.read_buf(rest).await.ok()?;
    (read > 0).then_some(())
}
