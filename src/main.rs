//! The `portcullis` program: calls the command line and ends with its exit code.

use std::process::ExitCode;

// Measured: a fifth to a quarter less CPU per proxied request than with the system's allocator.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::cli::run()
}
