//! The order of the steps, and which invariant is broken when a step cannot be carried out.

use super::super::exit::Failure;
use super::calls::Credentials;
use super::load;
use super::report::{Report, Step};
use super::stage::Stage;
use super::verdict;

const STORY: [Step; 11] = [
    ("Rotate", 3, Stage::rotate_by_hand),
    (
        "Rotate, by 16 callers at once",
        10,
        Stage::rotate_by_a_crowd,
    ),
    ("automatic rotation", 3, Stage::rotate_by_schedule),
    ("preview", 19, Stage::preview),
    ("purge within the window", 9, Stage::purge_within_the_window),
    ("forged tokens", 16, Stage::forge),
    ("purge said twice", 9, Stage::purge_said_twice),
    ("purge by mistake, and restore", 22, Stage::undo_a_purge),
    (
        "restore after a compromise",
        7,
        Stage::restore_a_compromised_key,
    ),
    ("metrics against callers", 15, Stage::compare_metrics),
    ("kills at random moments", 12, Stage::kill_at_random),
];

const AGING: [Step; 4] = [
    ("store taken away", 20, Stage::take_the_store_away),
    ("purge within the window", 9, Stage::purge_within_the_window),
    ("retirement", 18, Stage::wait_for_retirement),
    ("metrics against callers", 15, Stage::compare_metrics),
];

/// Carries out every step; fails only when there is nothing to rehearse.
pub(super) fn act(report: &mut Report, stage: &mut Stage, seed: u64) -> Result<(), Failure> {
    stage.scratch.write_config()?;
    stage.start_echo()?;
    report.step(stage, ("serve without keys", 12, Stage::serve_without_keys));
    if !report.step(stage, ("init", 12, Stage::initialise)) {
        return Err(report.hopeless(&stage.binary));
    }
    stage.common.credentials = Credentials::read(&stage.scratch).map_err(Failure::Other)?;
    if !report.step(stage, ("start", 12, start)) {
        return Err(report.hopeless(&stage.binary));
    }
    let key_set = stage.scratch.key_set();
    stage.threads = load::start(&stage.common, key_set, seed).map_err(Failure::Other)?;
    for step in STORY {
        report.step(stage, step);
    }
    stage.conclude_kills();
    report.step(stage, ("SIGTERM", verdict::STOP, Stage::stop));
    report.step(stage, ("tampered copies", 12, Stage::tamper));
    report.step(
        stage,
        (
            "start, short-lived tokens",
            12,
            Stage::start_with_short_tokens,
        ),
    );
    for step in AGING {
        report.step(stage, step);
    }
    stage.look_at_tombstones();
    report.step(stage, ("SIGTERM", verdict::STOP, Stage::stop));
    report.step(stage, ("audit log", 13, Stage::check_the_audit));
    report.step(stage, ("Log IDs", 21, Stage::check_log_ids));
    report.step(stage, ("search for secrets", 17, Stage::search_for_secrets));
    Ok(())
}

fn start(stage: &mut Stage) -> Result<String, String> {
    stage.start()?;
    stage.old_key_set = stage.look_at_store();
    Ok(format!("listening on {}", stage.scratch.proxy))
}
