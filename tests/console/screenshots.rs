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
use crate::harness::{ADMIN, Gateway, Options};
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

    // A week of routine, then a leak.
    for hours in [22, 25, 19, 24, 23] {
        gateway.clock.advance(Duration::from_secs(hours * 3600));
        gateway.lifecycle.tick().await.unwrap();
        gateway.rotate().await;
    }
    gateway.clock.advance(Duration::from_secs(31 * 60));
    let load = Load::start(&gateway, &CLIENTS, &["search-index"]).await;
    page.sign_in(ADMIN).await;
    page.browser.shows("h1", "Overview").await;
    page.go("keys", "Signing keys").await;
    page.confirm_rotation().await;
    for (scheme, width) in LOOKS {
        shoot(&page, "rotate-confirm", scheme, width, false).await;
    }
    page.browser.click("dialog header .button").await;
    let purge = gateway.purge().await["rotation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    page.go(&format!("purges/{purge}"), "Recovery board").await;
    page.browser.shows("[data-testid='recovered']", "5").await;
    // Failures in more than one moment.
    for _ in 0..6 {
        gateway.clock.advance(Duration::from_secs(10));
        let seen = load.refused();
        crate::harness::eventually("more failures", || async {
            (load.refused() > seen + 4).then_some(())
        })
        .await;
    }
    drop(load);

    for (path, title) in PAGES {
        page.go(&path.replace("{purge}", &purge), title).await;
        let name = match path {
            "" => "overview".to_owned(),
            path => path.replace("/{purge}", "-board").replace('/', "-"),
        };
        for (scheme, width) in LOOKS {
            shoot(&page, &name, scheme, width, true).await;
        }
    }
    page.done(&[]).await;
}

/// One picture, of the whole page or of what is on the screen.
async fn shoot(page: &Page, name: &str, scheme: &str, width: u32, whole: bool) {
    let screen = if width < 500 { 844 } else { 900 };
    page.browser.look(scheme, width, screen).await;
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
    page.browser
        .run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))", json!([]))
        .await;
    let file = format!("{FOLDER}/{name}-{scheme}-{width}.png");
    save(Path::new(&file), &page.browser.picture().await);
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
