//! A client of the admin API, for the verbs that work on a running gateway.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use zeroize::Zeroizing;

use crate::config::AdminTokenSource;

use super::ConfigFile;
use super::exit::Failure;

/// Longer than a purge may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Under which `--help` shows the options that are the same everywhere.
const HEADING: &str = "Which gateway";

/// Where the admin listener is, and who asks.
#[derive(Debug, Args)]
pub(super) struct AdminTarget {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Base URL of the admin listener; the configuration's by default
    #[arg(long, env = "PORTCULLIS_ADMIN_URL", value_name = "URL", help_heading = HEADING)]
    admin_url: Option<String>,
    /// File with an admin token; the configuration's first one by default
    #[arg(long, env = "PORTCULLIS_ADMIN_TOKEN_FILE", value_name = "FILE", help_heading = HEADING)]
    token_file: Option<PathBuf>,
    /// PEM file of authorities to trust for an https admin listener
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    ca_file: Option<PathBuf>,
}

/// A connection to the admin API.
pub(super) struct AdminClient {
    agent: ureq::Agent,
    base: String,
    token: Zeroizing<String>,
}

impl AdminTarget {
    pub(super) fn client(&self) -> Result<AdminClient, Failure> {
        let (base, token_file) = match (&self.admin_url, &self.token_file) {
            (Some(url), Some(file)) => (url.clone(), file.clone()),
            (url, file) => self.configured(url.as_ref(), file.as_ref())?,
        };
        let token = std::fs::read_to_string(&token_file).map(Zeroizing::new).map_err(|error| {
            Failure::NotInitialised(format!(
                "cannot read the admin token {}: {error}; `portcullis init` makes it, --token-file names another",
                token_file.display()
            ))
        })?;
        let agent = agent(self.ca_file.as_deref(), &base)?;
        let token = Zeroizing::new(token.trim().to_owned());
        Ok(AdminClient {
            agent,
            base: base.trim_end_matches('/').to_owned(),
            token,
        })
    }

    fn configured(
        &self,
        url: Option<&String>,
        file: Option<&PathBuf>,
    ) -> Result<(String, PathBuf), Failure> {
        let config = self.file.load()?;
        let admin = &config.listeners.admin;
        let scheme = if admin.tls.is_some() { "https" } else { "http" };
        let base = url
            .cloned()
            .unwrap_or_else(|| format!("{scheme}://{}", admin.address));
        let configured = admin.tokens.iter().find_map(|token| match &token.source {
            AdminTokenSource::File(path) => Some(path),
            AdminTokenSource::HashFile(_) => None,
        });
        let token_file = file.or(configured).cloned().ok_or_else(|| {
            Failure::Usage("the configuration holds only hashes of admin tokens; name a file with --token-file".to_owned())
        })?;
        Ok((base, token_file))
    }
}

/// An HTTP client that trusts the system's authorities, or those of a file; it follows no redirect,
/// because a credential is for whom it was meant for.
pub(super) fn agent(ca_file: Option<&Path>, url: &str) -> Result<ureq::Agent, Failure> {
    pingora::tls::install_default_crypto_provider();
    let mut tls = TlsConfig::builder();
    if let Some(path) = ca_file {
        let fail =
            |why: String| Failure::Usage(format!("cannot use --ca-file {}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let mut trusted = Vec::new();
        for item in ureq::tls::parse_pem(&pem) {
            if let PemItem::Certificate(certificate) =
                item.map_err(|error| fail(error.to_string()))?
            {
                trusted.push(certificate);
            }
        }
        if trusted.is_empty() {
            return Err(fail("it holds no certificate".to_owned()));
        }
        tls = tls.root_certs(RootCerts::Specific(Arc::new(trusted)));
    }
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(PATIENCE))
        .tls_config(tls.build());
    if is_loopback(url) {
        // Nothing between this machine and itself, whatever the environment says of proxies.
        config = config.proxy(None);
    }
    Ok(config.build().new_agent())
}

/// Whether a URL leads to this machine.
pub(super) fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

impl AdminClient {
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.base);
        let response = self
            .agent
            .get(&url)
            .header("Authorization", self.authorization().as_str())
            .call();
        self.answer(response)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.post_once(path, body, None)
    }

    /// As [`AdminClient::post`], under an idempotency key.
    pub(super) fn post_once(
        &self,
        path: &str,
        body: &Value,
        idempotency_key: Option<&str>,
    ) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.base);
        let mut request = self
            .agent
            .post(&url)
            .header("Authorization", self.authorization().as_str());
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        self.answer(request.send_json(body))
    }

    fn authorization(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", self.token.as_str()))
    }

    /// The body of a success; a problem becomes a failure that keeps its Log ID.
    fn answer(
        &self,
        response: Result<http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, Failure> {
        let mut response = response.map_err(|error| {
            let why = format!(
                "cannot reach the admin listener {}: {error}; is the gateway running?",
                self.base
            );
            match error {
                ureq::Error::Io(_)
                | ureq::Error::Protocol(_)
                | ureq::Error::ConnectionFailed
                | ureq::Error::HostNotFound
                | ureq::Error::Timeout(_) => Failure::Unreachable(why),
                _ => Failure::Other(why),
            }
        })?;
        let status = response.status();
        let body: Value = response.body_mut().read_json().map_err(|error| {
            Failure::Other(format!(
                "{} answered {status} without readable JSON: {error}",
                self.base
            ))
        })?;
        if status.is_success() {
            return Ok(body);
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("?");
        let detail = text("detail");
        let log_id = text("log_id");
        let suffix = if detail.contains(log_id) {
            String::new()
        } else {
            format!(" (Log ID: {log_id})")
        };
        let rule = body.get("rule").and_then(Value::as_str);
        let rule = rule.map(|rule| format!("\n{rule}")).unwrap_or_default();
        Err(Failure::Other(format!(
            "{}: {detail}{suffix}{rule}",
            text("code")
        )))
    }
}

/// A path segment or query value (RFC 3986 §2.1).
pub(super) fn encoded(text: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().fold(String::new(), |mut out, byte| {
        if unreserved(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
