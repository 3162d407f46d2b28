//! Every `--help` teaches; the reference, the manual pages and the completions come from the same
//! definition and are what they claim to be.

#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::peers::peer;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .env_remove("PORTCULLIS_CONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `--help` of the command and of all below it; calls `look` with each.
fn every_help(path: &[String], look: &mut impl FnMut(&[String], &str)) {
    let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
    arguments.push("--help");
    let output = run(&arguments);
    let help = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{path:?}: {}",
        text(&output.stderr)
    );
    assert_eq!(text(&output.stderr), "", "{path:?}");
    look(path, &help);
    for name in subcommands(&help) {
        every_help(&[path, &[name]].concat(), look);
    }
}

fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn section<'a>(help: &'a str, title: &str) -> Vec<&'a str> {
    let lines = help.lines().skip_while(|line| *line != title).skip(1);
    lines.take_while(|line| line.starts_with(' ')).collect()
}

#[test]
fn every_help_says_what_it_does_shows_examples_and_names_its_exit_codes() {
    let mut seen = Vec::new();
    every_help(&[], &mut |path, help| {
        let name = ["portcullis".to_owned()]
            .iter()
            .chain(path)
            .cloned()
            .collect::<Vec<_>>()
            .join(" ");
        let about = help.lines().next().unwrap_or_default();
        assert!(about.len() > 15, "{name} does not say what it does: {help}");
        assert!(help.contains(&format!("Usage: {name}")), "{name}: {help}");
        let examples = section(help, "Examples:");
        assert!(
            examples.iter().any(|line| line.contains(&name)),
            "{name} shows no example of itself: {help}"
        );
        assert!(
            examples
                .iter()
                .any(|line| line.trim_start().starts_with("# ")),
            "{name}: {help}"
        );
        let codes: Vec<u8> = section(help, "Exit codes:")
            .iter()
            .filter(|line| !line.starts_with("   "))
            .map(|line| {
                let code = line.split_whitespace().next().expect("a code");
                code.parse()
                    .unwrap_or_else(|error| panic!("{name}: {error}: {line}"))
            })
            .collect();
        assert!(
            codes.len() > 1 && codes.first() == Some(&0),
            "{name}: {codes:?}"
        );
        assert!(codes.is_sorted(), "{name}: {codes:?}");
        let short = run(&[
            &path.iter().map(String::as_str).collect::<Vec<_>>()[..],
            &["-h"],
        ]
        .concat());
        assert!(
            short.stdout.len() < help.len(),
            "{name}: -h is the short form"
        );
        seen.push(name);
    });
    for expected in [
        "portcullis keys list",
        "portcullis keys preview",
        "portcullis keys rotate",
        "portcullis keys restore",
        "portcullis keys import",
        "portcullis keys purges",
        "portcullis clients list",
        "portcullis clients add",
        "portcullis clients rotate-secret",
        "portcullis clients disable",
        "portcullis clients invalidate",
        "portcullis clients remove",
        "portcullis audit tail",
        "portcullis audit verify",
        "portcullis token issue",
        "portcullis token inspect",
        "portcullis token explain",
        "portcullis logs",
        "portcullis status",
    ] {
        assert!(
            seen.iter().any(|name| name == expected),
            "{expected} is missing: {seen:?}"
        );
    }
    // A hidden command is taught as well.
    assert!(text(&run(&["echo", "--help"]).stdout).contains("Exit codes:"));
}

#[test]
fn the_reference_is_the_one_of_this_binary() {
    let made = text(&run(&["man", "--markdown"]).stdout);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == kept,
        "docs/cli.md is out of date: cargo run -- man --markdown > docs/cli.md"
    );
    every_help(&[], &mut |path, _help| {
        let title = format!("\n## portcullis {}", path.join(" "));
        assert!(made.contains(title.trim_end()), "{title} is missing");
    });
}

#[test]
fn every_command_has_a_manual_page_without_mistakes() {
    let dir = tempfile::tempdir().expect("a directory");
    let to = dir.path().to_str().expect("text");
    let output = run(&["man", "--dir", to]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mut pages = Vec::new();
    every_help(&[], &mut |path, _help| {
        let name = ["portcullis".to_owned()]
            .iter()
            .chain(path)
            .cloned()
            .collect::<Vec<_>>()
            .join("-");
        pages.push(name);
    });
    let written = std::fs::read_dir(dir.path()).expect("pages").count();
    assert_eq!(written, pages.len(), "one page for each command: {pages:?}");
    let mandoc = peer("mandoc");
    for name in &pages {
        let file = dir.path().join(format!("{name}.1"));
        let page = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        for part in [
            ".TH",
            ".SH NAME",
            ".SH SYNOPSIS",
            ".SH DESCRIPTION",
            ".SH OPTIONS",
            ".SH EXAMPLES",
            ".SH \"EXIT STATUS\"",
        ] {
            assert!(page.contains(part), "{name} has no {part}");
        }
        let Some(mandoc) = &mandoc else { continue };
        let output = Command::new(mandoc)
            .args(["-T", "lint", "-W", "error"])
            .arg(&file)
            .output()
            .expect("mandoc runs");
        assert!(output.status.success(), "{name}: {}", text(&output.stdout));
        let output = Command::new(mandoc)
            .args(["-T", "ascii", "-O", "width=200"])
            .arg(&file)
            .output()
            .expect("mandoc runs");
        let shown = without_overstrike(&text(&output.stdout));
        let examples = shown.split("EXAMPLES").nth(1).unwrap_or_default();
        assert!(examples.contains("portcullis "), "{name}: {shown}");
        assert!(examples.contains("EXIT STATUS"), "{name}: {shown}");
        if name == "portcullis-keys-rotate" {
            // Every character of an example survives the way through roff.
            let line = "portcullis keys rotate --purge --yes --kid \"$KID\" --mistake-undo";
            assert!(examples.contains(line), "{shown}");
            assert!(examples.contains("--reason 'leaked key'"), "{shown}");
            for kept in ["PORTCULLIS_ADMIN_URL", "Portcullis Manual", "portcullis 0."] {
                assert!(shown.contains(kept), "{kept}: {shown}");
            }
        }
    }
    let shown = run(&["man"]);
    assert!(text(&shown.stdout).contains(".TH PORTCULLIS 1 "));
    let refused = run(&["man", "--dir", "/nowhere/at/all"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
}

/// Bold and underlined characters are written twice, with a backspace between.
fn without_overstrike(page: &str) -> String {
    let mut plain = String::new();
    for c in page.chars() {
        if c == '\u{8}' {
            plain.pop();
        } else {
            plain.push(c);
        }
    }
    plain
}

/// What bash offers behind these words, with the script sourced as people do it.
fn offered(words: &[&str]) -> Vec<String> {
    let binary = env!("CARGO_BIN_EXE_portcullis");
    let words = words
        .iter()
        .map(|word| format!("'{word}'"))
        .collect::<Vec<_>>()
        .join(" ");
    let script = format!(
        "source <('{binary}' completions bash)\n\
         COMP_WORDS=(portcullis {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE=\"${{COMP_WORDS[*]}}\"\n\
         made=$(complete -p portcullis); name=${{made##*-F }}; name=${{name%% *}}\n\
         \"$name\" portcullis \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let output = Command::new("bash")
        .args(["-u", "-c", &script])
        .output()
        .expect("bash runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_verbs_options_and_values() {
    for (words, expected) in [
        (&[""][..], &["token", "status", "logs", "keys"][..]),
        (&["sta"], &["status"]),
        (&["token", ""], &["issue", "inspect", "explain"]),
        (&["keys", "rot"], &["rotate"]),
        (
            &["keys", "rotate", "--"],
            &["--purge", "--yes", "--seen-revision"],
        ),
        (&["status", "--output", ""], &["table", "json"]),
        (&["completions", ""], &["bash", "zsh", "fish"]),
    ] {
        let offered = offered(words);
        for word in expected {
            assert!(
                offered.iter().any(|found| found == word),
                "{words:?}: {word} in {offered:?}"
            );
        }
    }
    assert_eq!(offered(&["sta"]), ["status"]);
}

#[test]
fn other_shells_take_their_completions() {
    for shell in ["zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert!(text(&script.stdout).contains("portcullis"));
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|dir| dir.join(shell))
            .find(|path| path.is_file());
        let Some(program) = found else { continue };
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("script");
        std::fs::write(&file, &script.stdout).expect("a script");
        let output = Command::new(program)
            .arg("-n")
            .arg(&file)
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{shell}: {}", text(&output.stderr));
    }
}
