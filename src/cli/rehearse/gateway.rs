//! The processes of a rehearsal: the gateway under test, its other commands, the echo upstream.

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::control::{Control, lock};
use super::scratch::Scratch;

/// How long a command may take to end, and a gateway to listen. RSA keys take their time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The log of every gateway of the rehearsal, one after the other.
pub(super) const LOG: &str = "serve.log";
/// What they said when they could not start.
pub(super) const ERRORS: &str = "serve.err";

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Running(Arc<Mutex<Child>>);

impl Running {
    fn spawn(command: &mut Command, control: &Control) -> Result<Self, String> {
        let program = command.get_program().to_owned();
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        let child = Arc::new(Mutex::new(child));
        control.adopt(&child);
        Ok(Self(child))
    }

    pub(super) fn ended(&self) -> Option<ExitStatus> {
        lock(&self.0).try_wait().ok().flatten()
    }

    /// SIGKILL, and wait until it is gone.
    pub(super) fn kill(&self) {
        let mut child = lock(&self.0);
        // Neither fails for a child of ours that was not waited for.
        let _killed = child.kill();
        let _reaped = child.wait();
    }

    /// SIGTERM, and wait until it is gone.
    pub(super) fn terminate(&self, control: &Control) -> Result<ExitStatus, String> {
        let sent = {
            let mut child = lock(&self.0);
            match child.try_wait() {
                Ok(Some(status)) => return Err(format!("it had ended before, with {status}")),
                _ => kill_process(Pid::from_child(&child), Signal::TERM),
            }
        };
        sent.map_err(|error| format!("cannot send SIGTERM: {error}"))?;
        control.wait("the gateway to end after SIGTERM", PATIENCE, || {
            self.ended()
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
    }
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// The binary under test.
#[derive(Clone, Debug)]
pub(super) struct Binary(PathBuf);

impl Binary {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn command(&self, scratch: &Scratch, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.0);
        command.args(arguments).current_dir(scratch.dir());
        // Nothing of the real installation may reach it.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PORTCULLIS_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs a command to its end; a `serve` that begins to serve is killed and has no exit code.
    pub(super) fn run(
        &self,
        scratch: &Scratch,
        arguments: &[&str],
        control: &Control,
    ) -> Result<Finished, String> {
        let [out, err] = ["command.out", "command.err"].map(|name| scratch.path(name));
        let fail = |error| format!("cannot write to {}: {error}", scratch.dir().display());
        let mut command = self.command(scratch, arguments);
        command.stdout(File::create(&out).map_err(fail)?);
        command.stderr(File::create(&err).map_err(fail)?);
        let running = Running::spawn(&mut command, control)?;
        let serves = arguments.first() == Some(&"serve");
        let serves = || serves && is_ready(scratch);
        let status = control.wait(
            &format!("the end of {arguments:?}"),
            PATIENCE,
            || match running.ended() {
                Some(status) => Some(status.code()),
                None => serves().then_some(None),
            },
        )?;
        drop(running);
        let read =
            |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        Ok(Finished {
            code: status,
            stdout: read(&out),
            stderr: read(&err),
        })
    }

    /// Starts the gateway and waits until it is ready; else says how it ended.
    pub(super) fn serve(&self, scratch: &Scratch, control: &Control) -> Result<Running, Refused> {
        let append = |name: &str| {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(scratch.path(name));
            file.map_err(|error| Refused::other(format!("cannot write {name}: {error}")))
        };
        let said = std::fs::metadata(scratch.path(ERRORS)).map_or(0, |meta| meta.len());
        let mut command = self.command(scratch, &["serve", "--config", "portcullis.yaml"]);
        command.stdout(append(LOG)?).stderr(append(ERRORS)?);
        let running = Running::spawn(&mut command, control).map_err(Refused::other)?;
        let ready = || is_ready(scratch) && is_open(scratch.proxy) && is_open(scratch.admin);
        let outcome = control.wait("the gateway to listen", PATIENCE, || {
            match running.ended() {
                Some(status) => Some(Err(status)),
                None => ready().then_some(Ok(())),
            }
        });
        match outcome {
            Ok(Ok(())) => Ok(running),
            Ok(Err(status)) => {
                let all = std::fs::read(scratch.path(ERRORS)).unwrap_or_default();
                let from = usize::try_from(said).unwrap_or_default();
                let last = String::from_utf8_lossy(all.get(from..).unwrap_or_default())
                    .trim()
                    .to_owned();
                Err(Refused {
                    code: status.code(),
                    text: format!("`serve` ended with {status}: {last}"),
                })
            }
            Err(why) => Err(Refused::other(why)),
        }
    }
}

/// Why a gateway did not come up.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: Option<i32>,
    pub(super) text: String,
}

impl Refused {
    const fn other(text: String) -> Self {
        Self { code: None, text }
    }
}

/// The echo upstream, by this very program.
pub(super) fn echo(scratch: &Scratch, control: &Control) -> Result<Running, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot find this program's own file: {error}"))?;
    let address = scratch.echo.to_string();
    let mut command = Command::new(program);
    command
        .args(["echo", "--address", &address])
        .current_dir(scratch.dir())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let running = Running::spawn(&mut command, control)?;
    control.wait("the echo upstream to listen", PATIENCE, || {
        is_open(scratch.echo).then_some(())
    })?;
    Ok(running)
}

fn is_ready(scratch: &Scratch) -> bool {
    let url = format!("http://{}/readyz", scratch.metrics);
    let answer = super::calls::agent().get(&url).call();
    answer.is_ok_and(|answer| answer.status() == 200)
}

fn is_open(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}
