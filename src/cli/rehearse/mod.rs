//! `portcullis rehearse`: rotations, purges, crashes and recoveries on a scratch key set, and the
//! verdict of each invariant.
//!
//! Invariants: it works on a directory and on loopback ports that it made itself, never on the
//! configured ones; the gateway under test is a process of its own, seen only through HTTP, files
//! and signals; what could not be observed is reported as not exercised, never as held.

mod aging;
mod calls;
mod closing;
mod control;
mod forgeries;
mod gateway;
mod history;
mod json;
mod judge;
mod kills;
mod load;
mod moves;
mod purges;
mod recovery;
mod report;
mod rng;
mod scratch;
mod script;
mod sightings;
mod stage;
mod story;
mod tamper;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config::StoreSettings;
use crate::keys;

use super::ConfigFile;
use super::exit::Failure;
use control::Control;
use gateway::Binary;
use history::History;
use load::Common;
use report::Report;
use rng::Rng;
use scratch::Scratch;
use stage::Stage;
use verdict::Board;

#[derive(Debug, Args)]
pub(super) struct RehearseCommand {
    #[command(flatten)]
    file: ConfigFile,
    /// Directory in which the scratch directory is made; the system's temporary one by default
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Rehearse this binary instead of the installed one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Algorithm of the scratch keys; the configuration's by default
    #[arg(long, value_enum, value_name = "ALG")]
    algorithm: Option<Algorithm>,
    /// How often to kill the gateway during a rotation or a purge
    #[arg(long, default_value_t = 30, value_name = "N")]
    kills: u32,
    /// Repeat the random choices of an earlier rehearsal
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keep the scratch directory, with the log of every gateway
    #[arg(long)]
    keep: bool,
    /// How to print what happens
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Algorithm {
    #[value(name = "ES256")]
    Es256,
    #[value(name = "EdDSA")]
    EdDsa,
    #[value(name = "RS256")]
    Rs256,
}

pub(super) fn run(command: &RehearseCommand) -> Result<ExitCode, Failure> {
    let config = command.file.load()?;
    let StoreSettings::File(_) = &config.keys.store;
    let algorithm = match command.algorithm {
        None => config.issuer.algorithm,
        Some(Algorithm::Es256) => keys::Algorithm::Es256,
        Some(Algorithm::EdDsa) => keys::Algorithm::EdDsa,
        Some(Algorithm::Rs256) => keys::Algorithm::Rs256,
    };
    let binary = Binary::new(binary(command)?);
    let seed = command.seed.unwrap_or_else(rng::fresh_seed);
    let control = Control::start()?;
    let parent = command.dir.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = Scratch::make(&parent, algorithm.as_str())?;
    let mut report = Report::new(command.output);
    report.line(&format!(
        "Rehearsal of {} with {} keys in a file store: seed {seed}, {} kills, in {}",
        binary.path().display(),
        algorithm.as_str(),
        command.kills,
        scratch.dir().display()
    ));
    let (scratch, outcome) = perform(
        &mut report,
        binary.clone(),
        scratch,
        control,
        (seed, command.kills),
    );
    let board = match outcome {
        Ok(board) => board,
        Err(failure) => {
            if !command.keep {
                scratch.remove()?;
            }
            return Err(failure);
        }
    };
    let broken = board.all_broken();
    let keep = command.keep || !broken.is_empty();
    if !keep {
        scratch.remove()?;
    }
    report.finish(
        &board,
        &binary,
        algorithm,
        (seed, command.kills),
        keep.then_some(&scratch),
    );
    if broken.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Other(format!(
        "broken: {}. Do not put {} to work here: keep the version that runs, or another disk. Repeat with \
         --seed {seed} to see whether it happens again, and report it with the files in {}, which hold scratch keys only",
        broken.join(", "),
        binary.path().display(),
        scratch.dir().display()
    )))
}

fn binary(command: &RehearseCommand) -> Result<PathBuf, Failure> {
    let own = || {
        std::env::current_exe().map_err(|error| {
            Failure::Other(format!("cannot find this program's own file: {error}"))
        })
    };
    match &command.binary {
        None => own(),
        Some(path) => path.canonicalize().map_err(|error| {
            Failure::Usage(format!(
                "--binary {} cannot be used: {error}",
                path.display()
            ))
        }),
    }
}

/// Runs every step; gives back the scratch installation in every case.
fn perform(
    report: &mut Report,
    binary: Binary,
    scratch: Scratch,
    control: Arc<Control>,
    (seed, kills): (u64, u32),
) -> (Scratch, Result<Board, Failure>) {
    let mut stage = Stage {
        binary,
        scratch,
        common: Common {
            control,
            credentials: Arc::default(),
            history: Arc::new(History::begin()),
        },
        board: Board::default(),
        rng: Rng::new(seed),
        kills,
        gateway: None,
        life: 0,
        caller: None,
        threads: Vec::new(),
        old_key_set: Vec::new(),
        typical: Duration::from_millis(20),
        echo: None,
    };
    let acted = script::act(report, &mut stage, seed);
    stage.close();
    let interrupted = stage.common.control.is_interrupted();
    let Stage {
        scratch,
        mut board,
        common,
        ..
    } = stage;
    let outcome = match acted {
        _ if interrupted => Err(Failure::Other(
            "interrupted; nothing is proven either way".to_owned(),
        )),
        Err(failure) => Err(failure),
        Ok(()) => {
            judge::judge(&common.history, &mut board);
            Ok(board)
        }
    };
    (scratch, outcome)
}
