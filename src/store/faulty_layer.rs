//! A file layer that fails a chosen call, so that a test can fail every one of them in turn.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file_layer::{FileLayer, LayerFile, Lock, Stat};

/// What the failing call does before it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// A write writes half of its bytes; other calls do nothing.
    Torn,
    /// All that it should have done.
    Done,
}

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The call, counted from 1 when the fault is set.
    pub nth: u64,
    /// Whether every later call fails as well.
    pub sticky: bool,
    /// Count and fail only calls for files of this name.
    pub only: Option<&'static str>,
    /// The operating system's error number.
    pub errno: i32,
    /// What happens all the same.
    pub effect: Effect,
}

/// Passes calls on to another layer and fails the chosen ones.
#[derive(Clone, Debug)]
pub struct FaultyLayer {
    inner: Arc<dyn FileLayer>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    calls: u64,
    fault: Option<Fault>,
    fired: bool,
}

impl FaultyLayer {
    /// A layer without a fault.
    #[must_use]
    pub fn new(inner: Arc<dyn FileLayer>) -> Self {
        Self {
            inner,
            shared: Arc::default(),
        }
    }

    /// Sets a fault; calls count from now.
    pub fn set(&self, fault: Fault) {
        *self.shared.state() = State {
            fault: Some(fault),
            ..State::default()
        };
    }

    /// Takes the fault away. Says whether it struck.
    pub fn clear(&self) -> bool {
        let mut state = self.shared.state();
        state.fault = None;
        state.fired
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and does it, unless it is to fail.
    fn call<T>(&self, path: &Path, full: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.call_torn(path, full, || {})
    }

    fn call_torn<T>(
        &self,
        path: &Path,
        full: impl FnOnce() -> io::Result<T>,
        torn: impl FnOnce(),
    ) -> io::Result<T> {
        let struck = {
            let mut state = self.state();
            let meant = |fault: &Fault| fault.only.is_none_or(|name| path.ends_with(name));
            let fault = state.fault.filter(meant);
            state.calls += u64::from(fault.is_some());
            let calls = state.calls;
            let struck =
                fault.filter(|fault| calls == fault.nth || (fault.sticky && calls > fault.nth));
            state.fired |= struck.is_some();
            // Only the first failing call has an effect: after it the disk is gone.
            struck.map(|fault| (fault.errno, fault.effect, calls == fault.nth))
        };
        let Some((errno, effect, first)) = struck else {
            return full();
        };
        match effect {
            Effect::Done if first => drop(full()?),
            Effect::Torn if first => torn(),
            _ => {}
        }
        Err(io::Error::from_raw_os_error(errno))
    }
}

impl FileLayer for FaultyLayer {
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.shared.call(path, || self.inner.stat(path))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.shared.call(path, || self.inner.read(path, limit))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.call(path, || self.inner.create_dir(path))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn LayerFile>> {
        let file = self.shared.call(path, || self.inner.create_new(path))?;
        Ok(self.wrapped(path, file))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LayerFile>> {
        let file = self.shared.call(path, || self.inner.open_append(path))?;
        Ok(self.wrapped(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.call(to, || self.inner.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.call(to, || self.inner.rename_new(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.call(path, || self.inner.remove(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.call(path, || self.inner.sync_dir(path))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Lock> {
        self.shared.call(path, || self.inner.lock(path, holder))
    }
}

impl FaultyLayer {
    fn wrapped(&self, path: &Path, inner: Box<dyn LayerFile>) -> Box<dyn LayerFile> {
        Box::new(FaultyFile {
            path: path.to_owned(),
            inner,
            shared: Arc::clone(&self.shared),
        })
    }
}

#[derive(Debug)]
struct FaultyFile {
    path: PathBuf,
    inner: Box<dyn LayerFile>,
    shared: Arc<Shared>,
}

impl LayerFile for FaultyFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
        let inner = std::cell::RefCell::new(&mut self.inner);
        self.shared.call_torn(
            &self.path,
            || inner.borrow_mut().write_all(bytes),
            || drop(inner.borrow_mut().write_all(half)),
        )
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.shared.call(&self.path, || self.inner.truncate(len))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.shared.call(&self.path, || self.inner.sync())
    }
}
