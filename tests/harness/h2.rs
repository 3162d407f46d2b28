//! A client that speaks HTTP/2 frame by frame over TLS, for what no client library would send.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora::tls::{ClientConfig, ClientTlsStream, RootCertStore, TlsConnector};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// Types of frames (RFC 9113 §6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags of frames.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame as it was read.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// One connection behind its preface.
pub struct H2Client {
    tls: ClientTlsStream<TcpStream>,
    rest: Vec<u8>,
    next: u32,
}

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer: its status and body.
    Answered(u16, Vec<u8>),
    /// With a reset of the stream, for this reason.
    Reset(u32),
    /// With the end of the connection.
    Closed,
}

impl Ended {
    pub fn status(&self) -> u16 {
        match self {
            Self::Answered(status, _) => *status,
            _ => 0,
        }
    }
}

impl H2Client {
    /// Connects, trusting the authority in `ca`, and sends the preface with empty settings but for
    /// a table of header fields without room, so that answers can be read without its state.
    pub async fn connect(address: SocketAddr, ca: &Path) -> Self {
        let mut client = Self::without_preface(address, ca).await;
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
        // Room for long answers.
        hello.extend(frame(WINDOW_UPDATE, 0, 0, &0x3fff_0000_u32.to_be_bytes()));
        client.send(&hello).await;
        client
    }

    /// The TLS connection alone.
    pub async fn without_preface(address: SocketAddr, ca: &Path) -> Self {
        pingora::tls::install_default_crypto_provider();
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(ca).expect("a certificate");
        roots.add(authority).expect("an authority");
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = TlsConnector::from(Arc::new(config)).connect(name, socket);
        Self {
            tls: timeout(PATIENCE, tls)
                .await
                .expect("a handshake in time")
                .expect("a handshake"),
            rest: Vec::new(),
            next: 1,
        }
    }

    /// The next stream of ours.
    pub fn stream(&mut self) -> u32 {
        let stream = self.next;
        self.next += 2;
        stream
    }

    /// Sends bytes; `false` when the other side takes no more.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sending = async {
            self.tls.write_all(bytes).await?;
            self.tls.flush().await
        };
        timeout(PATIENCE, sending)
            .await
            .is_ok_and(|sent| sent.is_ok())
    }

    /// The next frame; `None` when the connection has ended.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let [a, b, c, kind, flags, s1, s2, s3, s4, rest @ ..] = self.rest.as_slice() {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let found = Frame {
                        kind: *kind,
                        flags: *flags,
                        stream: u32::from_be_bytes([*s1 & 0x7f, *s2, *s3, *s4]),
                        payload: payload.to_vec(),
                    };
                    self.rest.drain(..9 + length);
                    return Some(found);
                }
            }
            let read = self.tls.read_buf(&mut self.rest).await;
            if !read.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }

    /// Reads what has come until nothing comes for a moment; `false` when the connection has ended.
    pub async fn drain(&mut self) -> bool {
        loop {
            match timeout(Duration::from_millis(1), self.frame()).await {
                Err(_quiet) => return true,
                Ok(Some(_)) => {}
                Ok(None) => return false,
            }
        }
    }

    /// A whole request: `fields` beside the pseudo-header fields.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Ended {
        let block = block(
            &[
                &[
                    (":method", method),
                    (":scheme", "https"),
                    (":path", path),
                    (":authority", "localhost"),
                ],
                fields,
            ]
            .concat(),
        );
        self.request_of(&block, body).await
    }

    /// A request of any header block.
    pub async fn request_of(&mut self, block: &[u8], body: &[u8]) -> Ended {
        let stream = self.stream();
        let end = if body.is_empty() { END_STREAM } else { 0 };
        let mut bytes = frame(HEADERS, END_HEADERS | end, stream, block);
        if !body.is_empty() {
            bytes.extend(frame(DATA, END_STREAM, stream, body));
        }
        self.send(&bytes).await;
        self.ended(stream).await
    }

    /// Waits for the end of a stream.
    pub async fn ended(&mut self, stream: u32) -> Ended {
        timeout(PATIENCE, self.read_to_the_end(stream))
            .await
            .expect("an answer or an end in time")
    }

    async fn read_to_the_end(&mut self, stream: u32) -> Ended {
        let (mut status, mut body) = (0, Vec::new());
        while let Some(frame) = self.frame().await {
            match (frame.kind, frame.stream == stream) {
                (SETTINGS, _) if frame.flags & ACK == 0 => {
                    self.send(&self::frame(SETTINGS, ACK, 0, &[])).await;
                }
                (GOAWAY, _) if frame.payload.get(7) != Some(&0) => return Ended::Closed,
                (HEADERS, true) if status < 200 => status = status_in(&frame.payload),
                (DATA, true) => body.extend(&frame.payload),
                (RST_STREAM, true) if status == 0 => {
                    let reason = frame.payload.try_into().expect("four bytes");
                    return Ended::Reset(u32::from_be_bytes(reason));
                }
                (RST_STREAM, true) => return Ended::Answered(status, body),
                _ => {}
            }
            let is_last = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
            if frame.stream == stream && is_last {
                return Ended::Answered(status, body);
            }
        }
        Ended::Closed
    }

    /// The statuses of the next `count` streams that end; 0 stands for a reset.
    pub async fn statuses(&mut self, count: usize) -> Vec<u16> {
        let mut open: BTreeMap<u32, u16> = BTreeMap::new();
        let mut ended = Vec::new();
        let reading = async {
            while ended.len() < count {
                let frame = self.frame().await.expect("the connection goes on");
                if frame.kind == HEADERS {
                    let status = status_in(&frame.payload);
                    open.entry(frame.stream).or_insert(status);
                }
                let is_last = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
                if is_last || frame.kind == RST_STREAM {
                    ended.push(open.remove(&frame.stream).unwrap_or_default());
                }
            }
        };
        timeout(PATIENCE, reading).await.expect("ends in time");
        ended
    }

    /// A token for the client that every test configuration knows.
    pub async fn token(&mut self) -> String {
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!(
            "{}:{}",
            super::CLIENT,
            super::SECRET
        ));
        let basic = format!("Basic {basic}");
        let fields = [
            ("authorization", basic.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let form = b"grant_type=client_credentials";
        match self.request("POST", "/oauth2/token", &fields, form).await {
            Ended::Answered(200, body) => {
                let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                answer["access_token"].as_str().expect("a token").to_owned()
            }
            other => panic!("no token: {other:?}"),
        }
    }
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literal fields that enter no table (RFC 7541 §6.2.2), without Huffman code.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            bytes.extend(integer(text.len(), 7));
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// An integer of HPACK (RFC 7541 §5.1) behind a prefix of zeros.
pub fn integer(value: usize, prefix: u32) -> Vec<u8> {
    let most = (1_usize << prefix) - 1;
    let byte = |value: usize| u8::try_from(value).expect("a byte");
    if value < most {
        return vec![byte(value)];
    }
    let (mut bytes, mut rest) = (vec![byte(most)], value - most);
    while rest >= 128 {
        bytes.push(byte(rest % 128 + 128));
        rest /= 128;
    }
    bytes.push(byte(rest));
    bytes
}

/// `:status`, which is always the first field of an answer.
fn status_in(block: &[u8]) -> u16 {
    let mut block = block;
    // Our settings make the encoder announce a new size of its table first.
    while let [first, rest @ ..] = block
        && first & 0xe0 == 0x20
    {
        block = rest;
    }
    match block {
        [first, ..] if first & 0x80 != 0 => match first & 0x7f {
            8 => 200,
            9 => 204,
            10 => 206,
            11 => 304,
            12 => 400,
            13 => 404,
            14 => 500,
            other => panic!("the field {other} is no status"),
        },
        // Index 8 as the name, in each of the literal forms.
        [0x08 | 0x18 | 0x48, length, value @ ..] => {
            let text = &value[..usize::from(length & 0x7f)];
            if length & 0x80 == 0 {
                std::str::from_utf8(text)
                    .expect("digits")
                    .parse()
                    .expect("a status")
            } else {
                huffman_digits(text)
            }
        }
        other => panic!("no status in {other:?}"),
    }
}

/// Three digits in the Huffman code of RFC 7541, appendix B: 0, 1, 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u16> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1)))
        .collect();
    let number = |bits: &[u16]| bits.iter().fold(0, |all, bit| all * 2 + bit);
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        if short < 3 {
            status = status * 10 + short;
            at += 5;
        } else {
            status = status * 10 + number(&bits[at..at + 6]) - 0b01_1001 + 3;
            at += 6;
        }
    }
    status
}
