//! `portcullis keys confirm-clock`: the end of a pause of the schedule after a step of the clock.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::admin_client::AdminTarget;
use super::exit::Failure;
use super::out::say;
use super::value::{Output, OutputFormat, member, plain, print_json, text};

#[derive(Debug, Args)]
pub(super) struct ConfirmClockArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn confirm(args: &ConfirmClockArgs) -> Result<ExitCode, Failure> {
    let client = args.target.client()?;
    let set = client.get("/admin/v1/keys")?;
    let pause = member(&set, "schedule_paused");
    let mut body = json!({});
    if !pause.is_null() {
        if !args.yes {
            ask(pause)?;
        }
        // The step that was shown, not one that comes in between.
        body = json!({ "since": plain(pause, "since") });
    }
    let answer = client.post("/admin/v1/clock/confirm", &body)?;
    match args.output.output {
        Output::Json => print_json(&answer),
        Output::Table if *member(&answer, "changed") == json!(true) => {
            say("confirmed: what became due meanwhile is rotated and retired within seconds");
        }
        Output::Table => say("nothing to confirm: automatic rotation and retirement do not wait"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Says why the schedule waits, if it does.
pub(super) fn say_pause(set: &Value) {
    let pause = member(set, "schedule_paused");
    if !pause.is_null() {
        say(&format!(
            "PAUSED: the clock stepped forward by {} s; automatic rotation and retirement wait until {}, see `portcullis keys confirm-clock --help`",
            member(pause, "step_seconds"),
            text(pause, "resumes_at")
        ));
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a question to the person at the terminal"
)]
fn ask(pause: &Value) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "this asks first whether the clock is right; in a script add --yes".to_owned(),
        ));
    }
    eprint!(
        "The gateway's clock stepped forward by {} s and now says {}.\n\
         If that is right, keys whose time is over are retired at once and cannot come back.\n\
         Type yes if it is right: ",
        member(pause, "step_seconds"),
        text(pause, "now")
    );
    let _unwritable = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.is_ok() && line.trim() == "yes" {
        return Ok(());
    }
    Err(Failure::Other(
        "not confirmed; automatic rotation and retirement go on waiting".to_owned(),
    ))
}
