//! The preview of a purge, and the shadow purge: honest, and without effect.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "test code"
)]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use harness::clients::{lines, token_of};
use harness::forge::good_claims;
use harness::{CLIENT, Gateway, OPERATOR, Options, VIEWER, claims, eventually, kid};
use portcullis::clock::Clock as _;
use portcullis::keygen::{KeyGenerator as _, RingKeyGenerator};
use portcullis::keys::Algorithm;
use portcullis::token::jose::TokenSigner;
use ring::rand::SystemRandom;
use serde_json::{Value, json};

const PREVIEW: &str = "/admin/v1/keys/preview";

#[tokio::test(flavor = "multi_thread")]
async fn inv19_preview_bounds_what_a_purge_breaks_and_changes_nothing() {
    let gateway = Gateway::start(Options::default()).await;
    let before = gateway.lifecycle.current_set();
    let mut tokens = Vec::new();
    for _ in 0..5 {
        tokens.push(gateway.token().await);
    }
    gateway.rotate().await;
    tokens.push(gateway.token().await);

    let (status, preview) = gateway.admin_get("/admin/v1/keys/preview?purge=true").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&preview["live_tokens"], &preview["clients"]),
        (&6.into(), &1.into())
    );
    let by_state = |state: &str| {
        let keys = preview["keys"].as_array().unwrap();
        keys.iter().find(|key| key["state"] == state).unwrap()["live_tokens"].clone()
    };
    assert_eq!(
        (
            by_state("active"),
            by_state("deprecated"),
            by_state("pending")
        ),
        (1.into(), 5.into(), 0.into())
    );
    assert_eq!(
        gateway.lifecycle.current_set().revision,
        before.revision + 1,
        "the rotation alone"
    );

    gateway.purge().await;
    let mut broken = 0;
    for token in &tokens {
        broken += u64::from(gateway.status(token).await == 401);
    }
    assert!(preview["live_tokens"].as_u64().unwrap() >= broken);
    assert_eq!(gateway.admin_get(PREVIEW).await.1["live_tokens"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_tokens_leave_the_preview_within_a_bucket() {
    let gateway = Gateway::start(Options::default()).await;
    let _token = gateway.token().await;
    gateway.clock.advance(Duration::from_secs(3600 + 60 + 61));
    assert_eq!(gateway.admin_get(PREVIEW).await.1["live_tokens"], 0);
}

/// A token and everything that decides about it.
struct Issued {
    token: String,
    kid: String,
    client: String,
    expires_at: i64,
}

/// Keeps every token and every use: the truth that previews are held against.
#[derive(Default)]
struct Oracle {
    tokens: Vec<Issued>,
    /// By key and client, in seconds.
    last_use: BTreeMap<(String, String), i64>,
}

const LEEWAY: i64 = 60;
const NAMES: [&str; 7] = ["c0", "c1", "c2", "c3", "short0", "short1", CLIENT];

impl Oracle {
    /// Sends a token and notes its use; whether it was accepted.
    async fn send(&mut self, gateway: &Gateway, index: usize) -> bool {
        let of = &self.tokens[index];
        let accepted = gateway.status(&of.token).await == 200;
        if accepted {
            let at = gateway.clock.now().as_seconds();
            self.last_use
                .insert((of.kid.clone(), of.client.clone()), at);
        }
        accepted
    }

    /// Tokens and clients that would be alive at `second`, by keys among `kids`.
    fn alive(&self, kids: &[String], second: i64) -> (u64, u64) {
        let alive = || {
            self.tokens
                .iter()
                .filter(|of| kids.contains(&of.kid) && second < of.expires_at + LEEWAY)
        };
        let clients: BTreeSet<&String> = alive().map(|of| &of.client).collect();
        (alive().count() as u64, clients.len() as u64)
    }

    fn callers(&self, kids: &[String], since: i64) -> u64 {
        let callers: BTreeSet<&String> = self
            .last_use
            .iter()
            .filter(|((kid, _), last)| kids.contains(kid) && **last >= since)
            .map(|((_, client), _)| client)
            .collect();
        callers.len() as u64
    }

    fn check(&self, preview: &Value, now: i64) {
        let kids_of = |key: &Value| vec![key["kid"].as_str().unwrap().to_owned()];
        let rows = preview["keys"].as_array().unwrap();
        let all: Vec<String> = rows.iter().flat_map(kids_of).collect();
        let rows = rows.iter().map(|row| (kids_of(row), row));
        for (kids, row) in rows.chain([(all, preview)]) {
            let number = |name: &str| row[name].as_u64().unwrap();
            let (least, most) = (self.alive(&kids, now), self.alive(&kids, now - 60));
            let (tokens, clients) = (number("live_tokens"), number("clients"));
            assert!(
                (least.0..=most.0).contains(&tokens),
                "{tokens} {least:?} {most:?} {row}"
            );
            assert!(
                (least.1..=most.1).contains(&clients),
                "{clients} {least:?} {most:?} {row}"
            );
            // In whole seconds.
            let callers = number("requesting_clients");
            let (few, many) = (
                self.callers(&kids, now - 299),
                self.callers(&kids, now - 301),
            );
            assert!(
                (few..=many).contains(&callers),
                "{callers} {few} {many} {row}"
            );
            assert_eq!(
                (&row["clients_exact"], &row["requesting_clients_exact"]),
                (&true.into(), &true.into())
            );
        }
    }
}

/// xorshift: the same traffic for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

/// Random traffic, then a preview of a random purge, then that purge: the preview is never too low,
/// and within one bucket of the truth.
#[tokio::test(flavor = "multi_thread")]
async fn inv19_previews_are_honest_on_random_traffic() {
    for seed in [1, 0x5eed, 0xdead_beef] {
        honest(seed).await;
    }
}

async fn honest(seed: u64) {
    let clients = lines(&NAMES[..4], "") + &lines(&NAMES[4..6], ", token_ttl: 90s");
    let gateway = Gateway::start(Options {
        clients,
        token_ttl: "20m",
        ..Options::default()
    })
    .await;
    let (mut oracle, mut dice) = (Oracle::default(), Dice(seed));
    let now = || gateway.clock.now().as_seconds();
    for _round in 0..5 {
        for _step in 0..60 {
            step(&gateway, &mut oracle, &mut dice).await;
        }
        gateway
            .clock
            .advance(Duration::from_millis(1000 + dice.below(700) as u64));
        gateway.lifecycle.tick().await.unwrap();
        oracle.check(&gateway.admin_get(PREVIEW).await.1, now());

        let live = gateway.admin_get("/admin/v1/keys").await.1["keys"].clone();
        let live = live.as_array().unwrap();
        let (query, mut body) = match dice.below(3) {
            0 => (
                String::new(),
                json!({ "purge": true, "seen_revision": gateway.lifecycle.current_set().revision }),
            ),
            keep => {
                let kid = live[dice.below(live.len())]["kid"].as_str().unwrap();
                let keep = keep == 1;
                (
                    format!("?kids={kid}&keep_pending={keep}"),
                    json!({ "purge": true, "kids": [kid], "keep_pending": keep }),
                )
            }
        };
        let (status, preview) = gateway.admin_get(&format!("{PREVIEW}{query}")).await;
        assert_eq!(status, 200, "{preview}");
        oracle.check(&preview, now());
        let mut good = Vec::new();
        for index in 0..oracle.tokens.len() {
            if oracle.send(&gateway, index).await {
                good.push(index);
            }
        }
        body["reason"] = json!("test");
        let (status, purge) = gateway.admin_post("/admin/v1/keys/rotate", body).await;
        assert_eq!(status, 200, "{purge}");
        let kids = |keys: &Value, name: &str| -> BTreeSet<String> {
            let keys = keys.as_array().unwrap().iter();
            keys.map(|key| key.get(name).unwrap_or(key).as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            kids(&preview["keys"], "kid"),
            kids(&purge["purged"], ""),
            "{query}"
        );
        let (mut tokens, mut clients) = (0, BTreeSet::new());
        for index in good {
            if !oracle.send(&gateway, index).await {
                tokens += 1;
                clients.insert(oracle.tokens[index].client.clone());
            }
        }
        assert!(
            preview["live_tokens"].as_u64().unwrap() >= tokens,
            "seed {seed}"
        );
        assert!(
            preview["clients"].as_u64().unwrap() >= clients.len() as u64,
            "seed {seed}"
        );
    }
}

async fn step(gateway: &Gateway, oracle: &mut Oracle, dice: &mut Dice) {
    match dice.below(10) {
        0..5 => {
            let client = NAMES[dice.below(NAMES.len())];
            let token = token_of(&gateway.http, &gateway.proxy, client).await;
            oracle.tokens.push(Issued {
                kid: kid(&token),
                client: client.to_owned(),
                expires_at: claims(&token)["exp"].as_i64().unwrap(),
                token,
            });
        }
        5..8 if !oracle.tokens.is_empty() => {
            oracle.send(gateway, dice.below(oracle.tokens.len())).await;
        }
        // Refused when the pending key is too young.
        8 => drop(gateway.admin_post("/admin/v1/keys/rotate", json!({})).await),
        _ => gateway
            .clock
            .advance(Duration::from_millis(dice.below(90_000) as u64)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_is_taken_once_a_second_and_shared() {
    let gateway = Gateway::start(Options::default()).await;
    let _one = gateway.token().await;
    let first = gateway.admin_get(PREVIEW).await.1;
    assert_eq!(first["computed_at"], gateway.clock.now().to_string());
    let _two = gateway.token().await;
    gateway.clock.advance(Duration::from_millis(999));
    assert_eq!(
        gateway.admin_get(PREVIEW).await.1,
        first,
        "the same figures for all who ask"
    );
    gateway.clock.advance(Duration::from_millis(1));
    let next = gateway.admin_get(PREVIEW).await.1;
    assert_eq!(
        (&next["live_tokens"], &first["live_tokens"]),
        (&2.into(), &1.into())
    );
    // A clock set back does not freeze it.
    gateway
        .clock
        .set(gateway.clock.now().minus(Duration::from_secs(3600)));
    assert_ne!(
        gateway.admin_get(PREVIEW).await.1["computed_at"],
        next["computed_at"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_from_traffic_counts_requests_and_who_sends_them() {
    let gateway = Gateway::start(Options {
        clients: lines(&["c0"], ""),
        ..Options::default()
    })
    .await;
    let tokens = [
        gateway.token().await,
        token_of(&gateway.http, &gateway.proxy, "c0").await,
    ];
    for token in tokens.iter().cycle().take(20) {
        assert_eq!(gateway.status(token).await, 200);
        assert_eq!(
            gateway.get("/other", token).await.status(),
            401,
            "not accepted"
        );
    }
    let view = |preview: &Value| {
        let number = |name: &str| preview[name].as_f64().unwrap();
        (number("requests_per_second"), number("requesting_clients"))
    };
    let since = gateway.clock.now().to_string();
    gateway.clock.advance(Duration::from_secs(10));
    let preview = gateway.admin_get(PREVIEW).await.1;
    assert_eq!(view(&preview), (2.0, 2.0));
    assert_eq!(preview["traffic_since"], since, "the start of the process");
    gateway.clock.advance(Duration::from_secs(291));
    let preview = gateway.admin_get(PREVIEW).await.1;
    assert_eq!(
        view(&preview).1,
        0.0,
        "the last request was more than five minutes ago"
    );
    gateway.clock.advance(Duration::from_secs(300));
    let preview = gateway.admin_get(PREVIEW).await.1;
    assert_eq!(view(&preview), (0.0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_of_named_keys_shows_what_dies_with_them() {
    let gateway = Gateway::start(Options::default()).await;
    let old = kid(&gateway.token().await);
    let rotated = gateway.rotate().await;
    let new = kid(&gateway.token().await);
    let states = |preview: &Value| {
        let keys = preview["keys"].as_array().unwrap().iter();
        keys.map(|key| key["state"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let of = |query: String| {
        let gateway = &gateway;
        async move { gateway.admin_get(&format!("{PREVIEW}?{query}")).await }
    };
    let (_, preview) = of(format!("kids={old}")).await;
    assert_eq!(
        (states(&preview), &preview["live_tokens"]),
        (vec!["deprecated".to_owned()], &1.into())
    );
    let until = rotated["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["kid"] == *old)
        .unwrap();
    assert_eq!(preview["rotate_instead_over_at"], until["verify_until"]);
    let (_, preview) = of(format!("kids={new}&purge=true")).await;
    assert_eq!(
        states(&preview),
        ["pending", "active"],
        "the pending key lay in the same store"
    );
    let (_, preview) = of(format!("kids={new},{old}&keep_pending=true")).await;
    assert_eq!(
        (states(&preview), &preview["live_tokens"]),
        (
            vec!["active".to_owned(), "deprecated".to_owned()],
            &2.into()
        )
    );
    let (status, refused) = of(format!("kids={new},nobody")).await;
    assert_eq!((status, &refused["code"]), (400, &json!("UNKNOWN_KID")));
    assert!(
        refused["detail"].as_str().unwrap().contains("nobody"),
        "{refused}"
    );
    for bad in [
        "kids=",
        "keep_pending=true",
        "purge=false",
        "purge=1",
        "kids=a%20b",
        "kid=a",
        "kids=a&kids=b",
    ] {
        let (status, refused) = of(bad.to_owned()).await;
        assert_eq!(
            (status, &refused["code"]),
            (400, &json!("BAD_QUERY")),
            "{bad}: {refused}"
        );
        assert!(refused["log_id"].is_string(), "{bad}");
    }
}

/// What a former system issued was never counted here; the preview says so, and shows its traffic.
#[tokio::test(flavor = "multi_thread")]
async fn inv19_a_preview_says_what_it_cannot_count() {
    let gateway = Gateway::start(Options::default()).await;
    let _ours = gateway.token().await;
    let before = gateway.admin_get(PREVIEW).await.1;
    assert_eq!(before["uncounted_tokens"], false);
    let foreign = RingKeyGenerator.generate(Algorithm::Es256).unwrap();
    let body = json!({ "public_jwk": foreign.jwk, "max_ttl": "1h" });
    let (status, imported) = gateway.admin_post("/admin/v1/keys/import", body).await;
    assert_eq!(status, 200, "{imported}");
    let rng = SystemRandom::new();
    let signer = TokenSigner::new(
        foreign.kid.clone(),
        Algorithm::Es256,
        &foreign.private_pkcs8,
        &rng,
    );
    let token = signer
        .unwrap()
        .sign(good_claims(&gateway).to_string().as_bytes(), &rng)
        .unwrap();
    assert_eq!(gateway.status(&token).await, 200);
    let preview = gateway.admin_get(PREVIEW).await.1;
    assert_eq!(
        (&preview["uncounted_tokens"], &preview["live_tokens"]),
        (&true.into(), &1.into())
    );
    let scoped = format!("{PREVIEW}?kids={}", foreign.kid);
    let scoped = gateway.admin_get(&scoped).await.1;
    let shown = ["uncounted_tokens", "live_tokens", "requesting_clients"].map(|name| &scoped[name]);
    assert_eq!(shown, [&json!(true), &json!(0), &json!(1)]);
}

async fn post_as(gateway: &Gateway, role: &str, body: &Value) -> (u16, Value) {
    let request = gateway.http.post(format!("{}{PREVIEW}", gateway.admin));
    let answer = request.bearer_auth(role).json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn inv19_a_shadow_purge_counts_what_the_keys_in_scope_admit() {
    let gateway = Gateway::start(Options {
        clients: lines(&["c0", "c1"], ""),
        ..Options::default()
    })
    .await;
    let of = |name: &'static str| token_of(&gateway.http, &gateway.proxy, name);
    let olds = [of("c0").await, of("c1").await];
    gateway.rotate().await;
    let new = of("c0").await;
    // Seen before it began, in the same second: not counted.
    assert_eq!(gateway.status(&olds[1]).await, 200);

    let body = json!({ "shadow": "5m", "kids": [kid(&olds[0])] });
    assert_eq!(post_as(&gateway, VIEWER, &body).await.0, 403);
    let (status, shadow) = post_as(&gateway, OPERATOR, &body).await;
    assert_eq!(status, 202, "{shadow}");
    let url = shadow["status_url"].as_str().unwrap();
    let so_far = || async { gateway.admin_get(url).await.1 };
    assert_eq!(
        (
            so_far().await["requests"].clone(),
            so_far().await["clients"].clone()
        ),
        (0.into(), 0.into())
    );
    for _ in 0..3 {
        assert_eq!(gateway.status(&olds[0]).await, 200);
        assert_eq!(
            gateway.status(&new).await,
            200,
            "of a key that is not in scope"
        );
        assert_eq!(
            gateway.get("/other", &olds[0]).await.status(),
            401,
            "refused anyway"
        );
    }
    assert_eq!(gateway.get("/write/x", &olds[0]).await.status(), 200);
    let seen = so_far().await;
    assert_eq!(
        (&seen["over"], &seen["requests"], &seen["clients"]),
        (&false.into(), &4.into(), &1.into())
    );
    assert_eq!(
        seen["routes"],
        json!({ "api": 3, "other": 0, "public": 0, "write": 1 })
    );
    assert_eq!(gateway.status(&olds[1]).await, 200);
    assert_eq!(so_far().await["clients"], 2);

    let (status, refused) = post_as(&gateway, OPERATOR, &json!({ "shadow": "1s" })).await;
    assert_eq!((status, &refused["code"]), (409, &json!("SHADOW_RUNNING")));
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains(shadow["shadow_id"].as_str().unwrap())
    );
    let (status, refused) = post_as(&gateway, OPERATOR, &json!({ "shadow": "0s" })).await;
    assert_eq!((status, &refused["code"]), (400, &json!("BAD_BODY")));
    assert_eq!(
        gateway
            .admin_get("/admin/v1/keys/preview/shadows/x")
            .await
            .0,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn inv19_preview_and_shadow_purge_leave_everything_as_it_was() {
    let gateway = Gateway::start(Options {
        file_store: true,
        ..Options::default()
    })
    .await;
    let token = gateway.token().await;
    let state = || async {
        (
            gateway.lifecycle.current_set(),
            bytes_below(&gateway.dir.path().join("keys")),
            gateway.jwks().await,
        )
    };
    let before = state().await;
    assert!(before.1.len() >= 2, "{:?}", before.1.keys());
    for query in ["", "?purge=true", &format!("?kids={}", kid(&token))] {
        assert_eq!(gateway.admin_get(&format!("{PREVIEW}{query}")).await.0, 200);
    }
    let (status, unknown) = post_as(
        &gateway,
        OPERATOR,
        &json!({ "shadow": "1s", "kids": ["nobody"] }),
    )
    .await;
    assert_eq!((status, &unknown["code"]), (400, &json!("UNKNOWN_KID")));
    let (status, shadow) = post_as(&gateway, OPERATOR, &json!({ "shadow": "1s" })).await;
    assert_eq!(status, 202);
    let url = shadow["status_url"].as_str().unwrap();
    let mut sent = 0;
    let over = loop {
        assert_eq!(gateway.status(&token).await, 200, "nobody fails for it");
        sent += 1;
        let now = gateway.admin_get(url).await.1;
        if now["over"] == true {
            break now;
        }
    };
    let counted = over["requests"].as_u64().unwrap();
    assert!((sent - 1..=sent).contains(&counted), "{counted} of {sent}");
    assert_eq!(
        (&over["clients"], &over["seconds_left"]),
        (&1.into(), &0.into())
    );
    assert_eq!(gateway.status(&token).await, 200);
    assert_eq!(gateway.admin_get(url).await.1, over, "over is over");
    assert_eq!(state().await, before);
    // And the next one may begin, counting from nothing.
    let next = eventually("another shadow purge", || async {
        let (status, next) = post_as(&gateway, OPERATOR, &json!({ "shadow": "1s" })).await;
        (status == 202).then_some(next)
    })
    .await;
    assert_eq!(
        (&next["requests"], &next["clients"]),
        (&0.into(), &0.into())
    );
}

fn bytes_below(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_can_be_asked_for_again() {
    let gateway = Gateway::start(Options::default()).await;
    let purge = gateway.purge().await;
    let id = purge["rotation_id"].as_str().unwrap();
    let (status, mut receipt) = gateway
        .admin_get(&format!("/admin/v1/keys/purges/{id}"))
        .await;
    let shown = receipt.as_object_mut().unwrap();
    let recovery = shown.remove("recovery");
    assert!(shown.remove("failures_over_time").is_some());
    assert_eq!((status, receipt), (200, purge["receipt"].clone()));
    assert_eq!(recovery.unwrap()["affected"], 0);
    for unknown in ["nonsense", "00000000-0000-4000-8000-000000000000"] {
        assert_eq!(
            gateway
                .admin_get(&format!("/admin/v1/keys/purges/{unknown}"))
                .await
                .0,
            404
        );
    }
}
