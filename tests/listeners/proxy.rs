//! The guard around Pingora's proxy: upgrades, long answers, shards of one port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use pingora::proxy::{ProxyHttp, Session, http_proxy};
use pingora::server::Server;
use pingora::upstreams::peer::HttpPeer;
use portcullis::gateway::limits::Limits;
use portcullis::http::{Bridge, BridgeLimits, ConnState};
use portcullis::listeners::{
    Ephemeral, Finish, ListenerSpec, Spread, Stop, StopOutcome, proxy_listeners, run, server_conf,
    start_on_ephemeral,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::{Client, Setup, header};

/// Forwards everything to one upstream.
struct Forward(SocketAddr);

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        assert!(
            ConnState::current().is_some(),
            "the proxy finds its connection"
        );
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

fn start(setup: &Setup, upstream: SocketAddr) -> Ephemeral {
    let conf = Arc::new(server_conf(Duration::ZERO));
    let proxy = http_proxy(&conf, Forward(upstream));
    start_on_ephemeral(proxy, None, &setup.sources(), &setup.shared()).unwrap()
}

fn hurried() -> Setup {
    Setup {
        limits: Limits {
            header_timeout: Duration::from_millis(150),
            keepalive_timeout: Duration::from_millis(150),
            ..Limits::default()
        },
        ..Setup::default()
    }
}

/// An upstream that reads a request header, answers `answer`, and then echoes.
async fn upstream(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await.unwrap());
                }
                socket.write_all(answer.as_bytes()).await.unwrap();
                let (mut read, mut write) = socket.split();
                let _closed = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn an_upgraded_connection_is_under_no_deadline() {
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let setup = hurried();
    let listener = start(&setup, upstream(answer).await);
    let mut client = Client::connect(listener.address).await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        .await;
    let answer = client.read_until(|text| text.ends_with("\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    for word in ["ping", "pong"] {
        sleep(Duration::from_millis(400)).await;
        client.send(word).await;
        assert_eq!(client.read_until(|text| text.len() >= 4).await, word);
    }
    assert_eq!(setup.stop.requests_in_flight(), 1);
}

#[tokio::test]
async fn a_proxied_connection_is_kept_and_timed_like_any_other() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let listener = start(&hurried(), upstream(answer).await);
    let mut client = Client::connect(listener.address).await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.answer().await.ends_with("\r\n\r\nok"));
    }
    let idle = Instant::now();
    assert_eq!(client.rest().await, "");
    assert!(idle.elapsed() < Duration::from_secs(5));
}

/// Answers with the number of its shard.
struct Numbered(Bridge);

#[async_trait]
impl ProxyHttp for Numbered {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> pingora::Result<bool> {
        let served = self.0.serve(session, None).await;
        assert!(served.complete);
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        unreachable!("every request is answered")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_share_a_port_and_stop_together() {
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let setup = Setup {
        stop: Stop::new(Duration::from_secs(10)),
        ..Setup::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, server_conf(Duration::from_secs(10)));
    let conf = Arc::clone(&server.configuration);
    let make = |shard: usize| {
        let number = shard.to_string();
        let router = Router::new().route("/", get(async move || number.clone()));
        let bridge = Bridge::new(router, BridgeLimits::default(), Arc::new(|_| {}));
        (Numbered(bridge), None)
    };
    let spec = ListenerSpec { address, tls: None };
    let spread = Spread {
        services: 2,
        threads: 1,
    };
    let shards = proxy_listeners(
        &conf,
        &spec,
        spread,
        &setup.sources(),
        &setup.shared(),
        make,
    )
    .unwrap();
    for listener in shards {
        server.add_service(listener);
    }
    let steps: Arc<std::sync::Mutex<Vec<&str>>> = Arc::default();
    let (first, second) = (Arc::clone(&steps), Arc::clone(&steps));
    let finish = vec![
        Finish::new("flush", move || first.lock().unwrap().push("flush")),
        Finish::new("unlock", move || second.lock().unwrap().push("unlock")),
    ];
    let stop = Arc::clone(&setup.stop);
    let running = tokio::task::spawn_blocking(move || run(server, &stop, finish));

    let mut seen = [0_usize; 2];
    let mut kept = Vec::new();
    while seen.contains(&0) {
        let Ok(socket) = tokio::net::TcpStream::connect(address).await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let mut client = Client(socket);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.answer().await;
        assert!(header(&answer, "date").is_some());
        seen[answer.chars().last().unwrap().to_digit(10).unwrap() as usize] += 1;
        kept.push(client);
        assert!(kept.len() < 1000, "one shard gets everything: {seen:?}");
    }
    let stopping = Instant::now();
    setup.stop.request();
    assert_eq!(running.await.unwrap(), StopOutcome::Finished);
    assert!(
        stopping.elapsed() < Duration::from_secs(1),
        "{:?}",
        stopping.elapsed()
    );
    assert_eq!(*steps.lock().unwrap(), ["flush", "unlock"]);
    for mut client in kept {
        assert_eq!(client.rest().await, "", "idle connections are closed");
    }
}
