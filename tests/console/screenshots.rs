//! Pictures of every page for the README, of a gateway that has something to show.
//! `make screenshots` runs this; it writes `docs/screenshots/`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::accessibility::PAGES;
use crate::harness::clients::lines;
use crate::harness::peers::peer;
use crate::harness::{ADMIN, Gateway, Options, eventually};
use crate::load::Load;
use crate::page::Page;

const CLIENTS: [&str; 6] = [
    "billing",
    "checkout",
    "mobile-app",
    "partner-feed",
    "reporting",
    "search-index",
];
const LOOKS: [(&str, u32); 4] = [
    ("light", 1280),
    ("dark", 1280),
    ("light", 390),
    ("dark", 390),
];
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/screenshots");

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes docs/screenshots; run by `make screenshots`"]
async fn screenshots() {
    std::fs::create_dir_all(FOLDER).unwrap();
    let gateway = Gateway::start(Options {
        clients: lines(&CLIENTS, ""),
        upstreams: "  catalog: { endpoints: [\"127.0.0.1:9\"] }\n".to_owned(),
        token_ttl: "24h",
        ..Options::default()
    })
    .await;
    let _watching = gateway.watch();
    let Some(page) = Page::open(&gateway.admin).await else {
        return;
    };
    for (scheme, width) in LOOKS {
        shoot(&page, "sign-in", scheme, width, true).await;
    }

    // Two days of routine, then a leak.
    for hours in [9, 11, 8, 10, 9] {
        pass(&gateway, hours * 60).await;
        gateway.rotate().await;
    }
    pass(&gateway, 127).await;
    let load = Load::start(&gateway, &CLIENTS, &["search-index"]).await;
    eventually("traffic", || async { (load.sent() > 600).then_some(()) }).await;
    page.sign_in(ADMIN).await;
    page.browser.shows("h1", "Overview").await;
    for (path, title) in PAGES.iter().filter(|(path, _)| !path.starts_with("purges")) {
        page.go(path, title).await;
        let name = if path.is_empty() {
            "overview".to_owned()
        } else {
            path.replace('/', "-")
        };
        for (scheme, width) in LOOKS {
            shoot(&page, &name, scheme, width, true).await;
        }
    }

    page.go("keys", "Signing keys").await;
    page.begin_rotation().await;
    for (scheme, width) in LOOKS {
        shoot(&page, "rotate", scheme, width, false).await;
    }
    page.browser.click("[data-testid='rotate-next']").await;
    page.browser.shows(".blast-numbers", "Live tokens").await;
    page.browser.click("#purge").await;
    for (scheme, width) in LOOKS {
        shoot(&page, "rotate-confirm", scheme, width, false).await;
    }
    let active = gateway.active_kid();
    page.browser.type_into("#confirm-kid", &active[..6]).await;
    page.browser
        .type_into("#reason", "INC-2231: a laptop with a backup was lost")
        .await;
    page.browser.click("[data-testid='rotate-go']").await;
    page.browser.shows("dialog h2", "Rotated and purged").await;
    for (scheme, width) in LOOKS {
        shoot(&page, "rotate-receipt", scheme, width, false).await;
    }
    page.browser.click("[data-testid='open-board']").await;
    page.browser.shows("[data-testid='recovered']", "5").await;
    // Failures in more than one moment.
    for _ in 0..6 {
        gateway.clock.advance(Duration::from_secs(10));
        let seen = load.refused();
        eventually("more failures", || async {
            (load.refused() > seen + 4).then_some(())
        })
        .await;
    }
    drop(load);
    // The page learns of the present with the next tick of the stream.
    page.browser
        .shows("[data-row='search-index'] td:nth-child(4)", "ago")
        .await;
    page.browser
        .shows("[data-row='billing'] td:nth-child(4)", "min")
        .await;
    let board = page.browser.eval("location.hash.slice(2)").await;
    for (path, name, title) in [
        ("purges", "purges", "Purges"),
        (board.as_str().unwrap(), "purges-board", "Recovery board"),
    ] {
        page.go(path, title).await;
        for (scheme, width) in LOOKS {
            shoot(&page, name, scheme, width, true).await;
        }
    }
    page.done(&[]).await;
}

/// Lets time pass, with the schedule looking after it.
async fn pass(gateway: &Gateway, minutes: u64) {
    gateway.clock.advance(Duration::from_secs(minutes * 60));
    gateway.lifecycle.tick().await.unwrap();
}

/// One picture, of the whole page or of what is on the screen.
async fn shoot(page: &Page, name: &str, scheme: &str, width: u32, whole: bool) {
    let screen = if width < 500 { 844 } else { 900 };
    page.browser.look(scheme, width, screen).await;
    drawn(page).await;
    let height = page
        .browser
        .eval("document.documentElement.scrollHeight")
        .await;
    let height = u32::try_from(height.as_u64().unwrap()).unwrap();
    if whole {
        page.browser
            .look(scheme, width, height.clamp(screen, 2400))
            .await;
    }
    drawn(page).await;
    let file = format!("{FOLDER}/{name}-{scheme}-{width}.png");
    save(Path::new(&file), &page.browser.picture().await);
}

/// Waits until the page has been laid out and drawn anew.
async fn drawn(page: &Page) {
    let script =
        "return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))";
    page.browser.run(script, json!([])).await;
}

/// Writes it, with at most 128 colours where pngquant can be had: a third of the size.
fn save(file: &Path, picture: &[u8]) {
    let Some(pngquant) = peer("pngquant") else {
        std::fs::write(file, picture).unwrap();
        return;
    };
    let mut child = Command::new(pngquant)
        .args(["--speed", "1", "--strip", "128", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let picture = picture.to_vec();
    let writing = std::thread::spawn(move || input.write_all(&picture));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "pngquant: {}", output.status);
    std::fs::write(file, output.stdout).unwrap();
}
