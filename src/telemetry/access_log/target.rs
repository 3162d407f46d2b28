//! Where the access log goes: standard output, or a file that is looked for again.
//!
//! Invariants: a file is opened to append, so that truncating it in place loses nothing written
//! after; a failed write never glues two lines together; how many lines of a batch were lost is
//! known exactly.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::AccessTarget;

/// How often a renamed or removed file is noticed, and a failed opening tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Lines tell of people: their group may read them, others may not.
const MODE: u32 = 0o640;

/// The open end of the target.
#[derive(Debug)]
pub(super) struct Output {
    place: Place,
    /// Where the last write failed in the middle of a line.
    torn: Option<Identity>,
}

#[derive(Debug)]
enum Place {
    Stdout,
    File {
        path: PathBuf,
        open: Option<File>,
        looked: Option<Instant>,
    },
}

/// What tells one target from another that has its name later; nothing for standard output.
type Identity = Option<(u64, u64)>;

/// A batch that was not written whole.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Lines of it that are lost.
    pub(super) lines: u64,
    /// Why.
    pub(super) cause: io::Error,
}

impl Output {
    /// A target that can be written as far as can be seen without waiting. The writing thread opens
    /// it; a pipe has to wait for its reader there.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn new(target: &AccessTarget) -> io::Result<Self> {
        let place = match target {
            AccessTarget::Stdout => Place::Stdout,
            AccessTarget::File(path) => {
                let is_pipe = std::fs::metadata(path).is_ok_and(|at| at.file_type().is_fifo());
                if !is_pipe {
                    drop(open(path)?);
                }
                Place::File {
                    path: path.clone(),
                    open: None,
                    looked: None,
                }
            }
        };
        Ok(Self { place, torn: None })
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// How many of them are lost, and why.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let result = match self.place.open() {
            Err(cause) => Err((0, cause)),
            Ok(()) => {
                self.torn = self.torn.filter(|torn| self.place.is_torn(*torn));
                self.place.write(lines, self.torn.is_some())
            }
        };
        let Err((written, cause)) = result else {
            self.torn = None;
            return Ok(());
        };
        let done = lines.get(..written).unwrap_or_default();
        if !done.is_empty() {
            let is_torn = !done.ends_with(b"\n");
            self.torn = is_torn.then(|| self.place.identity());
        }
        self.place.close();
        let left = lines.get(written..).unwrap_or_default();
        Err(Unwritten {
            lines: left.iter().map(|byte| u64::from(*byte == b'\n')).sum(),
            cause,
        })
    }
}

/// How many bytes of `lines` were written before it failed.
fn write_lines(writer: &mut dyn Write, lines: &[u8], torn: bool) -> Result<(), (usize, io::Error)> {
    if torn {
        writer.write_all(b"\n").map_err(|cause| (0, cause))?;
    }
    let mut written = 0;
    while let Some(left) = lines.get(written..).filter(|left| !left.is_empty()) {
        match writer.write(left) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err((written, cause)),
        }
    }
    writer.flush().map_err(|cause| (written, cause))
}

impl Place {
    /// Opens the file again when its name leads elsewhere by now.
    fn open(&mut self) -> io::Result<()> {
        let (path, file, looked) = match self {
            Self::Stdout => return Ok(()),
            Self::File { path, open, looked } => (path, open, looked),
        };
        let due = looked.is_none_or(|at| at.elapsed() >= LOOK_AGAIN);
        if due && file.as_ref().is_some_and(|file| !is_at(file, path)) {
            *file = None;
        }
        if file.is_none() && !due {
            return Err(io::Error::other(
                "it is not open, and was tried a moment ago",
            ));
        }
        if due {
            *looked = Some(Instant::now());
        }
        if file.is_none() {
            *file = Some(open(path)?);
        }
        Ok(())
    }

    /// Writes to what is open.
    fn write(&mut self, lines: &[u8], torn: bool) -> Result<(), (usize, io::Error)> {
        match self {
            // Locked for a whole batch: no line of the log gets in between.
            Self::Stdout => write_lines(&mut io::stdout().lock(), lines, torn),
            Self::File { open, .. } => match open {
                Some(file) => write_lines(file, lines, torn),
                None => Err((0, io::ErrorKind::NotFound.into())),
            },
        }
    }

    /// What is open now.
    fn identity(&self) -> Identity {
        let at = self.metadata()?;
        Some((at.dev(), at.ino()))
    }

    /// Whether what is open ends with the line that was torn at `torn`: a file that was made anew, or
    /// emptied, has no line to end. A pipe has no length.
    fn is_torn(&self, torn: Identity) -> bool {
        let is_emptied = |at: Metadata| at.is_file() && at.len() == 0;
        self.identity() == torn && !self.metadata().is_some_and(is_emptied)
    }

    fn metadata(&self) -> Option<Metadata> {
        match self {
            Self::File { open, .. } => open.as_ref()?.metadata().ok(),
            Self::Stdout => None,
        }
    }

    fn close(&mut self) {
        if let Self::File { open, .. } = self {
            *open = None;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)
}

/// Whether the name `path` still leads to `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails.
    struct Narrow(usize, Vec<u8>);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0 -= taken;
            self.1.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_write_that_fails_half_way_tells_how_far_it_came() {
        let mut narrow = Narrow(6, Vec::new());
        let (written, _) = write_lines(&mut narrow, b"abc\ndef\nghi\n", false).unwrap_err();
        assert_eq!(written, 6);
        let mut narrow = Narrow(64, Vec::new());
        write_lines(&mut narrow, b"jkl\n", true).unwrap();
        assert_eq!(narrow.1, b"\njkl\n", "the torn line is ended first");
    }

    #[test]
    fn a_full_device_loses_every_line_and_says_so() {
        let target = AccessTarget::File("/dev/full".into());
        let mut output = Output::new(&target).unwrap();
        let lost = output.write(b"a\nb\n").unwrap_err();
        assert_eq!(lost.lines, 2);
        assert_eq!(lost.cause.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_missing_directory_is_refused_at_start() {
        let target = AccessTarget::File("/nonexistent/access.log".into());
        assert!(Output::new(&target).is_err());
    }

    #[test]
    fn a_torn_line_is_ended_where_it_was_torn_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("a"), dir.path().join("b"));
        let mut output = Output::new(&AccessTarget::File(path.clone())).unwrap();
        let tear = |output: &mut Output| {
            output.write(b"tor").unwrap();
            output.torn = Some(output.place.identity());
        };
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        tear(&mut output);
        output.write(b"1\n").unwrap();
        assert_eq!(read(&path), "tor\n1\n");
        tear(&mut output);
        std::fs::write(&path, "").unwrap();
        output.write(b"2\n").unwrap();
        assert_eq!(read(&path), "2\n", "it was emptied");
        tear(&mut output);
        std::fs::rename(&path, &moved).unwrap();
        // As after a failed write: it is opened again.
        output.place = Output::new(&AccessTarget::File(path.clone()))
            .unwrap()
            .place;
        output.write(b"3\n").unwrap();
        assert_eq!(
            (read(&path), read(&moved)),
            ("3\n".to_owned(), "2\ntor".to_owned())
        );
    }

    #[test]
    fn a_renamed_file_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("a"), dir.path().join("b"));
        let mut output = Output::new(&AccessTarget::File(path.clone())).unwrap();
        output.write(b"1\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !path.exists() && Instant::now() < deadline {
            output.write(b"2\n").unwrap();
            std::thread::yield_now();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2\n");
        assert!(
            std::fs::read_to_string(&moved)
                .unwrap()
                .starts_with("1\n2\n")
        );
    }
}
