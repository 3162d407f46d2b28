//! A rotation that fails: the words that operators know, the Log ID, and what is behind it.

use portcullis::store::faulty_store::{Step, Trouble};

use crate::harness::{OPERATOR, Options, faulty};
use crate::page::Page;

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_rotation_leads_to_its_log_lines() {
    let (gateway, store) = faulty::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, OPERATOR).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    page.confirm_rotation().await;
    store.always(Step::BeforeCommit, Trouble::Fail);
    page.browser.click("[data-testid='rotate-go']").await;

    page.browser.shows("dialog h2", "Not rotated").await;
    let log_id = page.text("[data-testid='log-link']").await;
    let words = page
        .text("[data-testid='rotate-failure'] p:not(.title)")
        .await;
    assert_eq!(
        words,
        format!(
            "Manual signing key rotation could not be completed. Check the system logs for more \
             details. Log ID: {log_id}"
        )
    );

    page.browser.click("[data-testid='runbook-link']").await;
    page.browser.shows("main h1", "Runbook").await;
    page.browser
        .shows("[data-testid='runbook']", "No space left")
        .await;
    page.browser
        .shows("[data-testid='runbook'] h3", "Lock")
        .await;

    page.go("keys", "Signing keys").await;
    page.confirm_rotation().await;
    page.browser.click("[data-testid='rotate-go']").await;
    page.browser.shows("dialog h2", "Not rotated").await;
    let log_id = page.text("[data-testid='log-link']").await;
    page.browser.click("[data-testid='log-link']").await;
    page.browser.shows("main h1", "Logs").await;
    page.browser
        .shows("[data-testid='log-lines']", "ROTATION_FAILED")
        .await;
    page.browser
        .shows("[data-testid='log-lines'] dt", "cause")
        .await;
    assert_eq!(
        page.browser.eval("document.querySelector('dialog')").await,
        serde_json::json!(null)
    );

    assert!(
        page.browser
            .eval("location.hash")
            .await
            .to_string()
            .contains(&log_id)
    );

    // The same by the search box, from the whole message.
    page.go("", "Overview").await;
    page.browser
        .type_into("[data-testid='log-id']", &words)
        .await;
    page.browser.press(crate::harness::browser::ENTER).await;
    page.browser
        .shows("[data-testid='log-lines']", "ROTATION_FAILED")
        .await;

    store.heal();
    page.go("keys", "Signing keys").await;
    page.confirm_rotation().await;
    page.browser.click("[data-testid='rotate-go']").await;
    page.browser.shows("dialog h2", "Rotated").await;
    page.done(&["500 (Internal Server Error)"]).await;
}
