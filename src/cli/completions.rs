//! `portcullis completions`: shell completion and the manual page, made from the same definition
//! as the parser.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, ValueEnum};

use super::exit::Failure;
use super::{Cli, out};

#[derive(Debug, Args)]
pub(super) struct CompletionsCommand {
    /// What to print
    #[arg(value_enum)]
    format: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Bash,
    Zsh,
    Fish,
    /// The manual page of every command, in roff
    Man,
}

pub(super) fn run(command: &CompletionsCommand) -> Result<ExitCode, Failure> {
    let mut cli = Cli::command();
    let shell = match command.format {
        Output::Bash => clap_complete::Shell::Bash,
        Output::Zsh => clap_complete::Shell::Zsh,
        Output::Fish => clap_complete::Shell::Fish,
        Output::Man => return manual(cli),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli, "portcullis", &mut script);
    out::write(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}

fn manual(mut cli: clap::Command) -> Result<ExitCode, Failure> {
    let fail =
        |error: std::io::Error| Failure::Other(format!("cannot make the manual page: {error}"));
    cli.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(cli.clone())
        .render(&mut page)
        .map_err(fail)?;
    for command in cli
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        clap_mangen::Man::new(command.clone())
            .render(&mut page)
            .map_err(fail)?;
    }
    out::write(&String::from_utf8_lossy(&page));
    Ok(ExitCode::SUCCESS)
}
