//! Floods of HTTP/2 frames: after each the gateway still answers, and has grown by little.

use std::time::{Duration, Instant};

use super::Secure;
use super::harness::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, H2Client, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, integer,
};
use super::harness::usage::rss_kib;

/// Frames of a flood.
const FRAMES: usize = 20_000;

/// Over so many connections at most, all of them kept open.
const MOST_CONNECTIONS: usize = 170;

/// Growth that is allowed, in KiB.
const GROWTH: u64 = 16 * 1024;

/// Makes the bytes of the n-th step of a flood; a step is a frame or two.
type Step = fn(&mut Attack) -> Vec<u8>;

/// What a flood needs to know while it goes on.
struct Attack {
    stream: u32,
    get: Vec<u8>,
}

impl Attack {
    fn next(&mut self) -> u32 {
        self.stream += 2;
        self.stream
    }

    fn open(&mut self, flags: u8) -> (u32, Vec<u8>) {
        let stream = self.next();
        (
            stream,
            frame(HEADERS, END_HEADERS | flags, stream, &self.get),
        )
    }
}

/// Name, frames of one step, and what a step sends.
const FLOODS: [(&str, usize, Step); 18] = [
    (
        "requests that are reset at once (CVE-2023-44487)",
        2,
        |attack| {
            let (stream, mut bytes) = attack.open(END_STREAM);
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            bytes
        },
    ),
    (
        "requests that make us reset: WINDOW_UPDATE of 0 (CVE-2025-8671)",
        2,
        |attack| {
            let (stream, mut bytes) = attack.open(END_STREAM);
            bytes.extend(frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
            bytes
        },
    ),
    (
        "requests that make us reset: a window beyond its most",
        2,
        |attack| {
            let (stream, mut bytes) = attack.open(END_STREAM);
            bytes.extend(frame(
                WINDOW_UPDATE,
                0,
                stream,
                &0x7fff_ffff_u32.to_be_bytes(),
            ));
            bytes
        },
    ),
    (
        "requests that make us reset: DATA after the end",
        2,
        |attack| {
            let (stream, mut bytes) = attack.open(END_STREAM);
            bytes.extend(frame(DATA, 0, stream, b"x"));
            bytes
        },
    ),
    ("requests that depend on themselves", 2, |attack| {
        let (stream, mut bytes) = attack.open(END_STREAM);
        let mut payload = stream.to_be_bytes().to_vec();
        payload.push(16);
        bytes.extend(frame(PRIORITY, 0, stream, &payload));
        bytes
    }),
    ("requests without an end", 1, |attack| attack.open(0).1),
    ("malformed requests", 1, |attack| {
        let stream = attack.next();
        let bad = block(&[(":method", "GET"), ("Upper", "x")]);
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &bad)
    }),
    (
        "CONTINUATION without an end (CVE-2024-27316)",
        1,
        |attack| {
            if attack.stream == 0 {
                attack.stream = 1;
                return frame(HEADERS, END_STREAM, 1, &attack.get.clone());
            }
            frame(CONTINUATION, 0, 1, &block(&[("x", "y")]))
        },
    ),
    ("empty CONTINUATION", 1, |attack| {
        if attack.stream == 0 {
            attack.stream = 1;
            return frame(HEADERS, END_STREAM, 1, &attack.get.clone());
        }
        frame(CONTINUATION, 0, 1, &[])
    }),
    ("empty DATA (CVE-2019-9518)", 1, |attack| {
        if attack.stream == 0 {
            attack.stream = 1;
            return frame(HEADERS, END_HEADERS, 1, &attack.get.clone());
        }
        frame(DATA, 0, 1, &[])
    }),
    ("DATA of one byte", 1, |attack| {
        if attack.stream == 0 {
            attack.stream = 1;
            return frame(HEADERS, END_HEADERS, 1, &attack.get.clone());
        }
        frame(DATA, 0, 1, b"x")
    }),
    ("DATA of padding alone", 1, |attack| {
        if attack.stream == 0 {
            attack.stream = 1;
            return frame(HEADERS, END_HEADERS, 1, &attack.get.clone());
        }
        // PADDED, with 255 bytes of it.
        frame(DATA, 8, 1, &[&[255], [0; 255].as_slice()].concat())
    }),
    ("SETTINGS (CVE-2019-9515)", 1, |_| {
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])
    }),
    (
        "settings that change the window of every stream",
        2,
        |attack| {
            let (_stream, mut bytes) = attack.open(0);
            bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]));
            bytes
        },
    ),
    ("PING (CVE-2019-9512)", 1, |_| {
        frame(PING, 0, 0, b"12345678")
    }),
    ("PRIORITY", 1, |attack| {
        let stream = attack.next();
        frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 16])
    }),
    ("frames of an unknown type", 1, |_| {
        frame(0xfa, 0xff, 0, &[0; 16])
    }),
    ("WINDOW_UPDATE of the connection", 1, |_| {
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())
    }),
];

fn get(token: &str) -> Vec<u8> {
    let bearer = format!("Bearer {token}");
    block(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/hello"),
        (":authority", "localhost"),
        ("authorization", &bearer),
    ])
}

/// Sends a flood, reading what comes unless `deaf`; how many frames were taken.
async fn flood(
    client: &mut H2Client,
    frames: usize,
    step: Step,
    size: usize,
    token: &str,
    deaf: bool,
) -> usize {
    let mut attack = Attack {
        stream: 0,
        get: get(token),
    };
    let mut sent = 0;
    while sent < frames {
        let mut bytes = Vec::new();
        while bytes.len() < 32 * 1024 && sent < frames {
            bytes.extend(step(&mut attack));
            sent += size;
        }
        let taken = tokio::time::timeout(Duration::from_secs(2), client.send(&bytes)).await;
        if taken != Ok(true) || (!deaf && !client.drain().await) {
            break;
        }
    }
    sent
}

/// A request on a connection of its own, answered within a while.
async fn still_answers(gateway: &Secure, token: &str, after: &str) -> Duration {
    let started = Instant::now();
    let bearer = format!("Bearer {token}");
    let mut client = gateway.connect().await;
    let ended = client
        .request("GET", "/hello", &[("authorization", &bearer)], b"")
        .await;
    assert_eq!(ended.status(), 200, "after {after}: {ended:?}");
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_flood_of_frames_stops_or_swells_the_gateway() {
    let gateway = Secure::start().await;
    let token = gateway.connect().await.token().await;
    let pid = gateway.process.pid();
    // What a worker allocates once is there before the first look.
    for _ in 0..8 {
        still_answers(&gateway, &token, "nothing").await;
    }
    println!("| flood | frames | connections | growth of resident memory | next request |");
    for (name, size, step) in FLOODS {
        for deaf in [false, true] {
            let before = rss_kib(pid);
            let (mut sent, mut during, mut clients) = (0, 0, Vec::new());
            // Where a connection is ended, the flood goes on over the next one.
            while sent < FRAMES && clients.len() < MOST_CONNECTIONS {
                let mut client = gateway.connect().await;
                sent += flood(&mut client, FRAMES - sent, step, size, &token, deaf).await;
                during = during.max(rss_kib(pid));
                clients.push(client);
            }
            let took = still_answers(&gateway, &token, name).await;
            let connections = clients.len();
            drop(clients);
            let grown = during.max(rss_kib(pid)).saturating_sub(before);
            let how = if deaf { ", answers unread" } else { "" };
            println!("| {name}{how} | {sent} | {connections} | {grown} KiB | {took:.0?} |");
            assert!(grown <= GROWTH, "{name}{how}: {grown} KiB more");
        }
    }
    // Nothing of it is left: as many floods again need no more memory.
    let lines = gateway.process.log_lines();
    let panics = lines
        .iter()
        .filter(|line| line.to_string().contains("panicked"));
    assert_eq!(panics.count(), 0);
}

/// One field of 4,000 bytes that enters the table, and then a thousand mentions of it: a header list of
/// four megabytes from five kilobytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_list_that_unpacks_to_megabytes_is_refused() {
    let gateway = Secure::start().await;
    let token = gateway.connect().await.token().await;
    let pid = gateway.process.pid();
    still_answers(&gateway, &token, "nothing").await;
    let before = rss_kib(pid);
    for mentions in [100, 1_000, 10_000] {
        let mut client = gateway.connect().await;
        let mut bomb = get(&token);
        // With incremental indexing (RFC 7541 §6.2.1).
        bomb.push(0x40);
        for text in ["x".to_owned(), "y".repeat(4_000)] {
            bomb.extend(integer(text.len(), 7));
            bomb.extend(text.as_bytes());
        }
        bomb.extend(std::iter::repeat_n(0x80 | 62, mentions));
        let ended = client.request_of(&bomb, b"").await;
        assert!(
            matches!(ended.status(), 0 | 400..=499),
            "{mentions} mentions: {ended:?}"
        );
        still_answers(&gateway, &token, "a header bomb").await;
    }
    // The same from fifty connections that stay open.
    let mut open = Vec::new();
    for _ in 0..50 {
        let mut client = gateway.connect().await;
        let mut bytes = vec![0x40];
        for text in ["x".to_owned(), "y".repeat(4_000)] {
            bytes.extend(integer(text.len(), 7));
            bytes.extend(text.as_bytes());
        }
        bytes.extend(std::iter::repeat_n(0x80 | 62, 5_000));
        client.send(&frame(HEADERS, 0, 1, &bytes)).await;
        open.push(client);
    }
    still_answers(&gateway, &token, "fifty header bombs").await;
    let grown = rss_kib(pid).saturating_sub(before);
    println!("header lists: {grown} KiB more");
    assert!(grown <= GROWTH, "{grown} KiB more");
}

/// Streams that wait for a window that never opens hold no more than what is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_makes_room_for_are_bounded() {
    let gateway = Secure::start().await;
    let token = gateway.connect().await.token().await;
    let pid = gateway.process.pid();
    let bearer = format!("Bearer {token}");
    still_answers(&gateway, &token, "nothing").await;
    let before = rss_kib(pid);
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut client = gateway.connect().await;
        // No window for anything (RFC 9113 §6.5.2).
        let mut bytes = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        for _ in 0..200 {
            let stream = client.stream();
            let fields = block(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/hello"),
                (":authority", "localhost"),
                ("authorization", &bearer),
                ("x-long", &"z".repeat(1_000)),
            ]);
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields));
        }
        client.send(&bytes).await;
        open.push(client);
    }
    still_answers(&gateway, &token, "closed windows").await;
    let grown = rss_kib(pid).saturating_sub(before);
    println!("closed windows, 10 connections × 200 streams: {grown} KiB more");
    // A thousand admitted streams: what a stream may hold counts, not what was asked for.
    assert!(grown <= 100 * 1024, "{grown} KiB more");
}
