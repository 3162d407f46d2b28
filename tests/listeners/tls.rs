//! TLS on listeners, against curl.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::{Extension, Router};
use portcullis::gateway::limits::Limits;
use portcullis::http::{ConnState, OverTls};
use portcullis::listeners::TlsSpec;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Client, Setup};

/// A directory with an authority, a server certificate for `localhost`, and a client certificate.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of another name than the others: else they would look self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let ca = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for name in ["localhost", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let cert = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), cert.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn spec(&self) -> TlsSpec {
        TlsSpec {
            cert_file: self.path("localhost.pem"),
            key_file: self.path("localhost.key"),
            client_ca_file: None,
            h2: false,
        }
    }

    async fn curl(&self, port: u16, more: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            "--cacert",
        ])
        .arg(self.path("ca.pem"))
        .args(more)
        .args(["--resolve", &format!("localhost:{port}:127.0.0.1")])
        .args(["--write-out", " %{http_version} %{http_code}"])
        .arg(format!("https://localhost:{port}/"));
        tokio::task::spawn_blocking(move || curl.output().expect("curl"))
            .await
            .unwrap()
    }
}

fn router() -> Router {
    Router::new().route(
        "/",
        get(|Extension(OverTls(tls)): Extension<OverTls>| async move { format!("tls={tls}") }),
    )
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn curl_is_served_over_http1_and_http2() {
    let files = Files::new();
    for (h2, answer) in [(false, "tls=true 1.1 200"), (true, "tls=true 2 200")] {
        let setup = Setup {
            tls: Some(TlsSpec { h2, ..files.spec() }),
            ..Setup::default()
        };
        let listener = setup.start(router());
        assert_eq!(
            text(&files.curl(listener.address.port(), &[]).await),
            answer
        );
    }
}

#[tokio::test]
async fn a_client_certificate_is_demanded_and_checked() {
    let files = Files::new();
    let tls = TlsSpec {
        client_ca_file: Some(files.path("ca.pem")),
        ..files.spec()
    };
    let listener = Setup {
        tls: Some(tls),
        ..Setup::default()
    }
    .start(router());
    let port = listener.address.port();
    assert!(!files.curl(port, &[]).await.status.success());
    let (cert, key) = (files.path("client.pem"), files.path("client.key"));
    let own = [
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    assert_eq!(text(&files.curl(port, &own).await), "tls=true 1.1 200");
}

#[tokio::test]
async fn a_handshake_and_a_silent_http2_client_have_a_deadline() {
    let files = Files::new();
    let setup = Setup {
        tls: Some(TlsSpec {
            h2: true,
            ..files.spec()
        }),
        limits: Limits {
            header_timeout: Duration::from_millis(300),
            ..Limits::default()
        },
        ..Setup::default()
    };
    let listener = setup.start(router());
    let started = Instant::now();
    let mut client = Client::connect(listener.address).await;
    client.send([0x16, 0x03, 0x01]).await;
    assert_eq!(client.rest().await, "");
    assert!(started.elapsed() < Duration::from_secs(5));

    // Completes the handshake with HTTP/2 and then keeps its standard input open, silent.
    let started = Instant::now();
    let silent = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-alpn",
            "h2",
            "-connect",
            &listener.address.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let silent = Arc::new(Mutex::new(Reaped(silent)));
    let ended = || silent.lock().unwrap().0.try_wait().unwrap().is_some();
    super::eventually("the silent client is closed", ended).await;
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

/// The frames of an HTTP/2 client: length, type, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
    bytes.extend_from_slice(payload);
    bytes
}

/// How long a listener with a header timeout of 300 ms lets an HTTP/2 client live that sends `begin`
/// behind its preface and then `drip` again and again.
async fn dripping(begin: &[u8], drip: &[u8]) -> Duration {
    let files = Files::new();
    let setup = Setup {
        tls: Some(TlsSpec {
            h2: true,
            ..files.spec()
        }),
        limits: Limits {
            header_timeout: Duration::from_millis(300),
            ..Limits::default()
        },
        ..Setup::default()
    };
    let listener = setup.start(router());
    let started = Instant::now();
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-alpn", "h2", "-connect"])
        .arg(listener.address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let input = client.stdin.take().unwrap();
    let client = Arc::new(Mutex::new(Reaped(client)));
    let hello = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &*frame(4, 0, 0, b""),
        begin,
    ]
    .concat();
    (&input).write_all(&hello).unwrap();
    let ended = || {
        let _closed = (&input).write_all(drip);
        client.lock().unwrap().0.try_wait().unwrap().is_some()
    };
    super::eventually("the slow client is closed", ended).await;
    started.elapsed()
}

#[tokio::test]
async fn what_an_http2_client_begins_has_a_deadline() {
    // A literal field without end, in a frame that has more room than will ever come.
    let mut endless = frame(1, 5, 1, b"");
    endless[1] = 0x3f;
    for (name, begin, drip) in [
        ("a frame of fields", endless, b"\x82".to_vec()),
        ("the header of a frame", vec![0, 0], Vec::new()),
        (
            "a block that nothing follows",
            frame(1, 1, 1, b"\x82"),
            Vec::new(),
        ),
    ] {
        let lasted = dripping(&begin, &drip).await;
        assert!(lasted < Duration::from_secs(10), "{name}: {lasted:?}");
    }
}

/// A process that does not outlive the test.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test]
async fn a_stop_waits_for_an_http2_stream() {
    let files = Files::new();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let handler = async move || {
        assert!(ConnState::current().is_some_and(|conn| conn.is_tls()));
        gate.notified().await;
        "done"
    };
    let setup = Setup {
        tls: Some(TlsSpec {
            h2: true,
            ..files.spec()
        }),
        ..Setup::default()
    };
    let listener = setup.start(Router::new().route("/", get(handler)));
    let port = listener.address.port();
    let curl = async {
        let output = files.curl(port, &[]).await;
        assert_eq!(text(&output), "done 2 200");
    };
    let stopping = async {
        super::eventually("it is in flight", || setup.stop.requests_in_flight() == 1).await;
        listener.stop().await;
        assert!(
            timeout(Duration::from_millis(100), setup.stop.idle())
                .await
                .is_err()
        );
        go.notify_one();
        timeout(super::PATIENCE, setup.stop.idle())
            .await
            .expect("idle");
    };
    tokio::join!(curl, stopping);
}

fn error(spec: &TlsSpec) -> String {
    spec.validate().unwrap_err().to_string()
}

#[test]
fn every_mistake_in_the_files_is_named_before_the_server_runs() {
    let files = Files::new();
    files.spec().validate().unwrap();
    let empty = files.path("empty.pem");
    std::fs::write(&empty, "no pem here\n").unwrap();
    let broken = files.path("broken.pem");
    std::fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let garbage = files.path("garbage.pem");
    std::fs::write(
        &garbage,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();

    let with_cert = |path: &Path| TlsSpec {
        cert_file: path.to_owned(),
        ..files.spec()
    };
    let with_key = |path: &Path| TlsSpec {
        key_file: path.to_owned(),
        ..files.spec()
    };
    let with_ca = |path: &Path| TlsSpec {
        client_ca_file: Some(path.to_owned()),
        ..files.spec()
    };
    let missing = files.path("missing.pem");
    for (spec, parts) in [
        (
            with_cert(&missing),
            ["cert_file", "missing.pem", "No such file"],
        ),
        (
            with_key(&missing),
            ["key_file", "missing.pem", "No such file"],
        ),
        (
            with_ca(&missing),
            ["client_ca_file", "missing.pem", "No such file"],
        ),
        (
            with_cert(files.0.path()),
            ["cert_file", "directory", "permissions"],
        ),
        (
            with_cert(&empty),
            ["cert_file", "empty.pem", "contains no certificate"],
        ),
        (
            with_key(&empty),
            ["key_file", "empty.pem", "contains no private key"],
        ),
        (
            with_key(&files.path("ca.pem")),
            ["key_file", "ca.pem", "contains no private key"],
        ),
        (
            with_ca(&empty),
            ["client_ca_file", "empty.pem", "contains no certificate"],
        ),
        (
            with_cert(&broken),
            ["cert_file", "broken.pem", "not valid PEM"],
        ),
        (
            with_cert(&garbage),
            ["cert_file", "garbage.pem", "cannot be used"],
        ),
        (
            with_ca(&garbage),
            ["client_ca_file", "garbage.pem", "cannot be used"],
        ),
        (
            with_key(&files.path("client.key")),
            ["client.key", "localhost.pem", "does not belong"],
        ),
    ] {
        let error = error(&spec);
        for part in parts {
            assert!(error.contains(part), "{part:?} in {error:?}");
        }
    }
    let locked = files.path("locked.key");
    std::fs::copy(files.path("localhost.key"), &locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads it all the same.
    if std::fs::read(&locked).is_err() {
        assert!(error(&with_key(&locked)).contains("cannot read the key_file"));
    }
}

#[test]
fn a_chain_expires_with_its_first_certificate() {
    let files = Files::new();
    let made = |year: i32| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 2, 1);
        params.self_signed(&key).unwrap().pem()
    };
    let path = files.path("chain.pem");
    let spec = TlsSpec {
        cert_file: path.clone(),
        ..files.spec()
    };
    // 2031-02-01 and 2049-02-01, the latter before the form of dates changes (RFC 5280 §4.1.2.5), 2050 after.
    for (years, seconds) in [
        (&[2031, 2049][..], 1_927_670_400),
        (&[2049, 2031], 1_927_670_400),
        (&[2050], 2_527_286_400),
    ] {
        let chain: String = years.iter().map(|year| made(*year)).collect();
        std::fs::write(&path, chain).unwrap();
        let not_after = spec.not_after().unwrap();
        assert_eq!(not_after.as_seconds(), seconds, "{years:?}: {not_after}");
    }
    std::fs::write(&path, "no certificate").unwrap();
    let error = spec.not_after().unwrap_err().to_string();
    assert!(error.contains("chain.pem"), "{error}");
}
