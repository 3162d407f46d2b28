//! Reading one HTTP/1 request header under a deadline.
//!
//! Pingora bounds each *read* by a minute and a keep-alive connection not at all, so one byte now
//! and then holds a connection for ever. The guard therefore collects the header itself and hands
//! it to the session as bytes already read. All it decides is where the header ends, by the most
//! lenient rule there is (RFC 9112 §2.2: a bare LF may end a line), so that the parser behind never
//! has to wait for more; whether the header is any good is for the parser and the gateway to say.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, Sleep};

use super::chunks::is_token;
use super::framing::{self, Fault, Said};

/// Room for an ordinary header; doubled on demand.
const INITIAL: usize = 4096;

/// Most header fields that Pingora parses.
const MAX_FIELDS: usize = 256;

/// How long to wait, and how much to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until the first byte; on the first request of a connection until the whole header.
    pub(super) idle: Duration,
    /// From the first byte until the whole header; `None` leaves the first deadline in force.
    pub(super) header: Option<Duration>,
    /// Most bytes, a beginning body included.
    pub(super) max_bytes: usize,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed the connection or it broke.
    Closed,
    /// Nothing was sent in time.
    Idle,
    /// The header was begun but not completed in time.
    Slow,
    /// The header is far too large.
    TooLarge,
    /// The service is stopping.
    Stopping,
}

/// What a reader waits for beside its client. Both live as long as the connection: to set them up
/// for each header would cost more than to read it.
pub(super) struct Waits<'a> {
    /// Fires at the deadline or earlier, and is then set again.
    timer: Pin<&'a mut Sleep>,
    /// Ends when the service stops.
    stopping: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
    /// How long a client may still take then.
    farewell: Duration,
    /// Until when, once it has stopped.
    until: Option<Instant>,
}

impl<'a> Waits<'a> {
    /// With a timer of any length, a future that ends when the service stops, and the time that a
    /// client may still take then.
    pub(super) fn new(
        timer: Pin<&'a mut Sleep>,
        stopping: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
        farewell: Duration,
    ) -> Self {
        Self {
            timer,
            stopping,
            farewell,
            until: None,
        }
    }
}

/// Ends at `deadline`. Deadlines of later headers mostly lie later, so `timer` is left alone until
/// it fires; only an earlier one moves it.
async fn expired(mut timer: Pin<&mut Sleep>, deadline: Instant) {
    if timer.deadline() > deadline {
        timer.as_mut().reset(deadline);
    }
    loop {
        timer.as_mut().await;
        if Instant::now() >= deadline {
            return;
        }
        timer.as_mut().reset(deadline);
    }
}

/// Reads until a header is complete, or cannot become valid any more: then it goes to the parser
/// as it is, whose business the answer is. What follows the header comes along. `head` is what was
/// read behind the last request.
pub(super) async fn read<S: AsyncRead + Unpin + ?Sized>(
    stream: &mut S,
    mut head: BytesMut,
    patience: Patience,
    waits: &mut Waits<'_>,
) -> Result<BytesMut, End> {
    let mut scan = Scan::default();
    let mut deadline = Instant::now() + patience.idle;
    if head.is_empty() {
        head.reserve(INITIAL);
    } else if scan.ends(&head) {
        return Ok(head);
    } else if head.len() >= patience.max_bytes {
        return Err(End::TooLarge);
    } else if let Some(limit) = patience.header {
        deadline = Instant::now() + limit;
    }
    loop {
        // No more than the limit is ever read or held, however fast it comes.
        let room = patience.max_bytes.saturating_sub(head.len());
        if head.len() == head.capacity() {
            head.reserve(head.len().max(INITIAL).min(room));
        }
        let last = waits.until.map_or(deadline, |until| deadline.min(until));
        let mut limited = (&mut *stream).take(room as u64);
        let read = tokio::select! {
            // What has arrived is served, also when time is up or the service stops.
            biased;
            read = limited.read_buf(&mut head) => read,
            () = expired(waits.timer.as_mut(), last) => {
                return Err(match waits.until {
                    Some(_) => End::Stopping,
                    None if head.is_empty() => End::Idle,
                    None => End::Slow,
                });
            }
            () = waits.stopping.as_mut(), if waits.until.is_none() => {
                waits.until = Some(Instant::now() + waits.farewell);
                continue;
            }
        };
        let fresh = match read {
            Ok(0) | Err(_) => return Err(End::Closed),
            Ok(read) => head.len() == read,
        };
        if scan.ends(&head) {
            return Ok(head);
        }
        if fresh && let Some(limit) = patience.header {
            deadline = Instant::now() + limit;
        }
        if head.len() >= patience.max_bytes {
            return Err(End::TooLarge);
        }
    }
}

/// Length of a complete header and what it says; or what is wrong with it, if Pingora would refuse it
/// by itself, with an answer that has no Log ID, or would repair it before the gateway sees it.
/// Everything else is for the gateway to judge.
pub(super) fn frame(head: &mut BytesMut) -> Result<(usize, Said), Fault> {
    let (length, target, said) = judge(head)?;
    if said.respelt == 0 {
        return Ok((length, said));
    }
    // The origin form says the same without the host.
    let rest = head.split_off(target + said.respelt);
    head.truncate(target);
    if !rest.starts_with(b"/") {
        head.extend_from_slice(b"/");
    }
    let cut = target + said.respelt - head.len();
    head.extend_from_slice(&rest);
    Ok((length - cut, said))
}

/// Length of a complete header, where its target begins, and what it says.
fn judge(head: &[u8]) -> Result<(usize, usize, Said), Fault> {
    // Left uninitialised: to clear all of it for each request would cost as much as the parsing.
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut fields) {
        Ok(httparse::Status::Complete(_)) if request.method == Some("CONNECT") => {
            Err(framing::CONNECT)
        }
        Ok(httparse::Status::Complete(length)) => {
            let blank = |byte: &&u8| matches!(**byte, b'\r' | b'\n');
            let method = request.method.map_or(0, str::len);
            let target = head.iter().take_while(blank).count() + method + 1;
            Ok((length, target, framing::said(&request)?))
        }
        Err(httparse::Error::TooManyHeaders) => Err((
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the request has far more header fields than this server accepts",
        )),
        Ok(httparse::Status::Partial) | Err(_) => {
            Err((StatusCode::BAD_REQUEST, "the request header is malformed"))
        }
    }
}

/// How far a growing buffer has been searched for the end of the header.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes that need no second look.
    seen: usize,
    /// Whether the request line has begun; empty lines before it are skipped (RFC 9112 §2.2).
    begun: bool,
}

impl Scan {
    /// Whether `head`, which only grows from call to call, holds a whole header or can never.
    fn ends(&mut self, head: &[u8]) -> bool {
        if !self.begun {
            let blank = |byte: &&u8| matches!(**byte, b'\r' | b'\n');
            self.seen += head.iter().skip(self.seen).take_while(blank).count();
            match head.get(self.seen) {
                None => return false,
                // A method is a name.
                Some(byte) if is_token(*byte) => self.begun = true,
                // No request begins so; a TLS handshake on a plain port, for one.
                Some(_) => return true,
            }
        }
        // The common case, a request without a body, needs no search.
        if head.ends_with(b"\r\n\r\n") {
            return true;
        }
        let mut rest = head.get(self.seen..).unwrap_or_default();
        while let Some(line) = rest.iter().position(|byte| *byte == b'\n') {
            let after = rest.get(line + 1..).unwrap_or_default();
            match after {
                [b'\n', ..] | [b'\r', b'\n', ..] => return true,
                // A lone CR where a line begins is an error in any case.
                [b'\r', _, ..] => return true,
                // Undecided: this LF must be looked at again.
                [] | [b'\r'] => break,
                [_, ..] => rest = after,
            }
        }
        self.seen = match rest.iter().position(|byte| *byte == b'\n') {
            Some(line) => head.len() - rest.len() + line,
            None => head.len(),
        };
        false
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use pingora::protocols::Stream;
    use pingora::protocols::http::ServerSession;
    use proptest::prelude::*;
    use tokio::sync::watch;

    use super::*;

    #[test]
    fn finds_the_end_wherever_the_pieces_break() {
        for (text, end) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n", 27),
            ("GET / HTTP/1.1\nHost: a\n\nbody", 24),
            ("GET / HTTP/1.1\nHost: a\n\r\n", 25),
            ("\r\n\n\r\nGET / HTTP/1.1\r\n\r\n", 23),
            ("GET / HTTP/1.1\r\n\rx", 18),
            ("\u{16}\u{3}\u{1}", 1),
        ] {
            let mut scan = Scan::default();
            let found = (1..=text.len()).find(|&n| scan.ends(&text.as_bytes()[..n]));
            assert_eq!(found, Some(end), "{text:?}");
        }
        assert!(!Scan::default().ends(b"\r\n\r\n\r\n\r\n"), "no request yet");
    }

    /// The promise to the guard: a header that it lets pass is never waited for again.
    fn parser_needs_no_more(head: &[u8]) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (client, server) = tokio::io::duplex(1);
            let mut session = ServerSession::new_http1(Box::new(server));
            session.set_keepalive(None);
            session.set_read_timeout(None);
            session.set_pipelined_prefix(BytesMut::from(head));
            let reading = session.read_request();
            tokio::pin!(reading);
            let decided = tokio::select! {
                biased;
                _ = &mut reading => true,
                () = std::future::ready(()) => false,
            };
            drop(client);
            decided
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn the_parser_never_waits_behind_the_guard(
            begin in prop::sample::select(vec![
                "", "\r\n", "GET", "GET /", "GET / HTTP/1.1\r\n", "GET / HTTP/1.0\n", "\nG / HTTP/1.1\r\n",
                "GET /x y HTTP/1.1\r\n", "GET /é HTTP/1.1\n", "PRI * HTTP/2.0\r\n", "\r\rGET / HTTP/1.1\r\n",
            ]),
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "\r\n", "\n", "\r", " ", "\t", ":", "Host: a\r\n", "Host", "a: b\n", "é", "\0",
                ]),
                0..6,
            ),
            tail in prop::sample::select(vec!["", "\n", "\r\n", "\r\n\r\n", "\n\n", "\n\r\n", "x"]),
        ) {
            let text = begin.to_owned() + &pieces.concat() + tail;
            if Scan::default().ends(text.as_bytes()) {
                prop_assert!(parser_needs_no_more(text.as_bytes()), "{text:?}");
            }
        }

        #[test]
        fn pieces_and_whole_agree(text in "[A\r\n :]{0,24}") {
            let bytes = text.as_bytes();
            let first = (1..=bytes.len()).find(|&n| Scan::default().ends(&bytes[..n]));
            let mut scan = Scan::default();
            let grown = (1..=bytes.len()).find(|&n| scan.ends(&bytes[..n]));
            prop_assert_eq!(first, grown);
        }
    }

    #[tokio::test]
    async fn what_has_arrived_is_served_even_while_stopping() {
        let (mut client, server) = tokio::io::duplex(256);
        let (_stop, mut watch) = watch::channel(true);
        let timer = pin!(tokio::time::sleep(Duration::from_secs(60)));
        let stopping = pin!(async { drop(watch.wait_for(|stop| *stop).await) });
        let mut waits = Waits::new(timer, stopping, Duration::from_millis(10));
        tokio::io::AsyncWriteExt::write_all(&mut client, b"GET / HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        let second = Duration::from_secs(1);
        let patience = Patience {
            idle: second,
            header: None,
            max_bytes: 1024,
        };
        let mut stream: Stream = Box::new(server);
        assert!(
            read(&mut stream, BytesMut::new(), patience, &mut waits)
                .await
                .is_ok()
        );
        assert_eq!(
            read(&mut stream, BytesMut::new(), patience, &mut waits).await,
            Err(End::Stopping)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_holds_wherever_the_timer_of_the_connection_stands() {
        let (seconds, started) = (Duration::from_secs, Instant::now());
        let timer = pin!(tokio::time::sleep(seconds(5)));
        let stopping = pin!(std::future::pending());
        let mut waits = Waits::new(timer, stopping, Duration::ZERO);
        let (mut client, server) = tokio::io::duplex(256);
        let mut stream: Stream = Box::new(server);
        let patience = |idle| Patience {
            idle: seconds(idle),
            header: Some(seconds(3)),
            max_bytes: 1024,
        };
        // Later than the timer, earlier than the timer, and moved by the first byte.
        assert_eq!(
            read(&mut stream, BytesMut::new(), patience(8), &mut waits).await,
            Err(End::Idle)
        );
        assert_eq!(started.elapsed().as_secs(), 8);
        // Given up before its time, with the timer set to it.
        let early = tokio::time::timeout(
            seconds(0),
            read(&mut stream, BytesMut::new(), patience(60), &mut waits),
        );
        assert!(early.await.is_err());
        assert_eq!(
            read(&mut stream, BytesMut::new(), patience(2), &mut waits).await,
            Err(End::Idle)
        );
        assert_eq!(started.elapsed().as_secs(), 10);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"GET / HTTP")
            .await
            .unwrap();
        assert_eq!(
            read(&mut stream, BytesMut::new(), patience(60), &mut waits).await,
            Err(End::Slow)
        );
        assert_eq!(started.elapsed().as_secs(), 13);
    }
}
