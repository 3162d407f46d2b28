//! `portcullis clients`: credentials of clients.

use std::io::Read as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use crate::clients::SecretHash;
use crate::clients::secret::MAX_SECRET_BYTES;

use super::exit::Failure;
use super::out::say;

#[derive(Debug, Args)]
pub(super) struct ClientsCommand {
    #[command(subcommand)]
    command: ClientsVerb,
}

#[derive(Debug, Subcommand)]
enum ClientsVerb {
    /// Read a secret from standard input and print its hash, for a `secret_hash_file`
    ///
    /// A secret that a person chose is hashed with argon2id. Use --generated only for random
    /// secrets of at least 128 bits: their hash is checked faster.
    #[command(
        after_help = "Example:\n  printf %s \"$SECRET\" | portcullis clients hash-secret > secrets/app.hash"
    )]
    HashSecret {
        /// The secret is random and has at least 128 bits (22 characters of base64url)
        #[arg(long)]
        generated: bool,
    },
}

/// Fewest characters of a generated secret: 128 bits in base64url.
const MIN_GENERATED: usize = 22;

pub(super) fn run(command: &ClientsCommand) -> Result<ExitCode, Failure> {
    let ClientsVerb::HashSecret { generated } = command.command;
    let secret = read_secret()?;
    if generated && secret.len() < MIN_GENERATED {
        return Err(Failure::Usage(format!(
            "the secret has {} characters, a generated one has at least {MIN_GENERATED}; leave out --generated",
            secret.len()
        )));
    }
    let rng = SystemRandom::new();
    let hash = if generated {
        SecretHash::of_generated(secret.as_bytes(), &rng)
    } else {
        SecretHash::of_human(secret.as_bytes(), &rng)
    };
    let hash = hash.map_err(|error| Failure::Other(error.to_string()))?;
    say(&hash.to_string());
    Ok(ExitCode::SUCCESS)
}

/// One line from standard input, without its line end.
fn read_secret() -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let limit = MAX_SECRET_BYTES as u64 + 2;
    std::io::stdin()
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::Usage(format!("cannot read a secret from standard input: {error}"))
        })?;
    let secret = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if secret.is_empty() {
        return Err(Failure::Usage("standard input holds no secret".to_owned()));
    }
    if secret.len() > MAX_SECRET_BYTES {
        return Err(Failure::Usage(format!(
            "the secret is longer than {MAX_SECRET_BYTES} bytes"
        )));
    }
    Ok(secret)
}
