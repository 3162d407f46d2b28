//! Every example is sent to a gateway, and the answer is what the document says; who may not ask is
//! refused as it says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::document::{Document, Example, Operation};
use crate::harness::{ADMIN, Gateway, OPERATOR, VIEWER};
use crate::world::World;
use crate::{project_file, renews};

/// Headers that are on every answer, or none of the application's business.
const USUAL: [&str; 14] = [
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "keep-alive",
    "cache-control",
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "date",
    "referrer-policy",
    "server",
    "transfer-encoding",
    "allow",
    "x-content-type-options",
];

/// Sends the request of an example.
async fn send(
    world: &World,
    of: &Operation<'_>,
    example: &Example,
    token: Option<&str>,
) -> reqwest::Response {
    let url = format!(
        "{}{}",
        world.gateway.admin,
        world.here(&example.target(of.path))
    );
    let method = of.method.parse().expect("a method");
    let mut request = world.gateway.http.request(method, url);
    for (name, value) in example.headers() {
        request = request.header(name, world.here(&value));
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = &example.request {
        request = request.json(&world.value_here(body));
    }
    request.send().await.expect("the admin listener answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_answered_as_the_document_says() {
    let document = Document::new();
    for of in document.operations() {
        let examples = of.examples();
        assert!(!examples.is_empty(), "{} has no example", of.id());
        for example in examples {
            let what = format!("{}.{}", of.id(), example.name);
            let world = World::of(of.id()).await;
            let response = send(&world, &of, &example, Some(ADMIN)).await;
            let status = response.status().as_u16();
            assert_eq!(
                status,
                example.status,
                "{what}: {}",
                response.text().await.expect("text")
            );
            assert_headers(&what, &of, status, response.headers());
            let Some((media, content)) = of.content(status) else {
                assert_eq!(response.text().await.expect("text"), "", "{what}");
                continue;
            };
            let sent = response.headers()["content-type"].to_str().expect("text");
            assert_eq!(sent, media, "{what}");
            if media == "text/event-stream" {
                assert_stream(response).await;
                continue;
            }
            let answer: Value = response.json().await.expect("JSON");
            let closed = of.id() != "readOpenApi";
            document.assert_valid(&what, &content["schema"], &answer, closed);
            if renews("examples") {
                record(&world, of.id(), &example.name, answer);
            }
        }
    }
}

/// A stream begins with the status and what is in force.
async fn assert_stream(mut response: reqwest::Response) {
    let mut text = String::new();
    while !["status", "keys", "clients", "tick"]
        .iter()
        .all(|name| text.contains(&format!("event: {name}\ndata: {{")))
    {
        let piece = response.chunk().await.expect("a stream").expect("no end");
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(text.starts_with("retry: 2000\nid: "), "{text}");
}

/// Whether the headers are those that the document lists.
fn assert_headers(what: &str, of: &Operation<'_>, status: u16, sent: &reqwest::header::HeaderMap) {
    let listed = of.responses()[&status.to_string()]["headers"]
        .as_object()
        .cloned();
    let listed = listed.unwrap_or_default();
    let names: BTreeSet<String> = listed
        .keys()
        .map(|name| name.to_ascii_lowercase())
        .collect();
    for (name, header) in &listed {
        assert!(
            header["required"] != true || sent.contains_key(name.as_str()),
            "{what} lacks the header {name}"
        );
    }
    for name in sent.keys() {
        assert!(
            USUAL.contains(&name.as_str()) || names.contains(name.as_str()),
            "{what}: the header {name} is not in the document"
        );
    }
}

/// Keeps an answer as the recorded one of its example.
fn record(world: &World, id: &str, name: &str, answer: Value) {
    if id == "readOpenApi" {
        return;
    }
    let mut answer: Value = serde_json::from_str(&world.there(&answer.to_string())).expect("JSON");
    if answer.get("secret").is_some() {
        answer["secret"] = json!("shown-here-and-never-again");
    }
    let text = serde_json::to_string_pretty(&answer).expect("JSON") + "\n";
    let path = project_file(&format!("src/admin/examples/{id}.{name}.json"));
    std::fs::write(path, text).expect("a file");
}

#[test]
fn every_recorded_example_is_what_its_schema_says() {
    let document = Document::new();
    for of in document.operations() {
        for example in of.examples() {
            let what = format!("{}.{}", of.id(), example.name);
            if let Some((_, content)) = of.content(example.status) {
                document.assert_valid(&what, &content["schema"], &example.answer, false);
            }
            if let (Some(of), Some(request)) = (of.request(), &example.request) {
                document.assert_valid(&what, &of["schema"], request, true);
            }
            for parameter in of.parameters() {
                let value = &parameter["examples"][&example.name]["value"];
                if !value.is_null() {
                    document.assert_valid(&what, &parameter["schema"], value, false);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_does_what_the_document_keeps_from_the_role() {
    let document = Document::new();
    let world = World::of("none").await;
    for of in document.operations() {
        let mut examples = of.examples();
        // Whoever may rotate may not purge.
        examples.retain(|example| {
            let request = example.request.as_ref();
            request.is_none_or(|request| request["purge"] != true)
        });
        let example = examples.remove(0);
        let tokens = [
            (None, ""),
            (Some(VIEWER), "viewer"),
            (Some(OPERATOR), "operator"),
        ];
        for (rank, (token, _)) in tokens.into_iter().enumerate() {
            let needed = match of.role() {
                None => 0,
                Some("viewer") => 1,
                Some("operator") => 2,
                Some(_) => 3,
            };
            let response = send(&world, &of, &example, token).await;
            let status = response.status().as_u16();
            let is_stream = response
                .headers()
                .get("content-type")
                .is_some_and(|of| of == "text/event-stream");
            let body: Value = if is_stream {
                Value::Null
            } else {
                response.json().await.unwrap_or_default()
            };
            if rank >= needed {
                assert!(
                    !matches!(status, 401 | 403),
                    "{} as {rank}: {body}",
                    of.id()
                );
                continue;
            }
            let code = if rank == 0 { "UNAUTHENTICATED" } else { "ROLE" };
            assert_eq!(body["code"], code, "{} as {rank}: {body}", of.id());
            let problem = &of.content(status).expect("documented").1["schema"];
            document.assert_valid(of.id(), problem, &body, true);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_document_does_not_have_is_not_there() {
    let document = Document::new();
    let gateway = Gateway::start(crate::harness::Options::default()).await;
    let paths: BTreeSet<&str> = document.operations().iter().map(|of| of.path).collect();
    for path in paths {
        let known: BTreeSet<String> = document
            .operations()
            .iter()
            .filter(|of| of.path == path)
            .map(|of| of.method.clone())
            .collect();
        let concrete = path
            .replace("{kid}", "k")
            .replace("{id}", "i")
            .replace("{log_id}", "l");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let request = gateway
                .http
                .request(
                    method.parse().expect("a method"),
                    format!("{}{concrete}", gateway.admin),
                )
                .bearer_auth(ADMIN);
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            let allow = response.headers().get("allow").cloned();
            assert_eq!(
                status == 405,
                !known.contains(method),
                "{method} {path}: {status}"
            );
            if status == 405 {
                let allow = allow.expect("Allow (RFC 9110 section 15.5.6)");
                let allow = allow.to_str().expect("text");
                for method in &known {
                    assert!(allow.contains(method.as_str()), "{path}: {allow}");
                }
            }
        }
    }
    for path in [
        "/admin/v1",
        "/admin/v1/keys/x",
        "/admin/v1/clients/a/unknown",
        "/admin/v2/keys",
    ] {
        let (status, body) = gateway.admin_get(path).await;
        assert_eq!(
            (status, &body["code"]),
            (404, &json!("NOT_FOUND")),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_to_anybody_and_can_be_kept() {
    let gateway = Gateway::start(crate::harness::Options::default()).await;
    let url = format!("{}/admin/v1/openapi.json", gateway.admin);
    let get = |tag: Option<String>| {
        let request = gateway.http.get(&url);
        match tag {
            Some(tag) => request.header("if-none-match", tag),
            None => request,
        }
    };
    let first = get(None).send().await.expect("an answer");
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["cache-control"], "no-cache");
    let tag = first.headers()["etag"].to_str().expect("text").to_owned();
    assert_eq!(
        first.text().await.expect("text"),
        portcullis::admin::openapi()
    );
    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".to_owned(),
    ] {
        let again = get(Some(known)).send().await.expect("an answer");
        assert_eq!(again.status(), 304);
        assert_eq!(again.headers()["etag"], tag.as_str());
    }
    let other = get(Some("\"other\"".to_owned()))
        .send()
        .await
        .expect("an answer");
    assert_eq!(other.status(), 200);
    let evil = get(None)
        .header("host", "evil.test")
        .send()
        .await
        .expect("an answer");
    assert_eq!(evil.status(), 421, "open is not open to DNS rebinding");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_keys_is_refused_when_they_changed_since() {
    let world = World::of("restoreKey").await;
    let current = world.gateway.lifecycle.current_set().revision;
    let restore = world.here(&format!("/admin/v1/keys/{}/restore", crate::world::KID));
    let mark = restore.replace("/restore", "/compromised");
    let import = json!({
        "public_jwk": {
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        },
        "max_ttl": "1h",
    });
    for (path, body) in [
        (restore.as_str(), json!({})),
        (mark.as_str(), json!({})),
        ("/admin/v1/keys/reseal", json!({})),
        ("/admin/v1/keys/import", import),
    ] {
        for (tag, status, code) in [
            (format!("\"{}\"", current - 1), 412, "STALE_REVISION"),
            (format!("\"{}\"", current + 1), 412, "REVISION_AHEAD"),
            ("W/\"1\"".to_owned(), 400, "BAD_HEADER"),
        ] {
            let request = world
                .gateway
                .http
                .post(format!("{}{path}", world.gateway.admin));
            let request = request
                .bearer_auth(ADMIN)
                .header("if-match", tag)
                .json(&body);
            let response = request.send().await.expect("an answer");
            assert_eq!(response.status(), status, "{path}");
            let answer: Value = response.json().await.expect("JSON");
            assert_eq!(answer["code"], code, "{path}: {answer}");
            assert_eq!(world.gateway.lifecycle.current_set().revision, current);
        }
    }
    let request = world
        .gateway
        .http
        .post(format!("{}{restore}", world.gateway.admin));
    let tag = format!("\"{current}\"");
    let request = request
        .bearer_auth(ADMIN)
        .header("if-match", tag)
        .json(&json!({}));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let now = format!("\"{}\"", current + 1);
    assert_eq!(response.headers()["etag"], now.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_purges_has_pages() {
    let gateway = Gateway::start(crate::harness::Options::default()).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.insert(0, gateway.purge().await["receipt"]["purge_id"].clone());
    }
    let mut found = Vec::new();
    let mut target = "/admin/v1/keys/purges?limit=2".to_owned();
    for last in [false, false, true] {
        let (status, page) = gateway.admin_get(&target).await;
        assert_eq!(status, 200);
        let purges = page["purges"].as_array().expect("purges");
        assert_eq!(purges.len(), if last { 1 } else { 2 });
        found.extend(purges.iter().map(|of| of["purge_id"].clone()));
        assert_eq!(page["next"].is_null(), last);
        let next = page["next"].as_str().unwrap_or_default();
        target = format!("/admin/v1/keys/purges?limit=2&before={next}");
    }
    assert_eq!(found, made);
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "before=x",
        "before=1d9ee5d0-5c8b-4b0e-8a53-0c4f6f5a2b17",
        "after=x",
    ] {
        let (status, body) = gateway
            .admin_get(&format!("/admin/v1/keys/purges?{bad}"))
            .await;
        assert_eq!((status, &body["code"]), (400, &json!("BAD_QUERY")), "{bad}");
    }
}
