//! The live stream, lost and back.

use crate::harness::relay::Relay;
use crate::harness::{Gateway, OPERATOR, Options};
use crate::page::Page;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_shows_the_age_of_the_data_and_comes_back() {
    let gateway = Gateway::start(Options::default()).await;
    let target = gateway.admin.trim_start_matches("http://").parse().unwrap();
    let relay = Relay::start(target).await;
    let origin = format!("http://{}", relay.address);
    let Some(page) = Page::signed_in(&origin, OPERATOR).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    page.browser.shows("[data-testid='live']", "Live").await;

    relay.cut();
    page.browser
        .shows("[data-testid='live']", "Reconnecting · data is")
        .await;
    let age =
        "Number(/data is (\\d+) s old/.exec(document.querySelector('.live').textContent)?.[1])";
    page.browser
        .until("the age grows", &format!("{age} >= 2"))
        .await;

    // What happened meanwhile shows by itself once the stream is back.
    gateway.rotate().await;
    let active = gateway.active_kid();
    relay.mend();
    page.browser
        .until(
            "live again",
            "document.querySelector('.live').dataset.state === 'live'",
        )
        .await;
    page.browser
        .until(
            "the new key is shown",
            &format!("document.querySelector('[data-row=active] .kid')?.title === '{active}'"),
        )
        .await;
    // Nobody had to sign in again.
    page.browser.shows("main h1", "Signing keys").await;
    page.done(&["net::ERR_"]).await;
}
