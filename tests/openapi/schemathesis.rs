//! Schemathesis reads the document and calls the gateway thousands of times, with requests as the
//! document wants them and with such as it does not.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{ADMIN, Gateway, Options, peers};

/// Calls that have to be made at least.
const CALLS: f64 = 2000.0;

/// Longest time that it may take; it takes about a minute.
const MOST: Duration = Duration::from_secs(170);

/// Where a precondition has failed, nobody looks at the rest.
const CONFIG: &str = "\
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 428, 429, 431]
";

/// What an answer is judged by. Left out are those that know less of the API than it does: that
/// every valid request must succeed (a key must exist to be restored), and the like.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,\
    unsupported_method,allow_header_conformance";

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_generated_calls_find_nothing_undocumented() {
    let Some(program) = peers::peer("schemathesis") else {
        return;
    };
    let gateway = Gateway::start(Options::default()).await;
    // Something to find for those who only look.
    gateway.rotate().await;
    let work = tempfile::tempdir().expect("a directory");
    std::fs::write(work.path().join("schemathesis.toml"), CONFIG).expect("a file");
    let mut command = Command::new(program);
    command
        .current_dir(work.path())
        .args(["run", &format!("{}/admin/v1/openapi.json", gateway.admin)])
        .args(["--url", &gateway.admin])
        .args(["--header", &format!("Authorization: Bearer {ADMIN}")])
        // A stream has no end to wait for.
        .args(["--exclude-operation-id", "watchEvents"])
        .args(["--checks", CHECKS])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "60"])
        .args(["--seed", "20261125", "--generation-deterministic"])
        .args([
            "--suppress-health-check",
            "all",
            "--no-shrink",
            "--continue-on-failure",
        ])
        .args(["--request-timeout", "20", "--warnings", "off", "--no-color"])
        .env("PYTHONHASHSEED", "0");
    let started = Instant::now();
    let running = tokio::task::spawn_blocking(move || command.output());
    let output = running.await.expect("a thread").expect("schemathesis runs");
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let scrape = gateway.scrape().await;
    let sum = |of: &dyn Fn(&str) -> bool| -> f64 {
        let lines = scrape
            .lines()
            .filter(|line| line.starts_with("portcullis_admin_requests_total{") && of(line));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    let calls = sum(&|_| true);
    let failed = sum(&|line| line.contains("code=\"5xx\""));
    assert!(
        output.status.success(),
        "after {calls} calls in {took:?}:\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(failed, 0.0, "an answer was 5xx:\n{said}");
    assert!(calls >= CALLS, "only {calls} calls:\n{said}");
    assert!(took < MOST, "{calls} calls took {took:?}");
    eprintln!("{calls} calls in {took:?}");
}

#[test]
fn the_document_is_valid_openapi() {
    let Some(program) = peers::peer("openapi-spec-validator") else {
        return;
    };
    let work = tempfile::tempdir().expect("a directory");
    let file = work.path().join("openapi.json");
    std::fs::write(&file, portcullis::admin::openapi()).expect("a file");
    let output = Command::new(program).arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
}
