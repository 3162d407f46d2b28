//! `portcullis clients`: credentials of clients, and what is done to them in a running gateway.

use std::io::Read as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use crate::clients::SecretHash;
use crate::clients::secret::MAX_SECRET_BYTES;

use super::client_verbs::{
    self, AddArgs, ChangesArgs, ListArgs, OneClient, OneClientWithReason, RotateSecretArgs,
};
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
    HashSecret {
        /// The secret is random and has at least 128 bits (22 characters of base64url)
        #[arg(long)]
        generated: bool,
    },
    /// Show every client, where it comes from and whether it may ask for tokens
    List(ListArgs),
    /// Show one client and what was last done to it
    Show(OneClient),
    /// Show what was last done to all clients, by whom and why, oldest first
    ///
    /// The last 1000 changes, kept beside the clients. They are not part of the chained log that
    /// `audit verify` checks.
    Changes(ChangesArgs),
    /// Shut a client out: its logins and its tokens are refused from the next request on
    ///
    /// The tokens that it has stay refused for good. `clients enable` lets it in again, and then it
    /// needs new ones.
    Disable(OneClientWithReason),
    /// Let a disabled client in again
    Enable(OneClientWithReason),
    /// Refuse every token that a client has; it may ask for new ones at once
    ///
    /// Other clients notice nothing: for one leaked token this is what a purge of keys is for a
    /// leaked key.
    Invalidate(OneClientWithReason),
    /// Make a client in the store; its secret is printed once and kept nowhere
    ///
    /// Clients of the configuration file are not touched, and win over one of the same id.
    Add(AddArgs),
    /// Give a client of the store a further secret; the last one goes on working
    ///
    /// Change to the new secret at the client, then end the old one with `drop-old-secret`. At most
    /// two work at a time: the third ends the first at once, after a question when this is a
    /// terminal, and the answer says when the one was made that ended.
    RotateSecret(RotateSecretArgs),
    /// End the older one of a client's two secrets
    DropOldSecret(OneClientWithReason),
    /// Remove a client from the store; its tokens are refused from the next request on
    Remove(OneClientWithReason),
}

/// Fewest characters of a generated secret: 128 bits in base64url.
const MIN_GENERATED: usize = 22;

pub(super) fn run(command: &ClientsCommand) -> Result<ExitCode, Failure> {
    match &command.command {
        ClientsVerb::HashSecret { generated } => hash_secret(*generated),
        ClientsVerb::List(args) => client_verbs::list(args),
        ClientsVerb::Show(args) => client_verbs::show(args),
        ClientsVerb::Changes(args) => client_verbs::changes(args),
        ClientsVerb::Disable(args) => client_verbs::change(args, "disable", "disabled"),
        ClientsVerb::Enable(args) => client_verbs::change(args, "enable", "enabled"),
        ClientsVerb::Invalidate(args) => {
            client_verbs::change(args, "invalidate", "its tokens are refused")
        }
        ClientsVerb::Add(args) => client_verbs::add(args),
        ClientsVerb::RotateSecret(args) => client_verbs::rotate_secret(args),
        ClientsVerb::DropOldSecret(args) => {
            client_verbs::change(args, "drop-old-secret", "it has one secret")
        }
        ClientsVerb::Remove(args) => client_verbs::change(args, "remove", "removed"),
    }
}

fn hash_secret(generated: bool) -> Result<ExitCode, Failure> {
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
