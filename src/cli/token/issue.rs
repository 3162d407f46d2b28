//! `portcullis token issue`: the client_credentials grant (RFC 6749 §4.4) from a shell.

use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::Args;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::{ClientSecretSource, Config};
use crate::token::MAX_TOKEN_BYTES;

use super::super::ConfigFile;
use super::super::admin_client::{agent, encoded, is_loopback, unreachable};
use super::super::exit::Failure;
use super::super::out::{complain, say};
use super::super::trust::Trust;
use super::super::value::{Output, OutputFormat, joined, list, member, number, plain, print_json};
use super::{read_file, read_stdin};

/// Longest answer of a token endpoint in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct IssueArgs {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: OutputFormat,
    /// Client id; of the env file, or of the configuration's first client, by default
    #[arg(long, env = "PORTCULLIS_CLIENT_ID", value_name = "ID")]
    client_id: Option<String>,
    /// File with the client secret; - reads standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// File with the lines CLIENT_ID=… and CLIENT_SECRET=…, as container tools use it
    #[arg(long, value_name = "FILE", conflicts_with = "secret_file")]
    env_file: Option<PathBuf>,
    /// A scope to ask for (may be repeated); all that the client may have by default
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Fail unless the token is for this audience
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    /// The token endpoint; that of the configuration's issuer by default
    #[arg(long, value_name = "URL")]
    token_url: Option<String>,
    /// PEM file of authorities to trust for an https token endpoint; the system's by default
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Send the secret in plain text to another machine
    #[arg(long)]
    insecure: bool,
}

/// Who asks.
struct Credentials {
    id: String,
    secret: Zeroizing<String>,
}

pub(super) fn run(args: &IssueArgs) -> Result<ExitCode, Failure> {
    let mut config = None;
    let credentials = credentials(args, &mut config)?;
    let url = match &args.token_url {
        Some(url) => url.clone(),
        None => format!("{}/oauth2/token", loaded(args, &mut config)?.issuer.url),
    };
    if !url.starts_with("https://") && !is_loopback(&url) && !args.insecure {
        return Err(Failure::Usage(format!(
            "{url} is plain text on the way to another machine, and would show the secret to others; use https, or \
             say --insecure"
        )));
    }
    let answer = ask(args, &url, &credentials)?;
    let token = plain(&answer, "access_token");
    check(args, token)?;
    match args.output.output {
        Output::Json => print_json(&answer),
        Output::Table => {
            say(token);
            if std::io::stdout().is_terminal() {
                let scope = plain(&answer, "scope");
                let seconds = number(&answer, "expires_in").unwrap_or_default();
                complain(&format!("expires in {seconds} s, scope {scope}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration, read only when something of it is needed.
fn loaded<'a>(args: &IssueArgs, config: &'a mut Option<Config>) -> Result<&'a Config, Failure> {
    let found = match config.take() {
        Some(config) => config,
        None => args.file.load()?,
    };
    Ok(config.insert(found))
}

fn credentials(args: &IssueArgs, config: &mut Option<Config>) -> Result<Credentials, Failure> {
    let (mut id, mut secret) = (args.client_id.clone(), None);
    if let Some(path) = &args.env_file {
        warn_of_mode(path);
        let text = read_file(path, "the client's credentials")?;
        id = id.or_else(|| variable(&text, "CLIENT_ID").map(|id| id.to_string()));
        let found = variable(&text, "CLIENT_SECRET").ok_or_else(|| {
            Failure::Usage(format!("{} holds no line CLIENT_SECRET=…", path.display()))
        })?;
        secret = Some(found);
    } else if let Some(path) = &args.secret_file {
        let text = if path.as_os_str() == "-" {
            read_stdin("the client secret")?
        } else {
            warn_of_mode(path);
            read_file(path, "the client secret")?
        };
        secret = Some(Zeroizing::new(
            text.trim_end_matches(['\r', '\n']).to_owned(),
        ));
    }
    let id = match id {
        Some(id) => id,
        None => first_client(loaded(args, config)?)?,
    };
    let secret = match secret {
        Some(secret) => secret,
        None => secret_of(loaded(args, config)?, &id)?,
    };
    if secret.is_empty() {
        return Err(Failure::Usage("the client secret is empty".to_owned()));
    }
    Ok(Credentials { id, secret })
}

fn first_client(config: &Config) -> Result<String, Failure> {
    let first = config.clients.first().map(|client| client.id.clone());
    first.ok_or_else(|| {
        Failure::Usage("the configuration has no client; name one with --client-id".to_owned())
    })
}

/// The file that `init` made beside the hash of a client's secret.
fn secret_of(config: &Config, id: &str) -> Result<Zeroizing<String>, Failure> {
    let no_secret = || {
        Failure::Usage(format!(
            "where is the secret of the client {id}? --secret-file FILE, --secret-file - or --env-file FILE says it"
        ))
    };
    let client = config.clients.iter().find(|client| client.id == id);
    let Some(ClientSecretSource::HashFile(hash_file)) = client.map(|client| &client.secret) else {
        return Err(no_secret());
    };
    let path = hash_file.with_extension("secret");
    if !path.exists() {
        return Err(no_secret());
    }
    let text = read_file(&path, "the client secret")?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// The value of `NAME=value` or `PORTCULLIS_NAME=value`, with or without `export` and quotes.
fn variable(text: &str, name: &str) -> Option<Zeroizing<String>> {
    text.lines().find_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let (found, value) = line.split_once('=')?;
        if found.strip_prefix("PORTCULLIS_").unwrap_or(found) != name {
            return None;
        }
        let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        Some(Zeroizing::new(value.to_owned()))
    })
}

fn warn_of_mode(path: &Path) {
    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        complain(&format!(
            "{} has mode {mode:04o}, so others may read the secret: chmod 0600 it",
            path.display()
        ));
    }
}

fn ask(args: &IssueArgs, url: &str, credentials: &Credentials) -> Result<Value, Failure> {
    let mut form = Zeroizing::new("grant_type=client_credentials".to_owned());
    if !args.scopes.is_empty() {
        form.push_str(&format!("&scope={}", encoded(&args.scopes.join(" "))));
    }
    if let Some(audience) = &args.audience {
        form.push_str(&format!("&audience={}", encoded(audience)));
    }
    // RFC 6749 §2.3.1: both are form-encoded before they are joined.
    let both = Zeroizing::new(format!(
        "{}:{}",
        encoded(&credentials.id),
        encoded(&credentials.secret)
    ));
    let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(both.as_bytes())));
    let response = agent(&Trust::of(args.ca_file.as_deref()), url)?
        .post(url)
        .header("Authorization", basic.as_str())
        .header("Content-Type", "application/x-www-form-urlencoded")
        .send(form.as_bytes());
    let mut response = response.map_err(|error| unreachable(url, &error))?;
    let status = response.status();
    let body = response.body_mut().with_config().limit(MAX_ANSWER);
    let answer: Value = body.read_json().map_err(|error| {
        Failure::Other(format!(
            "{url} answered {status} without readable JSON: {error}"
        ))
    })?;
    if status.is_success() {
        return Ok(answer);
    }
    let code = plain(&answer, "error");
    let why = member(&answer, "error_description").as_str();
    let log_id = member(&answer, "log_id").as_str();
    let mut text = format!("the token endpoint refused: {code}");
    if let Some(why) = why {
        text.push_str(&format!(": {why}"));
    }
    if let Some(log_id) = log_id.filter(|id| !why.unwrap_or_default().contains(*id)) {
        text.push_str(&format!(" (Log ID: {log_id})"));
    }
    Err(Failure::Other(text))
}

/// What is printed goes into headers and terminals: it must be a token, for the audience asked for.
fn check(args: &IssueArgs, token: &str) -> Result<(), Failure> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if token.len() < 2 || token.len() > MAX_TOKEN_BYTES || !token.bytes().all(is_token) {
        return Err(Failure::Other(
            "the answer of the token endpoint holds no access_token".to_owned(),
        ));
    }
    let Some(wanted) = &args.audience else {
        return Ok(());
    };
    let claims = token.split('.').nth(1).and_then(|payload| {
        let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice::<Value>(&json).ok()
    });
    let claims = claims.unwrap_or_default();
    let is_wanted = |aud: &Value| aud.as_str() == Some(wanted);
    if is_wanted(member(&claims, "aud")) || list(&claims, "aud").any(is_wanted) {
        return Ok(());
    }
    let has = match member(&claims, "aud").as_str() {
        Some(one) => one.to_owned(),
        None => joined(&claims, "aud"),
    };
    Err(Failure::Other(format!(
        "the token is for {has}, not for {wanted}; issuer.audience of the configuration says for whom tokens are"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_env_files_as_container_tools_do() {
        let text =
            "# secrets\nexport PORTCULLIS_CLIENT_ID=demo\nCLIENT_SECRET=\"a=b c\"\nOTHER=x\n";
        assert_eq!(variable(text, "CLIENT_ID").unwrap().as_str(), "demo");
        assert_eq!(variable(text, "CLIENT_SECRET").unwrap().as_str(), "a=b c");
        assert!(variable(text, "SECRET").is_none());
        assert!(variable("#CLIENT_ID=x", "CLIENT_ID").is_none());
        assert_eq!(
            variable("CLIENT_SECRET='it''s'", "CLIENT_SECRET")
                .unwrap()
                .as_str(),
            "it''s"
        );
    }
}
