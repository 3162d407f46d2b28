//! What goes over the wire beside the rules of single requests: old clients, slow clients, several
//! requests at once, and fields that are for one connection only.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cases::House;
use crate::harness::h2::{DATA, END_HEADERS, END_STREAM, Ended, H2Client, HEADERS, block, frame};
use crate::harness::metrics::sum;
use crate::harness::raw::RawClient;
use crate::harness::{Gateway, Options, eventually};
use crate::recorder::Recorder;
use crate::upstreams::upstream;

async fn before(address: std::net::SocketAddr) -> Gateway {
    Gateway::start(Options {
        routes: "routes:\n  - { name: odd, match: { prefix: / }, auth: none, upstream: odd }\n"
            .to_owned(),
        upstreams: format!("  odd: {{ endpoints: [\"{address}\"], read_timeout: 1s }}\n"),
        h2: true,
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_gets_no_chunks_and_no_informational_answer() {
    for answer in [
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nok!close",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let gateway = before(upstream(vec![answer.into()]).await).await;
        let mut client = RawClient::connect(&gateway.proxy).await;
        client
            .send("GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n")
            .await;
        let seen = client.answer(false).await.unwrap();
        assert_eq!(seen.status, 200, "{answer:?}: {seen:?}");
        assert_eq!(seen.header("transfer-encoding"), None, "{seen:?}");
        assert_eq!(seen.body.trim_end_matches("!close"), "ok", "{seen:?}");
        if seen.header("content-length").is_none() {
            assert_eq!(seen.header("connection"), Some("close"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_for_one_connection_stay_there() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Connection: keep-alive\r\nX-Hop: 1\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok";
    let empty = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";
    let gateway = before(upstream(vec![answer.into(), empty.into()]).await).await;
    let mut client = RawClient::connect(&gateway.proxy).await;
    let get = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(get).await;
    let seen = client.answer(false).await.unwrap();
    for name in ["keep-alive", "proxy-connection", "x-hop"] {
        assert_eq!(seen.header(name), None, "{seen:?}");
    }
    assert_eq!(seen.header("x-end"), Some("1"));
    assert_eq!(seen.header("connection"), Some("keep-alive"));
    client.send(get).await;
    let seen = client.answer(false).await.unwrap();
    assert_eq!((seen.status, seen.header("content-length")), (204, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_in_several_fields_reach_an_upstream_as_one() {
    let recorder = Recorder::start().await;
    let gateway = before(recorder.address).await;
    let (address, ca) = gateway.h2.clone().unwrap();
    let mut client = H2Client::connect(address, &ca).await;
    let crumbs = [
        ("cookie", "a=1"),
        ("x", "y"),
        ("cookie", "b=2"),
        ("cookie", "c=3"),
    ];
    assert_eq!(
        client.request("GET", "/x", &crumbs, b"").await.status(),
        200
    );
    let seen = recorder.take();
    assert_eq!(seen[0].values("cookie"), ["a=1; b=2; c=3"], "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_finish_is_no_fault_of_the_upstream() {
    let recorder = Recorder::start().await;
    let gateway = before(recorder.address).await;
    // So many silences in a row mark an endpoint.
    for _ in 0..3 {
        let mut client = RawClient::connect(&gateway.proxy).await;
        client
            .send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
            .await;
        let answer = client.answer(false).await.unwrap();
        assert_eq!(answer.status, 408, "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let failures = |cause| {
        let gateway = &gateway;
        async move {
            let labels = [("route", "odd"), ("cause", cause)];
            gateway
                .metric("portcullis_request_failures_total", &labels)
                .await
        }
    };
    assert_eq!(failures("request_timeout").await, 3.0);
    assert_eq!(failures("upstream_timeout").await, 0.0);
    let log = gateway.log.text();
    assert!(!log.contains("upstream_endpoint_down"), "{log}");
    // An upstream that has the whole request and says nothing is at fault as ever.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = before(silent.local_addr().unwrap()).await;
    for _ in 0..3 {
        let mut client = RawClient::connect(&gateway.proxy).await;
        client
            .send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            .await;
        assert_eq!(client.answer(false).await.unwrap().status, 504);
    }
    assert!(gateway.log.text().contains("upstream_endpoint_down"));
}

/// What the first packet does not show is found as well, and then nothing more is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_turns_out_malformed_ends_the_connection() {
    let house = House::new().await;
    let head = format!(
        "POST /hello HTTP/1.1\r\nHost: a\r\n{}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        house.bearer()
    );
    for tail in ["\r\n\r\n", ";x\r\n\r\n", "0;a\n\r\n\r\n", "0\r\nX\r\n\r\n"] {
        let mut client = RawClient::connect(&house.gateway.proxy).await;
        client.send(&head).await;
        // The gateway has read what came before, and waits.
        eventually("it is in flight", || async {
            let count = house
                .gateway
                .metric("portcullis_http_requests_in_flight", &[("route", "api")])
                .await;
            (count >= 1.0).then_some(())
        })
        .await;
        client.send(tail).await;
        client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.answer(false).await.unwrap();
        assert_eq!(answer.status, 400, "{tail:?}: {answer:?}");
        assert!(answer.json()["log_id"].is_string(), "{answer:?}");
        assert!(
            client
                .answer_within(Duration::from_secs(2), false)
                .await
                .is_none()
        );
        house.gateway.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_ahead_are_each_judged_and_forwarded() {
    let recorder = Recorder::start().await;
    let gateway = before(recorder.address).await;
    let mut client = RawClient::connect(&gateway.proxy).await;
    client
        .send("POST /one HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let ahead: String = (0..20)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    let body = "1\r\nx\r\n".repeat(5_000);
    client
        .send(format!(
            "{body}0\r\n\r\n{ahead}GET // HTTP/1.1\r\nHost: a\r\n\r\n{ahead}"
        ))
        .await;
    for _ in 0..21 {
        let answer = client.answer(false).await.unwrap();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("keep-alive"))
        );
    }
    // What is refused ends the connection, with all that follows.
    assert_eq!(client.answer(false).await.unwrap().status, 400);
    assert!(
        client
            .answer_within(Duration::from_secs(2), false)
            .await
            .is_none()
    );
    let seen = recorder.take();
    assert_eq!((seen.len(), seen[0].body.len()), (21, 5_000));
}

/// Whatever the frames of a body are, what reaches the upstream has one end. A byte behind it would be
/// the next request on that connection, and its answer somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_http2_ends_once_however_its_frames_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = before(listener.local_addr().unwrap()).await;
    let (address, ca) = gateway.h2.clone().unwrap();
    let mut client = H2Client::connect(address, &ca).await;
    let (ask, mut asked) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        loop {
            // Up to the last chunk; what comes behind it stays unread, for the next request.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n0\r\n\r\n") {
                request.push(socket.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            socket.write_all(answer).await.unwrap();
            ask.send(String::from_utf8(request).unwrap()).await.unwrap();
        }
    });
    for method in ["POST", "PUT", "GET"] {
        for (pieces, body) in [
            (vec!["abc", ""], "3\r\nabc\r\n0\r\n\r\n"),
            (vec!["abc", "", ""], "3\r\nabc\r\n0\r\n\r\n"),
            (vec!["", "abc"], "3\r\nabc\r\n0\r\n\r\n"),
            (vec!["abc", "", "def"], "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"),
            (vec![""], "0\r\n\r\n"),
            (vec!["", ""], "0\r\n\r\n"),
        ] {
            let stream = client.stream();
            let head = block(&[
                (":method", method),
                (":scheme", "https"),
                (":path", "/x"),
                (":authority", "localhost"),
            ]);
            // Each frame is read by itself.
            client
                .send(&frame(HEADERS, END_HEADERS, stream, &head))
                .await;
            for (number, piece) in pieces.iter().enumerate() {
                let end = if number + 1 == pieces.len() {
                    END_STREAM
                } else {
                    0
                };
                client
                    .send(&frame(DATA, end, stream, piece.as_bytes()))
                    .await;
                tokio::task::yield_now().await;
            }
            let ended = client.ended(stream).await;
            assert_eq!(
                ended,
                Ended::Answered(200, b"ok".to_vec()),
                "{method} {pieces:?}"
            );
            let request = asked.recv().await.unwrap();
            assert!(
                request.starts_with(method),
                "{method} {pieces:?}: {request:?}"
            );
            let (_, sent) = request.split_once("\r\n\r\n").unwrap();
            let data = |text: &str| text.replace("3\r\nabc\r\n3\r\ndef", "6\r\nabcdef");
            assert_eq!(data(sent), data(body), "{method} {pieces:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_noticed_whatever_it_sent_ahead() {
    for ahead in ["", "G", "GET /y HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = before(silent.local_addr().unwrap()).await;
        let mut client = RawClient::connect(&gateway.proxy).await;
        client
            .send(&format!("GET /x HTTP/1.1\r\nHost: a\r\n\r\n{ahead}"))
            .await;
        let (_kept, _) = silent.accept().await.unwrap();
        let began = std::time::Instant::now();
        drop(client);
        eventually("nothing is in flight", || async {
            let scrape = gateway.scrape().await;
            (sum(&scrape, "portcullis_http_requests_in_flight", &[]) == 0.0).then_some(())
        })
        .await;
        let limit = Duration::from_millis(900);
        assert!(
            began.elapsed() < limit,
            "{ahead:?}: it waited for the upstream"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_asked_for_does_not_cost_the_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = before(listener.local_addr().unwrap()).await;
    let answering = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(socket.read_u8().await.unwrap());
        }
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        socket.write_all(go_on).await.unwrap();
        socket.read_exact(&mut [0; 3]).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        socket.write_all(answer).await.unwrap();
        socket
    });
    let mut client = RawClient::connect(&gateway.proxy).await;
    client
        .send("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .await;
    assert_eq!(client.answer(true).await.unwrap().status, 100);
    client.send("abc").await;
    let seen = client.answer(false).await.unwrap();
    assert_eq!(seen.status, 200);
    assert_eq!(seen.header("connection"), Some("keep-alive"), "{seen:?}");
    drop(answering.await);
}
