//! `portcullis token`: getting a token, reading one, and learning what would happen to one, with the
//! real binary. What `explain` says is compared with what the gateway then does.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::process::{Setup, free_ports};
use harness::upstream::Upstream;
use harness::{CLIENT, Gateway, OPERATOR, Options, Process, SECRET, VIEWER, claims, metrics};
use serde_json::{Value, json};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr))
    })
}

fn setup(upstream: impl std::fmt::Display) -> Setup {
    Setup {
        keys: "  leeway: 0s".to_owned(),
        clients: "  - { id: brief, secret_hash_file: secrets/demo.hash, scopes: [read], token_ttl: 1s }\n  \
                  - { id: poor, secret_hash_file: secrets/demo.hash, scopes: [other] }"
            .to_owned(),
        routes: "  - { name: open, match: { path: /open }, auth: none, upstream: main }\n  \
                 - { name: hosted, match: { prefix: /hosted, host: a.example, methods: [POST] }, auth: { scopes_any: [read] }, upstream: main }\n  \
                 - { name: other, match: { prefix: /other }, auth: { audiences: [other] }, upstream: main }\n  \
                 - { name: both, match: { prefix: /both }, auth: { scopes_all: [read, write, admin] }, upstream: main }"
            .to_owned(),
        ..Setup::new(upstream)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_issued_with_a_secret_that_is_never_an_argument() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&setup(upstream.address)).await;
    let write = |name: &str, text: &str| {
        harness::in_process::write_private(&gateway.dir.path().join(name), text);
    };
    write("secret", &format!("{SECRET}\n"));
    write(
        "client.env",
        &format!("# of the container\nexport CLIENT_ID={CLIENT}\nCLIENT_SECRET=\"{SECRET}\"\n"),
    );

    let by_file = gateway.run(&["token", "issue", "--secret-file", "secret"]);
    let token = text(&by_file.stdout).trim().to_owned();
    assert_eq!(text(&by_file.stderr), "");
    assert_eq!(gateway.status(&token).await, 200);
    let by_pipe = gateway.piped(&["token", "issue", "--secret-file", "-"], SECRET);
    assert_eq!(gateway.status(text(&by_pipe.stdout).trim()).await, 200);
    // The file that `init` makes beside a hash of its own.
    write("secrets/demo.secret", SECRET);
    let by_init = gateway.run(&["token", "issue", "--client-id", CLIENT]);
    assert_eq!(gateway.status(text(&by_init.stdout).trim()).await, 200);

    let answer = json_of(&gateway.run(&[
        "token",
        "issue",
        "--env-file",
        "client.env",
        "--scope",
        "read",
        "--audience",
        "api",
        "--output",
        "json",
    ]));
    assert_eq!(answer["token_type"], "Bearer", "{answer}");
    assert_eq!(
        claims(answer["access_token"].as_str().expect("a token"))["scope"],
        "read"
    );

    for (arguments, input, code, hint) in [
        (&["--secret-file", "-"][..], "wrong", 1, "invalid_client"),
        (&["--secret-file", "-"], "", 2, "empty"),
        (
            &["--secret-file", "-", "--scope", "root"],
            SECRET,
            1,
            "invalid_scope",
        ),
        (
            &["--secret-file", "-", "--audience", "elsewhere"],
            SECRET,
            1,
            "issuer.audience",
        ),
        (&["--secret-file", "missing"], "", 2, "missing"),
        (&["--env-file", "secret"], "", 2, "CLIENT_SECRET"),
        (
            &[
                "--client-id",
                "poor",
                "--secret-file",
                "secret",
                "--env-file",
                "client.env",
            ],
            "",
            2,
            "--env-file",
        ),
        (&["--client-id", "unknown"], "", 2, "--secret-file"),
        (
            &[
                "--secret-file",
                "secret",
                "--token-url",
                "http://192.0.2.1/token",
            ],
            "",
            2,
            "--insecure",
        ),
        (&["--secret", SECRET], "", 2, "--secret-file"),
    ] {
        let output = gateway.piped(&[&["token", "issue"], arguments].concat(), input);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(hint), "{arguments:?}: {said}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert!(
            arguments.contains(&SECRET) || !said.contains(SECRET),
            "{said}"
        );
    }
    let refused = text(
        &gateway
            .piped(&["token", "issue", "--secret-file", "-"], "wrong")
            .stderr,
    );
    let log_id = refused
        .rsplit("Log ID: ")
        .next()
        .expect("one")
        .trim()
        .trim_end_matches(')');
    harness::eventually("the line of that Log ID", || async {
        let lines = gateway.log_lines();
        lines
            .iter()
            .any(|line| line["log_id"] == log_id)
            .then_some(())
    })
    .await;
}

#[test]
fn inspect_decodes_and_believes_nothing() {
    let [upstream] = free_ports();
    let gateway = Process::configure(&setup(upstream));
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let hostile = "\u{1b}[2J\u{202e}evil\nexp  forged line";
    let header = json!({ "alg": "none", "kid": hostile, "typ": "JWT" });
    let payload =
        json!({ "iss": hostile, "sub": "s", "iat": 1_000_000_000, "exp": 4_000_000_000_i64 });
    let token = format!("{}.{}.c2ln", encode(&header), encode(&payload));

    for shape in [token.clone(), format!("Authorization: Bearer {token}\n")] {
        let output = gateway.piped(&["token", "inspect"], &shape);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(said.starts_with("NOT VERIFIED"), "{said}");
        for words in [
            "2001-09-09T01:46:40.000Z, ",
            " years ",
            "2096-10-02T07:06:40.000Z, in ",
            "alg none",
            "not at+jwt",
            "jti is missing",
            "\\u001b[2J\\u202eevil\\u000aexp",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
        assert!(
            !said.contains("c2ln"),
            "the signature is nobody's business: {said}"
        );
    }
    let output = gateway.piped(&["token", "inspect", "--output", "json"], &token);
    assert!(!text(&output.stdout).contains(['\u{1b}', '\u{202e}']));
    let said = json_of(&output);
    assert_eq!(said["verified"], false);
    assert_eq!(said["claims"]["iss"], hostile);
    assert_eq!(said["expires_at"], "2096-10-02T07:06:40.000Z");

    for (arguments, input, code, hint) in [
        (&[][..], "", 2, "no token"),
        (&[], "a.b", 1, "2 parts"),
        (&[], "a.b.c", 1, "header"),
        (&["missing"], "", 2, "missing"),
        (&[token.as_str()], "", 2, "pipe it in"),
    ] {
        let output = gateway.piped(&[&["token", "inspect"], arguments].concat(), input);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(hint), "{said}");
        assert!(!said.contains(&token), "{said}");
    }
}

/// A request, what `explain` must call it, and the answer on the wire.
struct Case {
    what: &'static str,
    token: Option<String>,
    method: &'static str,
    host: Option<&'static str>,
    path: &'static str,
    verdict: &'static str,
    reason: Option<&'static str>,
    status: u16,
    /// Words of the sentence and of the advice.
    words: &'static [&'static str],
}

impl Case {
    fn new(
        what: &'static str,
        token: &str,
        path: &'static str,
        reason: &'static str,
        status: u16,
        words: &'static [&'static str],
    ) -> Self {
        Self {
            what,
            token: Some(token.to_owned()),
            method: "GET",
            host: None,
            path,
            verdict: "refused",
            reason: Some(reason),
            status,
            words,
        }
    }

    fn arguments(&self) -> Vec<&str> {
        let mut arguments = vec![
            "token",
            "explain",
            "--output",
            "json",
            "-X",
            self.method,
            "--path",
            self.path,
        ];
        if let Some(host) = self.host {
            arguments.extend(["--host", host]);
        }
        if self.token.is_none() {
            arguments.push("--no-token");
        }
        arguments
    }

    async fn on_the_wire(&self, gateway: &Process) -> u16 {
        let method = self.method.parse().expect("a method");
        let mut request = gateway.http.request(method, gateway.url(self.path));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(host) = self.host {
            request = request.header("host", host);
        }
        request
            .send()
            .await
            .expect("the gateway answers")
            .status()
            .as_u16()
    }
}

async fn token_of(gateway: &Process, client: &str) -> String {
    let request = gateway
        .http
        .post(gateway.url("/oauth2/token"))
        .basic_auth(client, Some(SECRET))
        .form(&[("grant_type", "client_credentials")]);
    let answer: Value = request
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    answer["access_token"].as_str().expect("a token").to_owned()
}

async fn cases(gateway: &Process) -> Vec<Case> {
    let purged = gateway.token().await;
    gateway.purge().await;
    let deprecated = gateway.token().await;
    // The purge opened the idempotency window, so the key stays; a token is a token.
    let good = gateway.token().await;
    let brief = token_of(gateway, "brief").await;
    let poor = token_of(gateway, "poor").await;
    let revoked = token_of(gateway, "poor").await;
    let parts: Vec<&str> = good.split('.').collect();
    let mut forged_claims = claims(&good);
    forged_claims["sub"] = "root".into();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let forged = format!("{}.{}.{}", parts[0], encode(&forged_claims), parts[2]);
    let head =
        |alg: &str, kid: &str, typ: &str| encode(&json!({ "alg": alg, "kid": kid, "typ": typ }));
    let kid = harness::kid(&good);
    let with_head = |head: String| format!("{head}.{}.{}", parts[1], parts[2]);
    let mut foreign_claims = claims(&good);
    foreign_claims["iss"] = "https://elsewhere.example".into();
    let foreign = format!(
        "{}.{}.{}",
        head("ES256", "their-key", "at+jwt"),
        encode(&foreign_claims),
        parts[2]
    );
    let cut = good[..good.rfind('.').expect("a dot")].to_owned();
    let until = claims(&brief)["exp"].as_u64().expect("an expiry");
    harness::eventually("the brief token expires", || async {
        (harness::unix_seconds() > until).then_some(())
    })
    .await;

    let accepted = |what, token: &str, path| Case {
        verdict: "accepted",
        reason: None,
        ..Case::new(what, token, path, "", 200, &["active key", "`api`"])
    };
    let without = |what, path, verdict, status, words| Case {
        token: None,
        verdict,
        reason: None,
        ..Case::new(what, "", path, "", status, words)
    };
    vec![
        accepted("a good token", &good, "/hello"),
        accepted("another good one", &deprecated, "/hello?x=1"),
        Case {
            reason: Some("missing"),
            verdict: "refused",
            ..without(
                "no token",
                "/hello",
                "",
                401,
                &["no bearer token", "token issue"],
            )
        },
        without(
            "a public route",
            "/open",
            "public",
            200,
            &["`open` is public"],
        ),
        without(
            "an endpoint of ours",
            "/.well-known/jwks.json",
            "own_endpoint",
            200,
            &["gateway answers this itself"],
        ),
        Case {
            method: "TRACE",
            ..without(
                "a method that nobody takes",
                "/hello",
                "bad_request",
                405,
                &["method is not allowed"],
            )
        },
        without(
            "an ambiguous path",
            "/a%2fb",
            "bad_request",
            400,
            &["percent-encoding"],
        ),
        Case {
            host: Some("a.example"),
            method: "POST",
            ..Case::new(
                "a token on a route of a host",
                &poor,
                "/hosted/x",
                "insufficient_scope",
                403,
                &["`hosted`", "other", "one of read"],
            )
        },
        Case {
            host: Some("b.example"),
            ..Case::new(
                "the same path on another host",
                &poor,
                "/hosted/x",
                "insufficient_scope",
                403,
                &["`api`"],
            )
        },
        Case::new(
            "a purged key",
            &purged,
            "/hello",
            "key_purged",
            401,
            &["was purged", "without the purge", "new token"],
        ),
        Case::new(
            "expired",
            &brief,
            "/hello",
            "expired",
            401,
            &["expired at", "leeway of 0 s"],
        ),
        Case::new(
            "the wrong audience",
            &good,
            "/other",
            "bad_audience",
            401,
            &["for api", "for other", "`other`"],
        ),
        Case::new(
            "too few scopes",
            &good,
            "/both",
            "insufficient_scope",
            403,
            &["read, write", "also admin", "clients list"],
        ),
        Case::new(
            "a forged payload",
            &forged,
            "/hello",
            "bad_signature",
            401,
            &["does not fit", "forged"],
        ),
        Case::new(
            "a key of somebody else",
            &foreign,
            "/hello",
            "unknown_key",
            401,
            &["their-key", "https://elsewhere.example"],
        ),
        Case::new(
            "not an access token",
            &with_head(head("ES256", &kid, "JWT")),
            "/hello",
            "bad_type",
            401,
            &["typ is JWT", "at+jwt"],
        ),
        Case::new(
            "another algorithm",
            &with_head(head("RS256", &kid, "at+jwt")),
            "/hello",
            "alg_not_allowed",
            401,
            &["RS256", "ES256 alone"],
        ),
        Case::new(
            "no algorithm",
            &with_head(head("none", &kid, "at+jwt")),
            "/hello",
            "alg_not_allowed",
            401,
            &["none"],
        ),
        Case::new("cut off", &cut, "/hello", "malformed", 401, &["2 parts"]),
        Case::new(
            "broken syntax",
            "a b",
            "/hello",
            "malformed",
            400,
            &["not exactly one token"],
        ),
        Case::new(
            "too long",
            &"x".repeat(9000),
            "/hello",
            "too_large",
            400,
            &["9000 bytes"],
        ),
        Case::new(
            "a client shut out",
            &revoked,
            "/hello",
            "client_revoked",
            401,
            &["poor is disabled", "clients enable poor"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_the_gateway_does_and_leaves_no_trace() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&setup(upstream.address)).await;
    let mut cases = cases(&gateway).await;
    let shut_out = cases.pop().expect("the last one");

    explained(&gateway, &cases).await;
    let done = gateway.run(&["clients", "disable", "poor"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    explained(&gateway, &[shut_out]).await;

    let log = std::fs::read_to_string(gateway.log_path()).expect("a log");
    assert!(log.contains("token_explained"), "{log}");
    for case in &cases {
        let token = case.token.as_deref().unwrap_or_default();
        assert!(token.len() < 20 || !log.contains(token), "{}", case.what);
    }
}

/// Asks the running gateway and the command itself, then tries each request on the wire.
async fn explained(gateway: &Process, cases: &[Case]) {
    let before = counted(&gateway.scrape().await);
    let ask = |case: &Case, more: &[&str]| {
        let arguments = [case.arguments().as_slice(), more].concat();
        gateway.piped(&arguments, case.token.as_deref().unwrap_or_default())
    };
    for case in cases {
        let mut answers = Vec::new();
        for more in [&[][..], &["--offline"]] {
            let output = ask(case, more);
            let said = json_of(&output);
            let passes = ["accepted", "public", "own_endpoint"].contains(&case.verdict);
            let context = format!("{} {more:?}: {said}", case.what);
            assert_eq!(output.status.code(), Some(i32::from(!passes)), "{context}");
            assert_eq!(said["verdict"], case.verdict, "{context}");
            assert_eq!(said["reason"].as_str(), case.reason, "{context}");
            let sentence = format!("{} {}", said["what"], said["what_to_do"]);
            for words in case.words {
                assert!(sentence.contains(words), "{words}: {context}");
            }
            if passes {
                assert_eq!(said["answer"], Value::Null, "{context}");
            } else {
                assert_eq!(said["answer"]["status"], case.status, "{context}");
            }
            answers.push(said);
        }
        let [online, offline] = &mut answers[..] else {
            panic!("two answers");
        };
        for answer in [&mut *online, &mut *offline] {
            let members = answer.as_object_mut().expect("an object");
            members.remove("now");
            // It counts the seconds since.
            members.remove("what");
        }
        assert_eq!(online, offline, "{}", case.what);
        let table = gateway.piped(
            &case
                .arguments()
                .into_iter()
                .filter(|word| !["--output", "json"].contains(word))
                .collect::<Vec<_>>(),
            case.token.as_deref().unwrap_or_default(),
        );
        let first = text(&table.stdout)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        assert!(
            case.words
                .iter()
                .any(|words| text(&table.stdout).contains(words)),
            "{first}"
        );
    }
    assert_eq!(
        counted(&gateway.scrape().await),
        before,
        "explaining counts nowhere"
    );

    for case in cases {
        let before = gateway.scrape().await;
        assert_eq!(
            case.on_the_wire(gateway).await,
            case.status,
            "{}",
            case.what
        );
        if let Some(reason) = case.reason {
            let after = gateway.scrape().await;
            let denied = |scrape: &str| {
                metrics::sum(
                    scrape,
                    "portcullis_auth_denied_total",
                    &[("reason", reason)],
                )
            };
            assert_eq!(denied(&after) - denied(&before), 1.0, "{}", case.what);
        }
    }
}

/// Everything that a request counts.
fn counted(scrape: &str) -> Vec<String> {
    let of_requests = [
        "portcullis_auth_",
        "portcullis_http_requests_total",
        "portcullis_token_cache_",
        "portcullis_purge_",
        "portcullis_compromised_",
    ];
    let lines = scrape
        .lines()
        .filter(|line| of_requests.iter().any(|name| line.starts_with(name)));
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_judges_by_itself_where_no_gateway_runs() {
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&setup(upstream.address)).await;
    let token = gateway.token().await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
    let before = store_of(&gateway);
    let output = gateway.piped(&["token", "explain", "--path", "/hello"], &token);
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}{complaint}");
    assert!(said.starts_with("ACCEPTED"), "{said}");
    assert!(complaint.contains("is the gateway running?"), "{complaint}");
    assert_eq!(store_of(&gateway), before, "a look changes no file");

    std::fs::remove_dir_all(gateway.dir.path().join("data")).expect("it goes");
    let output = gateway.piped(&["token", "explain", "--offline"], &token);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
}

fn store_of(gateway: &Process) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let dir = gateway.dir.path().join("data/keys");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("a store")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let meta = path.metadata().expect("a file");
            (path, meta.len(), meta.modified().expect("a time"))
        })
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_is_for_operators_and_quotes_no_token() {
    let gateway = Gateway::start(Options::default()).await;
    let token = gateway.token().await;
    let post = async |admin: &str, body: &str| {
        let request = gateway
            .http
            .post(format!("{}/admin/v1/tokens/explain", gateway.admin))
            .bearer_auth(admin)
            .header("content-type", "application/json")
            .body(body.to_owned());
        let response = request.send().await.expect("an answer");
        (
            response.status().as_u16(),
            response.text().await.expect("text"),
        )
    };
    let good =
        json!({ "token": token, "method": "GET", "host": "x", "path": "/hello" }).to_string();
    let (status, body) = post(VIEWER, &good).await;
    assert_eq!(status, 403, "{body}");
    let (status, body) = post(OPERATOR, &good).await;
    assert_eq!(status, 200, "{body}");
    let said: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(said["verdict"], "accepted", "{said}");
    assert_eq!(said["token"]["verified"], true, "{said}");
    assert!(!body.contains(&token), "{body}");

    for bad in [
        "{}".to_owned(),
        format!("{{\"path\":\"/\",\"{token}\":1}}"),
        format!("{{\"path\":\"/\",\"token\":[\"{token}\"]}}"),
        format!("{{\"path\":\"/\",\"token\":\"{token}\",\"token\":\"x\"}}"),
        format!("{{\"path\":\"/\",\"token\":\"{token}\",\"method\":null}}"),
        format!("{{\"path\":\"/\",\"token\":\"{token}\""),
        format!("\"{token}\""),
    ] {
        let (status, body) = post(OPERATOR, &bad).await;
        assert_eq!(status, 400, "{body}");
        assert!(
            body.contains("BAD_BODY") && !body.contains(&token),
            "{body}"
        );
    }
    // What could never arrive as a request is judged all the same, and nothing is forwarded.
    for (member, value, verdict) in [
        ("method", "NO METHOD", "bad_request"),
        ("path", "hello", "bad_request"),
        ("path", "/a b", "bad_request"),
        ("path", "", "bad_request"),
        ("host", "two hosts", "bad_request"),
        ("host", "", "bad_request"),
        ("token", "", "refused"),
        ("token", "a\nb", "refused"),
        ("token", "\u{1b}[2J", "refused"),
    ] {
        let mut question: Value = serde_json::from_str(&good).expect("JSON");
        question[member] = value.into();
        let (status, body) = post(OPERATOR, &question.to_string()).await;
        assert_eq!(status, 200, "{member} {value:?}: {body}");
        let said: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(said["verdict"], verdict, "{member} {value:?}: {body}");
    }
    assert!(!gateway.log.text().contains(&token));
}
