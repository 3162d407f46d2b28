//! A purged key that is used afterwards: the alarm of its purge, and of no other.

use std::time::Duration;

use serde_json::json;

use crate::harness::{ADMIN, Gateway, Options};
use crate::page::Page;

/// Lets the page see uses of the first purge's key: to make them takes a stolen key.
const STOLEN: &str = "const [id, at] = arguments, real = fetch; \
    window.fetch = async (...call) => { const answer = await real(...call); \
    if (!String(call[0]).includes('/keys/purges')) return answer; const body = await answer.json(); \
    for (const purge of body.purges ?? [body]) Object.assign(purge.recovery, \
    { compromised_key_uses: purge.purge_id === id ? 3 : 0, compromised_first_used_at: purge.purge_id === id ? at : null, \
    compromised_last_used_at: purge.purge_id === id ? at : null }); return Response.json(body); };";

#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_a_purged_key_is_an_alarm_of_its_own_purge_alone() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    let stolen = gateway.purge().await["rotation_id"].clone();
    gateway.clock.advance(Duration::from_secs(11 * 60));
    let other = gateway.purge().await["rotation_id"].clone();
    let at = "2026-01-01T00:00:00Z";
    page.browser.run(STOLEN, json!([stolen, at])).await;
    let alarm = "key in other hands";

    page.go("purges", "Purges").await;
    page.browser.shows("[data-testid='purges']", alarm).await;
    let rows = "[...document.querySelectorAll('[data-testid=purges] tbody tr')] \
        .map((row) => row.textContent.includes('key in other hands'))";
    assert_eq!(
        page.browser.eval(rows).await,
        json!([false, true]),
        "the older one alone"
    );
    page.go("", "Overview").await;
    page.browser
        .shows("[data-testid='card-purges']", alarm)
        .await;

    let alert = "main .alert.error";
    page.go(
        &format!("purges/{}", stolen.as_str().unwrap()),
        "Recovery board",
    )
    .await;
    page.browser
        .shows(alert, "A key of this purge is in other hands")
        .await;
    page.browser.shows(alert, "3 requests").await;
    page.go(
        &format!("purges/{}", other.as_str().unwrap()),
        "Recovery board",
    )
    .await;
    page.browser.shows("main", "Affected clients").await;
    let alerts = format!("document.querySelectorAll('{alert}').length");
    assert_eq!(page.browser.eval(&alerts).await, 0, "not this one");
    page.done(&[]).await;
}
