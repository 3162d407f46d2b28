//! Upstreams that answer out of turn: informational answers, a switch of protocols, split answers. A
//! client never takes one request's answer for another's.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::raw::RawClient;
use crate::harness::{Gateway, Options};

/// An upstream that answers each request with the next of `answers`, over and over.
pub(crate) async fn upstream(answers: Vec<Vec<u8>>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answers = answers.clone();
            tokio::spawn(async move {
                for answer in answers.iter().cycle() {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match socket.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_gone) => return,
                        }
                    }
                    if socket.write_all(answer).await.is_err() {
                        return;
                    }
                    if answer.ends_with(b"!close") {
                        return;
                    }
                }
            });
        }
    });
    address
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_of_an_upstream_stay_with_their_request() {
    let odd = [
        ("early hints", format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{OK}")),
        ("a hundred 102s", format!("{}{OK}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(100))),
        ("100 nobody expected", format!("HTTP/1.1 100 Continue\r\n\r\n{OK}")),
        ("a switch nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nGARBAGE".to_owned()),
        ("two answers for one request", format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")),
        ("more body than its length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokEVIL".to_owned()),
        ("a length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned()),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\nok!close".to_owned()),
        ("a body on 204", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil".to_owned()),
        ("a body on 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil".to_owned()),
        ("no status", "HTTP/1.1 OK\r\n\r\n!close".to_owned()),
        ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n!close".to_owned()),
        ("status 0", "HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n!close".to_owned()),
        ("no HTTP", "SSH-2.0-OpenSSH\r\n\r\n!close".to_owned()),
        ("nothing", "!close".to_owned()),
        ("half a header", "HTTP/1.1 200 OK\r\nContent-!close".to_owned()),
        ("a folded field", "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nok".to_owned()),
        ("a name with a space", "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 2\r\n\r\nok!close".to_owned()),
        ("100 KiB of header", format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok", "y".repeat(100_000))),
        ("10 MiB of header", format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(10_000_000))),
        ("a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok!close".to_owned()),
    ];
    for (name, answer) in odd {
        let address = upstream(vec![answer.into_bytes()]).await;
        let gateway = Gateway::start(Options {
            routes: "routes:\n  - { name: odd, match: { prefix: / }, auth: none, upstream: odd }\n"
                .to_owned(),
            upstreams: format!("  odd: {{ endpoints: [\"{address}\"], read_timeout: 2s }}\n"),
            ..Options::default()
        })
        .await;
        // Each client sees whole answers of its own, and none of what was left over from another's.
        for round in 0..3 {
            let mut client = RawClient::connect(&gateway.proxy).await;
            client
                .send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .await;
            let mut finals = 0;
            while let Some(answer) = client.answer(false).await {
                assert!(
                    !answer.body.to_lowercase().contains("evil"),
                    "{name}: {answer:?}"
                );
                assert_ne!(answer.status, 101, "{name}");
                assert!(answer.header("upgrade").is_none(), "{name}: {answer:?}");
                if answer.status >= 500 {
                    assert!(answer.json()["log_id"].is_string(), "{name}: {answer:?}");
                }
                finals += usize::from(answer.status >= 200);
            }
            assert!(finals <= 1, "{name}, round {round}: {finals} answers");
        }
        assert!(!gateway.log.text().contains("panicked"), "{name}");
    }
}

/// The time between two reads of an answer runs from the end of the request, not from its beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_is_not_cut_by_the_read_timeout_of_its_upstream() {
    let echo = crate::harness::upstream::Upstream::echo();
    let gateway = Gateway::start(Options {
        routes: "routes:\n  - { name: slow, match: { prefix: / }, auth: none, upstream: slow }\n"
            .to_owned(),
        upstreams: format!(
            "  slow: {{ endpoints: [\"{}\"], read_timeout: 1s }}\n",
            echo.address
        ),
        ..Options::default()
    })
    .await;
    let mut client = RawClient::connect(&gateway.proxy).await;
    client
        .send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n")
        .await;
    for _ in 0..30 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        client.send("x").await;
    }
    let answer = client.answer(false).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
}
