//! Signing in and out.

use serde_json::Value;

use crate::harness::{ADMIN, Gateway, Options};
use crate::page::Page;

#[tokio::test(flavor = "multi_thread")]
async fn signs_in_with_an_admin_token_and_out_again() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::open(&gateway.admin).await else {
        return;
    };
    page.sign_in("not-an-admin-token").await;
    page.browser
        .shows(".alert.error", "This admin token is not valid")
        .await;
    let text = page.text(".alert.error .mono").await;
    gateway
        .log
        .lines()
        .iter()
        .find(|line| line["log_id"] == *text)
        .expect("the Log ID that the page shows is in the log");

    page.browser
        .run(
            "document.querySelector('#token').value = ''",
            Value::Array(vec![]),
        )
        .await;
    page.sign_in(ADMIN).await;
    page.browser.shows("h1", "Overview").await;
    page.browser.shows(".who", "boss").await;
    page.settled().await;
    let first = page.text(".cockpit > .card:first-child h2").await;
    assert_eq!(first, "Component Monitor", "the first card");

    // The session is a cookie that scripts cannot see, and the token is kept nowhere.
    let kept = page
        .browser
        .eval("document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")
        .await;
    assert!(!kept.as_str().unwrap().contains(ADMIN), "{kept}");
    assert_eq!(page.browser.eval("document.cookie").await, "");

    let theme = "document.documentElement.dataset.theme";
    page.browser.click("[data-testid='theme']").await;
    assert_eq!(page.browser.eval(theme).await, "light", "chosen by hand");

    // A reload goes on where it was.
    page.browser
        .open(&format!("{}/#/keys", gateway.admin))
        .await;
    page.browser
        .run("location.reload()", Value::Array(vec![]))
        .await;
    page.browser.shows("h1", "Signing keys").await;
    page.settled().await;
    assert_eq!(page.browser.eval(theme).await, "light", "and remembered");

    page.browser.click("[data-testid='sign-out']").await;
    page.browser.shows("h1", "Sign in to Portcullis").await;
    let (status, _) = page
        .call("POST", "/keys/rotate", serde_json::json!({}))
        .await;
    assert_eq!(status, 401, "the session is over");
    page.done(&["401 (Unauthorized)"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_elsewhere_leads_to_the_sign_in_page() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    page.begin_rotation().await;
    // Longer than a session may last.
    gateway
        .clock
        .advance(std::time::Duration::from_secs(13 * 3600));
    page.browser.shows(".alert", "Your session has ended").await;
    let dialog = page.browser.eval("document.querySelector('dialog')").await;
    assert_eq!(dialog, Value::Null, "nothing lies over the sign-in page");
    page.sign_in(ADMIN).await;
    page.browser.shows("h1", "Signing keys").await;
    page.settled().await;
    page.done(&["401 (Unauthorized)", "ERR_"]).await;
}
