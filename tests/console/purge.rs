//! Rotate and purge under load: the confirmation, the receipt, and the recovery board.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use portcullis::keys::Kid;
use portcullis::lifecycle::{Probe, Purpose};

use crate::harness::clients::lines;
use crate::harness::{ADMIN, Gateway, Options, eventually};
use crate::load::Load;
use crate::page::Page;

const CLIENTS: [&str; 4] = ["billing", "checkout", "mobile", "stuck"];

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_under_load_fills_the_recovery_board() {
    let gateway = Gateway::start(Options {
        clients: lines(&CLIENTS, ""),
        ..Options::default()
    })
    .await;
    let load = Load::start(&gateway, &CLIENTS, &["stuck"]).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    let before = gateway.lifecycle.current_set();
    let active = before.active.public.kid.to_string();

    page.confirm_rotation().await;
    page.browser
        .shows(".blast-numbers div:nth-child(2)", "4")
        .await;
    page.browser
        .until(
            "the chart is drawn",
            "document.querySelector('dialog .chart svg .bar-tokens')",
        )
        .await;
    page.browser.click("#purge").await;
    page.browser
        .shows(".caution", "every token that these keys signed is refused")
        .await;
    let locked = "document.querySelector('[data-testid=rotate-go]').disabled";
    assert_eq!(
        page.browser.eval(locked).await,
        true,
        "nothing was typed yet"
    );
    page.browser.type_into("#confirm-kid", "wrong!").await;
    assert_eq!(
        page.browser.eval(locked).await,
        true,
        "the wrong characters"
    );
    page.browser
        .run(
            "document.querySelector('#confirm-kid').value = ''",
            serde_json::json!([]),
        )
        .await;
    page.browser.type_into("#confirm-kid", &active[..6]).await;
    page.browser.type_into("#reason", "a laptop was lost").await;
    page.browser.click("[data-testid='rotate-go']").await;

    page.browser.shows("dialog h2", "Rotated and purged").await;
    page.browser
        .shows("[data-testid='receipt-state']", "outstanding")
        .await;
    let after = gateway.lifecycle.current_set();
    assert!(after.deprecated.is_empty(), "no earlier key verifies");
    assert_ne!(after.active.public.kid, before.active.public.kid);
    let tombstone = after
        .tombstones
        .iter()
        .find(|one| one.kid.to_string() == active)
        .expect("the purged key's tombstone");
    assert!(
        !tombstone.mistake_undo,
        "it counts as compromised unless said otherwise"
    );

    page.browser.click("[data-testid='open-board']").await;
    page.browser.shows("main h1", "Recovery board").await;
    page.browser.shows("[data-testid='affected']", "4").await;
    page.browser.shows("[data-testid='recovered']", "3").await;
    page.browser.shows("[data-testid='still-out']", "1").await;
    page.browser
        .shows("[data-row='stuck']", "still fails")
        .await;
    page.browser.shows("[data-row='billing']", "back").await;
    page.browser
        .until(
            "the failures are drawn",
            "document.querySelector('.chart .bar-failures')",
        )
        .await;
    assert!(load.refused() >= 4, "{}", load.refused());
    let shown = page.text("[data-testid='failures']").await;
    assert!(
        shown.replace(',', "").parse::<u64>().unwrap() >= 4,
        "{shown}"
    );
    drop(load);

    // Amber until no other verifier can have the old JWKS in a cache.
    page.browser
        .shows("[data-testid='receipt']", "outstanding")
        .await;
    gateway.clock.advance(Duration::from_secs(301));
    page.browser
        .shows("[data-testid='receipt'] .badge", "over")
        .await;
    page.done(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_can_be_undone_from_the_page() {
    let gateway = Gateway::start(Options::default()).await;
    let token = gateway.token().await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    let active = gateway.active_kid();
    page.confirm_rotation().await;
    page.browser.click("#purge").await;
    page.browser.click("#mistake-undo").await;
    page.browser.type_into("#confirm-kid", &active[..6]).await;
    page.browser.click("[data-testid='rotate-go']").await;
    page.browser.shows("dialog h2", "Rotated and purged").await;
    assert_eq!(gateway.status(&token).await, 401);
    page.browser.click("[data-testid='rotate-done']").await;

    page.browser
        .shows(".fold summary", "Keys that are no more (2)")
        .await;
    page.browser.click(".fold summary").await;
    page.browser
        .click(&format!("[data-key='undo-{active}']"))
        .await;
    page.browser.shows("dialog h2", "Undo a purge").await;
    page.browser.click("dialog footer .primary").await;
    page.browser
        .shows("[data-row='deprecated']", &active[..12])
        .await;
    assert_eq!(gateway.status(&token).await, 200, "the key verifies again");
    page.done(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_receipt_is_amber_while_a_worker_holds_on_and_turns_by_itself() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    let active = gateway.active_kid();
    page.confirm_rotation().await;
    page.browser.click("#purge").await;
    page.browser.type_into("#confirm-kid", &active[..6]).await;

    let token = gateway.token().await;
    let stuck = Arc::<Stuck>::default();
    gateway.lifecycle.testing_probe(Arc::<Stuck>::clone(&stuck));
    let request = gateway
        .http
        .get(format!("{}/hello", gateway.proxy))
        .bearer_auth(token);
    let request = tokio::spawn(async move { request.send().await.unwrap().status().as_u16() });
    eventually("the request stands still", || async {
        stuck.is(State::Holding).then_some(())
    })
    .await;
    page.browser.click("[data-testid='rotate-go']").await;

    page.browser
        .shows(
            "dialog .alert.warning",
            "The purge is committed, but not over yet",
        )
        .await;
    page.browser
        .shows("[data-testid='receipt-state']", "not everywhere yet")
        .await;
    page.browser
        .shows("[data-testid='receipt']", "Still held by: ")
        .await;
    stuck.let_go();
    assert_eq!(
        request.await.unwrap(),
        200,
        "it was accepted before the purge"
    );
    page.browser
        .shows(
            "[data-testid='receipt']",
            "No worker holds an earlier key any more",
        )
        .await;
    page.done(&[]).await;
}

/// Makes the first verification stand still until it is let go.
#[derive(Debug, Default)]
struct Stuck {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Waiting,
    Holding,
    Over,
}

impl Stuck {
    fn is(&self, state: State) -> bool {
        *self.state.lock().unwrap() == state
    }

    fn let_go(&self) {
        *self.state.lock().unwrap() = State::Over;
        self.changed.notify_all();
    }
}

impl Probe for Stuck {
    fn completing(&self, _worker: usize, purpose: Purpose, _kid: &Kid) {
        {
            let mut state = self.state.lock().unwrap();
            if *state != State::Waiting || purpose != Purpose::Verify {
                return;
            }
            *state = State::Holding;
        }
        // The listeners share the test's runtime, which must go on meanwhile.
        tokio::task::block_in_place(|| {
            let state = self.state.lock().unwrap();
            let held = |state: &mut State| *state == State::Holding;
            drop(
                self.changed
                    .wait_timeout_while(state, Duration::from_secs(120), held),
            );
        });
    }

    fn completed(&self, _worker: usize, _purpose: Purpose, _kid: &Kid) {}

    fn answering(&self, _kids: &[Kid]) {}
}
