//! The layer rule, checked in the source text: who may import whom, and which crates.
//!
//! A *unit* is a folder or file directly below `src/`. Its row in [`UNITS`] lists the units and the
//! external crates that it may name; what is not listed is a violation. Edges never import each
//! other, and the pure units read neither clock nor file. Rows are exact: an entry that nothing
//! uses any more is a violation too, so that the table stays the truth.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// One unit: its layer, and what it may name beside itself and `std`.
struct Unit {
    name: &'static str,
    layer: u8,
    units: &'static [&'static str],
    crates: &'static [&'static str],
}

const fn unit(
    name: &'static str,
    layer: u8,
    units: &'static [&'static str],
    crates: &'static [&'static str],
) -> Unit {
    Unit {
        name,
        layer,
        units,
        crates,
    }
}

/// The layer table of `src/lib.rs`, with the imports that exist.
const UNITS: &[Unit] = &[
    unit("clock", 0, &[], &["serde", "time"]),
    unit("log_id", 0, &[], &["serde", "uuid"]),
    unit(
        "keys",
        1,
        &["clock"],
        &["schemars", "serde", "serde_json", "thiserror", "uuid"],
    ),
    unit(
        "token",
        1,
        &["clients", "clock", "keys"],
        &[
            "base64",
            "jsonwebtoken",
            "quick_cache",
            "ring",
            "schemars",
            "serde",
            "serde_json",
            "thiserror",
            "uuid",
        ],
    ),
    unit(
        "clients",
        1,
        &["clock", "keys"],
        &[
            "argon2",
            "base64",
            "ring",
            "schemars",
            "serde",
            "serde_json",
            "subtle",
            "thiserror",
            "zeroize",
        ],
    ),
    unit(
        "keygen",
        2,
        &["keys"],
        &[
            "base64",
            "ring",
            "rsa",
            "rustls_pki_types",
            "thiserror",
            "zeroize",
        ],
    ),
    unit(
        "store",
        2,
        // `seal_fresh` takes a key over from where it was made.
        &["clock", "keys", "keygen"],
        &[
            "arc_swap",
            "async_trait",
            "base64",
            "ring",
            "rustix",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "uuid",
            "zeroize",
        ],
    ),
    unit(
        "telemetry",
        2,
        &["clock", "log_id", "token"],
        &[
            "log",
            "opentelemetry_proto",
            "prometheus",
            "prost",
            "ring",
            "serde_json",
            "ureq",
        ],
    ),
    unit(
        "http",
        2,
        &["log_id"],
        &[
            "async_trait",
            "axum",
            "bytes",
            "http",
            "http_body_util",
            "pingora",
            "serde",
            "serde_json",
            "tokio",
            "tower",
        ],
    ),
    unit(
        "lifecycle",
        3,
        &[
            "clients",
            "clock",
            "keygen",
            "keys",
            "log_id",
            "store",
            "telemetry",
            "token",
        ],
        &[
            "arc_swap",
            "async_trait",
            "base64",
            "bytes",
            "ring",
            "serde_json",
            "thiserror",
            "tokio",
            "uuid",
            "zeroize",
        ],
    ),
    unit(
        "gateway",
        4,
        &["clock", "http", "lifecycle", "log_id", "telemetry", "token"],
        &[
            "async_trait",
            "bytes",
            "http",
            "pingora",
            "rustls_pki_types",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
        ],
    ),
    unit(
        "issuer",
        4,
        &[
            "clients",
            "clock",
            "http",
            "keys",
            "lifecycle",
            "log_id",
            "telemetry",
            "token",
        ],
        &[
            "axum",
            "base64",
            "bytes",
            "form_urlencoded",
            "http",
            "ring",
            "serde",
            "serde_json",
            "tokio",
            "uuid",
            "zeroize",
        ],
    ),
    unit(
        "admin",
        4,
        &[
            "clock",
            "http",
            "keygen",
            "clients",
            "clock",
            "http",
            "keys",
            "lifecycle",
            "log_id",
            "telemetry",
            "token",
        ],
        &[
            "axum",
            "base64",
            "bytes",
            "form_urlencoded",
            "http",
            "ring",
            "schemars",
            "serde",
            "serde_json",
            "subtle",
            "tokio",
            "uuid",
            "zeroize",
        ],
    ),
    unit(
        "health",
        4,
        &["http", "lifecycle", "telemetry"],
        &["axum", "flate2", "http"],
    ),
    unit(
        "config",
        5,
        &["clients", "gateway", "keys", "telemetry", "token"],
        &["http", "serde", "serde_yaml", "strsim", "thiserror"],
    ),
    unit(
        "listeners",
        5,
        &["clock", "gateway", "http", "telemetry"],
        &[
            "async_trait",
            "bytes",
            "http",
            "httparse",
            "log",
            "pingora",
            "rustls_pki_types",
            "thiserror",
            "tokio",
            "x509_parser",
        ],
    ),
    unit(
        "app",
        5,
        &[
            "admin",
            "clients",
            "clock",
            "config",
            "gateway",
            "health",
            "http",
            "issuer",
            "keygen",
            "keys",
            "lifecycle",
            "store",
            "telemetry",
            "token",
        ],
        &[
            "axum",
            "http",
            "pingora",
            "prometheus",
            "ring",
            "thiserror",
            "tokio",
        ],
    ),
    unit(
        "cli",
        5,
        &[
            "admin",
            "app",
            "clients",
            "clock",
            "config",
            "gateway",
            "http",
            "keygen",
            "keys",
            "lifecycle",
            "listeners",
            "store",
            "telemetry",
            "token",
        ],
        &[
            "async_trait",
            "axum",
            "base64",
            "bytes",
            "clap",
            "clap_complete",
            "clap_mangen",
            "http",
            "pingora",
            "ring",
            "rustix",
            "rustls_native_certs",
            "rustls_pki_types",
            "serde_json",
            "thiserror",
            "tokio",
            "ureq",
            "zeroize",
        ],
    ),
    unit("main", 5, &[], &["mimalloc", "portcullis"]),
    unit(
        "testing",
        0,
        &[
            "admin",
            "clients",
            "clock",
            "config",
            "gateway",
            "issuer",
            "keygen",
            "keys",
            "listeners",
            "token",
        ],
        &["http", "ring", "serde_json", "uuid"],
    ),
];

/// Edges: they may never know of each other.
const EDGES: [&str; 4] = ["gateway", "issuer", "admin", "health"];

/// Same-layer imports below the top that the design wants.
const SIDEWAYS: [(&str, &str); 4] = [
    ("token", "keys"),
    ("token", "clients"),
    ("clients", "keys"),
    ("store", "keygen"),
];

/// What a pure unit may not touch, beside what its row leaves out.
const PURE: [&str; 3] = ["keys", "token", "clients"];
const IMPURE: [&str; 14] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "SystemTime",
    "Instant",
    "SystemClock",
    "Uuid::new_v4",
    "LogId::random",
    "OsRng",
    "thread_rng",
    "println!",
];

/// Crates that one file alone may name, or one unit.
const ONLY_HERE: [(&str, &str); 4] = [
    ("jsonwebtoken", "token/jose.rs"),
    ("ring::signature", "token/jose.rs"),
    ("SystemRandom", "token/jose.rs"),
    ("RsaPrivateKey", "keygen/rsa.rs"),
];

/// Most lines of code in a file, without tests, comments and blank lines. 300 is the aim.
const MAX_LINES: usize = 400;

/// A file below `src/`: its path there, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn unit(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How deep its module lies below the crate root: `keys/mod.rs` and `keys.rs` are 1.
    fn depth(&self) -> usize {
        let module = self.path.trim_end_matches(".rs");
        let module = module.strip_suffix("/mod").unwrap_or(module);
        module.split('/').count()
    }

    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name == "tests.rs" || name == "test_clock.rs" || self.path.contains("/tests/")
    }
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let relative = |path: &Path| {
        path.strip_prefix(&root)
            .expect("below src")
            .to_string_lossy()
            .into_owned()
    };
    let sources = paths.iter().map(|path| Source {
        path: relative(path),
        text: fs::read_to_string(path).expect("UTF-8"),
    });
    sources
        .filter(|source| source.path != "lib.rs" && !source.is_test())
        .collect()
}

/// Blanks out comments, strings and characters, so that what is left is code.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(len) = raw_string(rest, &code) {
            len
        } else if rest.starts_with('"') {
            quoted(rest, b'"')
        } else if is_char_literal(rest) {
            quoted(rest, b'\'')
        } else {
            0
        };
        if skipped == 0 {
            let character = rest.chars().next().unwrap_or_default();
            code.push(character);
            at += character.len_utf8();
        } else {
            code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            code.push(' ');
            at += skipped;
        }
    }
    code
}

fn raw_string(rest: &str, before: &str) -> Option<usize> {
    let inner = rest.strip_prefix('r')?;
    if before.ends_with(|c: char| c.is_alphanumeric() && c != 'b' || c == '_') {
        return None;
    }
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    inner[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let body = &inner[hashes + 1..];
    Some(
        1 + hashes
            + 1
            + body
                .find(&close)
                .map_or(body.len(), |end| end + close.len()),
    )
}

/// Length of the literal at the start of `rest`, escapes respected.
fn quoted(rest: &str, quote: u8) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn is_char_literal(rest: &str) -> bool {
    let mut characters = rest.chars();
    if characters.next() != Some('\'') {
        return false;
    }
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

/// Removes every item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..start]);
        let item = &rest[start..];
        let end = match (item.find('{'), item.find(';')) {
            (Some(brace), semicolon) if semicolon.is_none_or(|semicolon| brace < semicolon) => {
                block_end(item, brace)
            }
            (_, Some(semicolon)) => semicolon + 1,
            _ => item.len(),
        };
        rest = &item[end..];
    }
    kept + rest
}

fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Every path in the code, `use` groups spelt out: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths_of(code: &str) -> BTreeSet<String> {
    let tokens = tokens(code);
    let mut paths = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts = is_name(tokens[at]) || tokens[at] == "::";
        let continues = at > 0 && (tokens[at - 1] == "::" || tokens[at - 1] == ".");
        at = if starts && !continues {
            path(&tokens, at, "", &mut paths)
        } else {
            at + 1
        };
    }
    paths
}

fn path(tokens: &[&str], mut at: usize, prefix: &str, paths: &mut BTreeSet<String>) -> usize {
    let mut path = prefix.to_owned();
    loop {
        match tokens.get(at) {
            Some(&"::") => {
                if !path.is_empty() {
                    path.push_str("::");
                }
                at += 1;
            }
            Some(&"{") if path.ends_with("::") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| *token != "}") {
                    let before = at;
                    at = self::path(tokens, at, &path, paths);
                    at = if at == before { at + 1 } else { at };
                }
                return at + 1;
            }
            Some(name) if is_name(name) && (path == prefix || path.ends_with("::")) => {
                path.push_str(name);
                at += 1;
            }
            _ => {
                if path != prefix {
                    paths.insert(path);
                }
                return at;
            }
        }
        if path.is_empty() && tokens.get(at).is_none() {
            return at;
        }
    }
}

/// Words that may stand before a path without belonging to it.
const KEYWORDS: [&str; 17] = [
    "as", "const", "dyn", "else", "for", "if", "impl", "in", "let", "match", "move", "mut", "pub",
    "ref", "return", "static", "use",
];

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_') && !KEYWORDS.contains(&token)
}

fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let len = if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    tokens
}

/// The crates of `Cargo.toml`, spelt as in code.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .expect("a manifest");
    let section = |name: &str| {
        let start = manifest
            .find(&format!("\n[{name}]\n"))
            .expect("the section")
            + name.len()
            + 4;
        manifest[start..]
            .split("\n[")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let names = section("dependencies") + &section("dev-dependencies");
    let crates = names
        .lines()
        .filter_map(|line| line.split_once(" ="))
        .map(|(name, _)| name.trim().replace('-', "_"));
    crates.filter(|name| !name.starts_with('#')).collect()
}

/// What a source names beyond itself.
struct Named {
    units: BTreeSet<String>,
    crates: BTreeSet<String>,
    paths: BTreeSet<String>,
}

fn named(source: &Source, dependencies: &BTreeSet<String>) -> Named {
    let code = without_tests(&code_of(&source.text));
    let paths = paths_of(&code);
    let mut units = BTreeSet::new();
    let mut crates = BTreeSet::new();
    for path in &paths {
        let mut segments = path.split("::");
        let first = segments.next().unwrap_or_default();
        match first {
            "crate" => units.extend(segments.next().map(str::to_owned)),
            "super" => {
                let up = 1 + segments
                    .clone()
                    .take_while(|segment| *segment == "super")
                    .count();
                if up == source.depth() {
                    units.extend(path.split("::").nth(up).map(str::to_owned));
                }
            }
            name if dependencies.contains(name) && path.contains("::") => {
                crates.insert(name.to_owned());
            }
            _ => {}
        }
    }
    units.remove(source.unit());
    Named {
        units,
        crates,
        paths,
    }
}

fn row(name: &str) -> Option<&'static Unit> {
    UNITS.iter().find(|unit| unit.name == name)
}

/// Every broken rule, one line each.
fn violations(sources: &[Source]) -> Vec<String> {
    let dependencies = dependencies();
    let mut found = Vec::new();
    for source in sources {
        let (path, name) = (&source.path, source.unit());
        let Some(unit) = row(name) else {
            found.push(format!(
                "{path}: the unit `{name}` has no row in tests/architecture.rs"
            ));
            continue;
        };
        let named = named(source, &dependencies);
        for other in named
            .units
            .iter()
            .filter(|other| !unit.units.contains(&other.as_str()))
        {
            found.push(format!("{path}: `{name}` may not import `crate::{other}`"));
        }
        for other in named
            .crates
            .iter()
            .filter(|other| !unit.crates.contains(&other.as_str()))
        {
            found.push(format!("{path}: `{name}` may not use the crate `{other}`"));
        }
        if PURE.contains(&name) {
            found.extend(impurities(source, &named.paths));
        }
        for (what, place) in ONLY_HERE
            .iter()
            .filter(|(_, place)| place != path && place.starts_with(name))
        {
            if named.paths.iter().any(|path| names(path, what)) {
                found.push(format!("{path}: only {place} may use `{what}`"));
            }
        }
        let lines = without_tests(&code_of(&source.text))
            .lines()
            .filter(|line| !line.trim().is_empty())
            .count();
        if lines > MAX_LINES {
            found.push(format!(
                "{path}: {lines} lines of code without tests, {MAX_LINES} are allowed"
            ));
        }
    }
    found
}

fn impurities(source: &Source, paths: &BTreeSet<String>) -> Vec<String> {
    let code = without_tests(&code_of(&source.text));
    let touches = |what: &&&str| match what.strip_suffix('!') {
        Some(_) => code.contains(**what),
        None => paths.iter().any(|path| names(path, what)),
    };
    let found = IMPURE.iter().filter(touches);
    found
        .map(|what| {
            format!(
                "{}: `{}` is pure and may not touch `{what}`",
                source.path,
                source.unit()
            )
        })
        .collect()
}

/// Whether `path` has the segments of `what` in a row.
fn names(path: &str, what: &str) -> bool {
    format!("::{path}::").contains(&format!("::{what}::"))
}

/// Rows of the table that permit what nothing uses, or that contradict the layers.
fn stale_rows(sources: &[Source]) -> Vec<String> {
    let dependencies = dependencies();
    let mut found = Vec::new();
    for unit in UNITS {
        let all: Vec<Named> = sources
            .iter()
            .filter(|source| source.unit() == unit.name)
            .map(|source| named(source, &dependencies))
            .collect();
        let unused_unit = |other: &&&str| !all.iter().any(|named| named.units.contains(**other));
        let unused_crate = |other: &&&str| !all.iter().any(|named| named.crates.contains(**other));
        let unused = unit
            .units
            .iter()
            .filter(unused_unit)
            .chain(unit.crates.iter().filter(unused_crate));
        found.extend(unused.map(|other| {
            format!(
                "`{}` no longer imports `{other}`: take it out of its row",
                unit.name
            )
        }));
        for other in unit.units {
            let layer = row(other).map_or(u8::MAX, |other| other.layer);
            let sideways =
                layer == unit.layer && (unit.layer == 5 || SIDEWAYS.contains(&(unit.name, other)));
            if layer >= unit.layer && !sideways && unit.name != "testing" {
                found.push(format!(
                    "the row of `{}` permits `{other}`, which is not below it",
                    unit.name
                ));
            }
            if EDGES.contains(&unit.name) && EDGES.contains(other) {
                found.push(format!(
                    "the row of `{}` permits the edge `{other}`",
                    unit.name
                ));
            }
        }
    }
    found
}

fn report(found: &[String]) -> String {
    found.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "  {line}");
        text
    })
}

#[test]
fn no_module_imports_against_the_layers() {
    let found = violations(&sources());
    assert!(
        found.is_empty(),
        "the layer rule is broken:\n{}",
        report(&found)
    );
}

#[test]
fn the_table_is_the_truth() {
    let found = stale_rows(&sources());
    assert!(
        found.is_empty(),
        "the table of units is out of date:\n{}",
        report(&found)
    );
}

#[test]
fn the_map_in_the_crate_documentation_names_every_unit() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .expect("lib.rs");
    for unit in UNITS
        .iter()
        .filter(|unit| !["main", "testing"].contains(&unit.name))
    {
        let row = lib
            .lines()
            .find(|line| line.starts_with(&format!("//! | {}", unit.layer)));
        let shown = format!("[`{}`]", unit.name);
        assert!(
            row.is_some_and(|row| row.contains(&shown)),
            "{shown} is not in the row of layer {}",
            unit.layer
        );
    }
}

fn of(path: &str, text: &str) -> Vec<String> {
    violations(&[Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }])
}

#[test]
fn a_forbidden_import_is_reported_however_it_is_spelt() {
    for (path, text, expected) in [
        (
            "keys/evil.rs",
            "use crate::gateway::limits::Limits;",
            "keys/evil.rs: `keys` may not import `crate::gateway`",
        ),
        (
            "keys/evil.rs",
            "use crate::{clock::Timestamp, store};",
            "`keys` may not import `crate::store`",
        ),
        (
            "keys/evil.rs",
            "use crate::{clock, lifecycle::{drain, Receipt}};",
            "`keys` may not import `crate::lifecycle`",
        ),
        (
            "keys/evil.rs",
            "fn f() { crate::telemetry::Log::now(); }",
            "`keys` may not import `crate::telemetry`",
        ),
        (
            "keys/evil.rs",
            "use super::super::store::KeyStore;",
            "`keys` may not import `crate::store`",
        ),
        (
            "keys/deep/evil.rs",
            "use super::super::super::store::X;",
            "`keys` may not import `crate::store`",
        ),
        (
            "keys/mod.rs",
            "use super::app;",
            "`keys` may not import `crate::app`",
        ),
        (
            "keys/evil.rs",
            "use tokio::sync::Mutex;",
            "`keys` may not use the crate `tokio`",
        ),
        (
            "keys/evil.rs",
            "use ::pingora::Error;",
            "`keys` may not use the crate `pingora`",
        ),
        (
            "keys/evil.rs",
            "type E = Box<prometheus::Error>;",
            "`keys` may not use the crate `prometheus`",
        ),
        (
            "token/evil.rs",
            "use std::fs::read;",
            "`token` is pure and may not touch `std::fs`",
        ),
        (
            "token/evil.rs",
            "use std::{env, fs};",
            "`token` is pure and may not touch `std::env`",
        ),
        (
            "token/evil.rs",
            "let t = std::time::Instant::now();",
            "may not touch `Instant`",
        ),
        (
            "token/evil.rs",
            "let t = SystemTime::now();",
            "may not touch `SystemTime`",
        ),
        (
            "token/evil.rs",
            "use ring::signature::Ed25519KeyPair;",
            "only token/jose.rs may use `ring::signature`",
        ),
        (
            "token/evil.rs",
            "use jsonwebtoken::decode;",
            "only token/jose.rs may use `jsonwebtoken`",
        ),
        (
            "clients/evil.rs",
            "println!(\"hello\");",
            "may not touch `println!`",
        ),
        (
            "gateway/evil.rs",
            "use crate::admin::Role;",
            "`gateway` may not import `crate::admin`",
        ),
        (
            "issuer/evil.rs",
            "use crate::gateway::Gateway;",
            "`issuer` may not import `crate::gateway`",
        ),
        (
            "health.rs",
            "use crate::issuer;",
            "`health` may not import `crate::issuer`",
        ),
        (
            "store/evil.rs",
            "use crate::lifecycle::Lifecycle;",
            "`store` may not import `crate::lifecycle`",
        ),
        (
            "admin/evil.rs",
            "use serde_yaml::Value;",
            "`admin` may not use the crate `serde_yaml`",
        ),
        ("somewhere/new.rs", "", "the unit `somewhere` has no row"),
        (
            "keys/evil.rs",
            "#[cfg(test)]\nmod tests { use tokio::fs; }\nuse axum::Router;",
            "`keys` may not use the crate `axum`",
        ),
    ] {
        let found = of(path, text);
        assert!(
            found.iter().any(|line| line.contains(expected)),
            "{text:?} gave {found:?}"
        );
    }
    let long = "fn f() {}\n".repeat(MAX_LINES + 1);
    assert!(of("keys/long.rs", &long)[0].contains("401 lines of code"));
}

#[test]
fn comments_strings_and_tests_are_no_imports() {
    for text in [
        "// use tokio::fs;\n/* use crate::app; */ use crate::clock::Timestamp;",
        "const A: &str = \"use crate::gateway;\"; const B: char = '\"'; const C: &str = \"tokio::fs\";",
        "const A: &str = r#\"crate::app \" tokio::net\"#;",
        "#[cfg(test)]\nmod tests { use tokio::fs; fn f() { if true { crate::app::x() } } }",
        "#[cfg(test)]\nuse crate::store::MemoryStore;\nuse serde::Serialize;",
        "fn f<'a>(x: &'a str) -> &'a str { x }",
        "use super::key_set::KeySet; use self::inner::tokio::X;",
    ] {
        assert_eq!(of("keys/good.rs", text), Vec::<String>::new(), "{text:?}");
    }
}
