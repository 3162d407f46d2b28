//! A certificate authority of a test's own, and a certificate for `localhost`.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// PEM files: `ca` signed `cert`, whose private half is `key`.
pub struct Certificates {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them in `dir`.
    pub fn make(dir: &Path) -> Self {
        let made = Self {
            ca: dir.join("ca.pem"),
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        };
        let ca_key = KeyPair::generate().expect("a key pair");
        let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of another name than the other one: else that would look self-signed.
        ca.distinguished_name
            .push(DnType::CommonName, "test authority");
        let ca_cert = ca.self_signed(&ca_key).expect("a certificate");
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().expect("a key pair");
        let names = vec!["localhost".to_owned()];
        let cert = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&key, &issuer))
            .expect("a certificate");
        std::fs::write(&made.ca, ca_cert.pem()).expect("a file");
        std::fs::write(&made.cert, cert.pem()).expect("a file");
        super::in_process::write_private(&made.key, &key.serialize_pem());
        made
    }
}
