//! The document of `GET status`, and of the event `status`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::clock::Timestamp;

/// How a component is; a later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ComponentStatus")]
pub(in crate::admin) enum Status {
    /// It does what it should.
    Ok,
    /// It does, but somebody should look before it no longer does.
    Warning,
    /// It does not.
    Error,
}

/// `GET status`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Status")]
pub(in crate::admin) struct StatusView<'a> {
    version: &'static str,
    now: String,
    started_at: String,
    issuer: &'a str,
    /// The worst of the components.
    overall: Status,
    /// The worst first.
    components: &'a [ComponentView],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Component")]
pub(in crate::admin) struct ComponentView {
    /// `gateway`, `key_store`, `issuer`, `scheduler`, `upstream:NAME`.
    pub(super) id: String,
    #[schemars(extend("enum" = ["gateway", "key_store", "issuer", "scheduler", "upstream"]))]
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) status: Status,
    /// What is wrong and what to do, or that all is well.
    pub(super) reason: String,
    /// Since when the status is this one.
    pub(super) since: String,
    pub(super) facts: Facts,
    /// Of an upstream alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoints: Option<Vec<EndpointView>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "UpstreamEndpoint")]
pub(super) struct EndpointView {
    pub(super) address: String,
    pub(super) status: Status,
    pub(super) reason: String,
    pub(super) since: String,
}

/// What there is to know beside, in order: an object of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::admin) struct Facts(Vec<(&'static str, String)>);

impl Facts {
    pub(super) fn with(mut self, label: &'static str, value: impl ToString) -> Self {
        self.0.push((label, value.to_string()));
        self
    }

    /// Leaves out what is not known.
    pub(super) fn with_some(self, label: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(label, value),
            None => self,
        }
    }
}

impl JsonSchema for Facts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Facts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, String>::json_schema(generator)
    }
}

impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (label, value) in &self.0 {
            map.serialize_entry(label, value)?;
        }
        map.end()
    }
}

impl<'a> StatusView<'a> {
    pub(super) fn of(
        components: &'a [ComponentView],
        issuer: &'a str,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        let worst = components.iter().map(|component| component.status).max();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            now: now.to_string(),
            started_at: started_at.to_string(),
            issuer,
            overall: worst.unwrap_or(Status::Ok),
            components,
        }
    }
}

/// Whether nothing but facts differs.
pub(super) fn is_same(before: &[ComponentView], now: &[ComponentView]) -> bool {
    let key = |of: &ComponentView| {
        let (id, reason, since) = (of.id.clone(), of.reason.clone(), of.since.clone());
        (id, of.status, reason, since, of.endpoints.clone())
    };
    before.iter().map(key).eq(now.iter().map(key))
}
