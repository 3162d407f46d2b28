//! One operation of the admin API: what the router, the metrics and the OpenAPI document have to
//! know of it. Its description stands beside its handler; the list is in [`super::table`].
//!
//! Invariant: nothing about an operation is said twice. The types of bodies, queries and answers are
//! the very ones that are parsed and sent. May import nothing but [`super`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::routing::MethodRouter;
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::AdminParts;
use super::auth::Role;

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Makes the part of the router that answers.
type Handler = fn() -> MethodRouter<Arc<AdminParts>>;

/// One operation.
pub(super) struct Operation {
    pub(super) method: Method,
    /// As the router has it: `/admin/v1/keys/{kid}/restore`.
    pub(super) path: &'static str,
    /// Unique, in camel case; names the files of its examples too.
    pub(super) id: &'static str,
    /// The metric label `endpoint`.
    pub(super) label: &'static str,
    pub(super) tag: Tag,
    pub(super) access: Access,
    pub(super) summary: &'static str,
    /// More than the summary says, in Markdown.
    pub(super) about: &'static str,
    pub(super) parameters: Vec<Parameter>,
    pub(super) query: Option<SchemaOf>,
    /// The names of its members.
    pub(super) query_members: Vec<String>,
    pub(super) body: Option<SchemaOf>,
    pub(super) answers: Vec<Answer>,
    pub(super) examples: Vec<Example>,
    refusals: Vec<(u16, &'static [&'static str])>,
    handler: Handler,
}

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Keys,
    Purges,
    Clients,
    Clock,
    Status,
    Session,
    Document,
}

impl Tag {
    pub(super) const ALL: [Self; 7] = [
        Self::Keys,
        Self::Purges,
        Self::Clients,
        Self::Clock,
        Self::Status,
        Self::Session,
        Self::Document,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Keys => "Signing keys",
            Self::Purges => "Purges and previews",
            Self::Clients => "Clients",
            Self::Clock => "Clock",
            Self::Status => "Status, audit and log",
            Self::Session => "Sign-in",
            Self::Document => "This document",
        }
    }

    pub(super) const fn about(self) -> &'static str {
        match self {
            Self::Keys => "The key set, and everything that changes it.",
            Self::Purges => "What a purge would break, and what one did break.",
            Self::Clients => "Who may ask for tokens, and what was done to whom.",
            Self::Clock => "The pause of the schedule after a step of the clock.",
            Self::Status => "How everything is, what was done, and what went wrong.",
            Self::Session => "A session cookie for browsers, in the place of a token.",
            Self::Document => "The description of this API.",
        }
    }
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody who reaches the listener.
    Open,
    /// Whoever has this role or a higher one.
    Role(Role),
}

/// A parameter in the path or in a header.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) about: &'static str,
    pub(super) schema: SchemaOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Header,
}

/// An answer that is no error.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) about: &'static str,
    /// Media type and content, if there is any.
    pub(super) content: Option<(&'static str, SchemaOf)>,
    pub(super) headers: Vec<AnswerHeader>,
}

/// A header of an answer.
pub(super) struct AnswerHeader {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Whether it is there every time.
    pub(super) always: bool,
}

/// A request that works, and what it was answered. Tests send it to a gateway.
pub(super) struct Example {
    /// Unique for its operation.
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// Values of parameters, wherever they stand.
    pub(super) parameters: Vec<(&'static str, Value)>,
    pub(super) body: Option<Value>,
    pub(super) status: u16,
    /// The recorded answer; `PORTCULLIS_RECORD=1` has the tests record it anew.
    pub(super) answer: &'static str,
}

impl Example {
    pub(super) const fn new(
        name: &'static str,
        summary: &'static str,
        status: u16,
        answer: &'static str,
    ) -> Self {
        Self {
            name,
            summary,
            parameters: Vec::new(),
            body: None,
            status,
            answer,
        }
    }

    pub(super) fn with(mut self, parameter: &'static str, value: impl Into<Value>) -> Self {
        self.parameters.push((parameter, value.into()));
        self
    }

    pub(super) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }
}

/// The schema of `T`.
pub(super) fn schema_of<T: JsonSchema + ?Sized>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Operation {
    pub(super) fn get(path: &'static str, id: &'static str, handler: Handler) -> Self {
        Self::new(Method::GET, path, id, handler)
    }

    pub(super) fn post(path: &'static str, id: &'static str, handler: Handler) -> Self {
        Self::new(Method::POST, path, id, handler)
    }

    pub(super) fn delete(path: &'static str, id: &'static str, handler: Handler) -> Self {
        Self::new(Method::DELETE, path, id, handler)
    }

    fn new(method: Method, path: &'static str, id: &'static str, handler: Handler) -> Self {
        Self {
            method,
            path,
            id,
            label: "other",
            tag: Tag::Keys,
            access: Access::Role(Role::Viewer),
            summary: "",
            about: "",
            parameters: Vec::new(),
            query: None,
            query_members: Vec::new(),
            body: None,
            answers: Vec::new(),
            examples: Vec::new(),
            refusals: Vec::new(),
            handler,
        }
    }

    pub(super) fn label(self, label: &'static str) -> Self {
        Self { label, ..self }
    }

    pub(super) fn tag(self, tag: Tag) -> Self {
        Self { tag, ..self }
    }

    /// The least role that may ask.
    pub(super) fn role(self, role: Role) -> Self {
        let access = Access::Role(role);
        Self { access, ..self }
    }

    /// No credentials are asked for.
    pub(super) fn open(self) -> Self {
        let access = Access::Open;
        Self { access, ..self }
    }

    pub(super) fn says(self, summary: &'static str, about: &'static str) -> Self {
        Self {
            summary,
            about,
            ..self
        }
    }

    pub(super) fn in_path<T: JsonSchema>(self, name: &'static str, about: &'static str) -> Self {
        self.parameter(name, Place::Path, about, schema_of::<T>)
    }

    pub(super) fn header<T: JsonSchema>(self, name: &'static str, about: &'static str) -> Self {
        self.parameter(name, Place::Header, about, schema_of::<T>)
    }

    fn parameter(
        mut self,
        name: &'static str,
        place: Place,
        about: &'static str,
        schema: SchemaOf,
    ) -> Self {
        self.parameters.push(Parameter {
            name,
            place,
            about,
            schema,
        });
        self
    }

    /// The query, member by member.
    pub(super) fn query<T: JsonSchema>(self) -> Self {
        let query = Some(schema_of::<T> as SchemaOf);
        let schema = T::json_schema(&mut SchemaGenerator::default());
        let members = schema.get("properties").and_then(Value::as_object);
        let query_members = members.into_iter().flatten().map(|(name, _)| name.clone());
        Self {
            query,
            query_members: query_members.collect(),
            ..self
        }
    }

    /// A JSON body, which must be there.
    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        let body = Some(schema_of::<T> as SchemaOf);
        Self { body, ..self }
    }

    pub(super) fn answers<T: JsonSchema + ?Sized>(self, status: u16, about: &'static str) -> Self {
        self.answer(status, about, Some(("application/json", schema_of::<T>)))
    }

    /// An answer that is no JSON.
    pub(super) fn answers_with<T: JsonSchema + ?Sized>(
        self,
        status: u16,
        media: &'static str,
        about: &'static str,
    ) -> Self {
        self.answer(status, about, Some((media, schema_of::<T>)))
    }

    pub(super) fn answers_nothing(self, status: u16, about: &'static str) -> Self {
        self.answer(status, about, None)
    }

    fn answer(
        mut self,
        status: u16,
        about: &'static str,
        content: Option<(&'static str, SchemaOf)>,
    ) -> Self {
        self.answers.push(Answer {
            status,
            about,
            content,
            headers: Vec::new(),
        });
        self
    }

    /// A header of the answer named last.
    pub(super) fn with_header(self, name: &'static str, about: &'static str) -> Self {
        self.answer_header(name, about, true)
    }

    /// The same, which may be missing.
    pub(super) fn with_optional_header(self, name: &'static str, about: &'static str) -> Self {
        self.answer_header(name, about, false)
    }

    fn answer_header(mut self, name: &'static str, about: &'static str, always: bool) -> Self {
        let header = AnswerHeader {
            name,
            about,
            always,
        };
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push(header);
        }
        self
    }

    /// The codes of errors beyond those that every operation of its kind can have.
    pub(super) fn refuses(mut self, status: u16, codes: &'static [&'static str]) -> Self {
        self.refusals.push((status, codes));
        self
    }

    pub(super) fn example(mut self, example: Example) -> Self {
        self.examples.push(example);
        self
    }

    pub(super) fn route(&self) -> MethodRouter<Arc<AdminParts>> {
        (self.handler)()
    }

    /// Every error that it can answer with: codes by status.
    pub(super) fn problems(&self) -> BTreeMap<u16, BTreeSet<&'static str>> {
        let mut all = BTreeMap::new();
        let mut add = |status: u16, codes: &[&'static str]| {
            let known: &mut BTreeSet<&'static str> = all.entry(status).or_default();
            known.extend(codes);
        };
        // What every listener refuses before anything of it is looked at.
        add(400, &["BAD_QUERY", "MALFORMED", "TOKEN_IN_URL"]);
        add(408, &["TOO_SLOW"]);
        add(413, &["TOO_LARGE"]);
        add(421, &["HOST_NOT_ALLOWED"]);
        add(431, &["HEADER_TOO_LARGE"]);
        if let Access::Role(role) = self.access {
            add(401, &["UNAUTHENTICATED", "WRONG_TOKEN"]);
            add(403, &["CROSS_ORIGIN"]);
            add(429, &["THROTTLED"]);
            if role > Role::Viewer {
                add(403, &["ROLE"]);
            }
        }
        if self.method != Method::GET {
            add(403, &["CROSS_ORIGIN"]);
        }
        if self.body.is_some() {
            add(400, &["BAD_BODY"]);
            add(415, &["MEDIA_TYPE"]);
        }
        for (status, codes) in &self.refusals {
            add(*status, codes);
        }
        all
    }
}
