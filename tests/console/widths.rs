//! Windows of many widths: no page is wider than its window, whatever the names are, and what
//! scrolls sideways can be scrolled by keyboard.

use serde_json::json;

use crate::accessibility::{PAGES, check};
use crate::harness::clients::lines;
use crate::harness::peers::peer_file;
use crate::harness::{ADMIN, Gateway, Options, eventually};
use crate::load::Load;
use crate::page::Page;

/// The longest name that a client can have, without a place to break it.
const LONGEST: usize = 128;

#[tokio::test(flavor = "multi_thread")]
async fn no_page_is_wider_than_its_window_with_the_longest_names() {
    let long = "x".repeat(LONGEST);
    let gateway = Gateway::start(Options {
        clients: lines(&[&long], ""),
        token_ttl: "24h",
        upstreams: format!("  {}: {{ endpoints: [\"127.0.0.1:9\"] }}\n", "u".repeat(60)),
        ..Options::default()
    })
    .await;
    let _watching = gateway.watch();
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    let load = Load::start(&gateway, &[&long], &[&long]).await;
    gateway.rotate().await;
    let purge = gateway.purge().await["rotation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    // Before the tokens are invalidated: that would be another reason to refuse them.
    eventually("a failure", || async { (load.refused() > 0).then_some(()) }).await;
    let reason = json!({ "reason": "r".repeat(256) });
    let path = format!("/admin/v1/clients/{long}/invalidate");
    let (status, body) = gateway.admin_post(&path, reason).await;
    assert_eq!(status, 200, "{body}");

    for width in [360, 390, 1280] {
        page.browser.look("light", width, 800).await;
        for (path, title) in PAGES {
            let path = path.replace("{purge}", &purge).replace("billing", &long);
            let title = if title == "billing" { &long } else { title };
            page.go(&path, title).await;
            if title == "Recovery board" {
                page.browser
                    .shows("[data-testid='board-clients']", &long)
                    .await;
            }
            let wide = page
                .browser
                .eval(
                    "[document.documentElement, ...document.querySelectorAll('.tile, .page-head, .card')] \
                     .filter((one) => one.scrollWidth > one.clientWidth) \
                     .map((one) => `${one.className} ${one.scrollWidth} > ${one.clientWidth}: ${one.textContent.slice(0, 60)}`)",
                )
                .await;
            assert_eq!(wide, json!([]), "{title} at {width} px");
        }
    }
    page.done(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_scroll_can_be_reached_at_every_width() {
    let Some(axe) = peer_file("axe-core/axe.min.js") else {
        return;
    };
    let axe = std::fs::read_to_string(axe).unwrap();
    let gateway = Gateway::start(Options {
        upstreams: "  catalog: { endpoints: [\"127.0.0.1:9\", \"127.0.0.2:9\"] }\n".to_owned(),
        ..Options::default()
    })
    .await;
    let _watching = gateway.watch();
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    gateway.purge().await;
    page.go("components", "Component Monitor").await;
    page.browser
        .shows("[data-testid='component'] h2", "catalog")
        .await;
    let mut problems = Vec::new();
    for width in [800, 1024, 1200, 1280, 1320, 1340] {
        page.browser.look("light", width, 900).await;
        for (path, title) in [
            ("components", "Component Monitor"),
            ("audit", "Audit"),
            ("keys", "Signing keys"),
            ("clients", "Clients"),
        ] {
            page.go(path, title).await;
            let place = format!("{title}, {width}");
            check(&page, &axe, &place, &mut problems).await;
            if width >= 1200 {
                let cut = "[...document.querySelectorAll('.table-wrap')].filter((one) => one.scrollWidth > one.clientWidth).length";
                assert_eq!(page.browser.eval(cut).await, 0, "{place}: a table is cut");
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    page.done(&[]).await;
}
