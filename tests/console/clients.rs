//! Clients: a new one with its secret shown once, disabled and enabled from the page; the filter,
//! and the menu of a row.

use serde_json::json;

use crate::harness::browser::{ARROW_DOWN, ESCAPE};
use crate::harness::clients::lines;
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
    page.browser.press(ESCAPE).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_takes_a_whole_name_and_finds_clients_behind_the_first_page() {
    let names: Vec<String> = (0..230).map(|number| format!("c{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let gateway = Gateway::start(Options {
        clients: lines(&names, ""),
        ..Options::default()
    })
    .await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.go("clients", "Clients").await;
    let first = page
        .browser
        .eval("document.querySelectorAll('[data-row]').length")
        .await;
    assert_eq!(first, 200, "the first page");

    page.browser.click("[data-key='client-filter']").await;
    // One key after the other, as fast as the page takes them.
    for key in ["c", "2", "2", "7"] {
        page.browser.press(key).await;
    }
    let typed =
        "document.activeElement.dataset.key === 'client-filter' && document.activeElement.value";
    assert_eq!(page.browser.eval(typed).await, "c227", "all of it");
    page.browser
        .until(
            "the one client of that name, from behind the first page",
            "[...document.querySelectorAll('[data-row]')].map((row) => row.dataset.row).join() === 'c227'",
        )
        .await;
    // New data does not take the focus away either.
    let (status, body) = gateway
        .admin_post("/admin/v1/clients/c227/disable", json!({}))
        .await;
    assert_eq!(status, 200, "{body}");
    page.browser.shows("[data-row='c227']", "disabled").await;
    assert_eq!(page.browser.eval(typed).await, "c227", "still there");

    page.browser.press("x").await;
    page.browser.shows("main", "No client of that name").await;
    page.done(&[]).await;
}

/// Whether every entry of the open menu can be seen and clicked.
const UNCOVERED: &str = "(() => { const list = document.querySelector('[aria-expanded=true]').parentNode.querySelector('[role=menu]'); \
     return [...list.children].every((item) => { const box = item.getBoundingClientRect(); \
     const there = document.elementFromPoint(box.x + box.width / 2, box.y + box.height - 3); \
     return box.top >= 0 && box.bottom <= innerHeight && item.contains(there); }); })()";

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_of_a_rows_menu_is_cut_off() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    // As in the configuration of the first start: one client, one row.
    for (width, height) in [(1280, 900), (1280, 480), (390, 844), (390, 560)] {
        page.browser.look("light", width, height).await;
        page.go("clients", "Clients").await;
        let button = "[data-testid='clients'] [aria-haspopup='menu']";
        page.browser.click(button).await;
        page.browser
            .until(&format!("all of the menu at {width} × {height}"), UNCOVERED)
            .await;
        page.browser
            .press(&format!("{ARROW_DOWN}{ARROW_DOWN}"))
            .await;
        page.browser
            .until(
                "the arrows go through it",
                "document.activeElement.textContent.startsWith('Rotate secret')",
            )
            .await;
        page.browser.press(ESCAPE).await;
        page.browser
            .until(
                "the button has the focus",
                "document.activeElement.ariaExpanded === 'false' && document.activeElement.ariaHasPopup === 'menu'",
            )
            .await;
    }
    page.done(&[]).await;
}
