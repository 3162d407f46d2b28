//! `portcullis token explain`: what the gateway would do with a request, and why.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::app::explain_offline;
use crate::clients::ClientsDocument;
use crate::clock::{Clock, SystemClock};
use crate::store::Keyring;
use crate::store::file_look::look;
use crate::token::explain::Question;

use super::super::admin_client::AdminTarget;
use super::super::exit::Failure;
use super::super::out::complain;
use super::super::serve::file_store;
use super::super::value::{Output, OutputFormat, plain, print_json};
use super::{TokenSource, tell};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    #[command(flatten)]
    source: TokenSource,
    /// Of a request without a token
    #[arg(long, conflicts_with = "file")]
    no_token: bool,
    /// Method of the request
    #[arg(long, short = 'X', default_value = "GET", value_name = "METHOD")]
    method: String,
    /// Host of the request; that of the issuer's URL by default
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Path of the request
    #[arg(long, default_value = "/", value_name = "PATH")]
    path: String,
    /// Judge by the configuration and the store, without a gateway; changes and locks nothing
    #[arg(long)]
    offline: bool,
}

pub(super) fn run(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let token = if args.no_token {
        None
    } else {
        Some(args.source.read()?)
    };
    let explanation = if args.offline {
        offline(args, token.as_ref())?
    } else {
        match online(args, token.as_ref()) {
            Err(Failure::Unreachable(why)) => {
                complain(&format!(
                    "{why} Judged by the configuration and the store instead."
                ));
                offline(args, token.as_ref())?
            }
            answer => answer?,
        }
    };
    match args.output.output {
        Output::Json => print_json(&explanation),
        Output::Table => tell::say_explanation(&explanation),
    }
    let passes = matches!(
        plain(&explanation, "verdict"),
        "accepted" | "public" | "own_endpoint"
    );
    Ok(if passes {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn online(args: &ExplainArgs, token: Option<&Zeroizing<String>>) -> Result<Value, Failure> {
    let mut body = Map::new();
    body.insert("method".to_owned(), json!(args.method));
    body.insert("path".to_owned(), json!(args.path));
    if let Some(token) = token {
        body.insert("token".to_owned(), json!(token.as_str()));
    }
    if let Some(host) = &args.host {
        body.insert("host".to_owned(), json!(host));
    }
    let client = args.target.client()?;
    client.post("/admin/v1/tokens/explain", &Value::Object(body))
}

fn offline(args: &ExplainArgs, token: Option<&Zeroizing<String>>) -> Result<Value, Failure> {
    let config = args.target.file.load()?;
    let keyring = Arc::new(Keyring::load(&config.keys.encryption_key_files)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let seen = look(&file_store(&config, &keyring, &clock))?;
    let clients = match &seen.clients {
        Some(bytes) => ClientsDocument::parse(bytes)
            .map_err(|error| Failure::Other(format!("the clients document: {error}")))?,
        None => ClientsDocument::default(),
    };
    let question = Question {
        token: token.map(|token| token.as_str()),
        method: &args.method,
        host: args.host.as_deref(),
        path: &args.path,
    };
    let now = clock.now().max(seen.set.high_water_time);
    let explanation = explain_offline(&config, &seen.set, &clients, now, question)
        .map_err(|error| Failure::Other(error.to_string()))?;
    serde_json::to_value(explanation).map_err(|error| Failure::Other(error.to_string()))
}
