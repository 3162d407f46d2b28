//! `portcullis openapi`: the description of the admin API, for tools.

use std::process::ExitCode;

use crate::admin::openapi;

use super::exit::Failure;
use super::out;

pub(super) fn run() -> Result<ExitCode, Failure> {
    out::raw(openapi());
    Ok(ExitCode::SUCCESS)
}
