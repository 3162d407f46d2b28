//! A real Prometheus: one that scrapes a gateway, with the shipped rules, or one with samples that a
//! test made up.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::peers::peer;
use super::process::free_ports;
use super::queries::Query;

/// Ends with the test.
pub struct Prometheus {
    web: SocketAddr,
    http: reqwest::Client,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// How much faster it scrapes than `conf/prometheus.yml` says.
pub const SPEED: u32 = 25;

impl Prometheus {
    /// Scrapes `target` five times a second; `None` after a notice when there is no Prometheus.
    pub fn start(target: SocketAddr) -> Option<Self> {
        let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/alerts.yml");
        let conf = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 500ms }}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n  - job_name: portcullis\n    static_configs: [{{ targets: [\"{target}\"] }}]\n",
            alerts.display()
        );
        Self::run(&conf, None)
    }

    /// Scrapes nothing and holds `samples`, in the format OpenMetrics.
    pub fn holding(samples: &str) -> Option<Self> {
        Self::run("", Some(samples))
    }

    fn run(conf: &str, samples: Option<&str>) -> Option<Self> {
        let program = peer("prometheus")?;
        let dir = tempfile::tempdir().expect("a directory");
        let [web] = free_ports();
        std::fs::write(dir.path().join("prometheus.yml"), conf).expect("a configuration");
        if let Some(samples) = samples {
            std::fs::write(dir.path().join("samples"), samples).expect("samples");
            let made = Command::new(peer("promtool")?)
                .args([
                    "tsdb",
                    "create-blocks-from",
                    "openmetrics",
                    "samples",
                    "tsdb",
                ])
                .current_dir(dir.path())
                .output()
                .expect("promtool runs");
            let said = String::from_utf8_lossy(&made.stderr);
            assert!(made.status.success(), "{said}");
        }
        let child = Command::new(program)
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=tsdb")
            .arg(format!("--web.listen-address={web}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Prometheus starts");
        let http = reqwest::Client::builder().no_proxy().build();
        Some(Self {
            web,
            http: http.expect("a client"),
            child,
            _dir: dir,
        })
    }

    /// The samples that a query answers with now; `None` while Prometheus does not answer.
    pub async fn ask(&self, query: &str) -> Option<Vec<Value>> {
        self.asked("query", &[("query", query)]).await
    }

    /// The series that a query answers with over a range, in seconds of Unix time.
    pub async fn ask_over(
        &self,
        query: &str,
        from: f64,
        to: f64,
        step: Duration,
    ) -> Option<Vec<Value>> {
        let [from, to, step] = [from, to, step.as_secs_f64()].map(|number| number.to_string());
        let fields = [
            ("query", query),
            ("start", &from),
            ("end", &to),
            ("step", &step),
        ];
        self.asked("query_range", &fields).await
    }

    async fn asked(&self, what: &str, fields: &[(&str, &str)]) -> Option<Vec<Value>> {
        let url = format!("http://{}/api/v1/{what}", self.web);
        let request = self.http.post(url).form(fields);
        let answer: Value = request.send().await.ok()?.json().await.ok()?;
        assert_eq!(answer["status"], "success", "{fields:?}: {answer}");
        answer["data"]["result"].as_array().cloned()
    }

    /// The value of a query that answers with one sample.
    pub async fn value(&self, query: &str) -> Option<f64> {
        let samples = self.ask(query).await?;
        assert!(samples.len() <= 1, "{query}: {samples:?}");
        samples.first()?["value"][1].as_str()?.parse().ok()
    }

    /// The values of a label on the series of a metric.
    pub async fn label_values(&self, metric: &str, label: &str) -> Vec<String> {
        let url = format!(
            "http://{}/api/v1/label/{label}/values?match[]={metric}",
            self.web
        );
        let request = self.http.get(url).send().await.expect("Prometheus answers");
        let answer: Value = request.json().await.expect("JSON");
        let values = answer["data"].as_array().cloned().unwrap_or_default();
        values
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    }

    /// Those of `queries` that answer with no series at all.
    pub async fn silent(&self, queries: Vec<Query>) -> Vec<Query> {
        let mut silent = Vec::new();
        for query in queries {
            let answer = match query.over {
                None => self.ask(&query.text).await,
                Some((length, step)) => match self.value("vector(time())").await {
                    Some(now) => {
                        let from = now - length.as_secs_f64();
                        self.ask_over(&query.text, from, now, step).await
                    }
                    None => None,
                },
            };
            if answer.is_none_or(|samples| samples.is_empty()) {
                silent.push(query);
            }
        }
        silent
    }
}
