//! What the guard allows a connection in time, size and number.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use portcullis::gateway::limits::Limits;
use portcullis::http::ConnState;
use tokio::time::{interval, sleep};

use super::{Client, Setup, eventually};

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "ok" }))
        .route("/echo", post(|body: Bytes| async move { body }))
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn header_timeout(millis: u64) -> Setup {
    Setup {
        limits: Limits {
            header_timeout: Duration::from_millis(millis),
            ..Limits::default()
        },
        ..Setup::default()
    }
}

/// Sends a byte of a header that never ends every 50 ms until the server closes.
async fn drip(client: &mut Client) -> Duration {
    let started = Instant::now();
    let mut beat = interval(Duration::from_millis(50));
    let Client(socket) = client;
    let (mut read, mut write) = socket.split();
    let sending = async {
        tokio::io::AsyncWriteExt::write_all(&mut write, b"GET / HTTP/1.1\r\nX: ")
            .await
            .unwrap();
        loop {
            beat.tick().await;
            if tokio::io::AsyncWriteExt::write_all(&mut write, b"a")
                .await
                .is_err()
            {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut buf = [0; 256];
    tokio::select! {
        read = tokio::io::AsyncReadExt::read(&mut read, &mut buf) => {
            assert!(matches!(read, Ok(0) | Err(_)), "closed without a word");
        }
        () = sending => {}
        () = sleep(super::PATIENCE) => panic!("a slow header was never closed"),
    }
    started.elapsed()
}

#[tokio::test]
async fn a_slow_header_is_closed() {
    let setup = header_timeout(300);
    let listener = setup.start(router());
    let mut client = Client::connect(listener.address).await;
    let lasted = drip(&mut client).await;
    assert!(lasted >= Duration::from_millis(200), "{lasted:?}");
    assert!(lasted < Duration::from_secs(5), "{lasted:?}");
    assert_eq!(setup.stop.requests_in_flight(), 0);
}

#[tokio::test]
async fn a_slow_second_header_is_closed_too() {
    let listener = header_timeout(300).start(router());
    let mut client = Client::connect(listener.address).await;
    client.send(GET).await;
    client.answer().await;
    let lasted = drip(&mut client).await;
    assert!(lasted < Duration::from_secs(5), "{lasted:?}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let listener = header_timeout(200).start(router());
    let mut client = Client::connect(listener.address).await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_deadline_but_not_its_own() {
    let setup = Setup {
        limits: Limits {
            header_timeout: Duration::from_millis(100),
            keepalive_timeout: Duration::from_millis(800),
            ..Limits::default()
        },
        ..Setup::default()
    };
    let listener = setup.start(router());
    let mut client = Client::connect(listener.address).await;
    client.send(GET).await;
    client.answer().await;
    sleep(Duration::from_millis(300)).await;
    client.send(GET).await;
    client.answer().await;
    let idle = Instant::now();
    assert_eq!(client.rest().await, "");
    assert!(
        idle.elapsed() >= Duration::from_millis(700),
        "{:?}",
        idle.elapsed()
    );
}

#[tokio::test]
async fn a_slow_body_is_not_the_guards_business() {
    let listener = header_timeout(200).start(router());
    let mut client = Client::connect(listener.address).await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n")
        .await;
    for byte in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        sleep(Duration::from_millis(60)).await;
        client.send(byte).await;
    }
    assert!(client.answer().await.ends_with("\r\n\r\nabcdefgh"));
}

#[tokio::test]
async fn a_slow_answer_is_not_the_guards_business() {
    let slow = || async {
        sleep(Duration::from_millis(600)).await;
        "late"
    };
    let setup = Setup {
        limits: Limits {
            header_timeout: Duration::from_millis(100),
            keepalive_timeout: Duration::from_millis(100),
            ..Limits::default()
        },
        ..Setup::default()
    };
    let listener = setup.start(Router::new().route("/", get(slow)));
    let mut client = Client::connect(listener.address).await;
    client.send(GET).await;
    assert!(client.answer().await.ends_with("late"));
}

#[tokio::test]
async fn an_endless_header_is_431_with_a_log_id() {
    let setup = Setup::default();
    let listener = setup.start(router());
    let mut client = Client::connect(listener.address).await;
    client.send("GET / HTTP/1.1\r\nX: ").await;
    client.send(vec![b'a'; 100 * 1024]).await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let refusal = setup.refusals.lock().unwrap().pop().expect("a log line");
    assert!(answer.contains(&refusal.log_id.to_string()));
}

#[tokio::test]
async fn no_more_of_a_header_is_read_than_the_limit() {
    let setup = Setup {
        limits: Limits {
            max_header_bytes: 2048,
            ..Limits::default()
        },
        ..Setup::default()
    };
    let listener = setup.start(router());
    let of = |length: usize| {
        let around = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        let fill = "x".repeat(length - around);
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {fill}\r\n\r\n")
    };
    for (length, status) in [(2048, "200"), (2049, "431"), (4096, "431")] {
        let mut client = Client::connect(listener.address).await;
        client.send(of(length)).await;
        let answer = client.answer().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{length}: {answer}"
        );
    }
}

#[tokio::test]
async fn requests_sent_ahead_wait_for_their_turn() {
    let listener = Setup::default().start(router());
    let post = "POST /echo HTTP/1.1\r\nHost: a\r\n";
    for (first, rest) in [
        (format!("{GET}{GET}"), String::new()),
        (
            format!("{post}Content-Length: 2\r\n\r\nok{GET}"),
            String::new(),
        ),
        (
            format!("{post}Content-Length: 2\r\n\r\n"),
            format!("ok{GET}"),
        ),
        (
            format!(
                "{post}Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX: y\r\n\r\n{GET}"
            ),
            String::new(),
        ),
        (
            format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\n"),
            format!("o\r\n1\r\nk\r\n0\r\n\r\n{GET}"),
        ),
    ] {
        let mut client = Client::connect(listener.address).await;
        client.send(&first).await;
        sleep(Duration::from_millis(20)).await;
        client.send(&rest).await;
        let both = |text: &str| text.matches("\r\n\r\nok").count() == 2;
        let answers = client.read_until(both).await;
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
        assert_eq!(answers.matches("keep-alive").count(), 2, "{answers}");
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        assert!(client.rest().await.ends_with("\r\n\r\nok"));
    }
}

#[tokio::test]
async fn one_source_has_so_many_connections_and_no_more() {
    let setup = Setup {
        limits: Limits {
            max_connections_per_address: 2,
            ..Limits::default()
        },
        ..Setup::default()
    };
    let listener = setup.start(router());
    let mut first = Client::connect(listener.address).await;
    let mut second = Client::connect(listener.address).await;
    for client in [&mut first, &mut second] {
        client.send(GET).await;
        client.answer().await;
    }
    let mut third = Client::connect(listener.address).await;
    assert_eq!(third.rest().await, "");
    drop(first);
    // The place is free once the server has seen the end of the first connection.
    let mut answered = false;
    for _ in 0..1000 {
        let mut client = Client::connect(listener.address).await;
        tokio::io::AsyncWriteExt::write_all(&mut client.0, GET.as_bytes())
            .await
            .ok();
        let mut buf = [0; 1024];
        if matches!(tokio::io::AsyncReadExt::read(&mut client.0, &mut buf).await, Ok(read) if read > 0)
        {
            answered = true;
            break;
        }
    }
    assert!(answered);
}

#[tokio::test]
async fn a_cut_ends_a_connection_whatever_it_waits_for() {
    let conns: Arc<Mutex<Vec<Arc<ConnState>>>> = Arc::default();
    let seen = Arc::clone(&conns);
    let note = move || {
        let conn = ConnState::current().expect("a guarded connection");
        seen.lock().unwrap().push(conn);
    };
    let blocked = note.clone();
    let router = Router::new()
        .route(
            "/blocked",
            get(|| async move {
                blocked();
                Bytes::from(vec![0; 64 << 20])
            }),
        )
        .route(
            "/idle",
            get(|| async move {
                note();
                "ok"
            }),
        );
    let listener = Setup::default().start(router);
    for path in ["/blocked", "/idle"] {
        let mut client = Client::connect(listener.address).await;
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        client.read_until(|text| text.contains("\r\n\r\n")).await;
        eventually("the request is known", || !conns.lock().unwrap().is_empty()).await;
        let conn = conns.lock().unwrap().pop().unwrap();
        assert_eq!(conn.peer(), Some(client.0.local_addr().unwrap()));
        conn.cut();
        assert!(client.rest().await.len() < 64 << 20, "{path}");
        eventually("the server lets go", || Arc::strong_count(&conn) == 1).await;
    }
}
