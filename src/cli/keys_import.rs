//! `portcullis keys import`: a signing key of a former system goes on verifying here.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::keygen::import::{ForeignKey, MAX_PEM_BYTES};

use super::admin_client::AdminTarget;
use super::exit::Failure;
use super::keys::print_set;
use super::out::shown;
use super::value::OutputFormat;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// The key: PKCS#8 (BEGIN PRIVATE KEY) or a public key; EC on P-256, Ed25519, RSA 2048 to 4096
    #[arg(long, value_name = "FILE")]
    pem: PathBuf,
    /// The name that its tokens carry as `kid`; its RFC 7638 thumbprint by default
    #[arg(long, value_name = "KID", allow_hyphen_values = true)]
    kid: Option<String>,
    /// Longest life time of the tokens it signed: 1s to 24h
    #[arg(long, value_name = "DURATION")]
    max_ttl: String,
    /// `iss` of the former system, accepted of this key alone
    #[arg(long, value_name = "ISS")]
    legacy_iss: Option<String>,
    /// `aud` of the former system; stands for the audiences of this issuer, of this key alone
    #[arg(long, value_name = "AUD")]
    legacy_aud: Option<String>,
    /// `typ` of the former system, such as JWT, accepted of this key alone
    #[arg(long, value_name = "TYP")]
    legacy_typ: Option<String>,
    /// Sign with it from now on
    #[arg(long)]
    active: bool,
    /// Why, for the audit (at most 256 characters)
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(args: &ImportArgs) -> Result<ExitCode, Failure> {
    let pem = read(&args.pem)?;
    let key = ForeignKey::from_pem(pem.as_bytes())
        .map_err(|error| Failure::Usage(format!("{}: {error}", args.pem.display())))?;
    let mut body = Map::new();
    if args.active {
        body.insert("pem".to_owned(), json!(pem.as_str()));
        body.insert("active".to_owned(), json!(true));
    } else {
        body.insert("public_jwk".to_owned(), json!(key.jwk));
    }
    body.insert("max_ttl".to_owned(), json!(args.max_ttl));
    let legacy: Map<String, Value> = [
        ("iss", &args.legacy_iss),
        ("aud", &args.legacy_aud),
        ("typ", &args.legacy_typ),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.as_ref().map(|value| (name.to_owned(), json!(value))))
    .collect();
    body.insert("legacy".to_owned(), Value::Object(legacy));
    for (name, value) in [("kid", &args.kid), ("reason", &args.reason)] {
        if let Some(value) = value {
            body.insert(name.to_owned(), json!(value));
        }
    }
    let client = args.target.client()?;
    let set = client.post("/admin/v1/keys/import", &Value::Object(body))?;
    let kid = args
        .kid
        .clone()
        .unwrap_or_else(|| key.thumbprint.to_string());
    let role = if args.active {
        "it signs from now on"
    } else {
        "to verify only"
    };
    print_set(
        &set,
        args.output,
        &format!("imported {}, {role}", shown(&kid)),
    );
    Ok(ExitCode::SUCCESS)
}

fn read(path: &std::path::Path) -> Result<Zeroizing<String>, Failure> {
    let fail = |why: &dyn std::fmt::Display| {
        Failure::Usage(format!("cannot use --pem {}: {why}", path.display()))
    };
    let length = std::fs::metadata(path).map_err(|error| fail(&error))?.len();
    if length > MAX_PEM_BYTES as u64 {
        return Err(fail(&format!("it is longer than {MAX_PEM_BYTES} bytes")));
    }
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| fail(&error))
}
