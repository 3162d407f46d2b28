//! `portcullis logs`: the log lines behind a Log ID, of the running gateway or of a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::admin_client::{AdminTarget, encoded};
use super::exit::Failure;
use super::out::{Tone, complain, say_toned, shown};
use super::value::{Output, OutputFormat, list, plain, print_json};

/// Longest line of a log file that is looked at, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// Most lines of a file that are shown; one Log ID is in one line, a shared one in few.
const MAX_LINES: usize = 1000;

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// The Log ID of an error answer; without one, the newest lines
    log_id: Option<String>,
    /// Where to look when the gateway does not know it: a log file, or - for standard input
    #[arg(long, value_name = "FILE", requires = "log_id")]
    file: Option<PathBuf>,
    /// Without a Log ID: how many lines, 1 to 1000
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1000))]
    lines: u64,
}

pub(super) fn run(args: &LogsArgs) -> Result<ExitCode, Failure> {
    let answer = match (&args.log_id, &args.file) {
        (None, _) => newest(args)?,
        (Some(id), None) => of_gateway(args, checked(id)?)?,
        (Some(id), Some(file)) => {
            let id = checked(id)?;
            of_gateway(args, id).or_else(|failure| {
                complain(&format!("{failure} Looking into {}.", file.display()));
                of_file(file, id)
            })?
        }
    };
    match args.output.output {
        Output::Json => print_json(&answer),
        Output::Table => list(&answer, "lines").for_each(say_line),
    }
    Ok(ExitCode::SUCCESS)
}

/// A UUID, in any case.
fn checked(id: &str) -> Result<&str, Failure> {
    let dashes = [8, 13, 18, 23];
    let fits = |(at, byte): (usize, u8)| {
        if dashes.contains(&at) {
            byte == b'-'
        } else {
            byte.is_ascii_hexdigit()
        }
    };
    if id.len() == 36 && id.bytes().enumerate().all(fits) {
        Ok(id)
    } else {
        Err(Failure::Usage(format!(
            "{} is no Log ID; one looks like 0b1f6a1e-5a70-4c2e-9d0c-1f2a3b4c5d6e",
            shown(id)
        )))
    }
}

fn newest(args: &LogsArgs) -> Result<Value, Failure> {
    let client = args.target.client()?;
    client.get(&format!("/admin/v1/logs?limit={}", args.lines))
}

fn of_gateway(args: &LogsArgs, id: &str) -> Result<Value, Failure> {
    let client = args.target.client()?;
    client.get(&format!("/admin/v1/logs/{}", encoded(id)))
}

fn of_file(path: &Path, id: &str) -> Result<Value, Failure> {
    let fail = |error: std::io::Error| {
        Failure::Usage(format!("cannot read the log {}: {error}", path.display()))
    };
    let found = if path.as_os_str() == "-" {
        lines_of(stdin().lock(), id)
    } else {
        let file = File::open(path).map_err(fail)?;
        lines_of(BufReader::new(file), id)
    };
    let lines = found.map_err(fail)?;
    if lines.is_empty() {
        return Err(Failure::Other(format!(
            "no line of {} holds the Log ID {id}; an older file may",
            path.display()
        )));
    }
    Ok(json!({ "log_id": id, "lines": lines }))
}

/// Line by line, and no line whole that is longer than one of ours: the file may be of any size.
fn lines_of(mut log: impl BufRead, id: &str) -> std::io::Result<Vec<Value>> {
    let id = id.to_ascii_lowercase();
    let mut found = Vec::new();
    let mut line = Vec::new();
    while found.len() < MAX_LINES {
        line.clear();
        let read = log.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        match serde_json::from_str::<Value>(text) {
            // The ID in another member is somebody else's text.
            Ok(value) if value.is_object() => {
                let own = plain(&value, "log_id").eq_ignore_ascii_case(&id);
                found.extend(own.then_some(value));
            }
            // A line for a terminal, or cut off.
            _ if text.contains(&format!("log_id={id}")) => {
                found.push(json!({ "message": text }));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// `time LEVEL message event=… name=value`, as the gateway writes it for a terminal.
fn say_line(line: &Value) {
    let tone = match plain(line, "level") {
        "error" => Tone::Bad,
        "warn" => Tone::Notice,
        _ => Tone::Plain,
    };
    let first = ["time", "level", "message"];
    let head = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
    let fields: String = line
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !first.contains(&name.as_str()))
        .map(|(name, value)| match value {
            Value::String(text) => format!(" {name}={text:?}"),
            other => format!(" {name}={other}"),
        })
        .collect();
    let level = match head("level") {
        "" => String::new(),
        level => format!("{} ", level.to_uppercase()),
    };
    let time = match head("time") {
        "" => String::new(),
        time => format!("{time} "),
    };
    say_toned(&[
        (Tone::Quiet, &time),
        (tone, &level),
        (Tone::Plain, head("message")),
        (Tone::Quiet, &fields),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b1f6a1e-5a70-4c2e-9d0c-1f2a3b4c5d6e";

    #[test]
    fn finds_the_lines_of_an_id_and_no_others() {
        let log = format!(
            "{{\"log_id\":\"{ID}\",\"message\":\"mine\"}}\n{{\"log_id\":\"other\",\"path\":\"{ID}\"}}\nnot json\n\
             2026 WARN human event=x log_id={ID} a=b\n{{\"log_id\":\"{}\"}}",
            ID.to_uppercase()
        );
        let found = lines_of(log.as_bytes(), ID).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0]["message"], "mine");
        assert!(found[1]["message"].as_str().unwrap().contains("human"));
        let long = format!("{}\n{{\"log_id\":\"{ID}\"}}\n", "x".repeat(200_000));
        assert_eq!(lines_of(long.as_bytes(), ID).unwrap().len(), 1);
    }

    #[test]
    fn an_id_is_a_uuid() {
        assert!(checked(ID).is_ok() && checked(&ID.to_uppercase()).is_ok());
        for bad in [
            "",
            "x",
            "../../etc/passwd",
            &ID.replace('-', "0"),
            &format!("{ID}0"),
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
