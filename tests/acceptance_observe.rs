//! `make observe` without the build: the script starts everything that docker-compose.yml does, the
//! story it prints works as printed, and nothing is left when it ends.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::eventually;
use harness::peers::peer;
use harness::process::free_ports;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The running script. When a test fails it is told to end, and ends what it started.
struct Observe {
    script: Child,
    said: String,
    dir: tempfile::TempDir,
    /// proxy, admin, metrics, echo, orders, Prometheus, Grafana
    ports: [SocketAddr; 7],
}

impl Drop for Observe {
    fn drop(&mut self) {
        if self.script.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _gone_already = kill_process(Pid::from_child(&self.script), Signal::TERM);
            let _reaped = self.script.wait();
        }
    }
}

impl Observe {
    /// Starts it and reads what it prints up to the story's last line; `more` comes first on `PATH`.
    fn start(more: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ports = free_ports::<7>();
        let numbers = ports.map(|address| address.port().to_string()).join(" ");
        let path = std::env::var("PATH").unwrap_or_default();
        let path = more.map_or_else(|| path.clone(), |more| format!("{}:{path}", more.display()));
        let prometheus = peer("prometheus").expect("looked for before");
        let complaints = std::fs::File::create(dir.path().join("complaints")).expect("a file");
        let script = Command::new(format!("{ROOT}/scripts/observe"))
            .env("OBSERVE_DIR", dir.path().join("run"))
            .env("OBSERVE_BINARY", env!("CARGO_BIN_EXE_portcullis"))
            .env("OBSERVE_PORTS", numbers)
            .env(
                "PORTCULLIS_PEERS",
                prometheus.parent().expect("a directory"),
            )
            .env("PATH", path)
            .env_remove("PORTCULLIS_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(complaints)
            .spawn();
        let mut script = script.expect("the script starts");
        let mut output = BufReader::new(script.stdout.take().expect("a pipe"));
        let mut observe = Self {
            script,
            said: String::new(),
            dir,
            ports,
        };
        while !observe.said.contains("Stop everything with Ctrl-C") {
            let read = output.read_line(&mut observe.said).expect("it prints text");
            assert!(read > 0, "it ended:\n{}", observe.said);
        }
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        observe
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn log(&self, name: &str) -> String {
        let path = self.run_dir().join(format!("{name}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// What it has started, with the command lines.
    fn children(&self) -> Vec<(Pid, String)> {
        let id = self.script.id();
        let listed = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let listed = listed.expect("the kernel lists children");
        listed
            .split_whitespace()
            .filter_map(|pid| {
                let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
                Some((Pid::from_raw(pid.parse().ok()?)?, line.replace('\0', " ")))
            })
            // What prints the story may not have ended yet, or has just ended and has no words left.
            .filter(|(_, line)| !line.is_empty() && !line.starts_with("cat "))
            .collect()
    }

    fn child(&self, word: &str) -> Pid {
        let children = self.children();
        let found = children.iter().find(|(_, line)| line.contains(word));
        found
            .unwrap_or_else(|| panic!("no {word} among {children:?}"))
            .0
    }

    /// Waits for its end, and that nothing is left of what it had started.
    async fn ends(mut self, children: Vec<(Pid, String)>) -> i32 {
        let script = std::cell::RefCell::new(&mut self.script);
        let status = eventually("the script ends", || async {
            script.borrow_mut().try_wait().expect("it can be asked")
        })
        .await;
        for (pid, line) in children {
            assert!(test_kill_process(pid).is_err(), "{line} still runs");
        }
        for port in self.ports {
            assert!(
                std::net::TcpStream::connect(port).is_err(),
                "somebody listens on {port}"
            );
        }
        status.code().expect("it ended by itself")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_runs_tells_its_story_and_ends_with_ctrl_c() {
    if peer("prometheus").is_none() {
        return;
    }
    let bin = tempfile::tempdir().expect("a directory");
    let record = fake_grafana(bin.path());
    let observe = Observe::start(Some(bin.path()));
    let children = observe.children();
    assert_eq!(children.len(), 6, "{children:?}");

    // Prometheus scrapes the gateway, and knows the alerts.
    let http = reqwest::Client::builder().no_proxy().build();
    let http = http.expect("a client");
    let web = format!("http://{}/api/v1", observe.ports[5]);
    let ask = async |path: &str| -> Option<serde_json::Value> {
        let answer = http.get(format!("{web}/{path}")).send().await.ok()?;
        answer.json().await.ok()
    };
    eventually("Prometheus scrapes the gateway", || async {
        let targets = ask("targets").await?;
        let target = &targets["data"]["activeTargets"][0];
        (target["health"] == "up").then_some(())
    })
    .await;
    let rules = ask("rules").await.expect("the rules");
    assert!(rules.to_string().contains("PortcullisDown"), "{rules}");

    // The load is let in; the printed purge breaks it, as the story says.
    let metrics = format!("http://{}/metrics", observe.ports[2]);
    eventually("every caller is let in", || async {
        let scrape = http.get(&metrics).send().await.ok()?.text().await.ok()?;
        let name = "portcullis_auth_allowed_total";
        (harness::metrics::sum(&scrape, name, &[]) > 10.0).then_some(())
    })
    .await;
    for verb in ["keys rotate --config", "keys rotate --purge"] {
        let line = observe.said.lines().find(|line| line.contains(verb));
        let output = Command::new("bash")
            .args(["-c", line.expect("the story has it").trim()])
            .current_dir(observe.run_dir())
            .env("no_proxy", "*")
            .output()
            .expect("bash runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("done: "), "{said}");
    }
    eventually("the load notices", || async {
        let log = observe.log("load");
        ["shop", "mobile", "batch"]
            .iter()
            .all(|name| log.contains(&format!("load: {name} is refused (401)")))
            .then_some(())
    })
    .await;
    eventually("two callers are back, the third is not", || async {
        let scrape = http.get(&metrics).send().await.ok()?.text().await.ok()?;
        let clients =
            |what: &str| harness::metrics::sum(&scrape, &format!("portcullis_purge_{what}"), &[]);
        let counts = (clients("affected_clients"), clients("recovered_clients"));
        (counts == (3.0, 2.0)).then_some(())
    })
    .await;

    // An upstream may go: that is part of the story.
    let orders = format!("echo --address {}", observe.ports[4]);
    kill_process(observe.child(&orders), Signal::TERM).expect("it runs");
    eventually(
        "the route of the upstream fails, the gateway lives on",
        || async {
            let scrape = http.get(&metrics).send().await.ok()?.text().await.ok()?;
            let labels = [("route", "orders"), ("cause", "upstream_failed")];
            let name = "portcullis_request_failures_total";
            (harness::metrics::sum(&scrape, name, &labels) > 0.0).then_some(())
        },
    )
    .await;
    // What the alert that the story names turns on; conf/alerts_start_test.yml has the rest.
    eventually("the upstream counts as down", || async {
        let scrape = http.get(&metrics).send().await.ok()?.text().await.ok()?;
        let up = |upstream| {
            let name = "portcullis_upstream_endpoint_up";
            harness::metrics::sum(&scrape, name, &[("upstream", upstream)])
        };
        (up("orders") < 0.5 && up("echo") > 0.5).then_some(())
    })
    .await;

    same_settings_as_the_containers(&record, &observe);
    kill_process(Pid::from_child(&observe.script), Signal::INT).expect("it runs");
    assert_eq!(observe.ends(children).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_by_itself_ends_the_rest() {
    if peer("prometheus").is_none() {
        return;
    }
    let observe = Observe::start(None);
    let children = observe.children();
    kill_process(observe.child("portcullis serve "), Signal::KILL).expect("it runs");
    eventually("it says so", || async {
        let said = std::fs::read_to_string(observe.dir.path().join("complaints")).ok()?;
        said.contains("gateway ended with 137").then_some(())
    })
    .await;
    assert_eq!(observe.ends(children).await, 1);
}

/// Stands for Grafana: writes down how it was called, and listens where it should.
fn fake_grafana(dir: &Path) -> PathBuf {
    let record = dir.join("record");
    let text = format!(
        "#!/bin/sh\n{{ echo \"ARGUMENTS=$*\"; env; }} >{}\n\
         exec {} echo --address \"$GF_SERVER_HTTP_ADDR:$GF_SERVER_HTTP_PORT\"\n",
        record.display(),
        env!("CARGO_BIN_EXE_portcullis"),
    );
    let program = dir.join("grafana");
    std::fs::write(&program, text).expect("a file");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    record
}

/// What docker-compose.yml tells Grafana is told here too, only with other places.
fn same_settings_as_the_containers(record: &Path, observe: &Observe) {
    let record = std::fs::read_to_string(record).expect("Grafana was called");
    let told = |name: &str| {
        let start = format!("{name}=");
        let value = record.lines().find_map(|line| line.strip_prefix(&start));
        value.unwrap_or_else(|| panic!("no {name}"))
    };
    assert!(told("ARGUMENTS").starts_with("server --homepath "));
    let compose = std::fs::read_to_string(format!("{ROOT}/docker-compose.yml")).expect("the file");
    let compose: serde_yaml::Value = serde_yaml::from_str(&compose).expect("YAML");
    let settings = compose["services"]["grafana"]["environment"].as_mapping();
    for (name, value) in settings.expect("settings") {
        let name = name.as_str().expect("a name");
        let here = told(name);
        match name {
            "PROMETHEUS_URL" => assert_eq!(here, format!("http://{}", observe.ports[5])),
            "PORTCULLIS_DASHBOARDS" | "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH" => {
                let place = here.strip_prefix(ROOT).expect("below the project");
                assert!(place.starts_with("/conf/grafana/dashboards"), "{here}");
                assert!(Path::new(here).exists(), "{here}");
            }
            _ => assert_eq!(Some(here), value.as_str(), "{name}"),
        }
    }
    assert_eq!(
        told("GF_PATHS_PROVISIONING"),
        format!("{ROOT}/conf/grafana/provisioning")
    );
}
