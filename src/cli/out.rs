//! Standard output of the commands. A reader that has seen enough is no error; a full disk is.

use std::io::{ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something could not be written.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Writes a line.
pub(super) fn say(line: &str) {
    write(&format!("{line}\n"));
}

/// Writes text as it is.
pub(super) fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
        && !FAILED.swap(true, Ordering::SeqCst)
    {
        complain(&format!("cannot write to standard output: {error}"));
    }
}

/// Whether everything was written, or nobody wanted to read it.
pub(super) fn is_complete() -> bool {
    !FAILED.load(Ordering::SeqCst)
}

/// Says on standard error what went wrong beside the work itself.
pub(super) fn complain(what: &str) {
    // Where standard error is gone as well, nothing is left to say.
    let _unwritable = writeln!(std::io::stderr(), "portcullis: {what}");
}
