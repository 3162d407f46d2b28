//! `portcullis completions`: shell completion, made from the same definition as the parser.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::exit::Failure;
use super::{out, teach};

#[derive(Debug, Args)]
pub(super) struct CompletionsCommand {
    /// Whose
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(command: &CompletionsCommand) -> Result<ExitCode, Failure> {
    let shell = match command.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut teach::command(), "portcullis", &mut script);
    out::raw(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}
