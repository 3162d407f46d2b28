//! `portcullis man`: the manual, made from the same definition as the parser.

mod markdown;
mod roff;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::exit::Failure;
use super::{out, teach};

#[derive(Debug, Args)]
pub(super) struct ManCommand {
    /// Write a page for every command into this directory; the page of portcullis goes to standard
    /// output otherwise
    #[arg(long, value_name = "DIR", conflicts_with = "markdown")]
    dir: Option<PathBuf>,
    /// Print the whole reference in Markdown: docs/cli.md
    #[arg(long)]
    markdown: bool,
}

pub(super) fn run(command: &ManCommand) -> Result<ExitCode, Failure> {
    let mut cli = teach::command().disable_help_subcommand(true);
    cli.build();
    if command.markdown {
        out::raw(&markdown::reference(&cli));
    } else if let Some(dir) = &command.dir {
        for (path, command) in all(&cli) {
            write(dir, &path, command)?;
        }
    } else {
        out::raw(&roff::page(&cli, "").map_err(|error| unwritable(&error, "the page"))?);
    }
    Ok(ExitCode::SUCCESS)
}

fn write(dir: &Path, path: &str, command: &clap::Command) -> Result<(), Failure> {
    let name = format!("portcullis {path}").trim_end().replace(' ', "-");
    let file = dir.join(format!("{name}.1"));
    let shown = file.display().to_string();
    let page = roff::page(command, path).map_err(|error| unwritable(&error, &shown))?;
    std::fs::write(&file, page).map_err(|error| unwritable(&error, &shown))
}

fn unwritable(error: &std::io::Error, what: &str) -> Failure {
    Failure::Other(format!("cannot write {what}: {error}"))
}

/// Every command that is shown, with its words behind `portcullis`, in the order of the help.
fn all(cli: &clap::Command) -> Vec<(String, &clap::Command)> {
    fn below<'a>(
        command: &'a clap::Command,
        path: &str,
        found: &mut Vec<(String, &'a clap::Command)>,
    ) {
        found.push((path.to_owned(), command));
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            below(
                sub,
                format!("{path} {}", sub.get_name()).trim_start(),
                found,
            );
        }
    }
    let mut found = Vec::new();
    below(cli, "", &mut found);
    found
}
