//! `portcullis check`: validates a configuration and prints what would run.

use std::process::ExitCode;

use super::exit::Failure;
use super::serve::tls_specs;
use super::{ConfigFile, out};

pub(super) fn run(file: &ConfigFile) -> Result<ExitCode, Failure> {
    let config = file.load()?;
    for (_listener, spec) in tls_specs(&config) {
        spec.validate()?;
    }
    out::say(config.summary().trim_end_matches('\n'));
    Ok(ExitCode::SUCCESS)
}
