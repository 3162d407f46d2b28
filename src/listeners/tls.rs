//! TLS on a listener: files to a rustls acceptor, with every mistake found before the server runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pingora::listeners::tls::Acceptor;
use pingora::tls::{
    ClientCertVerifier, CryptoProvider, RootCertStore, RusTlsError, ServerConfig,
    WebPkiClientVerifier, install_default_crypto_provider,
};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::clock::Timestamp;

/// TLS settings of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSpec {
    /// PEM file of the certificate and its chain, the server's own first.
    pub cert_file: PathBuf,
    /// PEM file of the private key (PKCS#8, PKCS#1 or SEC1).
    pub key_file: PathBuf,
    /// PEM file of the authorities that every client must have a certificate of; absent: none asked.
    pub client_ca_file: Option<PathBuf>,
    /// Whether HTTP/2 is offered besides HTTP/1.1.
    pub h2: bool,
}

/// TLS files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is missing or not readable.
    #[error("cannot read the {role} file {}: {source}; check the path and its permissions", .path.display())]
    Unreadable {
        /// Setting that names the file.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not PEM.
    #[error("the {role} file {} is not valid PEM ({what}); write it anew", .path.display())]
    NotPem {
        /// Setting that names the file.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file has no section of the right kind.
    #[error("the {role} file {} contains no {wanted}; check that the right file is named", .path.display())]
    Nothing {
        /// Setting that names the file.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should contain.
        wanted: &'static str,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {} does not belong to the first certificate in {}; put the certificate of that \
         key first, its authorities behind it", .key.display(), .cert.display()
    )]
    Mismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        cert: PathBuf,
    },
    /// A certificate or key that rustls does not take.
    #[error("the {role} file {} cannot be used for TLS: {what}", .path.display())]
    Unusable {
        /// Setting that names the file.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What rustls said; it never holds key material.
        what: String,
    },
}

const CERT: &str = "cert_file";
const KEY: &str = "key_file";
const CLIENT_CA: &str = "client_ca_file";

impl TlsSpec {
    /// Reads and checks all files.
    ///
    /// # Errors
    /// Names the file, what is wrong with it and what to do.
    pub fn validate(&self) -> Result<(), TlsError> {
        self.config().map(drop)
    }

    /// When the first certificate of the chain expires.
    ///
    /// # Errors
    /// As [`TlsSpec::validate`].
    pub fn not_after(&self) -> Result<Timestamp, TlsError> {
        let path = &self.cert_file;
        let mut first = Timestamp::from_millis(i64::MAX);
        for certificate in certificates(CERT, path)? {
            let (_rest, certificate) = X509Certificate::from_der(&certificate)
                .map_err(|error| self.unusable(CERT, path, error))?;
            let not_after = certificate.validity().not_after.timestamp();
            first = first.min(Timestamp::from_seconds(not_after));
        }
        Ok(first)
    }

    /// The acceptor of a listener. Installs `ring` as the process's cryptography if none is yet.
    pub(super) fn acceptor(&self) -> Result<Acceptor, TlsError> {
        Ok(Acceptor::from_server_config(Arc::new(self.config()?)))
    }

    fn config(&self) -> Result<ServerConfig, TlsError> {
        install_default_crypto_provider();
        let provider = CryptoProvider::get_default()
            .ok_or_else(|| self.unusable(CERT, &self.cert_file, "no cryptography is installed"))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.unusable(CERT, &self.cert_file, error))?;
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(path) => builder.with_client_cert_verifier(self.clients(path, provider)?),
        };
        let mut config = builder
            .with_single_cert(certificates(CERT, &self.cert_file)?, self.key()?)
            .map_err(|error| self.rejected(&error))?;
        let protocols: &[&[u8]] = if self.h2 {
            &[b"h2", b"http/1.1"]
        } else {
            &[b"http/1.1"]
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_file(&self.key_file)
            .map_err(|error| unreadable(KEY, &self.key_file, "private key", error))
    }

    fn clients(
        &self,
        path: &Path,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(CLIENT_CA, path)? {
            roots
                .add(authority)
                .map_err(|error| self.unusable(CLIENT_CA, path, error))?;
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| self.unusable(CLIENT_CA, path, error))
    }

    fn rejected(&self, error: &RusTlsError) -> TlsError {
        match error {
            RusTlsError::InconsistentKeys(_) => TlsError::Mismatch {
                key: self.key_file.clone(),
                cert: self.cert_file.clone(),
            },
            RusTlsError::InvalidCertificate(_) => self.unusable(CERT, &self.cert_file, error),
            _ => self.unusable(KEY, &self.key_file, error),
        }
    }

    fn unusable(&self, role: &'static str, path: &Path, what: impl ToString) -> TlsError {
        TlsError::Unusable {
            role,
            path: path.to_owned(),
            what: what.to_string(),
        }
    }
}

fn certificates(role: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const WANTED: &str = "certificate";
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(role, path, WANTED, error))?;
    if found.is_empty() {
        return Err(TlsError::Nothing {
            role,
            path: path.to_owned(),
            wanted: WANTED,
        });
    }
    Ok(found)
}

fn unreadable(
    role: &'static str,
    path: &Path,
    wanted: &'static str,
    error: pem::Error,
) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => TlsError::Unreadable { role, path, source },
        pem::Error::NoItemsFound => TlsError::Nothing { role, path, wanted },
        other => TlsError::NotPem {
            role,
            path,
            what: other.to_string(),
        },
    }
}
