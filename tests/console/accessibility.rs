//! axe-core on every page, in light and dark, wide and narrow: nothing serious or critical.

use serde_json::{Value, json};

use crate::harness::clients::lines;
use crate::harness::peers::peer_file;
use crate::harness::{ADMIN, Gateway, Options};
use crate::load::Load;
use crate::page::Page;

const LOOKS: [(&str, u32, u32); 3] = [
    ("light", 1280, 900),
    ("dark", 1280, 900),
    ("light", 360, 740),
];

/// Path and title of every page; `{purge}` and `{log}` stand for what there is.
pub const PAGES: [(&str, &str); 10] = [
    ("", "Overview"),
    ("components/issuer", "Component Monitor"),
    ("keys", "Signing keys"),
    ("purges", "Purges"),
    ("purges/{purge}", "Recovery board"),
    ("clients", "Clients"),
    ("clients/billing", "billing"),
    ("audit", "Audit"),
    ("logs", "Logs"),
    (
        "runbook/a-manual-rotation-could-not-be-completed",
        "Runbook",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_page_has_a_serious_accessibility_problem() {
    let Some(axe) = peer_file("axe-core/axe.min.js") else {
        return;
    };
    let axe = std::fs::read_to_string(axe).unwrap();
    let clients = ["billing", "stuck"];
    let gateway = Gateway::start(Options {
        clients: lines(&clients, ""),
        ..Options::default()
    })
    .await;
    let Some(page) = Page::open(&gateway.admin).await else {
        return;
    };
    let _load = Load::start(&gateway, &clients, &["stuck"]).await;
    let purge = gateway.purge().await["rotation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut problems = Vec::new();

    for (scheme, width, height) in LOOKS {
        page.browser.look(scheme, width, height).await;
        check(
            &page,
            &axe,
            &format!("sign in, {scheme} {width}"),
            &mut problems,
        )
        .await;
    }
    page.sign_in(ADMIN).await;
    page.browser.shows("h1", "Overview").await;
    for (scheme, width, height) in LOOKS {
        page.browser.look(scheme, width, height).await;
        for (path, title) in PAGES {
            page.go(&path.replace("{purge}", &purge), title).await;
            check(
                &page,
                &axe,
                &format!("{title}, {scheme} {width}"),
                &mut problems,
            )
            .await;
            let overflow = page
                .browser
                .eval("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                .await;
            assert_eq!(overflow, 0, "{title} at {width} px scrolls sideways");
        }
        page.go("keys", "Signing keys").await;
        page.begin_rotation().await;
        check(
            &page,
            &axe,
            &format!("dialog 1, {scheme} {width}"),
            &mut problems,
        )
        .await;
        page.browser.click("[data-testid='rotate-next']").await;
        page.browser.shows(".blast-numbers", "Live tokens").await;
        page.browser.click("#purge").await;
        check(
            &page,
            &axe,
            &format!("dialog 2, {scheme} {width}"),
            &mut problems,
        )
        .await;
        page.browser.click("dialog header .button").await;
    }
    // The last look is narrow: the side bar is behind a button.
    page.browser.click(".menu-toggle").await;
    page.browser.click(".sidebar a[href='#/purges']").await;
    page.browser.shows("main h1", "Purges").await;
    page.browser.click(".menu-toggle").await;
    check(&page, &axe, "menu, narrow", &mut problems).await;
    assert!(problems.is_empty(), "{problems:#?}");
    page.done(&[]).await;
}

pub async fn check(page: &Page, axe: &str, place: &str, problems: &mut Vec<Value>) {
    let script = format!(
        "{axe}; return axe.run(document, {{ resultTypes: ['violations'] }}).then(({{ violations, passes }}) => \
         [passes.length, violations.map(({{ id, impact, nodes }}) => \
         ({{ id, impact, nodes: nodes.slice(0, 3).map(({{ html, failureSummary }}) => ({{ html, failureSummary }})) }}))])"
    );
    let found = page.browser.run(&script, json!([])).await;
    assert!(found[0].as_u64().unwrap() > 5, "axe ran: {found}");
    for violation in found[1].as_array().unwrap() {
        let impact = violation["impact"].as_str().unwrap_or_default();
        if matches!(impact, "serious" | "critical") {
            problems.push(json!({ "place": place, "violation": violation }));
        }
    }
}
