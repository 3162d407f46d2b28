//! Every operation of the admin API, once: the router, the metric labels and the OpenAPI document
//! are made from this list, so that none of them can know of more or less than the others.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::Method;

use super::operation::{Access, Operation};
use super::{
    api, audit, client_changes, client_history, clients, clock, console, events, explain,
    impact_api, import, logs, openapi, purges, reseal, restore, session_api, status,
};

static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    vec![
        api::describe_keys(),
        api::describe_rotate(),
        import::describe_import(),
        reseal::describe_reseal(),
        restore::describe_restore(),
        restore::describe_compromised(),
        impact_api::describe_preview(),
        impact_api::describe_start_shadow(),
        impact_api::describe_shadow(),
        purges::describe_purges(),
        purges::describe_purge(),
        clients::describe_list(),
        clients::describe_add(),
        clients::describe_show(),
        client_history::describe_changes(),
        client_changes::describe_disable(),
        client_changes::describe_enable(),
        client_changes::describe_invalidate(),
        client_changes::describe_rotate_secret(),
        client_changes::describe_drop_old_secret(),
        client_changes::describe_remove(),
        clock::describe_confirm(),
        status::describe_status(),
        events::describe_events(),
        audit::describe_audit(),
        logs::describe_newest(),
        logs::describe_of_log_id(),
        explain::describe_explain(),
        session_api::describe_sign_in(),
        session_api::describe_show(),
        session_api::describe_sign_out(),
        openapi::describe(),
    ]
});

/// The metric label of the console's files, which are no operations.
const CONSOLE: &str = "console";

/// All of them.
pub(super) fn operations() -> &'static [Operation] {
    &OPERATIONS
}

/// The metric labels of the endpoints, each once.
#[must_use]
pub fn endpoints() -> Vec<&'static str> {
    let labels = OPERATIONS.iter().map(|of| of.label);
    let mut labels: Vec<&str> = labels.chain([CONSOLE]).collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

/// The metric label of a path.
pub(super) fn endpoint_label(path: &str) -> &'static str {
    if console::is_console(path) {
        return CONSOLE;
    }
    let of = OPERATIONS.iter().find(|of| is_at(of.path, path));
    of.map_or("other", |of| of.label)
}

/// Whether no credentials are asked for.
pub(super) fn is_open(method: &Method, path: &str) -> bool {
    find(method, path).is_some_and(|of| of.access == Access::Open)
}

/// What is wrong with an answer, when the document does not have it. `code` is that of an error.
#[cfg(debug_assertions)]
pub(super) fn undocumented(
    method: &Method,
    path: &str,
    status: u16,
    code: Option<&str>,
) -> Option<String> {
    let of = find(method, path)?;
    let known = match code {
        Some(code) => of
            .problems()
            .get(&status)
            .is_some_and(|codes| codes.contains(code)),
        None => of.answers.iter().any(|answer| answer.status == status),
    };
    let what = code.unwrap_or("no code");
    (!known).then(|| {
        format!(
            "{method} {}: the description of {} lacks the answer {status} with {what}",
            of.path, of.id
        )
    })
}

/// The first member of a query that the operation at `path` does not know, and those that it knows.
pub(super) fn unknown_in_query<'a>(
    method: &Method,
    path: &str,
    query: &'a str,
) -> Option<(Cow<'a, str>, &'static [String])> {
    let of = find(method, path)?;
    let names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    let mut unknown = names.filter(|name| !of.query_members.iter().any(|of| of == name));
    unknown.next().map(|name| (name, &*of.query_members))
}

fn find(method: &Method, path: &str) -> Option<&'static Operation> {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let there = |of: &&Operation| of.method == *method && is_at(of.path, path);
    OPERATIONS.iter().find(there)
}

/// Whether `path` is one that `template` stands for.
fn is_at(template: &str, path: &str) -> bool {
    let mut wanted = template.split('/');
    let mut found = path.split('/');
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found))
                if wanted == found || (wanted.starts_with('{') && !found.is_empty()) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::problems::PROBLEMS;
    use super::*;

    #[test]
    fn a_path_has_one_label_and_no_operation_is_described_twice() {
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for of in operations() {
            assert!(ids.insert(of.id), "{}", of.id);
            assert!(places.insert((of.method.as_str(), of.path)), "{}", of.path);
            let concrete = of
                .path
                .replace("{kid}", "k")
                .replace("{id}", "i")
                .replace("{log_id}", "l");
            assert_eq!(endpoint_label(&concrete), of.label, "{}", of.path);
            assert_eq!(find(&of.method, &concrete).unwrap().id, of.id);
            assert_ne!(of.label, "other");
            assert!(!of.summary.is_empty() && !of.summary.ends_with('.'));
        }
        for none in [
            "/admin/v1",
            "/admin/v1/keys/",
            "/admin/v1/keys//restore",
            "/x",
        ] {
            assert_eq!(endpoint_label(none), "other");
        }
    }

    #[test]
    fn every_code_is_explained_and_every_explained_code_can_come() {
        let used: BTreeSet<&str> = operations()
            .iter()
            .flat_map(|of| of.problems().into_values().flatten())
            .chain(["NOT_FOUND", "METHOD"])
            .collect();
        let explained: BTreeSet<&str> = PROBLEMS.iter().map(|(code, _)| *code).collect();
        assert_eq!(used, explained);
        assert_eq!(explained.len(), PROBLEMS.len(), "one is explained twice");
    }

    #[test]
    fn every_operation_has_an_example_of_each_parameter_that_it_needs() {
        for of in operations() {
            assert!(!of.examples.is_empty(), "{} has no example", of.id);
            for example in &of.examples {
                let given = |name: &str| example.parameters.iter().any(|(of, _)| *of == name);
                for name in of.path.split(['{', '}']).skip(1).step_by(2) {
                    assert!(given(name), "{}: {} lacks {name}", of.id, example.name);
                }
                assert_eq!(example.body.is_some(), of.body.is_some(), "{}", of.id);
            }
        }
    }

    #[test]
    fn an_answer_that_is_not_described_is_found_out() {
        let rotate = "/admin/v1/keys/rotate";
        let says = |status, code| undocumented(&Method::POST, rotate, status, code);
        assert_eq!(says(200, None), None);
        assert_eq!(says(409, Some("KEYSET_FULL")), None);
        assert!(says(204, None).is_some());
        assert!(says(409, Some("NO_SUCH_CLIENT")).is_some());
        assert_eq!(undocumented(&Method::PUT, rotate, 405, None), None);
        let head = undocumented(&Method::HEAD, "/admin/v1/keys", 200, None);
        assert_eq!(head, None);
    }
}
