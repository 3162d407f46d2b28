//! What a process takes: memory and processor time, as the kernel counts them.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Resident memory in KiB.
pub fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// Run time of a process, thread by thread. The kernel forgets threads that have ended; this does not.
#[derive(Default)]
pub struct Cpu(BTreeMap<OsString, u64>);

impl Cpu {
    /// Nanoseconds of all threads that were ever seen.
    pub fn ns(&mut self, pid: u32) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
        for task in tasks.flatten() {
            // A thread may end while we look.
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let ran = text.split_whitespace().next();
            if let Some(ran) = ran.and_then(|ran| ran.parse().ok()) {
                self.0.insert(task.file_name(), ran);
            }
        }
        self.0.values().sum()
    }
}

/// Open files.
pub fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
