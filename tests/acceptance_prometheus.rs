//! A real Prometheus scrapes the gateway and answers whom a purge broke.

mod harness;

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use harness::peers::peer;
use harness::process::{Setup, free_ports};
use harness::upstream::Upstream;
use harness::{Process, eventually, kid};

/// Ends its program when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_answers_the_purge_query() {
    let Some(program) = peer("prometheus") else {
        return;
    };
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup::new(upstream.address)).await;
    let dir = tempfile::tempdir().expect("a directory");
    let [web] = free_ports();
    let conf = format!(
        "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\n\
         scrape_configs:\n  - job_name: portcullis\n    static_configs: [{{ targets: [\"{}\"] }}]\n",
        gateway.metrics
    );
    std::fs::write(dir.path().join("prometheus.yml"), conf).expect("a configuration");
    let _running = Running(
        Command::new(program)
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=tsdb")
            .arg(format!("--web.listen-address={web}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Prometheus starts"),
    );
    let query = |query: String| {
        let request = gateway
            .http
            .post(format!("http://{web}/api/v1/query"))
            .form(&[("query", query)]);
        async move {
            let answer: serde_json::Value = request.send().await.ok()?.json().await.ok()?;
            let value = answer["data"]["result"][0]["value"][1].as_str()?;
            value.parse::<f64>().ok()
        }
    };

    let (old, untouched) = (gateway.token().await, gateway.token().await);
    let series = |token: &str| {
        format!(
            "portcullis_purge_verification_failures_total{{kid=\"{}\"}}",
            kid(token)
        )
    };
    // The series is there before anything happens, so that increase() misses nothing.
    eventually("Prometheus knows the series", || {
        let value = query(series(&old));
        async move { (value.await? == 0.0).then_some(()) }
    })
    .await;

    gateway.purge().await;
    let mut refused = 0.0;
    for token in [&old, &untouched, &old, &old] {
        assert_eq!(gateway.status(token).await, 401);
        refused += 1.0;
    }
    for question in [
        series(&old),
        "sum(portcullis_purge_verification_failures_total)".to_owned(),
        "sum(portcullis_auth_denied_total{reason=\"key_purged\"})".to_owned(),
    ] {
        eventually(&question, || {
            let value = query(question.clone());
            async move {
                let value = value.await?;
                assert!(value <= refused, "{value} is more than were refused");
                (value == refused).then_some(())
            }
        })
        .await;
    }
    let up = query("up{job=\"portcullis\"}".to_owned()).await;
    assert_eq!(up, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong_with_a_live_scrape() {
    let Some(program) = peer("promtool") else {
        return;
    };
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup::new(upstream.address)).await;
    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
    gateway.rotate().await;
    gateway.purge().await;
    assert_eq!(gateway.status(&token).await, 401);

    let scrape = gateway.scrape().await;
    let mut child = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(scrape.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert_eq!((out.as_str(), err.as_str()), ("", ""));
}
