//! Upstreams that are dead, hang, or speak TLS; the gateway's own TLS listener. The peers are real:
//! nginx and curl.

mod harness;

use std::process::Command;

use harness::certificates::Certificates;
use harness::nginx::Nginx;
use harness::peers::peer;
use harness::process::{Setup, free_ports};
use harness::upstream::Upstream;
use harness::{CLIENT, Process, SECRET, eventually, metrics};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_and_a_hanging_upstream_answer_with_a_log_id_that_one_line_explains() {
    let [dead] = free_ports();
    // Accepts connections, by the kernel, and never says a word.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = hanging.local_addr().expect("an address");
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&Setup {
        upstreams: format!(
            "  dead: {{ endpoints: [\"{dead}\"] }}\n  \
             hanging: {{ endpoints: [\"{address}\"], read_timeout: 200ms }}"
        ),
        routes: "  - { name: dead, match: { prefix: /dead }, auth: {}, upstream: dead }\n  \
                 - { name: hanging, match: { prefix: /hanging }, auth: {}, upstream: hanging }"
            .to_owned(),
        ..Setup::new(upstream.address)
    })
    .await;
    let token = gateway.token().await;
    let mut answers = Vec::new();
    for (path, status) in [("/dead", 502), ("/hanging", 504), ("/dead", 502)] {
        let request = gateway.http.get(gateway.url(path)).bearer_auth(&token);
        let response = request.send().await.expect("the gateway answers");
        assert_eq!(response.status(), status);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let problem: serde_json::Value = response.json().await.expect("JSON");
        assert_eq!(problem["status"], status);
        let id = problem["log_id"].as_str().expect("a Log ID").to_owned();
        answers.push((id, path, status));
    }
    // Another upstream is not concerned.
    assert_eq!(gateway.status(&token).await, 200);
    // Each is counted once, and none as the gateway's own fault.
    let scrape = gateway.scrape().await;
    for (route, cause, times) in [
        ("dead", "upstream_failed", 2.0),
        ("hanging", "upstream_timeout", 1.0),
    ] {
        let name = "portcullis_request_failures_total";
        let labels = [("route", route), ("cause", cause)];
        assert_eq!(metrics::value(&scrape, name, &labels), times, "{route}");
    }
    let all = metrics::sum(&scrape, "portcullis_request_failures_total", &[]);
    assert_eq!(all, 3.0);
    assert_eq!(gateway.terminate().await.code(), Some(0));

    let log = std::fs::read_to_string(gateway.log_path()).expect("a log");
    assert!(!log.contains(&token), "the log holds a token");
    for (id, path, status) in answers {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&id)).collect();
        assert_eq!(lines.len(), 1, "{path}: {lines:?}");
        let line: serde_json::Value = serde_json::from_str(lines[0]).expect("a JSON line");
        assert_eq!(line["log_id"], id);
        assert_eq!(line["status"], status, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_behind_tls_is_reached_only_when_its_certificate_is_trusted() {
    let Some(nginx) = Nginx::start().await else {
        return;
    };
    let strangers = tempfile::tempdir().expect("a directory");
    let stranger = Certificates::make(strangers.path());
    let upstream = |name: &str, host: &str, ca: &std::path::Path| {
        format!(
            "  {name}: {{ endpoints: [\"{}\"], tls: {{ server_name: {host}, ca_file: {} }} }}\n",
            nginx.tls_address,
            ca.display()
        )
    };
    let trusted = &nginx.certificates.ca;
    let route = |name: &str| {
        format!(
            "  - {{ name: {name}, match: {{ prefix: /{name} }}, auth: {{}}, upstream: {name} }}\n"
        )
    };
    let gateway = Process::start(&Setup {
        upstreams: upstream("good", "localhost", trusted)
            + &upstream("wrong_ca", "localhost", &stranger.ca)
            + &upstream("wrong_name", "elsewhere.test", trusted),
        routes: ["good", "wrong_ca", "wrong_name"].map(route).concat(),
        ..Setup::new(nginx.address)
    })
    .await;
    let token = gateway.token().await;
    let get = async |path: &str| {
        let request = gateway.http.get(gateway.url(path)).bearer_auth(&token);
        let response = request.send().await.expect("the gateway answers");
        (
            response.status().as_u16(),
            response.text().await.expect("text"),
        )
    };
    let (status, body) = get("/good").await;
    assert_eq!(
        (status, body.as_str()),
        (200, "real nginx https sub= token=\n")
    );
    for (path, cause) in [
        ("/wrong_ca", "invalid peer certificate: BadSignature"),
        (
            "/wrong_name",
            "invalid peer certificate: certificate not valid for name",
        ),
    ] {
        let (status, body) = get(path).await;
        assert_eq!(status, 502);
        let problem: serde_json::Value = serde_json::from_str(&body).expect("a problem");
        let log_id = problem["log_id"].as_str().expect("a Log ID");
        let line = eventually("the line of the failure", || async {
            let log = std::fs::read_to_string(gateway.log_path()).unwrap_or_default();
            log.lines()
                .find(|line| line.contains(log_id))
                .map(str::to_owned)
        })
        .await;
        assert!(line.contains(cause), "{path}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reaches_the_gateway_over_tls() {
    let (Some(nginx), Some(curl)) = (Nginx::start().await, peer("curl")) else {
        return;
    };
    let files = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::make(files.path());
    let gateway = Process::start(&Setup {
        proxy: format!(
            ", tls: {{ cert_file: {}, key_file: {} }}",
            certificates.cert.display(),
            certificates.key.display()
        ),
        ..Setup::new(nginx.address)
    })
    .await;
    let port = gateway.proxy.port();
    let curl = |arguments: &[&str], path: &str| {
        let output = Command::new(&curl)
            .args([
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--max-time",
                "20",
            ])
            .arg("--resolve")
            .arg(format!("localhost:{port}:127.0.0.1"))
            .args(arguments)
            .arg(format!("https://localhost:{port}{path}"))
            .output()
            .expect("curl runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let ca = certificates.ca.to_str().expect("a path");
    let credentials = format!("{CLIENT}:{SECRET}");
    let grant = [
        "--cacert",
        ca,
        "-u",
        &credentials,
        "-d",
        "grant_type=client_credentials",
    ];
    let (code, answer) = curl(&grant, "/oauth2/token");
    assert_eq!(code, Some(0), "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let bearer = format!(
        "Authorization: Bearer {}",
        answer["access_token"].as_str().expect("a token")
    );
    let (code, answer) = curl(&["--cacert", ca, "-H", &bearer], "/hello");
    assert_eq!(
        (code, answer.as_str()),
        (Some(0), "real nginx http sub=demo token=\n")
    );
    // Whoever does not trust the authority does not get that far (curl's code 60).
    assert_eq!(curl(&["-H", &bearer], "/hello").0, Some(60));
    // Plain text on the TLS port is not answered as if it were TLS.
    let plain = gateway.http.get(gateway.url("/hello")).send().await;
    assert!(plain.is_err());
    eventually("nginx wrote the call down", || async {
        (nginx.access_log().len() == 1).then_some(())
    })
    .await;
}
