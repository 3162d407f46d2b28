//! A real Prometheus that scrapes one gateway, with the shipped rules.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

impl Prometheus {
    /// Scrapes `target` five times a second; `None` after a notice when there is no Prometheus.
    pub fn start(target: SocketAddr) -> Option<Self> {
        let program = peer("prometheus")?;
        let dir = tempfile::tempdir().expect("a directory");
        let [web] = free_ports();
        let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/alerts.yml");
        let conf = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 500ms }}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n  - job_name: portcullis\n    static_configs: [{{ targets: [\"{target}\"] }}]\n",
            alerts.display()
        );
        std::fs::write(dir.path().join("prometheus.yml"), conf).expect("a configuration");
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
        let url = format!("http://{}/api/v1/query", self.web);
        let request = self.http.post(url).form(&[("query", query)]);
        let answer: Value = request.send().await.ok()?.json().await.ok()?;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
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
            if self
                .ask(&query.text)
                .await
                .is_none_or(|samples| samples.is_empty())
            {
                silent.push(query);
            }
        }
        silent
    }
}
