//! What a role may not do is shown, says why, and is refused by the gateway as well.

use serde_json::json;

use crate::harness::{Gateway, OPERATOR, Options, VIEWER};
use crate::page::Page;

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_cannot_rotate_neither_by_button_nor_by_request() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, VIEWER).await else {
        return;
    };
    let before = gateway.lifecycle.current_set().revision;
    page.settled().await;
    let why = "This needs the role operator; you are signed in as viewer.";
    assert_eq!(
        page.text("[data-testid='card-keys'] [aria-disabled='true'] + span")
            .await,
        why
    );

    page.go("keys", "Signing keys").await;
    page.browser.click("[data-key='key-actions']").await;
    page.browser
        .shows(".menu-list [aria-disabled='true']", why)
        .await;
    page.browser
        .click(".menu-list [aria-disabled='true']")
        .await;
    page.browser.shows("#announcer", why).await;
    assert_eq!(
        page.browser.eval("document.querySelector('dialog')").await,
        json!(null)
    );
    page.browser.click("h1").await;

    let (status, problem) = page.call("POST", "/keys/rotate", json!({})).await;
    assert_eq!(
        (status, &problem["code"]),
        (403, &json!("ROLE")),
        "{problem}"
    );
    assert_eq!(gateway.lifecycle.current_set().revision, before);

    // Names and the log are not for viewers; the page says so and does not ask.
    page.go("clients", "Clients").await;
    page.browser.shows("main", "Names are for operators").await;
    page.go("audit", "Audit").await;
    page.browser
        .shows("main", "The audit is for operators")
        .await;
    page.go("logs", "Logs").await;
    page.browser.shows("main", "The log is for operators").await;
    page.done(&["403 (Forbidden)"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_rotate_but_not_purge() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, OPERATOR).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    page.confirm_rotation().await;
    assert_eq!(
        page.browser
            .eval("document.querySelector('#purge').disabled")
            .await,
        true
    );
    page.browser
        .shows(
            "dialog .choice",
            "This needs the role admin; you are signed in as operator.",
        )
        .await;
    page.done(&[]).await;
}
