//! The command line: what it prints for people and for scripts, and its exit codes.

#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::process::Output;

use harness::process::{Setup, free_ports};
use harness::upstream::Upstream;
use harness::{Process, SECRET};

fn configured() -> Process {
    let [upstream] = free_ports();
    Process::configure(&Setup::new(upstream))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_rotated_and_purged_from_the_command_line() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup::new(upstream.address)).await;
    let old = gateway.token().await;

    let listed = json(&gateway.run(&["keys", "list", "--output", "json"]));
    assert_eq!(listed, gateway.admin_get("/admin/v1/keys").await);
    let table = text(&gateway.run(&["keys", "list"]).stdout);
    for key in listed["keys"].as_array().expect("keys") {
        for column in ["state", "alg", "kid"] {
            assert!(
                table.contains(key[column].as_str().expect("text")),
                "{table}"
            );
        }
    }

    let first = json(&gateway.run(&["keys", "rotate", "--reason", "Tuesday", "--output", "json"]));
    assert_eq!(first["changed"], true);
    let second = json(&gateway.run(&["keys", "rotate", "--output", "json"]));
    assert_eq!(
        (&second["changed"], &second["rotation_id"]),
        (&false.into(), &first["rotation_id"])
    );
    let said = text(&gateway.run(&["keys", "rotate"]).stdout);
    assert!(said.starts_with("nothing changed"), "{said}");
    assert_eq!(gateway.status(&old).await, 200);

    // A purge asks first, and a script cannot be asked.
    let refused = gateway.refused(&["keys", "rotate", "--purge"]).await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    assert_eq!(gateway.status(&old).await, 200);

    let seen = first["revision"].to_string();
    let purge = [
        "keys",
        "rotate",
        "--purge",
        "--yes",
        "--seen-revision",
        &seen,
        "--output",
        "json",
    ];
    let done = json(&gateway.run(&purge));
    assert_eq!(done["changed"], true);
    assert_eq!(done["receipt"]["complete"], true);
    assert_eq!(gateway.status(&old).await, 401);
    let fresh = gateway.token().await;
    // Said again, it does not kill the clients that recovered.
    assert_eq!(json(&gateway.run(&purge))["changed"], false);
    assert_eq!(gateway.status(&fresh).await, 200);
    let said = text(&gateway.run(&["keys", "rotate", "--purge", "--yes"]).stdout);
    assert!(said.starts_with("Rotate and purge done"), "{said}");
    assert_eq!(gateway.status(&fresh).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_listed_shut_out_made_and_removed_from_the_command_line() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup::new(upstream.address)).await;
    let old = gateway.token().await;
    let run = |arguments: &[&str]| text(&gateway.run(&[&["clients"], arguments].concat()).stdout);
    let run_json = |arguments: &[&str]| {
        json(&gateway.run(&[&["clients"], arguments, &["--output", "json"]].concat()))
    };

    let listed = run_json(&["list"]);
    let ids: Vec<&str> = listed["clients"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|client| client["id"].as_str().expect("text"))
        .collect();
    assert!(ids.contains(&harness::CLIENT), "{listed}");
    let table = run(&["list"]);
    assert!(ids.iter().all(|id| table.contains(id)), "{table}");

    let said = run(&["disable", harness::CLIENT, "--reason", "lost laptop"]);
    assert!(
        said.contains("disabled") && said.contains("lost laptop"),
        "{said}"
    );
    assert_eq!(gateway.status(&old).await, 401);
    let said = run(&["disable", harness::CLIENT]);
    assert!(said.starts_with("nothing changed"), "{said}");
    assert_eq!(run_json(&["enable", harness::CLIENT])["changed"], true);
    assert_eq!(gateway.status(&old).await, 401, "it ended for good");
    let old = gateway.token().await;
    assert_eq!(gateway.status(&old).await, 200);
    assert_eq!(run_json(&["invalidate", harness::CLIENT])["changed"], true);
    assert_eq!(gateway.status(&old).await, 401);
    assert_eq!(gateway.status(&gateway.token().await).await, 200);
    let said = run(&["show", harness::CLIENT]);
    for word in ["disable", "enable", "invalidate", "static", "lost laptop"] {
        assert!(said.contains(word), "{said}");
    }

    let odd = "odd/name +%";
    let added = run_json(&["add", odd, "--scope", "read", "--scope", "write"]);
    assert_eq!(
        added["client"]["scopes"],
        serde_json::json!(["read", "write"])
    );
    let secret = added["secret"].as_str().expect("a secret");
    let said = run(&["rotate-secret", odd]);
    assert!(
        said.contains("secret") && said.contains("kept nowhere"),
        "{said}"
    );
    assert!(!said.contains(secret), "{said}");
    assert_eq!(run_json(&["drop-old-secret", odd])["changed"], true);
    assert_eq!(run_json(&["remove", odd])["client"]["source"], "gone");
    let refused = gateway.refused(&["clients", "remove", odd]).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("NO_SUCH_CLIENT"),
        "{}",
        refused.stderr
    );
    let refused = gateway
        .refused(&["clients", "remove", harness::CLIENT])
        .await;
    assert!(
        refused.stderr.contains("configuration"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_not_there_is_an_error_that_says_so() {
    let gateway = configured();
    let refused = gateway.refused(&["keys", "list"]).await;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("portcullis init"),
        "{}",
        refused.stderr
    );
    assert!(gateway.run(&["init"]).status.success());
    let refused = gateway.refused(&["keys", "list"]).await;
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains(&gateway.admin.to_string()),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("is the gateway running"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_secret_from_standard_input_becomes_a_hash_that_fits_it() {
    let gateway = configured();
    let hash = |arguments: &[&str], secret: &str| {
        gateway.piped(&[&["clients", "hash-secret"], arguments].concat(), secret)
    };
    for (arguments, secret) in [
        (&[][..], "correct horse battery staple\n"),
        (&["--generated"], SECRET),
    ] {
        let output = hash(arguments, secret);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let printed = text(&output.stdout);
        assert!(!printed.contains(secret.trim()), "{printed}");
        let parsed: portcullis::clients::SecretHash = printed.trim().parse().expect("a hash");
        assert_eq!(parsed.to_string(), printed.trim());
        // Salted: the same secret never gives the same hash.
        assert_ne!(text(&hash(arguments, secret).stdout), printed);
    }
    for (arguments, secret) in [(&[][..], ""), (&["--generated"], "too short\n")] {
        let output = hash(arguments, secret);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn help_and_completions_print_to_standard_output_and_end_with_0() {
    let gateway = configured();
    for arguments in [
        &["--help"][..],
        &["help"],
        &["--version"],
        &["init", "--help"],
        &["serve", "--help"],
        &["demo", "--help"],
        &["check", "--help"],
        &["keys", "--help"],
        &["keys", "rotate", "--help"],
        &["keys", "confirm-clock", "--help"],
        &["clients", "--help"],
        &["clients", "hash-secret", "--help"],
        &["clients", "list", "--help"],
        &["clients", "show", "--help"],
        &["clients", "disable", "--help"],
        &["clients", "enable", "--help"],
        &["clients", "invalidate", "--help"],
        &["clients", "add", "--help"],
        &["clients", "rotate-secret", "--help"],
        &["clients", "drop-old-secret", "--help"],
        &["clients", "remove", "--help"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["completions", "fish"],
        &["man"],
        &["check"],
    ] {
        let output = gateway.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(!output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
    assert!(text(&gateway.run(&["--help"]).stdout).contains("Exit codes"));
}

#[test]
fn wrong_usage_is_code_2_and_says_what_would_be_right() {
    let gateway = configured();
    for (arguments, hint) in [
        (&[][..], "Usage"),
        (&["sreve"], "serve"),
        (&["serve", "--confg", "x"], "--config"),
        (&["keys", "rotate", "--kid", "k"], "--purge"),
        (
            &["keys", "rotate", "--purge", "--seen-revision", "one"],
            "one",
        ),
        (&["keys", "list", "--output", "yaml"], "json"),
        (&["completions", "tcsh"], "bash"),
    ] {
        let output = gateway.run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(hint), "{arguments:?}: {said}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn completions_are_valid_bash() {
    let gateway = configured();
    let script = text(&gateway.run(&["completions", "bash"]).stdout);
    let script = format!("{script}\ncomplete -p portcullis");
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .output()
        .expect("bash runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("portcullis"));
}
