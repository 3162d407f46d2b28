//! What is committed is what the code says, and its commands run.

use std::process::Command;

use serde_json::Value;

use crate::document::Document;
use crate::harness::{ADMIN, peers};
use crate::markdown;
use crate::world::World;
use crate::{project_file, renews};

const JSON: &str = "docs/openapi.json";
const TEXT: &str = "docs/admin-api.md";

/// Compares a committed file, or writes it.
fn assert_committed(path: &str, current: &str) {
    let file = project_file(path);
    if renews("docs") {
        std::fs::write(file, current).expect("a file");
        return;
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    let lines = committed.lines().zip(current.lines());
    let differs = lines.enumerate().find(|(_, (a, b))| a != b);
    assert!(
        committed == current,
        "{path} is not what the code says: `make api-docs` renews it; first difference: {differs:?}"
    );
}

#[test]
fn the_committed_document_is_what_the_code_says() {
    assert_committed(JSON, portcullis::admin::openapi());
}

#[test]
fn the_reference_is_what_the_document_says() {
    assert_committed(TEXT, &markdown::text(&Document::new()));
}

#[test]
fn the_command_line_prints_the_document() {
    let program = env!("CARGO_BIN_EXE_portcullis");
    let output = Command::new(program)
        .arg("openapi")
        .output()
        .expect("it runs");
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(printed, portcullis::admin::openapi());
}

/// The commands of the reference by their names: `operation.example`.
fn commands(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut name = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix('`')
            && let Some((of, _)) = rest.split_once("`: ")
        {
            name = of.to_owned();
        }
        if line == "```sh" && !name.is_empty() {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push((std::mem::take(&mut name), block.join("\n")));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_reference_runs() {
    let Some(curl) = peers::peer("curl") else {
        return;
    };
    let document = Document::new();
    let text = std::fs::read_to_string(project_file(TEXT)).expect("the reference");
    let commands = commands(&text);
    let operations = document.operations();
    let examples: usize = operations.iter().map(|of| of.examples().len()).sum();
    assert_eq!(commands.len(), examples, "one command for each example");
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(
        home.path().join(".curlrc"),
        "write-out = \"\\n%{http_code}\"\nmax-time = 20\n",
    )
    .expect("a file");
    let path = std::env::var("PATH").unwrap_or_default();
    let place = curl.parent().expect("a directory").display().to_string();
    for (name, command) in commands {
        let (id, example) = name.split_once('.').expect("two names");
        let of = operations
            .iter()
            .find(|of| of.id() == id)
            .expect("an operation");
        let example = of.examples().into_iter().find(|of| of.name == example);
        let world = World::of(id).await;
        let command = world.here(&command);
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", &command])
            .env("ADMIN", &world.gateway.admin)
            .env("TOKEN", ADMIN)
            .env("CURL_HOME", home.path())
            .env("PATH", format!("{path}:{place}"));
        let running = tokio::task::spawn_blocking(move || shell.output());
        let output = running.await.expect("a thread").expect("a shell");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = printed.rsplit_once('\n').expect("a status line");
        let wanted = example.expect("an example").status;
        assert_eq!(
            status,
            wanted.to_string(),
            "{name}: {body} {output:?}\n{command}"
        );
        let answer: Value = serde_json::from_str(body).unwrap_or_else(|_| body.into());
        if let Some((_, content)) = of.content(wanted) {
            document.assert_valid(&name, &content["schema"], &answer, false);
        }
    }
}
