//! After a purge: whom it broke, who is back, and what of that survives a restart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod harness;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::clients::{lines, token_of};
use harness::forge::{PrivateKey, good_claims};
use harness::process::Setup;
use harness::upstream::Upstream;
use harness::{CLIENT, Gateway, Options, Process, VIEWER, eventually, kid, metrics};
use portcullis::clock::Clock as _;
use serde_json::{Value, json};

/// Why a client was refused last, in the words of the board.
const REASON: &str = "the key of its token was purged: it must ask for a new one";

async fn purge_shown(gateway: &Gateway, purge: &Value, query: &str) -> Value {
    let id = purge["rotation_id"].as_str().unwrap();
    let path = format!("/admin/v1/keys/purges/{id}{query}");
    let (status, shown) = gateway.admin_get(&path).await;
    assert_eq!(status, 200, "{shown}");
    shown["recovery"].clone()
}

fn sums(recovery: &Value) -> [u64; 4] {
    ["affected", "got_new_token", "recovered", "failures"]
        .map(|name| recovery[name].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_that_a_purge_broke_is_followed_until_it_is_back() {
    let gateway = Gateway::start(Options {
        clients: lines(&["c0", "c1", "c2"], ""),
        ..Options::default()
    })
    .await;
    let token = |name: &'static str| token_of(&gateway.http, &gateway.proxy, name);
    let at = |seconds: u64| {
        gateway.clock.advance(Duration::from_secs(seconds));
        gateway.clock.now().to_string()
    };
    let gauges = |kid: String| {
        let gateway = &gateway;
        async move {
            let scrape = gateway.scrape().await;
            let of = |name| metrics::value(&scrape, name, &[("kid", &kid)]);
            (
                of("portcullis_purge_affected_clients"),
                of("portcullis_purge_recovered_clients"),
            )
        }
    };
    let old = [token("c0").await, token("c1").await, token("c2").await];
    let leaked = kid(&old[0]);
    assert_eq!(
        gauges(leaked.clone()).await,
        (0.0, 0.0),
        "there from the key's creation"
    );
    let purge = gateway.purge().await;
    assert_eq!(sums(&purge_shown(&gateway, &purge, "").await), [0, 0, 0, 0]);

    let first = at(10);
    assert_eq!(gateway.status(&old[0]).await, 401);
    assert_eq!(gateway.status(&old[1]).await, 401);
    let last = at(5);
    assert_eq!(gateway.status(&old[0]).await, 401);
    // Refused for more than the purge: not affected.
    assert_eq!(gateway.get("/other", &old[2]).await.status(), 401);
    assert_eq!(gauges(leaked.clone()).await, (2.0, 0.0));

    let renewed = at(5);
    let new = token("c0").await;
    assert_eq!(sums(&purge_shown(&gateway, &purge, "").await), [2, 1, 0, 3]);
    let back = at(5);
    assert_eq!(gateway.status(&new).await, 200);
    assert_eq!(gateway.status(&new).await, 200);
    let shown = purge_shown(&gateway, &purge, "").await;
    assert_eq!(sums(&shown), [2, 1, 1, 3]);
    assert_eq!(
        shown["clients"][0],
        json!({
            "client_id": "c0", "first_failure_at": first, "last_failure_at": last, "failures": 2,
            "new_token_at": renewed, "recovered_at": back, "still_failing": false,
            "last_failure_code": "key_purged", "last_failure_reason": REASON,
        })
    );
    assert_eq!(
        shown["clients"][1],
        json!({
            "client_id": "c1", "first_failure_at": first, "last_failure_at": first, "failures": 1,
            "new_token_at": null, "recovered_at": null, "still_failing": true,
            "last_failure_code": "key_purged", "last_failure_reason": REASON,
        })
    );
    assert_eq!(gauges(leaked.clone()).await, (2.0, 1.0));

    // Another instance of it still has the old token.
    assert_eq!(gateway.status(&old[0]).await, 401);
    assert_eq!(gauges(leaked.clone()).await, (2.0, 0.0));
    assert_eq!(gateway.status(&new).await, 200);
    assert_eq!(gauges(leaked).await, (2.0, 1.0));

    // One that had a new token before it ever failed.
    let ready = token("c2").await;
    let issued = gateway.clock.now().as_seconds() * 1000;
    at(1);
    assert_eq!(gateway.status(&old[2]).await, 401);
    assert_eq!(gateway.status(&ready).await, 200);
    let shown = purge_shown(&gateway, &purge, "").await;
    assert_eq!(sums(&shown), [3, 2, 2, 5]);
    let issued = portcullis::clock::Timestamp::from_millis(issued).to_string();
    assert_eq!(shown["clients"][2]["new_token_at"], issued);

    // Page by page.
    let page = purge_shown(&gateway, &purge, "?limit=2").await;
    assert_eq!(
        (
            page["clients"].as_array().unwrap().len(),
            &page["next_after"]
        ),
        (2, &json!("c1"))
    );
    let page = purge_shown(&gateway, &purge, "?limit=2&after=c1").await;
    assert_eq!(
        (&page["clients"][0]["client_id"], page.get("next_after")),
        (&json!("c2"), None)
    );
    let id = purge["rotation_id"].as_str().unwrap();
    for bad in ["limit=0", "limit=1001", "limit=x", "page=2"] {
        let path = format!("/admin/v1/keys/purges/{id}?{bad}");
        assert_eq!(gateway.admin_get(&path).await.0, 400, "{bad}");
    }
    // A viewer sees sums, no names.
    let url = format!("{}/admin/v1/keys/purges/{id}", gateway.admin);
    let answer = gateway
        .http
        .get(url)
        .bearer_auth(VIEWER)
        .send()
        .await
        .unwrap();
    let seen = answer.text().await.unwrap();
    assert!(
        seen.contains("\"affected\":3") && !seen.contains("client_id"),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_are_listed_newest_first_and_each_has_its_own_clients() {
    let gateway = Gateway::start(Options::default()).await;
    let one = gateway.token().await;
    let first = gateway.purge().await;
    assert_eq!(gateway.status(&one).await, 401);
    let two = gateway.token().await;
    assert_eq!(gateway.status(&two).await, 200);
    let second = gateway.purge().await;
    assert_eq!(gateway.status(&two).await, 401);
    let (status, listed) = gateway.admin_get("/admin/v1/keys/purges").await;
    assert_eq!(status, 200);
    let listed = listed["purges"].as_array().unwrap();
    let ids: Vec<&Value> = listed.iter().map(|purge| &purge["purge_id"]).collect();
    assert_eq!(ids, [&second["rotation_id"], &first["rotation_id"]]);
    assert_eq!(sums(&listed[0]["recovery"]), [1, 0, 0, 1]);
    assert_eq!(sums(&listed[1]["recovery"]), [1, 1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_a_stolen_key_belongs_to_its_purge_and_survives_a_restart() {
    let gateway = Gateway::start(Options {
        file_store: true,
        ..Options::default()
    })
    .await;
    let stolen = PrivateKey::active(&gateway);
    let first = gateway.purge().await;
    let second = gateway.purge().await;
    let none = |recovery: &Value| {
        let members =
            ["first", "last"].map(|which| &recovery[format!("compromised_{which}_used_at")]);
        assert_eq!(recovery["compromised_key_uses"], 0, "{recovery}");
        assert!(members.iter().all(|at| at.is_null()), "{recovery}");
    };
    none(&purge_shown(&gateway, &first, "").await);
    let mut used_at = Vec::new();
    for _ in 0..3 {
        gateway.clock.advance(Duration::from_secs(90));
        used_at.push(gateway.clock.now().to_string());
        let token = stolen.mint(&good_claims(&gateway));
        assert_eq!(gateway.status(&token).await, 401);
    }
    let shown = purge_shown(&gateway, &first, "").await;
    assert_eq!(shown["compromised_key_uses"], 3, "{shown}");
    assert_eq!(shown["compromised_first_used_at"], used_at[0].as_str());
    assert_eq!(shown["compromised_last_used_at"], used_at[2].as_str());
    assert_eq!(sums(&shown), [0, 0, 0, 0], "it broke nobody");
    let (_, listed) = gateway.admin_get("/admin/v1/keys/purges").await;
    assert_eq!(listed["purges"][1]["recovery"]["compromised_key_uses"], 3);
    none(&listed["purges"][0]["recovery"]);
    none(&purge_shown(&gateway, &second, "").await);

    gateway.lifecycle.save_side_documents().await;
    let next = gateway.restart(Options::default()).await;
    assert_eq!(purge_shown(&next, &first, "").await, shown);
}

/// A restored key's clients are back without a new token; purged again, it starts from nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_brings_clients_back() {
    let gateway = Gateway::start(Options {
        clients: lines(&["c1"], ""),
        ..Options::default()
    })
    .await;
    let token = gateway.token().await;
    let other = token_of(&gateway.http, &gateway.proxy, "c1").await;
    let leaked = kid(&token);
    let purge_it = |seen: u64| {
        let body = json!({ "purge": true, "seen_revision": seen, "mistake_undo": true });
        let gateway = &gateway;
        async move { gateway.admin_post("/admin/v1/keys/rotate", body).await.1 }
    };
    let first = purge_it(gateway.lifecycle.current_set().revision).await;
    // More than once, so that the token is known to be purged.
    for _ in 0..3 {
        assert_eq!(gateway.status(&token).await, 401);
    }
    assert_eq!(gateway.status(&other).await, 401);
    let restore = format!("/admin/v1/keys/{leaked}/restore");
    assert_eq!(gateway.admin_post(&restore, json!({})).await.0, 200);
    assert_eq!(gateway.status(&token).await, 200);
    assert_eq!(sums(&purge_shown(&gateway, &first, "").await), [2, 0, 1, 4]);

    let second = purge_it(gateway.lifecycle.current_set().revision).await;
    assert_eq!(gateway.status(&token).await, 401);
    assert_eq!(
        sums(&purge_shown(&gateway, &second, "").await),
        [1, 0, 0, 1]
    );
    assert_eq!(sums(&purge_shown(&gateway, &first, "").await), [2, 0, 1, 4]);
    let kid = [("kid", leaked.as_str())];
    assert_eq!(
        gateway
            .metric("portcullis_purge_affected_clients", &kid)
            .await,
        1.0
    );
    assert_eq!(
        gateway
            .metric("portcullis_purge_recovered_clients", &kid)
            .await,
        0.0
    );
    let failures = gateway
        .metric("portcullis_purge_verification_failures_total", &kid)
        .await;
    assert_eq!(failures, 5.0);

    // One that is back only now is back from the first death; the metric is about the second.
    let new = token_of(&gateway.http, &gateway.proxy, "c1").await;
    assert_eq!(gateway.status(&new).await, 200);
    assert_eq!(sums(&purge_shown(&gateway, &first, "").await), [2, 1, 2, 4]);
    for (name, shown) in [("affected", 1.0), ("recovered", 0.0)] {
        let name = format!("portcullis_purge_{name}_clients");
        assert_eq!(gateway.metric(&name, &kid).await, shown, "{name}");
    }
}

/// The content of a document beside the key set.
fn stored(gateway: &Process, name: &str) -> Value {
    let path = gateway.dir.path().join(format!("data/keys/{name}.json"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let envelope: Value = serde_json::from_str(&text).unwrap_or_default();
    let data = envelope["data"].as_str().unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(data).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_receipts_and_recovery_survive_a_sigkill() {
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&Setup::new(upstream.address)).await;
    let purged = gateway.token().await;
    let purge = gateway.purge().await;
    let id = purge["rotation_id"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        assert_eq!(gateway.status(&purged).await, 401);
    }
    let mut live = Vec::new();
    for _ in 0..20 {
        live.push(gateway.token().await);
    }
    let active = kid(&live[0]);
    eventually("both documents are written", || async {
        let counters = &stored(&gateway, "counters")["keys"][&active]["buckets"];
        let counted = counters
            .as_object()?
            .values()
            .filter_map(Value::as_u64)
            .sum::<u64>();
        let keys = stored(&gateway, "recovery");
        let written = keys["keys"].as_array()?.iter().any(|key| {
            let client = &key["clients"][CLIENT];
            client["failures"] == 3 && client["new_token_at"].is_i64()
        });
        (counted == 20 && written).then_some(())
    })
    .await;
    let path = format!("/admin/v1/keys/purges/{id}");
    let mut before = gateway.admin_get(&path).await;
    gateway.kill().await;
    gateway.serve().await;

    let preview = gateway.admin_get("/admin/v1/keys/preview").await;
    assert_eq!(
        (&preview["live_tokens"], &preview["clients"]),
        (&20.into(), &1.into())
    );
    let mut after = gateway.admin_get(&path).await;
    for shown in [&mut before, &mut after] {
        // Both are known since the start alone.
        shown.as_object_mut().unwrap().remove("failures_over_time");
        for client in shown["recovery"]["clients"].as_array_mut().unwrap() {
            client["last_failure_code"].take();
            client["last_failure_reason"].take();
        }
    }
    assert_eq!(after, before);
    assert_eq!(sums(&after["recovery"]), [1, 1, 0, 3], "{after}");
    assert_eq!(gateway.status(&live[0]).await, 200);
    assert_eq!(
        sums(&gateway.admin_get(&path).await["recovery"]),
        [1, 1, 1, 3]
    );

    // A receipt that was not written in time is told by the tombstones.
    let second = gateway.purge().await;
    gateway.kill().await;
    gateway.serve().await;
    let listed = gateway.admin_get("/admin/v1/keys/purges").await;
    let newest = &listed["purges"][0];
    assert_eq!(newest["purge_id"], second["rotation_id"]);
    assert_eq!(
        newest["complete"], true,
        "whoever held a key is gone with the process"
    );
    let kids = |value: &Value| {
        let mut kids: Vec<String> = serde_json::from_value(value.clone()).unwrap();
        kids.sort();
        kids
    };
    assert_eq!(kids(&newest["kids"]), kids(&second["receipt"]["kids"]));
    assert_eq!(listed["purges"][1]["purge_id"], id.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_previews_shadow_purges_and_purges() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup::new(upstream.address)).await;
    let run = |arguments: &[&str]| {
        let output = gateway.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let token = gateway.token().await;
    let said = run(&["keys", "preview"]);
    assert!(
        said.starts_with("a purge now would break up to 1 live tokens of 1 clients"),
        "{said}"
    );
    let scoped = run(&[
        "keys",
        "preview",
        "--kid",
        &kid(&token),
        "--keep-pending",
        "--output",
        "json",
    ]);
    let scoped: Value = serde_json::from_str(&scoped).unwrap();
    assert_eq!(scoped["keys"].as_array().unwrap().len(), 1);
    let refused = gateway
        .refused(&["keys", "preview", "--kid", "nobody"])
        .await;
    assert!(
        refused.code == 1 && refused.stderr.contains("nobody"),
        "{refused:?}"
    );
    let shadow = run(&["keys", "preview", "--shadow", "1s", "--output", "json"]);
    let shadow: Value = serde_json::from_str(&shadow).unwrap();
    assert_eq!(
        (&shadow["over"], &shadow["requests"]),
        (&json!(true), &json!(0))
    );
    let said = run(&["keys", "preview", "--shadow", "1s"]);
    assert!(
        said.contains("would have refused 0 requests of 0 clients; nothing was changed"),
        "{said}"
    );

    let purge = gateway.purge().await;
    let id = purge["rotation_id"].as_str().unwrap();
    assert_eq!(gateway.status(&token).await, 401);
    let said = run(&["keys", "purges"]);
    assert!(said.lines().count() == 2 && said.contains(id), "{said}");
    let said = run(&["keys", "purges", id]);
    assert!(
        said.contains("it broke 1 clients with 1 requests; 0 got a new token, 0 are back"),
        "{said}"
    );
    assert!(said.contains(CLIENT), "{said}");
    let fresh = gateway.token().await;
    assert_eq!(gateway.status(&fresh).await, 200);
    let watched = run(&["keys", "purges", id, "--watch", "--output", "json"]);
    let watched: Value = serde_json::from_str(&watched).unwrap();
    assert_eq!(sums(&watched["recovery"]), [1, 1, 1, 1]);
    assert_eq!(watched["recovery"]["clients"][0]["client_id"], CLIENT);
}
