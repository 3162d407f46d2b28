//! From the file as written to the configuration that runs: every value parsed, every rule
//! checked, every violation reported with its key path.
//!
//! A value that breaks a rule is reported and replaced by a default, so that the rest is still
//! looked at; the result is thrown away when anything was reported.

mod admin;
mod binding;
mod issuer;
mod keys;
mod listeners;
mod records;
mod routes;
mod settings;
mod shadow;
mod upstreams;

use std::path::Path;

use super::config::Config;
use super::error::{Broken, Finding, printable};
use super::forms::{Scalar, WordOr};
use super::path::KeyPath;
use super::raw::RawConfig;
use super::substitute::{Env, has_variable, substitute};

/// Converts a whole file.
///
/// # Errors
/// Every violation, in no particular order; never an empty list.
pub(super) fn config(raw: RawConfig, source: &Path, env: Env<'_>) -> Result<Config, Vec<Finding>> {
    let mut cx = Cx {
        env,
        found: Vec::new(),
    };
    let issuer = issuer::issuer(&mut cx, raw.issuer);
    let default_ttl = issuer.as_ref().map(|issuer| issuer.token_ttl);
    let clients = issuer::clients(&mut cx, raw.clients, default_ttl.unwrap_or_default());
    let keys = keys::keys(&mut cx, raw.keys, default_ttl, &clients);
    let upstreams = upstreams::upstreams(&mut cx, raw.upstreams);
    let audience = issuer.as_ref().map(|issuer| issuer.audience.as_slice());
    let routes = routes::routes(
        &mut cx,
        raw.routes,
        audience.unwrap_or_default(),
        &upstreams,
    );
    let listeners = listeners::listeners(&mut cx, raw.listeners);
    let limits = settings::limits(&mut cx, raw.limits.unwrap_or_default());
    let server = settings::server(&mut cx, raw.server.unwrap_or_default(), listeners.as_ref());
    let log = settings::log(&mut cx, raw.log.unwrap_or_default());
    let access_log = records::access_log(&mut cx, raw.access_log.as_ref());
    let tracing = records::tracing(&mut cx, raw.tracing.as_ref());
    match (issuer, keys, listeners) {
        (Some(issuer), Some(keys), Some(listeners)) if cx.found.is_empty() => Ok(Config {
            source: source.to_path_buf(),
            listeners,
            issuer,
            keys,
            clients,
            upstreams: upstreams.specs,
            routes,
            limits,
            server,
            log,
            access_log,
            tracing,
        }),
        _ => Err(cx.found),
    }
}

/// What a conversion needs on its way: the environment, and a place for violations.
struct Cx<'a> {
    env: Env<'a>,
    found: Vec<Finding>,
}

impl Cx<'_> {
    /// Parses a value that may be missing; one that breaks a rule is reported and then missing.
    fn maybe<T>(
        &mut self,
        at: &KeyPath,
        raw: Option<&Scalar>,
        parse: impl FnOnce(&str) -> Result<T, Broken>,
    ) -> Option<T> {
        let raw = raw?;
        let parsed = substitute(&raw.0, self.env).and_then(|text| parse(&text));
        match parsed {
            Ok(value) => Some(value),
            Err(broken) => {
                self.report(at, Some(shown(raw)), broken);
                None
            }
        }
    }

    /// The section of a key that may be the word `off` instead; `None` for that word, and for one that
    /// breaks the rule, which is reported.
    fn unless_off<'r, T>(
        &mut self,
        at: &KeyPath,
        raw: &'r WordOr<T>,
        rule: &'static str,
        fix: &'static str,
    ) -> Option<&'r T> {
        match raw {
            WordOr::Section(raw) => Some(raw),
            WordOr::Word(word) => {
                self.maybe(at, Some(word), |text| match text {
                    "off" => Ok(()),
                    _ => Err(Broken::new(rule, fix)),
                });
                None
            }
        }
    }

    /// Like [`Cx::maybe`], but the value never appears in the report.
    fn secret<T>(
        &mut self,
        at: &KeyPath,
        raw: Option<&Scalar>,
        parse: impl FnOnce(&str) -> Result<T, Broken>,
    ) -> Option<T> {
        let parsed = substitute(&raw?.0, self.env).and_then(|text| parse(&text));
        match parsed {
            Ok(value) => Some(value),
            Err(broken) => {
                self.report(at, None, broken);
                None
            }
        }
    }

    /// Parses a value that must be there.
    fn required<T>(
        &mut self,
        at: &KeyPath,
        raw: Option<&Scalar>,
        example: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Broken>,
    ) -> Option<T> {
        if raw.is_none() {
            self.missing(at, example);
        }
        self.maybe(at, raw, parse)
    }

    /// Parses the items of a list; equal ones are reported.
    fn list<T: PartialEq>(
        &mut self,
        at: &KeyPath,
        raw: Option<&Vec<Scalar>>,
        most: usize,
        parse: impl Fn(&str) -> Result<T, Broken>,
    ) -> Vec<T> {
        let mut items: Vec<T> = Vec::new();
        let raw = raw.map(Vec::as_slice).unwrap_or_default();
        self.bound(at, raw.len(), most);
        for (index, scalar) in raw.iter().enumerate().take(most) {
            let here = at.index(index);
            let Some(item) = self.maybe(&here, Some(scalar), &parse) else {
                continue;
            };
            if items.contains(&item) {
                let broken =
                    Broken::new("an item stands in a list only once", "remove one of them");
                self.report(&here, Some(shown(scalar)), broken);
            }
            items.push(item);
        }
        items
    }

    /// Reports a list or map with more than `most` entries.
    fn bound(&mut self, at: &KeyPath, count: usize, most: usize) {
        if count > most {
            let rule = format!("there are at most {most} entries here, not {count}");
            self.report(at, None, Broken::new(rule, "remove some of them"));
        }
    }

    fn missing(&mut self, at: &KeyPath, example: &'static str) {
        self.report(at, None, Broken::new("this key is required", example));
    }

    fn report(&mut self, at: &KeyPath, value: Option<String>, broken: Broken) {
        let mut finding = Finding::new(at, broken);
        finding.value = value;
        self.found.push(finding);
    }

    /// Reports a rule about values that were written well, each by itself.
    fn refuse(
        &mut self,
        at: &KeyPath,
        value: Option<&Scalar>,
        rule: impl Into<std::borrow::Cow<'static, str>>,
        fix: impl Into<std::borrow::Cow<'static, str>>,
    ) {
        self.report(at, value.map(shown), Broken::new(rule, fix));
    }
}

/// A value as it may be printed: as it is written, never what a variable holds.
fn shown(scalar: &Scalar) -> String {
    if has_variable(&scalar.0) {
        return format!(
            "{} (what the variable holds is not shown)",
            printable(&scalar.0)
        );
    }
    match scalar.0.as_str() {
        "" => "\"\"".to_owned(),
        // A URL with user and password.
        text if text.contains("://") && text.contains('@') => {
            "(not shown, it holds an `@`)".to_owned()
        }
        text => printable(text),
    }
}
