//! The command line against an admin listener with TLS: whom it trusts, and as whom it shows itself.

#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::certificates::Certificates;
use harness::{ADMIN, Gateway, Options};

async fn gateway(files: &Certificates, demands: bool) -> Gateway {
    let mut tls = format!(
        "cert_file: {}, key_file: {}",
        files.cert.display(),
        files.key.display()
    );
    if demands {
        tls.push_str(&format!(", client_ca_file: {}", files.ca.display()));
    }
    let options = Options {
        admin: format!("    tls: {{ {tls} }}"),
        ..Options::default()
    };
    Gateway::start(options).await
}

/// Asks for the keys by the name that the certificate carries.
async fn keys(gateway: &Gateway, dir: &Path, more: &[&str], variables: &[(&str, &Path)]) -> Output {
    std::fs::write(dir.join("token"), ADMIN).expect("a token file");
    let port = gateway.admin.rsplit(':').next().expect("a port");
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .args(["keys", "list", "--token-file", "token"])
        .args(["--admin-url", &format!("https://localhost:{port}")])
        .args(more)
        .envs(variables.iter().copied())
        .env_remove("SSL_CERT_DIR")
        .current_dir(dir)
        .stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().expect("the binary runs"))
        .await
        .expect("the task ends")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_the_authorities_of_the_system_are_trusted() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = Certificates::make(dir.path());
    let gateway = gateway(&files, false).await;
    let system = "SSL_CERT_FILE";
    let trusted = keys(&gateway, dir.path(), &[], &[(system, &files.ca)]).await;
    assert_eq!(trusted.status.code(), Some(0), "{}", said(&trusted));

    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).expect("a directory");
    let foreign = Certificates::make(&foreign);
    let unknown = keys(&gateway, dir.path(), &[], &[(system, &foreign.ca)]).await;
    assert_eq!(unknown.status.code(), Some(1), "{}", said(&unknown));
    assert!(said(&unknown).contains("--ca-file"), "{}", said(&unknown));
    assert!(
        !said(&unknown).contains("is the gateway running?"),
        "it is: {}",
        said(&unknown)
    );

    let none = keys(
        &gateway,
        dir.path(),
        &[],
        &[(system, &dir.path().join("none"))],
    )
    .await;
    assert_eq!(none.status.code(), Some(2), "{}", said(&none));
    assert!(
        said(&none).contains("name the authority with --ca-file"),
        "{}",
        said(&none)
    );

    let variable = ("PORTCULLIS_ADMIN_CA_FILE", files.ca.as_path());
    let named = keys(
        &gateway,
        dir.path(),
        &[],
        &[variable, (system, &foreign.ca)],
    )
    .await;
    assert_eq!(named.status.code(), Some(0), "{}", said(&named));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_alone_is_enough() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = Certificates::make(dir.path());
    let gateway = gateway(&files, false).await;
    let config = format!(
        "listeners:\n  proxy: {{ address: 127.0.0.1:8080 }}\n  admin:\n    tls: {{ cert_file: {}, key_file: {} }}\n    \
         ca_file: {}\n    tokens: [{{ name: ops, role: admin, file: token }}]\n\
         issuer: {{ url: 'http://127.0.0.1:8080', audience: [api] }}\n\
         keys: {{ store: {{ file: data/keys }}, encryption_key_files: [secrets/kek] }}\n",
        files.cert.display(),
        files.key.display(),
        files.ca.display()
    );
    std::fs::write(dir.path().join("portcullis.yaml"), config).expect("a configuration");
    std::fs::write(dir.path().join("token"), ADMIN).expect("a token file");
    let port = gateway.admin.rsplit(':').next().expect("a port").to_owned();
    let at = dir.path().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["keys", "list", "--config", "portcullis.yaml"])
            .args(["--admin-url", &format!("https://localhost:{port}")])
            .env("SSL_CERT_FILE", "none")
            .current_dir(at)
            .output()
            .expect("the binary runs")
    });
    let output = output.await.expect("the task ends");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demanded_certificate_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = Certificates::make(dir.path());
    let gateway = gateway(&files, true).await;
    let trust = ["--ca-file", files.ca.to_str().expect("a path")];
    let bare = keys(&gateway, dir.path(), &trust, &[]).await;
    assert_eq!(bare.status.code(), Some(1), "{}", said(&bare));
    assert!(said(&bare).contains("--cert-file"), "{}", said(&bare));

    let (cert, key) = (files.cert.to_str(), files.key.to_str());
    let (cert, key) = (cert.expect("a path"), key.expect("a path"));
    let shown = [&trust[..], &["--cert-file", cert, "--key-file", key]].concat();
    let shown = keys(&gateway, dir.path(), &shown, &[]).await;
    assert_eq!(shown.status.code(), Some(0), "{}", said(&shown));
    let variables = [
        ("PORTCULLIS_ADMIN_CERT_FILE", files.cert.as_path()),
        ("PORTCULLIS_ADMIN_KEY_FILE", files.key.as_path()),
    ];
    let by_environment = keys(&gateway, dir.path(), &trust, &variables).await;
    assert_eq!(
        by_environment.status.code(),
        Some(0),
        "{}",
        said(&by_environment)
    );

    let alone = [&trust[..], &["--cert-file", cert]].concat();
    let alone = keys(&gateway, dir.path(), &alone, &[]).await;
    assert_eq!(alone.status.code(), Some(2), "{}", said(&alone));
    let swapped = [&trust[..], &["--cert-file", cert, "--key-file", cert]].concat();
    let swapped = keys(&gateway, dir.path(), &swapped, &[]).await;
    assert_eq!(swapped.status.code(), Some(2), "{}", said(&swapped));
    assert!(said(&swapped).contains("--key-file"), "{}", said(&swapped));

    // A key of somebody else's, and a certificate that is none.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let other = Certificates::make(elsewhere.path());
    let broken = dir.path().join("broken.pem");
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&broken, text).expect("a file");
    let others = other.key.to_str().expect("a path");
    for (cert, key, why) in [
        (cert, others, "does not belong to"),
        (broken.to_str().expect("a path"), key, "broken.pem"),
    ] {
        let pair = [&trust[..], &["--cert-file", cert, "--key-file", key]].concat();
        let refused = keys(&gateway, dir.path(), &pair, &[]).await;
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(why), "{}", said(&refused));
    }
}
