//! The sixteen requests of `scripts/who-accepts`: our own column is right, whoever else is there.

mod harness;

use std::path::Path;
use std::process::Command;

use harness::peers::peer;
use serde_json::Value;

#[test]
fn our_verdicts_are_the_right_ones() {
    let (Some(python), Some(openssl)) = (peer("python3"), peer("openssl")) else {
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/who-accepts");
    // Peers that `scripts/bootstrap bench` fetched take part; the verdicts on them are no test of ours.
    let peers = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers");
    let peers = std::env::var_os("PORTCULLIS_PEERS")
        .and_then(|bin| Some(Path::new(&bin).parent()?.to_owned()))
        .unwrap_or(peers);
    let output = Command::new(python)
        .arg(script)
        .arg("--json")
        .arg("--binary")
        .arg(env!("CARGO_BIN_EXE_portcullis"))
        .arg("--peers")
        .arg(peers)
        .arg("--openssl")
        .arg(openssl)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let found: Value = serde_json::from_slice(&output.stdout).expect(&said);
    println!("{}", found["contenders"]);
    let cases = found["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 16);
    for case in cases {
        let ours = &case["verdicts"]["Portcullis"];
        assert_eq!(ours["right"], true, "{case}");
    }
    // A judge that finds nothing wrong with anybody would be none.
    if found["contenders"].as_array().expect("names").len() > 1 {
        let wrong = |case: &Value| case.to_string().contains("\"right\":false");
        assert!(cases.iter().any(wrong));
    }
    assert!(output.status.success(), "{said}");
}
