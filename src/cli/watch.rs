//! `--watch`: the same answer again and again, until somebody interrupts it or nobody reads it.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::clock::{Clock as _, SystemClock};

use super::exit::Failure;
use super::out::{self, clear_screen, complain, say};
use super::value::{Output, print_json};

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Watch {
    /// Print again and again until interrupted; on a terminal in the same place
    #[arg(long)]
    watch: bool,
    /// With --watch: seconds between two looks, 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 2, requires = "watch",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

/// Whether there may be more to see, and how the command ends when nobody looks any more.
pub(super) enum Look {
    /// There may be.
    Open(ExitCode),
    /// Nothing will change any more.
    Over(ExitCode),
}

impl Watch {
    /// Shows what `fetch` gets, once or until it is over. A gateway that cannot be reached ends a
    /// watch only when it never could.
    pub(super) fn repeat(
        self,
        output: Output,
        fetch: impl Fn() -> Result<Value, Failure>,
        table: impl Fn(&Value),
        judge: impl Fn(&Value) -> Look,
    ) -> Result<ExitCode, Failure> {
        let mut begun = false;
        loop {
            let code = match fetch() {
                Ok(answer) => {
                    self.show(output, &answer, &table);
                    match judge(&answer) {
                        Look::Over(code) => return Ok(code),
                        Look::Open(code) => code,
                    }
                }
                Err(Failure::Unreachable(why)) if begun => {
                    complain(&why);
                    ExitCode::FAILURE
                }
                Err(failure) => return Err(failure),
            };
            if !self.watch || out::is_over() {
                return Ok(code);
            }
            begun = true;
            pause(Duration::from_secs(self.interval));
        }
    }

    fn show(self, output: Output, answer: &Value, table: impl Fn(&Value)) {
        match output {
            Output::Json => print_json(answer),
            Output::Table => {
                if self.watch {
                    clear_screen();
                    say(&format!("at {}", SystemClock.now()));
                }
                table(answer);
            }
        }
    }
}

/// Between two looks.
#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at a condition, for a person who may end the wait"
)]
pub(super) fn pause(duration: Duration) {
    thread::sleep(duration);
}
