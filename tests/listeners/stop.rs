//! The orderly stop, in this process and, for signals, in a child.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use http_body_util::{BodyExt, Full};
use pingora::server::Server;
use portcullis::listeners::{Finish, ListenerSpec, Stop, local_listener, run, server_conf};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::{Client, PATIENCE, Setup, eventually};

#[tokio::test]
async fn a_stop_closes_idle_connections_and_waits_for_busy_ones() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let router = Router::new().route("/", get(|| async { "ok" })).route(
        "/slow",
        get(move || async move {
            gate.notified().await;
            "done"
        }),
    );
    let setup = Setup::default();
    let listener = setup.start(router);
    let address = listener.address;
    let mut idle = Client::connect(address).await;
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idle.answer().await;
    let mut fresh = Client::connect(address).await;
    let mut busy = Client::connect(address).await;
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it is in flight", || setup.stop.requests_in_flight() == 1).await;

    listener.stop().await;
    assert_eq!(idle.rest().await, "");
    assert_eq!(fresh.rest().await, "");
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "nobody listens"
    );
    let waiting = tokio::time::timeout(Duration::from_millis(200), setup.stop.idle());
    assert!(waiting.await.is_err(), "one request is in flight");
    go.notify_one();
    assert!(busy.rest().await.ends_with("\r\n\r\ndone"));
    tokio::time::timeout(PATIENCE, setup.stop.idle())
        .await
        .expect("idle");
}

/// A client that asks again as soon as it is answered, for as long as it is told that it may; its end.
async fn ask_on(address: SocketAddr, asked: Arc<AtomicUsize>) -> Result<(), String> {
    let mut client = Client::connect(address).await;
    loop {
        asked.fetch_add(1, Ordering::Relaxed);
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let sent = client.0.write_all(request).await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            match client.0.read_buf(&mut answer).await {
                Ok(read) if read > 0 => {}
                end => return Err(format!("{sent:?}, {end:?}: a request without an answer")),
            }
        }
        if String::from_utf8_lossy(&answer).contains("Connection: close") {
            return Ok(());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_is_sent_on_kept_connections() {
    let setup = Setup::default();
    let listener = setup.start(Router::new().route("/", get(|| async { "ok" })));
    let asked = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..32 {
        clients.spawn(ask_on(listener.address, Arc::clone(&asked)));
    }
    eventually("all are at it", || asked.load(Ordering::Relaxed) > 640).await;
    listener.stop().await;
    while let Some(ended) = clients.join_next().await {
        assert_eq!(ended.unwrap(), Ok(()));
    }
    tokio::time::timeout(PATIENCE, setup.stop.idle())
        .await
        .expect("idle");
}

#[tokio::test]
async fn a_stop_ends_event_streams() {
    let router = Router::new().route(
        "/",
        get(|| async {
            let never = Full::new("event".into()).with_trailers(std::future::pending());
            axum::body::Body::new(never.map_frame(|frame: _| frame))
        }),
    );
    let setup = Setup::default();
    let listener = setup.start(router);
    let mut client = Client::connect(listener.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.read_until(|text| text.contains("event")).await;
    listener.stop().await;
    assert!(client.rest().await.ends_with("0\r\n\r\n"), "an orderly end");
    tokio::time::timeout(PATIENCE, setup.stop.idle())
        .await
        .expect("idle");
}

const CHILD: &str = "PORTCULLIS_TEST_CHILD";

/// Not a test: what the tests below run as a process of its own.
#[test]
fn child() {
    let Ok(kind) = std::env::var(CHILD) else {
        return;
    };
    let grace = Duration::from_secs(if kind == "short" { 1 } else { 30 });
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let setup = Setup {
        stop: Stop::new(grace),
        ..Setup::default()
    };
    let router = Router::new().route("/", get(|| async { "ok" })).route(
        "/slow",
        get(|| async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            "done"
        }),
    );
    let router = router.route("/stuck", get(std::future::pending::<()>));
    let spec = ListenerSpec { address, tls: None };
    let app = setup.app(router);
    let listener = local_listener("test", &spec, app, &setup.sources(), &setup.shared()).unwrap();
    let mut server = Server::new_with_opt_and_conf(None, server_conf(grace));
    server.add_service(listener);
    if kind == "taken" {
        // An address nobody can bind: Pingora's service dies, and the process must not linger.
        let lost = ListenerSpec {
            address: "192.0.2.1:1".parse().unwrap(),
            tls: None,
        };
        let app = setup.app(Router::new());
        let lost = local_listener("lost", &lost, app, &setup.sources(), &setup.shared()).unwrap();
        server.add_service(lost);
    }
    println!("address {address}");
    let outcome = run(
        server,
        &setup.stop,
        vec![Finish::new("say", || println!("finished"))],
    );
    println!("outcome {outcome:?}");
    std::io::stdout().flush().unwrap();
    std::process::ExitCode::from(outcome.exit_code()).exit_process_now();
}

trait ExitNow {
    fn exit_process_now(self) -> !;
}

impl ExitNow for std::process::ExitCode {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test harness would answer 0 for the child"
    )]
    fn exit_process_now(self) -> ! {
        let code = if self == Self::SUCCESS { 0 } else { 4 };
        std::process::exit(code)
    }
}

struct Process {
    child: Child,
    address: SocketAddr,
    lines: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(kind: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stop::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, kind)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the child ended");
            if let Some((_, address)) = line.split_once("address ") {
                break address.trim().parse().unwrap();
            }
        };
        Self {
            child,
            address,
            lines,
        }
    }

    /// Sends a request, retrying until the child listens, and leaves the answer to be read.
    fn ask(&self, path: &str) -> TcpStream {
        let deadline = Instant::now() + PATIENCE;
        let mut socket = loop {
            match TcpStream::connect(self.address) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::yield_now();
        };
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        socket
    }

    /// A connection that has been served once and stays open.
    fn idle(&self) -> TcpStream {
        let mut socket = self.ask("/");
        let mut buf = [0; 1024];
        let mut read = 0;
        while !buf[..read].ends_with(b"ok") {
            read += socket.read(&mut buf[read..]).unwrap();
        }
        socket
    }

    fn signal(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    fn wait(&mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.lines.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn sigterm_ends_an_idle_process_soon() {
    let mut process = Process::start("long");
    let mut idle = process.idle();
    let asked = Instant::now();
    process.signal();
    let (status, said) = process.wait();
    assert!(
        asked.elapsed() < Duration::from_millis(1500),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("finished\noutcome Finished"), "{said}");
    assert_eq!(idle.read(&mut [0; 8]).unwrap_or(0), 0);
}

#[test]
fn sigterm_lets_a_slow_request_finish() {
    let mut process = Process::start("long");
    drop(process.idle());
    let mut slow = process.ask("/slow");
    // The request must have been read, not only sent: a second connection's answer shows that the
    // one thread got past it.
    drop(process.idle());
    process.signal();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\ndone"), "{answer}");
    let (status, said) = process.wait();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("outcome Finished"), "{said}");
}

#[test]
fn the_grace_period_bounds_the_wait() {
    let mut process = Process::start("short");
    let _stuck = process.ask("/stuck");
    drop(process.idle());
    let asked = Instant::now();
    process.signal();
    let (status, said) = process.wait();
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("outcome GraceOver { cut: 1 }"), "{said}");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let mut process = Process::start("long");
    let mut stuck = process.ask("/stuck");
    drop(process.idle());
    process.signal();
    // Once nobody listens, the first signal has been taken.
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(process.address).is_ok() {
        assert!(Instant::now() < deadline, "the listener stays open");
    }
    let asked = Instant::now();
    while process.child.try_wait().unwrap().is_none() {
        process.signal();
        assert!(asked.elapsed() < Duration::from_secs(5), "it does not end");
        std::thread::yield_now();
    }
    let (status, said) = process.wait();
    assert_eq!(status.code(), Some(130), "{said}");
    assert_eq!(stuck.read(&mut [0; 8]).unwrap_or(0), 0);
}

#[test]
fn a_listener_that_dies_ends_the_process_with_code_4() {
    let mut process = Process::start("taken");
    let (status, said) = process.wait();
    assert_eq!(status.code(), Some(4), "{said}");
    assert!(said.contains("outcome ListenerLost"), "{said}");
}
