//! What stops a start: each time a clear message, the documented exit code, and nothing made,
//! changed or left behind.

mod harness;

use std::net::TcpListener;
use std::time::Duration;

use harness::disk::contents;
use harness::process::{Setup, free_ports};
use harness::upstream::Upstream;
use harness::{PATIENCE, Process, eventually};

fn configured() -> Process {
    let [upstream] = free_ports();
    Process::configure(&Setup::new(upstream))
}

fn initialised() -> Process {
    let gateway = configured();
    let output = gateway.run(&["init"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    gateway
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_code_4_within_a_second() {
    let gateway = initialised();
    let before = contents(gateway.dir.path());
    for address in [gateway.proxy, gateway.admin, gateway.metrics] {
        let _taken = TcpListener::bind(address).expect("it was free");
        // The quickest of three: other programs want the processor as well.
        let mut quickest = PATIENCE;
        for _attempt in 0..3 {
            let refused = gateway.refused(&["serve"]).await;
            assert_eq!(refused.code, 4, "{}", refused.stderr);
            assert!(
                refused.stderr.contains(&address.to_string()),
                "{}",
                refused.stderr
            );
            quickest = quickest.min(refused.took);
        }
        assert!(quickest < Duration::from_secs(1), "{quickest:?}");
    }
    assert_eq!(contents(gateway.dir.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_on_the_same_store_is_code_5() {
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&Setup::new(upstream.address)).await;
    let token = gateway.token().await;
    // With other ports, so that nothing but the store is in the way.
    let mut text =
        std::fs::read_to_string(gateway.dir.path().join("portcullis.yaml")).expect("a file");
    let issuer = format!("url: \"http://{}\"", gateway.proxy);
    text = text.replace(&issuer, "url: \"ISSUER\"");
    for (address, other) in [gateway.proxy, gateway.admin, gateway.metrics]
        .iter()
        .zip(free_ports::<3>())
    {
        text = text.replace(&address.to_string(), &other.to_string());
    }
    text = text.replace("url: \"ISSUER\"", &issuer);
    std::fs::write(gateway.dir.path().join("second.yaml"), text).expect("a file");
    let before = contents(&gateway.dir.path().join("data"));

    let refused = gateway.refused(&["serve", "--config", "second.yaml"]).await;
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("locked"), "{}", refused.stderr);
    let pid = gateway.pid().to_string();
    assert!(
        refused.stderr.contains(&pid),
        "it names the holder: {}",
        refused.stderr
    );
    assert_eq!(contents(&gateway.dir.path().join("data")), before);
    assert_eq!(gateway.status(&token).await, 200);

    // A SIGKILL leaves no lock behind.
    gateway.kill().await;
    gateway.serve().await;
    assert_eq!(gateway.status(&token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_store_is_code_3_and_names_the_command() {
    let gateway = configured();
    let refused_with_3 = async |gateway: &Process| {
        let before = contents(gateway.dir.path());
        let refused = gateway.refused(&["serve"]).await;
        assert_eq!(refused.code, 3, "{}", refused.stderr);
        assert!(
            refused.stderr.contains("portcullis init"),
            "{}",
            refused.stderr
        );
        assert_eq!(contents(gateway.dir.path()), before);
    };
    let init = |gateway: &Process| assert!(gateway.run(&["init"]).status.success());
    let data = gateway.dir.path().join("data");

    // Nothing was ever made.
    refused_with_3(&gateway).await;
    init(&gateway);
    // The volume is not there, or it is an empty one.
    std::fs::remove_dir_all(&data).expect("it was there");
    refused_with_3(&gateway).await;
    std::fs::create_dir_all(data.join("keys")).expect("a directory");
    refused_with_3(&gateway).await;
    harness::disk::set_mode(&data.join("keys"), 0o700);
    init(&gateway);
    // All is there but one secret.
    std::fs::remove_file(gateway.dir.path().join("secrets/admin.token")).expect("it was there");
    refused_with_3(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_code_2_for_every_command() {
    let gateway = configured();
    let path = gateway.dir.path().join("portcullis.yaml");
    let good = std::fs::read_to_string(&path).expect("a file");
    let line = |text: &str, what: &str| {
        let index = text
            .lines()
            .position(|line| line.contains(what))
            .expect("it is there");
        (index + 1).to_string()
    };
    let misspelt = good.replace("audience:", "audiense:");
    let wrong = good.replace("token_ttl: 1h", "token_ttl: 25h");
    let dangling = good.replace("upstream: main", "upstream: mian");
    let cases: [(&str, &[&str]); 3] = [
        (
            &misspelt,
            &["audiense", "audience", &line(&misspelt, "audiense")],
        ),
        (
            &wrong,
            &["issuer.token_ttl", "25h", "24h", &line(&wrong, "25h")],
        ),
        (&dangling, &["mian", "main"]),
    ];
    for (text, expected) in cases {
        std::fs::write(&path, text).expect("a file");
        let before = contents(gateway.dir.path());
        for command in ["serve", "init", "check", "demo"] {
            let refused = gateway.refused(&[command]).await;
            assert_eq!(refused.code, 2, "{command}: {}", refused.stderr);
            assert!(
                refused.stderr.contains("portcullis.yaml"),
                "{}",
                refused.stderr
            );
            for expected in expected {
                assert!(
                    refused.stderr.contains(expected),
                    "{expected}: {}",
                    refused.stderr
                );
            }
        }
        assert_eq!(contents(gateway.dir.path()), before);
    }
    let refused = gateway
        .refused(&["serve", "--config", "not-there.yaml"])
        .await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("not-there.yaml"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_means_that_every_listener_is_open() {
    let gateway = initialised();
    let url = format!("http://{}/readyz", gateway.metrics);
    for _start in 0..5 {
        let mut child = gateway
            .command(&["serve"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("the binary starts");
        eventually("it is ready", || async {
            let answer = gateway.http.get(&url).send().await.ok()?;
            (answer.status() == 200).then_some(())
        })
        .await;
        let open = [gateway.proxy, gateway.admin].map(std::net::TcpStream::connect);
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        for open in open {
            assert!(open.is_ok(), "{open:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_tokens_do_not_cross_a_network_in_plain_text_unless_that_is_said() {
    let gateway = initialised();
    let file = gateway.dir.path().join("portcullis.yaml");
    let text = std::fs::read_to_string(&file).expect("a file");
    let near = format!("admin: {{ address: {}", gateway.admin);
    let far = format!("admin: {{ address: 0.0.0.0:{}", gateway.admin.port());
    assert!(text.contains(&near), "{text}");
    std::fs::write(&file, text.replace(&near, &far)).expect("a file");
    for command in [&["serve"][..], &["check"]] {
        let refused = gateway.refused(command).await;
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        for part in ["listeners.admin.address", "`tls`", "insecure: true"] {
            assert!(refused.stderr.contains(part), "{}", refused.stderr);
        }
    }
    let meant = format!("{far}, insecure: true");
    std::fs::write(&file, text.replace(&near, &meant)).expect("a file");
    let output = gateway.run(&["check"]);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_looks_like_a_mistake_is_warned_of_in_the_log() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup {
        proxy: ", behind_tls_proxy: [0.0.0.0/0]".to_owned(),
        ..Setup::new(upstream.address)
    })
    .await;
    let is_it = |line: &serde_json::Value| {
        let warning = line["warning"].as_str().unwrap_or_default();
        line["event"] == "configuration_warning" && warning.contains("takes every address")
    };
    eventually("the log warns", || async {
        gateway.log_lines().iter().any(is_it).then_some(())
    })
    .await;
}
