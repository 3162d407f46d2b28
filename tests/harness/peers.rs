//! Where the programs are that tests run against: nginx, Prometheus, docker-compose …
//!
//! `scripts/bootstrap peers` puts them below the target directory without installing or starting
//! anything. Where one cannot be had its tests skip, loudly; with `CI=true` they fail instead, so
//! that a build server can never be green by skipping. Imports nothing of ours.

use std::env;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The executable `name`, or `None` after a loud notice that the calling test is skipped.
///
/// Looked for in `$PORTCULLIS_PEERS`, then in the target directory's `peers/bin`, then on `PATH`
/// and in the two system directories that an ordinary user's `PATH` leaves out.
///
/// # Panics
/// When it is nowhere and the environment says `CI=true`.
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    let found = places()
        .into_iter()
        .map(|dir| dir.join(name))
        .find(|path| is_executable(path));
    if found.is_none() {
        skipped(name);
    }
    found
}

fn skipped(name: &str) {
    let notice = format!("peer {name:?} is missing; `make peers` fetches it");
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{notice}");
    // Not eprintln!: the test harness would swallow it, as a skipped test passes.
    writeln!(std::io::stderr(), "\n!!! TEST SKIPPED: {notice}\n").ok();
}

/// A file that `scripts/bootstrap peers` keeps beside the executables, or `None` as [`peer`].
///
/// # Panics
/// When it is nowhere and the environment says `CI=true`.
pub(crate) fn peer_file(name: &str) -> Option<PathBuf> {
    let found = places()
        .into_iter()
        .take(2)
        .filter_map(|bin| Some(bin.parent()?.join(name)))
        .find(|path| path.is_file());
    if found.is_none() {
        skipped(name);
    }
    found
}

fn places() -> Vec<PathBuf> {
    let fetched = env::var_os("PORTCULLIS_PEERS").map(PathBuf::from);
    // Cargo hands integration tests <target>/tmp, wherever the target directory is.
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    fetched
        .into_iter()
        .chain([built])
        .chain(env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .collect()
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
