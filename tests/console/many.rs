//! A key set with many keys, and a dialog that stays open while it changes.

use std::time::Duration;

use portcullis::store::faulty_store::{Step, Trouble};

use crate::harness::{ADMIN, Gateway, Options, faulty};
use crate::page::Page;

/// Rotates so often that `count` earlier keys still verify.
async fn rotate_often(gateway: &Gateway, count: usize) {
    for _ in 0..count {
        gateway.clock.advance(Duration::from_secs(11 * 60));
        gateway.rotate().await;
    }
    let set = gateway.lifecycle.current_set();
    assert_eq!(set.deprecated.len(), count, "all of them verify");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_many_keys_names_all_of_them() {
    let gateway = Gateway::start(Options {
        token_ttl: "24h",
        ..Options::default()
    })
    .await;
    rotate_often(&gateway, 15).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    page.browser
        .shows("[data-testid='timeline']", "and 5 more that verify")
        .await;
    let lanes = "document.querySelectorAll('[data-testid=timeline] svg .mono-text').length";
    page.browser
        .until("a lane for each of twelve", &format!("{lanes} === 12"))
        .await;

    let purged = gateway.lifecycle.current_set();
    page.confirm_rotation().await;
    page.browser
        .until(
            "the chart says how many keys it leaves out",
            "[...document.querySelectorAll('dialog .chart text')].some((text) => /^and 12 more/.test(text.textContent))",
        )
        .await;
    page.browser.click("#purge").await;
    let active = purged.active.public.kid.to_string();
    page.browser.type_into("#confirm-kid", &active[..6]).await;
    page.browser.click("[data-testid='rotate-go']").await;
    page.browser.shows("dialog h2", "Rotated and purged").await;
    page.browser
        .shows("[data-testid='rotate-result'] summary", "17 keys")
        .await;
    for key in &purged.deprecated {
        let kid = key.public.kid.to_string();
        page.browser
            .shows("[data-testid='rotate-result'] details", &kid)
            .await;
    }

    page.browser.click("[data-testid='open-board']").await;
    page.browser.shows("main h1", "Recovery board").await;
    page.browser.shows("main summary", "Purged keys (17)").await;
    let order = "[...document.querySelectorAll('main h2')].map((one) => one.textContent)";
    let order = page.browser.eval(order).await;
    assert_eq!(order[0], "Clients", "the first below the bar: {order}");
    page.done(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_confirmation_follows_a_key_set_that_changes_meanwhile() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    let before = gateway.active_kid();
    page.confirm_rotation().await;
    page.browser.click("#purge").await;
    page.browser.type_into("#confirm-kid", &before[..6]).await;
    let locked = "document.querySelector('[data-testid=rotate-go]').disabled";
    assert_eq!(page.browser.eval(locked).await, false, "confirmed");

    // Somebody else rotates.
    gateway.rotate().await;
    let after = gateway.active_kid();
    page.browser
        .shows("[data-testid='confirm-hint']", &after[..6])
        .await;
    let typed = "document.querySelector('#confirm-kid').value";
    assert_eq!(page.browser.eval(typed).await, "", "it was for another key");
    assert_eq!(page.browser.eval(locked).await, true);
    page.browser
        .shows("dialog .caution .alert", "The active key changed")
        .await;
    page.browser.type_into("#confirm-kid", &after[..6]).await;
    page.browser.click("[data-testid='rotate-go']").await;
    page.browser.shows("dialog h2", "Rotated and purged").await;
    page.done(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn back_after_a_failure_keeps_the_reason() {
    let (gateway, store) = faulty::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    page.confirm_rotation().await;
    page.browser.click("#purge").await;
    page.browser.click("#mistake-undo").await;
    let active = gateway.active_kid();
    page.browser.type_into("#confirm-kid", &active[..6]).await;
    page.browser.type_into("#reason", "a rehearsal").await;
    store.always(Step::BeforeCommit, Trouble::Fail);
    page.browser.click("[data-testid='rotate-go']").await;
    page.browser.shows("dialog h2", "Not rotated").await;
    page.browser.click("dialog footer .left").await;
    page.browser
        .shows("dialog h2", "Confirm the rotation")
        .await;
    let kept = "[document.querySelector('#reason').value, document.querySelector('#purge').checked, \
         document.querySelector('#mistake-undo').checked, document.querySelector('#confirm-kid').value]";
    assert_eq!(
        page.browser.eval(kept).await,
        serde_json::json!(["a rehearsal", true, true, ""]),
        "all but the confirmation, which is typed anew"
    );
    page.done(&["500 (Internal Server Error)"]).await;
}
