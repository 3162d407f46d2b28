//! `portcullis token`: get one, read one, and learn what would happen to one.
//!
//! A token and a secret come from a file or standard input, never from the command line: every
//! process on the machine can read that.

mod explain;
mod inspect;
mod issue;
mod tell;

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::exit::Failure;

/// Most bytes that are read where a token or a secret is expected.
const MAX_INPUT: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct TokenCommand {
    #[command(subcommand)]
    command: TokenVerb,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Get an access token from the token endpoint, and print it
    ///
    /// The client secret comes from a file, from standard input or from an env file, never from the
    /// command line. Without any of them it is the file that `portcullis init` made beside the
    /// client's secret_hash_file.
    Issue(issue::IssueArgs),
    /// Decode a token and say what it says; verifies NOTHING
    ///
    /// Needs no configuration, no key and no gateway. Anybody can write a token that says anything:
    /// only `token explain`, or a gateway, tells whether one is good.
    Inspect(inspect::InspectArgs),
    /// Say what the gateway would do with a request, by which route, rule and key, and why
    ///
    /// Asks the running gateway, which judges with the keys and rules in force and counts nothing.
    /// Where none runs, or with --offline, it judges by itself, by the configuration and the store.
    Explain(explain::ExplainArgs),
}

/// Where a token comes from.
#[derive(Debug, Args)]
pub(super) struct TokenSource {
    /// File with the token, alone or as an Authorization header; standard input by default
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(command: &TokenCommand) -> Result<ExitCode, Failure> {
    match &command.command {
        TokenVerb::Issue(args) => issue::run(args),
        TokenVerb::Inspect(args) => inspect::run(args),
        TokenVerb::Explain(args) => explain::run(args),
    }
}

impl TokenSource {
    /// The token, without what people copy along with it.
    fn read(&self) -> Result<Zeroizing<String>, Failure> {
        let text = match &self.file {
            Some(path) if looks_like_token(path) => {
                return Err(Failure::Usage(
                    "that is a token: on the command line everybody on this machine can read it; \
                     pipe it in, or name a file"
                        .to_owned(),
                ));
            }
            Some(path) if path.as_os_str() != "-" => read_file(path, "the token")?,
            _ => read_stdin("the token")?,
        };
        let token = bare(&text);
        if token.is_empty() {
            return Err(Failure::Usage("there is no token to read".to_owned()));
        }
        Ok(Zeroizing::new(token.to_owned()))
    }
}

/// A JWS in compact form is no file name that anybody has.
fn looks_like_token(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.starts_with("eyJ") && text.len() > 64 && text.matches('.').count() == 2
}

/// `Authorization: Bearer TOKEN` and `Bearer TOKEN` are the token.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let after = |text: &'_ str, word: &str| {
        let head = text.get(..word.len())?;
        head.eq_ignore_ascii_case(word).then_some(word.len())
    };
    let text = after(text, "authorization:").map_or(text, |at| text.get(at..).unwrap_or_default());
    let text = text.trim_start();
    let text = after(text, "bearer ").map_or(text, |at| text.get(at..).unwrap_or_default());
    text.trim()
}

fn read_file(path: &Path, what: &str) -> Result<Zeroizing<String>, Failure> {
    let fail = |error: std::io::Error| {
        Failure::Usage(format!(
            "cannot read {what} from {}: {error}",
            path.display()
        ))
    };
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_INPUT)
        .read_to_string(&mut text)
        .map_err(fail)?;
    Ok(text)
}

/// To the end; from a person at a terminal, one line.
fn read_stdin(what: &str) -> Result<Zeroizing<String>, Failure> {
    let fail = |error: std::io::Error| {
        Failure::Usage(format!("cannot read {what} from standard input: {error}"))
    };
    let mut text = Zeroizing::new(String::new());
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let mut to = std::io::stderr();
        let _unwritable = write!(to, "Paste {what}, then press Enter: ").and_then(|()| to.flush());
        stdin.lock().read_line(&mut text).map_err(fail)?;
    } else {
        stdin
            .take(MAX_INPUT)
            .read_to_string(&mut text)
            .map_err(fail)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_people_copy_along_off_a_token() {
        for text in [
            "a.b.c",
            " a.b.c\r\n",
            "Bearer a.b.c",
            "bearer  a.b.c",
            "Authorization: Bearer a.b.c\n",
            "authorization:Bearer a.b.c",
        ] {
            assert_eq!(bare(text), "a.b.c", "{text:?}");
        }
        assert_eq!(bare("Bearer"), "Bearer");
        assert_eq!(bare("\u{e9}\u{e9}\u{e9}\u{e9}"), "\u{e9}\u{e9}\u{e9}\u{e9}");
        assert_eq!(bare(""), "");
    }
}
