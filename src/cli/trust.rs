//! Whom the command line trusts, and as whom it shows itself, where a connection has TLS.
//!
//! Invariants: files are read only for an https URL; what is named and cannot be used is a fault,
//! never a reason to trust somebody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

use super::exit::Failure;
use crate::listeners::TlsSpec;

/// Files of a connection with TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    /// Authorities instead of the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// What is shown to a listener that demands a certificate.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

impl Trust {
    /// The authorities of a file alone, the system's without one.
    pub(super) fn of(ca_file: Option<&Path>) -> Self {
        Self {
            ca_file: ca_file.map(Path::to_path_buf),
            identity: None,
        }
    }

    /// What a connection to `url` is made with.
    pub(super) fn config(&self, url: &str) -> Result<TlsConfig, Failure> {
        let tls = TlsConfig::builder();
        if !is_https(url) {
            return Ok(tls.build());
        }
        pingora::tls::install_default_crypto_provider();
        let authorities = match &self.ca_file {
            Some(path) => certificates("the authorities in", path)?,
            None => of_the_system()?,
        };
        let identity = self.identity.as_ref();
        let identity = identity.map(|(cert, key)| client_certificate(cert, key));
        let tls = tls.root_certs(RootCerts::Specific(Arc::new(authorities)));
        Ok(tls.client_cert(identity.transpose()?).build())
    }
}

/// Whether a URL asks for TLS.
pub(super) fn is_https(url: &str) -> bool {
    url.get(..8)
        .is_some_and(|start| start.eq_ignore_ascii_case("https://"))
}

/// The authorities that this machine trusts, from where its distribution keeps them, or where
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` say.
fn of_the_system() -> Result<Vec<Certificate<'static>>, Failure> {
    let (found, why) = match rustls_native_certs::load_native_certs() {
        Ok(found) => (found, String::new()),
        Err(error) => (Vec::new(), format!(" ({error})")),
    };
    if found.is_empty() {
        return Err(Failure::Usage(format!(
            "this machine has no list of trusted authorities{why}; name the authority with --ca-file"
        )));
    }
    let owned = |der: &rustls_pki_types::CertificateDer<'_>| Certificate::from_der(der).to_owned();
    Ok(found.iter().map(owned).collect())
}

fn certificates(option: &str, path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let pem = read(option, path)?;
    let mut all = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => all.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(unusable(option, path, &error.to_string())),
        }
    }
    if all.is_empty() {
        return Err(unusable(option, path, "it holds no certificate"));
    }
    Ok(all)
}

fn client_certificate(cert: &Path, key: &Path) -> Result<ClientCert, Failure> {
    let chain = certificates("--cert-file", cert)?;
    let pem = read("--key-file", key)?;
    let private = PrivateKey::from_pem(&pem)
        .map_err(|error| unusable("--key-file", key, &error.to_string()))?;
    // The client panics on a pair that does not fit; a listener would refuse it for the same reasons.
    let pair = TlsSpec {
        cert_file: cert.to_path_buf(),
        key_file: key.to_path_buf(),
        client_ca_file: None,
        h2: false,
    };
    pair.validate().map_err(|error| {
        Failure::Usage(format!("cannot use --cert-file and --key-file: {error}"))
    })?;
    Ok(ClientCert::new_with_certs(&chain, private))
}

fn read(option: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| unusable(option, path, &error.to_string()))
}

fn unusable(option: &str, path: &Path, why: &str) -> Failure {
    Failure::Usage(format!("cannot use {option} {}: {why}", path.display()))
}
