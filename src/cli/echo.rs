//! The echo upstream of the demo: answers every request with what arrived.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use clap::Args;
use http::{HeaderMap, HeaderValue, Method, Uri};
use pingora::server::Server;

use crate::gateway::limits::Limits;
use crate::http::{Bridge, BridgeLimits, LocalApp, RefusalLog};
use crate::listeners::{
    self, ListenError, Listener, ListenerSpec, Shared, Sources, Stop, local_listener, probe,
};

use super::exit::Failure;

/// Where the demo's configuration expects it.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9003";

#[derive(Debug, Args)]
pub(super) struct EchoCommand {
    /// Address to listen on
    #[arg(long, default_value = DEFAULT_ADDRESS)]
    address: SocketAddr,
}

pub(super) fn run(command: &EchoCommand) -> Result<ExitCode, Failure> {
    let grace = Duration::from_secs(5);
    let stop = Stop::new(grace);
    let shared = Shared::new(Arc::clone(&stop), &Limits::default(), no_log());
    probe(&[command.address])?;
    let mut server = Server::new_with_opt_and_conf(None, listeners::server_conf(grace));
    server.add_service(listener(command.address, &shared)?);
    Ok(ExitCode::from(
        listeners::run(server, &stop, Vec::new()).exit_code(),
    ))
}

/// The echo upstream is a demonstration; what it refuses shows in the client.
fn no_log() -> RefusalLog {
    Arc::new(|_refusal| ())
}

/// The echo upstream as a service.
pub(super) fn listener(
    address: SocketAddr,
    shared: &Shared,
) -> Result<Listener<LocalApp>, ListenError> {
    let sources = Sources::new(Limits::default().max_connections_per_address);
    let router = Router::new().fallback(echo);
    let app = LocalApp::new(Bridge::new(router, BridgeLimits::default(), no_log()));
    local_listener(
        "echo",
        &ListenerSpec { address, tls: None },
        app,
        &sources,
        shared,
    )
}

async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: bytes::Bytes) -> Response {
    let fields: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let seen = serde_json::json!({
        "method": method.as_str(),
        "path": uri.path(),
        "query": uri.query(),
        "headers": fields,
        "body_bytes": body.len(),
    });
    let mut response = Response::new(Body::from(format!("{seen}\n")));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    response
}
