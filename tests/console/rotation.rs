//! Actions → Rotate Signing Key, without a purge.

use std::time::Duration;

use crate::harness::browser::{ARROW_DOWN, ENTER, ESCAPE};
use crate::harness::{ADMIN, Gateway, OPERATOR, Options};
use crate::page::Page;

#[tokio::test(flavor = "multi_thread")]
async fn rotates_and_says_why_a_second_rotate_changes_nothing() {
    let gateway = Gateway::start(Options::default()).await;
    let token = gateway.token().await;
    let Some(page) = Page::signed_in(&gateway.admin, OPERATOR).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    let before = gateway.lifecycle.current_set();

    page.begin_rotation().await;
    let row = page.text("dialog tbody tr").await;
    assert!(row.contains("active"), "the active key is named: {row}");
    let name = page
        .browser
        .eval("document.querySelector('dialog tbody .kid').title")
        .await;
    assert_eq!(name, before.active.public.kid.to_string());
    page.browser.click("[data-testid='rotate-next']").await;
    page.browser
        .shows("dialog [role='status']", "No token breaks")
        .await;
    // Shown as it is, wherever it is shown.
    let reason = "<img src=x onerror=alert(1)> quarterly";
    page.browser.type_into("#reason", reason).await;
    page.browser.click("[data-testid='rotate-go']").await;
    page.browser.shows("dialog h2", "Rotated").await;
    let after = gateway.lifecycle.current_set();
    assert_eq!(after.revision, before.revision + 1);
    let signs = page.text("[data-testid='activated'] .kid-full").await;
    assert_eq!(signs, after.active.public.kid.to_string());
    assert_eq!(gateway.status(&token).await, 200, "no token broke");
    page.browser.click("[data-testid='rotate-done']").await;
    // The stream tells; nobody has to reload.
    page.browser
        .until(
            "the table shows the new key",
            &format!(
                "document.querySelector('[data-row=active] .kid')?.title === '{}'",
                after.active.public.kid
            ),
        )
        .await;

    gateway.clock.advance(Duration::from_secs(60));
    page.begin_rotation().await;
    page.browser
        .shows("dialog .alert", "a plain Rotate changes nothing until")
        .await;
    let step = page.text("dialog .content").await;
    assert!(!step.contains("begins to sign"), "{step}");
    page.browser.click("[data-testid='rotate-next']").await;
    page.browser
        .shows("dialog h2", "Confirm the rotation")
        .await;
    page.browser.click("[data-testid='rotate-go']").await;
    page.browser.shows("dialog h2", "Nothing was changed").await;
    page.browser
        .shows("dialog .alert", "The signing key was already rotated")
        .await;
    page.browser
        .shows(
            "[data-testid='possible-again']",
            "A new Rotate is possible in",
        )
        .await;
    assert_eq!(gateway.lifecycle.current_set().revision, after.revision);
    page.browser.click("[data-testid='rotate-done']").await;

    page.go("audit", "Audit").await;
    page.browser.shows("[data-testid='audit']", reason).await;
    let images = page.browser.eval("document.images.length").await;
    assert_eq!(images, 0, "a reason is text");
    page.done(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_needs_no_mouse() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(page) = Page::signed_in(&gateway.admin, ADMIN).await else {
        return;
    };
    page.go("keys", "Signing keys").await;
    let before = gateway.lifecycle.current_set().revision;
    let focused = "document.activeElement";
    page.browser
        .run(
            "document.querySelector('[data-key=key-actions]').focus()",
            serde_json::json!([]),
        )
        .await;

    page.browser.press(ENTER).await;
    page.browser
        .until(
            "the menu has the focus",
            &format!("{focused}.role === 'menuitem'"),
        )
        .await;
    page.browser.press(ARROW_DOWN).await;
    page.browser.press(ESCAPE).await;
    page.browser
        .until(
            "the button has it back",
            &format!("{focused}.dataset.key === 'key-actions'"),
        )
        .await;

    walk_to_step_2(&page).await;
    page.browser.press(ESCAPE).await;
    page.browser
        .until(
            "Escape closes, and the focus returns",
            &format!(
                "!document.querySelector('dialog') && {focused}.dataset.key === 'key-actions'"
            ),
        )
        .await;
    assert_eq!(
        gateway.lifecycle.current_set().revision,
        before,
        "nothing happened"
    );

    walk_to_step_2(&page).await;
    page.browser.type_into("#reason", ENTER).await;
    page.browser
        .until(
            "the result",
            &format!("{focused}.dataset.testid === 'rotate-done'"),
        )
        .await;
    assert_eq!(gateway.lifecycle.current_set().revision, before + 1);
    page.done(&[]).await;
}

/// From the menu's button, by keyboard alone.
async fn walk_to_step_2(page: &Page) {
    page.browser.press(&format!("{ENTER}{ENTER}")).await;
    page.browser
        .until(
            "step 1",
            "document.activeElement.dataset.testid === 'rotate-next'",
        )
        .await;
    page.browser.press(ENTER).await;
    page.browser
        .until("step 2", "document.activeElement.id === 'purge'")
        .await;
}
