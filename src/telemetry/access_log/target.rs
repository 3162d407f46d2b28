//! Where the access log goes: standard output, or a file that is looked for again.
//!
//! Invariants: a file is opened to append, so that truncating it in place loses nothing written
//! after; a failed write never glues two lines together; how many lines of a batch were lost is
//! known exactly.

use std::fs::{File, OpenOptions};
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
    /// The last write failed, perhaps in the middle of a line.
    torn: bool,
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
        Ok(Self { place, torn: false })
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// How many of them are lost, and why.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let torn = self.torn;
        let result = match self.place.writer() {
            Err(cause) => Err((0, cause)),
            Ok(mut writer) => write_lines(&mut *writer, lines, torn),
        };
        let Err((written, cause)) = result else {
            self.torn = false;
            return Ok(());
        };
        let done = lines.get(..written).unwrap_or_default();
        self.torn = if done.is_empty() {
            torn
        } else {
            !done.ends_with(b"\n")
        };
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
    /// The place to write to, opened again when its name leads elsewhere by now.
    fn writer(&mut self) -> io::Result<Box<dyn Write + '_>> {
        let (path, file, looked) = match self {
            // Locked for a whole batch: no line of the log gets in between.
            Self::Stdout => return Ok(Box::new(io::stdout().lock())),
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
        let file = match file {
            Some(file) => file,
            closed => closed.insert(open(path)?),
        };
        Ok(Box::new(file))
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
