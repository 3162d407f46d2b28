//! `portcullis check`: validates a configuration and prints what would run.

use std::process::ExitCode;

use super::ConfigFile;
use super::exit::Failure;
use super::serve::tls_specs;

#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn run(file: &ConfigFile) -> Result<ExitCode, Failure> {
    let config = file.load()?;
    for spec in tls_specs(&config) {
        spec.validate()?;
    }
    print!("{}", config.summary());
    Ok(ExitCode::SUCCESS)
}
