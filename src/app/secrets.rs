//! Client secrets and admin tokens, read from the files that the configuration names.

use std::path::Path;

use crate::admin::{self, AdminCredential};
use crate::clients::Client;
use crate::config::{AdminTokenSource, ClientSecretSource, Config, Role};

use super::StartError;

pub(super) fn clients_of(config: &Config) -> Result<Vec<Client>, StartError> {
    config
        .clients
        .iter()
        .map(|client| {
            let hash = match &client.secret {
                ClientSecretSource::HashFile(path) => read_secret(path)?,
                ClientSecretSource::Hash(hash) => hash.clone(),
            };
            let secret = hash.parse().map_err(|source| StartError::ClientSecret {
                client: client.id.clone(),
                source,
            })?;
            Ok(Client {
                id: client.id.clone(),
                secrets: vec![secret],
                scopes: client.scopes.clone(),
                token_ttl: client.token_ttl,
            })
        })
        .collect()
}

/// Fewest characters of an admin token: 128 bits in base64url.
const MIN_ADMIN_TOKEN: usize = 22;

pub(super) fn credentials_of(config: &Config) -> Result<Vec<AdminCredential>, StartError> {
    config
        .listeners
        .admin
        .tokens
        .iter()
        .map(|token| {
            let name = token.name.clone();
            let error = |rule| StartError::AdminToken {
                name: token.name.clone(),
                rule,
            };
            let role = match token.role {
                Role::Viewer => admin::Role::Viewer,
                Role::Operator => admin::Role::Operator,
                Role::Admin => admin::Role::Admin,
            };
            match &token.source {
                AdminTokenSource::File(path) => {
                    let text = read_secret(path)?;
                    let secret = text.trim();
                    if secret.len() < MIN_ADMIN_TOKEN {
                        return Err(error(
                            "it is shorter than 22 characters; remove the file, then `portcullis init` makes a new one",
                        ));
                    }
                    Ok(AdminCredential::of_token(name, role, secret.as_bytes()))
                }
                AdminTokenSource::HashFile(path) => {
                    let text = read_secret(path)?;
                    let digest = admin::parse_token_hash(text.trim()).ok_or_else(|| {
                        error("its hash_file must hold `sha256:` and 64 hexadecimal digits")
                    })?;
                    Ok(AdminCredential::of_digest(name, role, digest))
                }
            }
        })
        .collect()
}

/// Reads a file that nobody else may read.
pub(super) fn read_secret(path: &Path) -> Result<String, StartError> {
    use std::os::unix::fs::PermissionsExt as _;
    let error = |source| StartError::SecretFile {
        path: path.to_owned(),
        source,
    };
    let mode = std::fs::metadata(path).map_err(error)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StartError::SecretMode {
            path: path.display().to_string(),
            mode,
        });
    }
    std::fs::read_to_string(path).map_err(error)
}
