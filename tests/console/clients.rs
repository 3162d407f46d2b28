//! Clients: a new one with its secret shown once, disabled and enabled from the page.

use crate::harness::{ADMIN, Gateway, Options};
use crate::page::Page;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_clients_secret_is_shown_once_and_works() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.go("clients", "Clients").await;
    page.browser.click("[data-key='add-client']").await;
    page.browser.type_into("#client-id", "shop").await;
    page.browser.type_into("#client-scopes", "read").await;
    page.browser.click("[data-testid='client-go']").await;
    let secret = page.text("[data-testid='secret']").await;
    let token = async || {
        let request = gateway.http.post(format!("{}/oauth2/token", gateway.proxy));
        let request = request
            .basic_auth("shop", Some(&secret))
            .form(&[("grant_type", "client_credentials")]);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(token().await, 200, "the secret works");

    // It does not go away by a slip.
    page.browser.press(crate::harness::browser::ESCAPE).await;
    page.browser.shows("[data-testid='secret']", &secret).await;
    page.browser.click("#stored").await;
    page.browser.click("[data-testid='secret-close']").await;
    page.browser.shows("[data-row='shop']", "enabled").await;
    let html = page
        .browser
        .eval("document.documentElement.outerHTML")
        .await;
    assert!(
        !html.as_str().unwrap().contains(&secret),
        "it is gone from the page"
    );

    let item = |number: u32| format!("[data-row='shop'] .menu-list button:nth-child({number})");
    page.browser.click("[data-key='menu-shop']").await;
    page.browser.click(&item(1)).await;
    page.browser.shows("dialog h2", "Disable client").await;
    page.browser.click("[data-testid='client-go']").await;
    page.browser.shows("[data-row='shop']", "disabled").await;
    assert_eq!(token().await, 401, "a disabled client gets no token");

    page.browser.click("[data-key='client-shop']").await;
    page.browser.shows("main h1", "shop").await;
    page.browser.shows("main table", "Disable").await;
    page.done(&[]).await;
}
