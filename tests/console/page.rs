//! The console as a person meets it: opened, signed in to, gone through.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::browser::Browser;

/// The first entry of the menu Actions, which begins a rotation.
const MENU: &str = "[data-key='key-actions']";
const ROTATE: &str = ".menu-list button";

/// A browser that shows the console.
pub struct Page {
    pub browser: Browser,
    pub origin: String,
}

impl Page {
    /// Opens the sign-in page; `None` when there is no browser.
    pub async fn open(origin: &str) -> Option<Self> {
        let page = Self {
            browser: Browser::start().await?,
            origin: origin.to_owned(),
        };
        page.browser.open(origin).await;
        page.browser.shows("h1", "Sign in to Portcullis").await;
        Some(page)
    }

    /// Opens it and signs in.
    pub async fn signed_in(origin: &str, token: &str) -> Option<Self> {
        let page = Self::open(origin).await?;
        page.sign_in(token).await;
        page.browser.shows("h1", "Overview").await;
        Some(page)
    }

    pub async fn sign_in(&self, token: &str) {
        self.browser.type_into("#token", token).await;
        self.browser.click("form button[type='submit']").await;
    }

    /// Goes to a page (`keys`, `purges/ID`) and waits until it shows `title` and all its data.
    pub async fn go(&self, path: &str, title: &str) {
        self.browser
            .run("location.hash = arguments[0]", json!([format!("#/{path}")]))
            .await;
        self.browser.shows("main h1", title).await;
        self.settled().await;
    }

    /// Waits until no region of the page is loading and the stream is live.
    pub async fn settled(&self) {
        self.browser
            .until(
                "the page is loaded",
                "!document.querySelector('main [aria-busy]') && document.querySelector('.live')?.dataset.state === 'live'",
            )
            .await;
    }

    /// Actions → Rotate Signing Key, up to the first dialog.
    pub async fn begin_rotation(&self) {
        self.browser.click(MENU).await;
        self.browser.click(ROTATE).await;
        self.browser.shows("dialog h2", "Rotate Signing Key").await;
    }

    /// And on to the confirmation, with its preview.
    pub async fn confirm_rotation(&self) {
        self.begin_rotation().await;
        self.browser.click("[data-testid='rotate-next']").await;
        self.browser
            .shows("dialog h2", "Confirm the rotation")
            .await;
        self.browser.shows(".blast-numbers", "Live tokens").await;
    }

    /// The text of the first element that `selector` finds.
    pub async fn text(&self, selector: &str) -> String {
        self.browser.text(selector).await
    }

    /// Calls the API from the page, with the session's cookie; the status and the body.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u64, Value) {
        let script = "return fetch('/admin/v1' + arguments[1], { method: arguments[0], \
             headers: { 'Content-Type': 'application/json', 'X-Portcullis-Request': '1' }, \
             body: JSON.stringify(arguments[2]) }) \
             .then(async (answer) => [answer.status, await answer.json()])";
        let answer = self.browser.run(script, json!([method, path, body])).await;
        (answer[0].as_u64().unwrap(), answer[1].clone())
    }

    /// Checks what every test checks. `expected` are parts of console messages that belong to it:
    /// a browser reports each answer of 400 and above as an error.
    pub async fn done(self, expected: &[&str]) {
        let unexpected: Vec<Value> = self
            .browser
            .console()
            .await
            .into_iter()
            .filter(|entry| {
                let text = entry["message"].as_str().unwrap_or_default();
                entry["source"] == "security" || !expected.iter().any(|part| text.contains(part))
            })
            .collect();
        assert!(unexpected.is_empty(), "console: {unexpected:#?}");

        let requests = self.browser.requests().await;
        let elsewhere: BTreeSet<&String> = requests
            .iter()
            .filter(|url| !url.starts_with(&format!("{}/", self.origin)))
            .filter(|url| !url.starts_with("data:") && !url.starts_with("chrome:"))
            .collect();
        assert!(
            elsewhere.is_empty(),
            "requests left the admin origin: {elsewhere:?}"
        );
        assert!(requests.len() > 10, "the requests were not recorded");
    }
}
