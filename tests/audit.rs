//! The audit log of a real installation, read and checked by the command line.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod harness;

use harness::process::{Process, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn inv13_every_revision_has_one_record_and_an_edit_shows() {
    let mut gateway = Process::start(&Setup::new("127.0.0.1:9")).await;
    gateway.rotate().await;
    gateway.purge().await;
    let revision = gateway.admin_get("/admin/v1/keys").await["revision"]
        .as_u64()
        .unwrap();
    let shown = gateway.admin_get("/admin/v1/audit?limit=500").await;
    gateway.terminate().await;

    let tail = gateway.run(&["audit", "tail", "--json"]);
    assert!(tail.status.success());
    let records: Vec<serde_json::Value> = String::from_utf8(tail.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // The same members, dates included, as the admin API has.
    let mut shown: Vec<serde_json::Value> =
        serde_json::from_value(shown["records"].clone()).unwrap();
    shown.reverse();
    assert_eq!(records, shown);
    let revisions: Vec<u64> = records
        .iter()
        .map(|record| record["revision"].as_u64().unwrap())
        .collect();
    assert_eq!(revisions, (1..=revision).collect::<Vec<_>>());
    assert_eq!(records.last().unwrap()["event"], "rotate_and_purge");
    assert_eq!(records.last().unwrap()["actor"]["name"], "ops");

    let verify = || gateway.run(&["audit", "verify"]);
    assert!(verify().status.success());
    let path = gateway.dir.path().join("data/keys/audit.log");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"ops\"", "\"eve\"", 1)).unwrap();
    let edited = verify();
    assert_eq!(edited.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&edited.stderr).contains("line 2 of the audit log is bad"));
}
