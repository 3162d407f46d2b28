//! A bounded run of every fuzz target: all files of its corpus, then thousands of mutations of them.
//! The long run, guided by coverage, is described in `fuzz/README.md`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use portcullis::testing::fuzz;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// A million over all targets.
const CASES: u32 = 125_000;

/// Longest time for one input, on a machine that is busy with other things.
const LONGEST: Duration = Duration::from_secs(5);

/// What the parsers look for, so that mutations meet it more often than by chance.
const WORDS: [&str; 52] = [
    ".",
    "..",
    "=",
    "==",
    "A",
    "_",
    "-",
    " ",
    "\t",
    "\n",
    "\r\n",
    ",",
    ", Bearer ",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "- ",
    "null",
    "true",
    "-1",
    "1e400",
    "1800000000.0",
    "99999999999999999999",
    "\"alg\":\"none\",",
    "\"exp\":1,",
    "\"aud\":[],",
    "\"nbf\":1900000000,",
    "{}",
    "&",
    "&client_id=demo",
    "&client_secret=",
    "%",
    "%2e",
    "%2F",
    "%41",
    "%c3%a9",
    "//",
    "/./",
    ";",
    "\u{e9}",
    "&a *a",
    "!!int ",
    "${SET}",
    "${",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    ";x=y\r\n",
];

#[derive(Clone, Debug)]
enum Change {
    Replace(Index, u8),
    Flip(Index, u8),
    Insert(Index, Index),
    Remove(Index, usize),
    Repeat(Index, usize),
    Splice(Index, Index, Index),
    Truncate(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        3 => (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        4 => (at(), at()).prop_map(|(at, word)| Change::Insert(at, word)),
        2 => (at(), 1..24_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (at(), 1..200_usize).prop_map(|(at, count)| Change::Repeat(at, count)),
        1 => (at(), at(), at()).prop_map(|(at, other, from)| Change::Splice(at, other, from)),
        1 => at().prop_map(Change::Truncate),
    ]
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = |at: &Index, data: &[u8]| at.index(data.len() + 1);
        match self {
            Self::Replace(at, byte) if !data.is_empty() => {
                let at = at.index(data.len());
                data[at] = *byte;
            }
            Self::Flip(at, bit) if !data.is_empty() => {
                let at = at.index(data.len());
                data[at] ^= 1 << bit;
            }
            Self::Replace(..) | Self::Flip(..) => {}
            Self::Insert(at, word) => {
                let at = place(at, data);
                data.splice(at..at, word.get(&WORDS).bytes());
            }
            Self::Remove(at, count) => {
                let at = place(at, data);
                data.drain(at..data.len().min(at + count));
            }
            Self::Repeat(at, count) => {
                let at = place(at, data);
                let part = data[at..data.len().min(at + count)].repeat(3);
                data.splice(at..at, part);
            }
            Self::Splice(at, other, from) => {
                let other = other.get(seeds);
                data.truncate(place(at, data));
                data.extend_from_slice(&other[place(from, other)..]);
            }
            Self::Truncate(at) => data.truncate(place(at, data)),
        }
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}"));
    let mut files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{name} has too few seeds");
    let stored = files
        .iter()
        .map(|file| std::fs::read(file).expect("a seed"));
    fuzz::seeds(name).into_iter().chain(stored).collect()
}

fn run(name: &str) {
    let (_, target) = fuzz::TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a target");
    let seeds = seeds(name);
    for seed in &seeds {
        target(seed);
    }
    // Mostly few changes, so that what is right about a seed gets the mutant far.
    let changes = prop_oneof![
        6 => prop::collection::vec(change(), 1..4),
        1 => prop::collection::vec(change(), 4..24),
    ];
    let strategy = (any::<Index>(), changes).prop_map({
        move |(seed, changes)| {
            let mut data = seed.get(&seeds).clone();
            for change in changes {
                change.apply(&mut data, &seeds);
            }
            data
        }
    });
    // The same mutations in every run: a find is looked for on purpose, in the long run.
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig::with_cases(CASES),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let result = runner.run(&strategy, |data| {
        let started = Instant::now();
        target(&data);
        prop_assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn bearer() {
    run("bearer");
}

#[test]
fn token() {
    run("token");
}

#[test]
fn claims() {
    run("claims");
}

#[test]
fn config() {
    run("config");
}

#[test]
fn token_request() {
    run("token_request");
}

#[test]
fn admin_body() {
    run("admin_body");
}

#[test]
fn path() {
    run("path");
}

#[test]
fn every_target_is_run_here_and_has_a_program_of_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).expect("a manifest");
    let here = std::fs::read_to_string(root.join("tests/fuzz_smoke.rs")).expect("this file");
    for (name, _) in fuzz::TARGETS {
        let program = format!("fuzz/fuzz_targets/{name}.rs");
        let text = std::fs::read_to_string(root.join(program)).expect("a program");
        assert!(text.contains(&format!("fuzz::{name}(")), "{name}");
        assert!(
            manifest.contains(&format!("\nname = \"{name}\"\n")),
            "{name}"
        );
        assert!(here.contains(&format!("run(\"{name}\")")), "{name}");
    }
}

#[test]
fn chunked_body() {
    run("chunked_body");
}
