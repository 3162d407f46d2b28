//! What stands around the pages, and pages of text: the navigation, the runbook, the log.

use serde_json::json;

use crate::harness::{ADMIN, Gateway, Options};
use crate::page::Page;

#[tokio::test(flavor = "multi_thread")]
async fn the_runbook_is_in_the_navigation_and_keeps_its_numbers() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.browser
        .click("aside[aria-label='Sidebar'] nav a[href='#/runbook']")
        .await;
    page.browser.shows("main h1", "Runbook").await;
    page.browser
        .until(
            "steps are numbered",
            "getComputedStyle(document.querySelector('.runbook ol li')).listStyleType === 'decimal'",
        )
        .await;
    let lines = "[...document.querySelectorAll('.side-foot .button')].map((one) => { \
        const text = document.createRange(); text.selectNodeContents(one.lastChild); return text.getClientRects().length; })";
    assert_eq!(
        page.browser.eval(lines).await,
        json!([1, 1]),
        "the buttons at the foot take one line each"
    );
    page.done(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_lines_of_the_log_stand_once_with_their_number() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    let unknown = format!("{}/admin/v1/keys", gateway.admin);
    for _ in 0..4 {
        let request = gateway.http.get(&unknown).bearer_auth("wrong");
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    page.go("logs", "Logs").await;
    page.browser.shows("[data-testid='times']", "× 4").await;
    let entries = "document.querySelectorAll('.log-line').length";
    assert_eq!(page.browser.eval(entries).await, 1);
    page.browser.click(".log-line summary").await;
    page.browser
        .until(
            "the Log IDs of the others",
            "document.querySelectorAll('.log-line details [data-testid=log-link]').length === 3",
        )
        .await;
    page.done(&[]).await;
}
