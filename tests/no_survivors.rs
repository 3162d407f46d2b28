//! After a purge no file holds a dead private half, and nothing that the gateway says ever holds a
//! secret: the real binary, every file below its directories, every file it has open.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use harness::process::Setup;
use harness::upstream::Upstream;
use harness::{CLIENT, Process, SECRET};
use portcullis::keys::{Algorithm, Kid, SealedPrivate};
use portcullis::store::Keyring;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn inv08_no_file_holds_a_dead_private_half_es256() {
    no_file_holds_a_dead_private_half("ES256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv08_no_file_holds_a_dead_private_half_eddsa() {
    no_file_holds_a_dead_private_half("EdDSA").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv08_no_file_holds_a_dead_private_half_rs256() {
    no_file_holds_a_dead_private_half("RS256").await;
}

async fn no_file_holds_a_dead_private_half(algorithm: &'static str) {
    let mut gateway = Process::start(&Setup {
        algorithm,
        ..Setup::new("127.0.0.1:9")
    })
    .await;
    let mut dead: Vec<PrivateHalf> = Vec::new();
    for turn in ["rotate", "purge", "purge"] {
        let before = private_halves(&gateway);
        assert_eq!(before.len(), 2, "one active, one pending");
        for half in &before {
            // So much for this test's eyesight: what lives is found, sealed, and only sealed.
            assert!(!half.sealed.found(&gateway).is_empty());
            assert_eq!(half.plain.found(&gateway), Vec::<String>::new());
        }
        match turn {
            "rotate" => assert_eq!(gateway.rotate().await["changed"], true),
            _ => drop(gateway.purge().await),
        }
        let alive: Vec<String> = private_halves(&gateway)
            .into_iter()
            .map(|h| h.kid)
            .collect();
        let survives = |half: &PrivateHalf| alive.contains(&half.kid);
        let ended: Vec<_> = before.into_iter().filter(|half| !survives(half)).collect();
        assert_eq!(ended.len(), if turn == "rotate" { 1 } else { 2 });
        dead.extend(ended);
        nothing_is_left(&dead, &gateway, turn);
    }
    // Neither does an end of the process leave, or bring back, anything.
    gateway.terminate().await;
    nothing_is_left(&dead, &gateway, "stop");
    gateway.serve().await;
    nothing_is_left(&dead, &gateway, "start");

    // A private half in any of its forms would have been found, and files without a name looked at.
    if rustix::process::geteuid().is_root() {
        assert!(!gateway.open_files().is_empty());
    }
    let scalar = &dead[0].secret;
    let planted = gateway.dir.path().join("data/planted");
    for form in [
        scalar.clone(),
        STANDARD_NO_PAD
            .encode([b"ab", scalar.as_slice()].concat())
            .into_bytes(),
        URL_SAFE_NO_PAD
            .encode([b"a", scalar.as_slice(), b"bc"].concat())
            .into_bytes(),
        hex(scalar).to_uppercase().into_bytes(),
    ] {
        fs::write(&planted, [b"x".as_slice(), &form, b"y"].concat()).unwrap();
        assert_eq!(dead[0].plain.found(&gateway).len(), 1);
    }
    fs::remove_file(planted).unwrap();
}

fn nothing_is_left(dead: &[PrivateHalf], gateway: &Process, after: &str) {
    for half in dead {
        for trace in [&half.plain, &half.sealed] {
            let found = trace.found(gateway);
            assert!(
                found.is_empty(),
                "after {after}, {} of {} is in {found:?}",
                trace.what,
                half.kid
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv17_nothing_that_the_gateway_says_holds_a_secret() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup::new(upstream.address)).await;
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    let mut halves = private_halves(&gateway);
    let keks = key_encryption_keys(&gateway);
    let mut tokens = Vec::new();

    for turn in ["rotate", "purge", "scoped"] {
        let token = gateway.token().await;
        for (what, token) in [("good", token.clone()), ("tampered", format!("{token}AA"))] {
            let request = gateway
                .http
                .get(gateway.url("/hello?token=x"))
                .bearer_auth(token);
            let answer = request.send().await.unwrap();
            let headers = format!("{:?}", answer.headers());
            said.insert(
                format!("{what} request, {turn}"),
                headers + &answer.text().await.unwrap(),
            );
        }
        let revision = gateway.admin_get("/admin/v1/keys").await["revision"].clone();
        let kid = harness::kid(&token);
        let body = match turn {
            "rotate" => json!({ "reason": "a Tuesday" }),
            "purge" => json!({ "purge": true, "seen_revision": revision }),
            _ => json!({ "purge": true, "kids": [kid], "mistake_undo": true }),
        };
        let (status, answer) = gateway.admin_post("/admin/v1/keys/rotate", body).await;
        assert_eq!(status, 200, "{answer}");
        halves.extend(private_halves(&gateway));
        let id = answer["rotation_id"].as_str().unwrap().to_owned();
        said.insert(format!("{turn} answer"), answer.to_string());
        let request = gateway.http.get(gateway.url("/hello")).bearer_auth(&token);
        let refused = request.send().await.unwrap().text().await.unwrap();
        said.insert(format!("request after {turn}"), refused);
        let (_, again) = gateway
            .admin_post(&format!("/admin/v1/keys/{kid}/restore"), json!({}))
            .await;
        said.insert(format!("restore after {turn}"), again.to_string());
        for path in [
            "/admin/v1/keys".to_owned(),
            "/admin/v1/keys/preview".to_owned(),
            "/admin/v1/clients".to_owned(),
            format!("/admin/v1/keys/purges/{id}"),
            format!("/admin/v1/{SECRET}"),
        ] {
            let answer = gateway.admin_get(&path).await;
            said.insert(
                format!("GET {}, {turn}", path.replace(SECRET, "…")),
                answer.to_string(),
            );
        }
        tokens.push(token);
    }
    let wrong = format!("{SECRET}x");
    let request = gateway
        .http
        .post(gateway.url("/oauth2/token"))
        .basic_auth(CLIENT, Some(&wrong))
        .form(&[("grant_type", "client_credentials")]);
    said.insert(
        "wrong secret".to_owned(),
        request.send().await.unwrap().text().await.unwrap(),
    );
    for path in [
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
    ] {
        let text = gateway
            .http
            .get(gateway.url(path))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        said.insert(path.to_owned(), text);
    }
    said.insert("metrics".to_owned(), gateway.scrape().await);
    for command in [
        &["keys", "list"][..],
        &["keys", "preview"],
        &["audit", "tail", "--json"],
        &["check"],
    ] {
        let output = gateway.run(command);
        let text = [output.stdout, output.stderr].concat();
        said.insert(command.join(" "), String::from_utf8(text).unwrap());
    }
    harness::eventually("the log tells of the last purge", || async {
        let lines = gateway.log_lines();
        (lines
            .iter()
            .filter(|line| line["event"] == "keys_purged")
            .count()
            == 2)
            .then_some(())
    })
    .await;
    said.insert(
        "log".to_owned(),
        fs::read_to_string(gateway.log_path()).unwrap(),
    );
    let log_lines = gateway.log_lines();
    assert!(
        log_lines
            .iter()
            .any(|line| line["event"] == "request_denied")
    );

    let mut secrets = vec![
        Trace::of_text("the client's secret", SECRET),
        Trace::of_text("the admin token", &gateway.admin_token()),
    ];
    secrets.extend(keks);
    secrets.extend(key_encryption_keys(&gateway));
    for token in &tokens {
        for (what, part) in ["payload", "signature"]
            .into_iter()
            .zip(token.split('.').skip(1))
        {
            secrets.push(Trace::of_text(&format!("a token's {what}"), part));
        }
    }
    for half in halves {
        secrets.extend([half.plain, half.sealed]);
    }
    for (place, text) in &said {
        for secret in &secrets {
            assert!(
                !secret.is_in(text.as_bytes()),
                "{} is in {place}: {text}",
                secret.what
            );
        }
    }
    // The eyes are good: the one place where a token may be is seen.
    assert!(
        secrets
            .iter()
            .any(|secret| secret.is_in(tokens[0].as_bytes()))
    );
}

/// Those in the file now, as text and as bytes.
fn key_encryption_keys(gateway: &Process) -> Vec<Trace> {
    let text = fs::read_to_string(gateway.dir.path().join("secrets/kek")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let keys: Vec<Trace> = lines
        .map(|line| {
            let mut trace = Trace::of_text("a key-encryption key", line);
            let bytes = URL_SAFE_NO_PAD.decode(line).unwrap();
            trace.needles.extend(forms(&bytes));
            trace
        })
        .collect();
    assert!(!keys.is_empty());
    keys
}

/// A private half, as it is stored and as it is.
struct PrivateHalf {
    kid: String,
    sealed: Trace,
    plain: Trace,
    /// The part of it that nobody could do without.
    secret: Vec<u8>,
}

/// Those in the store now.
fn private_halves(gateway: &Process) -> Vec<PrivateHalf> {
    let file = gateway.dir.path().join("data/keys/keyset.json");
    let stored: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let keyring = Keyring::load(&[gateway.dir.path().join("secrets/kek")]).unwrap();
    let issuer = format!("http://{}", gateway.proxy);
    let keys = stored["document"]["keys"].as_array().unwrap().iter();
    keys.filter(|key| !key["sealed_private"].is_null())
        .map(|key| {
            let kid: Kid = key["kid"].as_str().unwrap().parse().unwrap();
            let alg: Algorithm = key["alg"].as_str().unwrap().parse().unwrap();
            let sealed: SealedPrivate =
                serde_json::from_value(key["sealed_private"].clone()).unwrap();
            let pkcs8 = keyring.open(&issuer, &kid, alg, &sealed).unwrap();
            let secret = essence(alg, &pkcs8).to_vec();
            let mut plain = Trace::of("the private half", &pkcs8);
            plain.needles.extend(forms(&secret));
            let mut trace = Trace::of("the sealed private half", sealed.data.as_bytes());
            trace
                .needles
                .extend(forms(&URL_SAFE_NO_PAD.decode(&sealed.data).unwrap()));
            PrivateHalf {
                kid: kid.to_string(),
                sealed: trace,
                plain,
                secret,
            }
        })
        .collect()
}

/// The secret number in a PKCS#8 document; of an RSA key a piece of it.
fn essence(alg: Algorithm, pkcs8: &[u8]) -> &[u8] {
    let after = |mark: &[u8]| {
        let at = find(pkcs8, mark).unwrap() + mark.len();
        &pkcs8[at..at + 32]
    };
    match alg {
        // ECPrivateKey: version 1, then an OCTET STRING of 32 bytes (RFC 5915 §3).
        Algorithm::Es256 => after(&[2, 1, 1, 4, 32]),
        // CurvePrivateKey in PrivateKey (RFC 8410 §7).
        Algorithm::EdDsa => after(&[4, 34, 4, 32]),
        // The modulus is in the first quarter, the primes begin after the middle.
        Algorithm::Rs256 => &pkcs8[pkcs8.len() / 2..pkcs8.len() / 2 + 64],
    }
}

/// What shows that a secret is somewhere, in whatever form.
struct Trace {
    what: String,
    needles: Vec<Vec<u8>>,
}

impl Trace {
    fn of(what: &str, bytes: &[u8]) -> Self {
        Self {
            what: what.to_owned(),
            needles: forms(bytes),
        }
    }

    fn of_text(what: &str, text: &str) -> Self {
        Self::of(what, text.as_bytes())
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.needles
            .iter()
            .any(|needle| find(bytes, needle).is_some())
    }

    /// The files of the installation that hold it, those without a name included.
    fn found(&self, gateway: &Process) -> Vec<String> {
        let mut files = Vec::new();
        collect(gateway.dir.path(), &mut files);
        files.extend(gateway.open_files());
        files
            .iter()
            .filter(|path| {
                self.is_in(path.as_os_str().as_encoded_bytes())
                    || fs::read(path).is_ok_and(|bytes| self.is_in(&bytes))
            })
            .map(|path| path.display().to_string())
            .collect()
    }
}

/// Raw, in hexadecimal, and in base64 of both alphabets wherever in a longer text it stands.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let hex = hex(bytes);
    let mut forms = vec![
        bytes.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
    ];
    for (shift, skipped) in [(0, 0), (1, 2), (2, 3)] {
        let shifted = [&[0; 2][..shift], bytes].concat();
        let whole = shifted.len() * 8 / 6;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&shifted).as_bytes()[skipped..whole].to_vec());
        }
    }
    forms
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    // Most positions differ in the first byte.
    let starts = haystack
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == needle[0]);
    starts
        .map(|(at, _)| at)
        .find(|at| haystack[*at..].starts_with(needle))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), files);
        }
    } else if path.is_file() {
        files.push(path.to_owned());
    }
}
