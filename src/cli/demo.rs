//! `portcullis demo`: the real gateway on an empty directory, with an echo upstream and a story.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::config::{AdminTokenSource, ClientSecretSource, Config};
use crate::listeners::probe;

use super::ConfigFile;
use super::exit::Failure;
use super::out::say;
use super::serve::serve;
use super::{echo, init};

pub(super) fn run(file: &ConfigFile) -> Result<ExitCode, Failure> {
    let config = file.load()?;
    let story = Story::of(&config)?;
    let echo_address = echo_address(&config)?;
    for made in init::initialise(&config)? {
        say(&made.to_string());
    }
    probe(&[echo_address])?;
    let mut echo_failure = None;
    let code = serve(
        &config,
        |extras| match echo::listener(echo_address, extras.shared) {
            Ok(listener) => drop(extras.server.add_service(listener)),
            Err(error) => echo_failure = Some(error),
        },
        move || story.print(),
    )?;
    echo_failure.map_or(Ok(code), |error| Err(error.into()))
}

/// The first endpoint of the upstream `echo`.
fn echo_address(config: &Config) -> Result<SocketAddr, Failure> {
    config
        .upstreams
        .iter()
        .find(|upstream| upstream.name == "echo")
        .and_then(|upstream| upstream.endpoints.first())
        .and_then(|endpoint| endpoint.parse().ok())
        .ok_or_else(|| {
            Failure::Usage(format!(
                "the demo needs an upstream `echo` with an address and a port in {}",
                config.source.display()
            ))
        })
}

/// The commands to try, with the addresses and files of this configuration.
struct Story {
    proxy: SocketAddr,
    admin: SocketAddr,
    metrics: SocketAddr,
    client: String,
    client_secret: String,
    admin_token: String,
    token_path: String,
    config: String,
    window: String,
}

impl Story {
    fn of(config: &Config) -> Result<Self, Failure> {
        let lacks = |what: &str| {
            Failure::Usage(format!(
                "the demo needs {what} in {}",
                config.source.display()
            ))
        };
        let proxy = config
            .listeners
            .proxy
            .first()
            .ok_or_else(|| lacks("a proxy listener"))?
            .address;
        let metrics = config
            .listeners
            .metrics
            .as_ref()
            .ok_or_else(|| lacks("a metrics listener"))?
            .address;
        let (client, hash_file) = config
            .clients
            .iter()
            .find_map(|client| match &client.secret {
                ClientSecretSource::HashFile(path) => Some((client.id.clone(), path)),
                ClientSecretSource::Hash(_) => None,
            })
            .ok_or_else(|| lacks("a client with a secret_hash_file"))?;
        let admin_token = config
            .listeners
            .admin
            .tokens
            .iter()
            .find_map(|token| match &token.source {
                AdminTokenSource::File(path) => Some(path),
                AdminTokenSource::HashFile(_) => None,
            })
            .ok_or_else(|| lacks("an admin token with a file"))?;
        let token_path = config.issuer.url.trim_end_matches('/').to_owned() + "/oauth2/token";
        Ok(Self {
            proxy,
            admin: config.listeners.admin.address,
            metrics,
            client,
            client_secret: hash_file.with_extension("secret").display().to_string(),
            admin_token: admin_token.display().to_string(),
            token_path,
            config: config.source.display().to_string(),
            window: format!("{:?}", config.keys.timing.idempotency_window),
        })
    }

    fn print(&self) {
        let Self {
            proxy,
            admin,
            metrics,
            client,
            client_secret,
            admin_token,
            token_path,
            config,
            window,
        } = self;
        // The program as it was called, so that the command works from the same directory.
        let program = std::env::args()
            .next()
            .unwrap_or_else(|| "portcullis".to_owned());
        let config_flag = if config == "conf/portcullis.yaml" {
            String::new()
        } else {
            format!(" --config {config}")
        };
        say(&format!(
            r#"
Portcullis is running with {config}. Try this in a second terminal, in this directory:

  # 1. Get an access token, and call the upstream through the gateway: 200
  token() {{ curl -s -u "{client}:$(cat {client_secret})" -d grant_type=client_credentials {token_path} | sed -E 's/.*"access_token":"([^"]+)".*/\1/'; }}
  call() {{ curl -s -o /dev/null -w '%{{http_code}}\n' -H "Authorization: Bearer $1" http://{proxy}/hello; }}
  OLD=$(token); call "$OLD"

  # 2. Rotate: the old token still works (200), and so does a new one (200)
  admin() {{ curl -s -H "Authorization: Bearer $(cat {admin_token})" -H 'Content-Type: application/json' "$@"; echo; }}
  admin -d '{{}}' http://{admin}/admin/v1/keys/rotate
  NEW=$(token); call "$OLD"; call "$NEW"

  # 3. Rotate again: within {window} nothing changes ("changed":false)
  admin -d '{{}}' http://{admin}/admin/v1/keys/rotate

  # 4. Rotate and purge, as for a leaked key: both tokens are dead at once (401, 401), a new one works (200)
  REVISION=$(admin http://{admin}/admin/v1/keys | sed -E 's/^[^}}]*"revision":([0-9]+).*/\1/;q')
  admin -d "{{\"purge\":true,\"seen_revision\":$REVISION,\"reason\":\"demo\"}}" http://{admin}/admin/v1/keys/rotate
  call "$OLD"; call "$NEW"; call "$(token)"

  # 5. Whom did that break? Exactly the two calls above
  curl -s http://{metrics}/metrics | grep '^portcullis_purge_verification_failures_total'

  # The same from the command line
  {program} keys list{config_flag}

Stop with Ctrl-C. State is in ./data and ./secrets; `make clean-demo` removes it.
"#
        ));
    }
}
