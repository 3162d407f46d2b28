//! Whether an earlier route leaves anything to a later one.

use crate::gateway::routes::{Matcher, PathRule};

/// Whether `earlier` takes every request that `later` could take.
///
/// Only a single route is looked at: two that cover a third only together are not found.
pub(super) fn covers(earlier: &Matcher, later: &Matcher) -> bool {
    let host = earlier.host.is_none() || earlier.host == later.host;
    let methods = earlier.methods.is_empty()
        || (!later.methods.is_empty() && later.methods.iter().all(|m| earlier.methods.contains(m)));
    host && methods && path_covers(&earlier.path, &later.path)
}

fn path_covers(earlier: &PathRule, later: &PathRule) -> bool {
    match (earlier, later) {
        (PathRule::Exact(a), PathRule::Exact(b)) => a == b,
        (PathRule::Exact(_), PathRule::Prefix(_)) => false,
        (PathRule::Prefix(a), PathRule::Exact(b) | PathRule::Prefix(b)) => is_below(b, a),
    }
}

fn is_below(path: &str, prefix: &str) -> bool {
    prefix == "/"
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn matcher(host: Option<&str>, path: PathRule, methods: &[Method]) -> Matcher {
        Matcher {
            host: host.map(str::to_owned),
            path,
            methods: methods.to_vec(),
        }
    }

    fn exact(path: &str) -> PathRule {
        PathRule::Exact(path.to_owned())
    }

    fn prefix(path: &str) -> PathRule {
        PathRule::Prefix(path.to_owned())
    }

    #[test]
    fn a_wider_route_covers_a_narrower_one_and_not_the_other_way_round() {
        let pairs = [
            (
                matcher(None, prefix("/"), &[]),
                matcher(Some("a"), exact("/x"), &[Method::GET]),
            ),
            (
                matcher(None, prefix("/api"), &[]),
                matcher(None, prefix("/api/v1"), &[]),
            ),
            (
                matcher(Some("a"), prefix("/api"), &[Method::GET, Method::POST]),
                matcher(Some("a"), exact("/api"), &[Method::POST]),
            ),
        ];
        for (wide, narrow) in pairs {
            assert!(covers(&wide, &narrow));
            assert!(covers(&wide, &wide));
            assert!(!covers(&narrow, &wide));
        }
    }

    #[test]
    fn routes_that_leave_something_do_not_cover() {
        let all = matcher(None, prefix("/"), &[]);
        let pairs = [
            (matcher(Some("a"), prefix("/"), &[]), all.clone()),
            (matcher(None, prefix("/"), &[Method::GET]), all.clone()),
            (
                matcher(None, prefix("/api"), &[]),
                matcher(None, exact("/apix"), &[]),
            ),
            (matcher(None, exact("/"), &[]), all),
        ];
        for (earlier, later) in pairs {
            assert!(!covers(&earlier, &later));
        }
    }
}
