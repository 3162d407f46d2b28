//! A gateway in which everything exists that the examples speak of, under names of its own.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{ADMIN, CLIENT, Gateway, Options};

/// What the examples call a key, a purge, a shadow purge, and the revision that was looked at.
pub const KID: &str = "q0hDD0n6UOSDlL1LK8ZQ1dJEb4m9sCUXUd1dPDjqUvA";
const PURGE_ID: &str = "1d9ee5d0-5c8b-4b0e-8a53-0c4f6f5a2b17";
const SHADOW_ID: &str = "c2a3f6de-3c52-4b4f-a2a5-2f9b1d6e7a40";
const TOKEN: &str = "an-admin-token-of-the-configuration";
const LOG_ID: &str = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
const REVISION: &str = "\"7\"";

/// The gateway, and what stands for what.
pub struct World {
    pub gateway: Gateway,
    names: Vec<(&'static str, String)>,
}

impl World {
    /// With what the operation `id` needs to do its work.
    pub async fn of(id: &str) -> Self {
        let gateway = Gateway::start(Options {
            file_store: true,
            ..Options::default()
        })
        .await;
        let mut world = Self {
            gateway,
            names: vec![(TOKEN, ADMIN.to_owned())],
        };
        let dead = world.purges().await;
        world.clients().await;
        let keys = world.get("/admin/v1/keys").await;
        let kid = if matches!(id, "restoreKey" | "markKeyCompromised") {
            dead
        } else {
            text(&keys["keys"][0]["kid"])
        };
        world.names.push((KID, kid));
        if id == "readShadowPurge" {
            let shadow = world
                .post("/admin/v1/keys/preview", json!({ "shadow": "5m" }))
                .await;
            world.names.push((SHADOW_ID, text(&shadow["shadow_id"])));
        }
        let (_, refused) = world.gateway.admin_get("/admin/v1/keys/purges/none").await;
        world.names.push((LOG_ID, text(&refused["log_id"])));
        if id == "rotateKeys" {
            // Out of the idempotency window, and the pending key old enough.
            world.gateway.clock.advance(Duration::from_secs(1800));
        }
        let tag = if id.contains("Client") {
            let clients = world.get("/admin/v1/clients").await;
            format!("\"{}\"", clients["revision"])
        } else {
            let keys = world.get("/admin/v1/keys").await;
            format!("\"{}\"", keys["revision"])
        };
        world.names.push((REVISION, tag));
        world
    }

    /// Two purges; the later one can be undone, and the client came back from it. Its key.
    async fn purges(&mut self) -> String {
        self.gateway.purge().await;
        self.gateway.clock.advance(Duration::from_secs(1));
        let token = self.gateway.token().await;
        assert_eq!(self.gateway.status(&token).await, 200);
        let keys = self.get("/admin/v1/keys").await;
        let kid = text(&keys["keys"][0]["kid"]);
        self.gateway.clock.advance(Duration::from_secs(4));
        let body = json!({
            "purge": true, "seen_revision": keys["revision"], "mistake_undo": true,
            "reason": "rehearsal on the wrong gateway",
        });
        let purged = self.post("/admin/v1/keys/rotate", body).await;
        self.names
            .push((PURGE_ID, text(&purged["receipt"]["purge_id"])));
        self.gateway.clock.advance(Duration::from_secs(2));
        assert_eq!(self.gateway.status(&token).await, 401);
        self.gateway.clock.advance(Duration::from_secs(3));
        let token = self.gateway.token().await;
        assert_eq!(self.gateway.status(&token).await, 200);
        kid
    }

    /// A client of the store with two secrets, to which something was done.
    async fn clients(&self) {
        let add =
            json!({ "id": "billing", "scopes": ["read", "write"], "reason": "the shop's bills" });
        self.post("/admin/v1/clients", add).await;
        self.gateway.clock.advance(Duration::from_secs(60));
        let path = |verb: &str| format!("/admin/v1/clients/billing/{verb}");
        self.post(&path("rotate-secret"), json!({})).await;
        let invalidate = format!("/admin/v1/clients/{CLIENT}/invalidate");
        self.post(&invalidate, json!({ "reason": "a drill" })).await;
        self.gateway.clock.advance(Duration::from_secs(60));
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.gateway.admin_get(path).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.gateway.admin_post(path, body).await;
        assert!((200..300).contains(&status), "{path}: {answer}");
        answer
    }

    /// The text of an example in the names of this world.
    pub fn here(&self, text: &str) -> String {
        let names = self.names.iter();
        names.fold(text.to_owned(), |text, (there, here)| {
            text.replace(there, here)
        })
    }

    /// A JSON value in the names of this world.
    pub fn value_here(&self, value: &Value) -> Value {
        serde_json::from_str(&self.here(&value.to_string())).expect("JSON as before")
    }

    /// The text of an answer in the names of the examples; secrets are put out of sight.
    pub fn there(&self, text: &str) -> String {
        let names = self.names.iter().filter(|(there, _)| *there != REVISION);
        names.fold(text.to_owned(), |text, (there, here)| {
            text.replace(here, there)
        })
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}
