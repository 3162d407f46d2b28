//! A client of the admin API, for the verbs that work on a running gateway.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::AdminTokenSource;

use super::ConfigFile;
use super::exit::Failure;
use super::trust::Trust;

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
    /// PEM file of authorities to trust for an https admin listener; the configuration's, or the
    /// system's, by default
    #[arg(long, env = "PORTCULLIS_ADMIN_CA_FILE", value_name = "FILE", help_heading = HEADING)]
    ca_file: Option<PathBuf>,
    /// PEM certificate to show to an admin listener that demands one
    #[arg(long, env = "PORTCULLIS_ADMIN_CERT_FILE", value_name = "FILE", requires = "key_file", help_heading = HEADING)]
    cert_file: Option<PathBuf>,
    /// PEM private key of that certificate
    #[arg(long, env = "PORTCULLIS_ADMIN_KEY_FILE", value_name = "FILE", requires = "cert_file", help_heading = HEADING)]
    key_file: Option<PathBuf>,
}

/// What the configuration adds to the options.
struct Found {
    base: String,
    token_file: PathBuf,
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
        let found = match (&self.admin_url, &self.token_file) {
            (Some(url), Some(file)) => Found {
                base: url.clone(),
                token_file: file.clone(),
                ca_file: None,
            },
            (url, file) => self.configured(url.as_ref(), file.as_ref())?,
        };
        let token = read_token(&found.token_file)?;
        let base = found.base.trim_end_matches('/').to_owned();
        let trust = Trust {
            ca_file: self.ca_file.clone().or(found.ca_file),
            identity: self.cert_file.clone().zip(self.key_file.clone()),
        };
        Ok(AdminClient {
            agent: agent(&trust, &base)?,
            base,
            token,
        })
    }

    fn configured(&self, url: Option<&String>, file: Option<&PathBuf>) -> Result<Found, Failure> {
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
        Ok(Found {
            base,
            token_file,
            ca_file: admin.ca_file.clone(),
        })
    }
}

fn read_token(file: &std::path::Path) -> Result<Zeroizing<String>, Failure> {
    let fail = |why: &dyn std::fmt::Display| {
        Failure::NotInitialised(format!(
            "cannot read the admin token {}: {why}; `portcullis init` makes it, --token-file names another",
            file.display()
        ))
    };
    let text = std::fs::read_to_string(file)
        .map(Zeroizing::new)
        .map_err(|error| fail(&error))?;
    let token = Zeroizing::new(text.trim().to_owned());
    if token.is_empty() {
        return Err(fail(&"the file is empty"));
    }
    Ok(token)
}

/// An HTTP client that trusts whom it is told to; it follows no redirect, because a credential is
/// for whom it was meant for.
pub(super) fn agent(trust: &Trust, url: &str) -> Result<ureq::Agent, Failure> {
    let uri = url.parse::<http::Uri>().ok();
    let known = uri.as_ref().is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    });
    if !known {
        return Err(Failure::Usage(format!(
            "{url} is no URL of a gateway: it begins with http:// or https://, and a host follows"
        )));
    }
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(PATIENCE))
        .tls_config(trust.config(url)?);
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
        let mut response = response.map_err(|error| unreachable(&self.base, &error))?;
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
        if body.get("code").is_none() {
            return Err(Failure::Other(format!(
                "{} answered {status} in another way than an admin listener does; this looks like a proxy listener. \
                 The admin listener has an address of its own: `listeners.admin` of the configuration",
                self.base
            )));
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

/// Why there was no answer, and what to look at.
pub(super) fn unreachable(base: &str, error: &ureq::Error) -> Failure {
    let cannot = format!("cannot reach {base}");
    match error {
        ureq::Error::Timeout(ureq::Timeout::Global | ureq::Timeout::RecvResponse) => {
            Failure::Unreachable(format!(
                "{base} did not answer within {} seconds; it hangs, or something between here and there does",
                PATIENCE.as_secs()
            ))
        }
        ureq::Error::Io(io) if io.kind() == ErrorKind::InvalidData => tls_fault(base, io),
        ureq::Error::Rustls(fault) => tls_fault(base, fault),
        ureq::Error::Io(_)
        | ureq::Error::Protocol(_)
        | ureq::Error::ConnectionFailed
        | ureq::Error::HostNotFound
        | ureq::Error::Timeout(_) => {
            Failure::Unreachable(format!("{cannot}: {error}; is the gateway running?"))
        }
        _ => Failure::Other(format!("{cannot}: {error}")),
    }
}

/// The other side is there, and the two cannot agree on whom to trust.
fn tls_fault(base: &str, fault: &dyn std::fmt::Display) -> Failure {
    let said = fault.to_string();
    let what = if said.contains("UnknownIssuer") || said.contains("BadSignature") {
        "nobody we trust signed its certificate; name the authority with --ca-file"
    } else if said.contains("CertificateRequired") {
        "it demands a certificate; name one with --cert-file and --key-file"
    } else if said.contains("received fatal alert") {
        "it refuses the handshake; look at --cert-file and --key-file, and at its log"
    } else if said.contains("certificate") {
        "look at its certificate, and at the name in the URL"
    } else {
        "it does not speak TLS as we do; look at the URL"
    };
    Failure::Unreachable(format!("no TLS with {base}: {said}; {what}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_and_nothing_else_is_blamed() {
        let said = |error: ureq::Error| unreachable("http://127.0.0.1:1", &error).to_string();
        let hung = said(ureq::Error::Timeout(ureq::Timeout::Global));
        assert!(hung.contains("did not answer within 30 seconds"), "{hung}");
        let refused = said(ureq::Error::ConnectionFailed);
        assert!(refused.contains("is the gateway running?"), "{refused}");
        for (fault, word) in [
            ("invalid peer certificate: UnknownIssuer", "--ca-file"),
            (
                "invalid peer certificate: Expired",
                "look at its certificate",
            ),
            ("received fatal alert: CertificateRequired", "--cert-file"),
            ("received corrupt message", "look at the URL"),
        ] {
            let error = std::io::Error::new(ErrorKind::InvalidData, fault);
            let said = said(ureq::Error::Io(error));
            assert!(said.contains(word), "{said}");
            assert!(!said.contains("running?"), "{said}");
        }
    }
}
