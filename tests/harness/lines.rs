//! A command that goes on, and what it says line by line; each wait has a deadline.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use super::PATIENCE;

/// A running command; killed when dropped.
pub struct Lines {
    pub child: Child,
    lines: Receiver<String>,
}

impl Lines {
    pub fn of(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("the command starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            // Nobody may listen any more: then the pipe is closed as well.
            for line in out.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line; `None` when the command has ended.
    pub fn next(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing within {PATIENCE:?}"),
        }
    }

    /// The first line from here on that begins with `words`.
    pub fn until(&self, words: &str) -> String {
        loop {
            let line = self.next();
            let line = line.unwrap_or_else(|| panic!("it ended before it said {words}"));
            if line.starts_with(words) {
                return line;
            }
        }
    }

    /// Closes the pipe with the next line that comes.
    pub fn stop_reading(&mut self) {
        let (_tell, nothing) = channel();
        self.lines = nothing;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
