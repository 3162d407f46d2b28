//! Purges of named keys, and the undo of a purge that was a mistake.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod harness;

use harness::{Gateway, OPERATOR, Options, kid};
use serde_json::json;

const ROTATE: &str = "/admin/v1/keys/rotate";

async fn purge_kids(
    gateway: &Gateway,
    kids: &[&str],
    more: serde_json::Value,
) -> (u16, serde_json::Value) {
    let mut body = json!({ "purge": true, "kids": kids });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    gateway.admin_post(ROTATE, body).await
}

fn states(answer: &serde_json::Value) -> Vec<(String, String)> {
    let text = |key: &serde_json::Value, name: &str| key[name].as_str().unwrap().to_owned();
    answer["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (text(key, "state"), text(key, "kid")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_deprecated_key_dies_alone() {
    let gateway = Gateway::start(Options::default()).await;
    let old = gateway.token().await;
    let rotated = gateway.rotate().await;
    let new = gateway.token().await;
    let (status, answer) = purge_kids(&gateway, &[&kid(&old)], json!({})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["purged"], json!([kid(&old)]));
    assert_eq!(
        answer["activated"], rotated["activated"],
        "the active key stays"
    );
    assert_eq!(
        (gateway.status(&old).await, gateway.status(&new).await),
        (401, 200)
    );
    // It activated nothing, so the window of the rotation is still the one that counts.
    assert_eq!(
        gateway.rotate().await["rotation_id"],
        rotated["rotation_id"]
    );
    // Said again, it changes nothing.
    let (_, again) = purge_kids(&gateway, &[&kid(&old)], json!({})).await;
    assert_eq!(
        (&again["changed"], &again["rotation_id"]),
        (&json!(false), &answer["rotation_id"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_active_key_takes_the_pending_one_with_it_unless_that_is_trusted() {
    for keep in [false, true] {
        let gateway = Gateway::start(Options::default()).await;
        let token = gateway.token().await;
        let pending = gateway
            .lifecycle
            .current_set()
            .pending
            .public
            .kid
            .to_string();
        let more = if keep {
            json!({ "keep_pending": true })
        } else {
            json!({})
        };
        let (status, answer) = purge_kids(&gateway, &[&kid(&token)], more).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(gateway.status(&token).await, 401);
        let promoted = states(&answer).contains(&("active".to_owned(), pending.clone()));
        assert_eq!(promoted, keep);
        assert_eq!(
            answer["purged"]
                .as_array()
                .unwrap()
                .contains(&json!(pending)),
            !keep
        );
        assert_eq!(gateway.status(&gateway.token().await).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_refused_and_nothing_changes() {
    let gateway = Gateway::start(Options::default()).await;
    let before = gateway.lifecycle.current_set();
    let (status, answer) = purge_kids(&gateway, &["nobody"], json!({})).await;
    assert_eq!((status, &answer["code"]), (404, &json!("UNKNOWN_KID")));
    assert_eq!(gateway.lifecycle.current_set(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv22_a_mistake_can_be_undone_with_its_old_dates() {
    let gateway = Gateway::start(Options::default()).await;
    let token = gateway.token().await;
    let name = kid(&token);
    gateway.rotate().await;
    let until = gateway.lifecycle.current_set().deprecated[0].verify_until;

    let (status, answer) = purge_kids(&gateway, &[&name], json!({ "mistake_undo": true })).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(gateway.status(&token).await, 401);
    let path = format!("/admin/v1/keys/{name}/restore");
    let by_operator = gateway
        .http
        .post(format!("{}{path}", gateway.admin))
        .bearer_auth(OPERATOR)
        .json(&json!({}));
    assert_eq!(by_operator.send().await.unwrap().status(), 403);

    let (status, answer) = gateway
        .admin_post(&path, json!({ "reason": "wrong key" }))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(gateway.status(&token).await, 200);
    let set = gateway.lifecycle.current_set();
    assert_eq!(
        (set.deprecated[0].verify_until, set.restore_epoch),
        (until, 1)
    );
    // There is nothing left to undo.
    assert_eq!(gateway.admin_post(&path, json!({})).await.0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv07_a_compromised_key_stays_dead() {
    let gateway = Gateway::start(Options::default()).await;
    let token = gateway.token().await;
    gateway.purge().await;
    let before = gateway.lifecycle.current_set();
    let (status, answer) = gateway
        .admin_post(
            &format!("/admin/v1/keys/{}/restore", kid(&token)),
            json!({}),
        )
        .await;
    assert_eq!((status, &answer["code"]), (409, &json!("COMPROMISED")));
    let active = before.active.public.kid.to_string();
    let (status, answer) = gateway
        .admin_post(&format!("/admin/v1/keys/{active}/restore"), json!({}))
        .await;
    assert_eq!((status, &answer["code"]), (409, &json!("NOT_PURGED")));
    assert_eq!(gateway.lifecycle.current_set(), before);
    assert_eq!(gateway.status(&token).await, 401);
}
