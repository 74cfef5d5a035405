//! A log file that may be rotated: when its path names another file, that one is opened.
//!
//! Counterpart: Python's `WatchedFileHandler`, which Celery uses for `-f`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file behind a path, whichever it is when a line is written.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    /// Opens the file at its end; makes it where there is none.
    ///
    /// # Errors
    /// It cannot be opened for writing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Made absolute: the path has to mean the same file for ever.
        let path = std::path::absolute(path)?;
        let file = append_to(&path)?;
        Ok(Self { path, file })
    }

    fn is_current(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(named), Ok(open)) => identity(named) == identity(open),
            _ => false,
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.is_current() {
            // Where the new one cannot be opened, the old one is better than nothing.
            if let Ok(file) = append_to(&self.path) {
                self.file = file;
            }
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_file_is_left_and_a_new_one_begun() {
        let directory = tempfile::tempdir().unwrap();
        let (path, rotated) = (
            directory.path().join("w.log"),
            directory.path().join("w.log.1"),
        );
        fs::write(&path, "zero\n").unwrap();
        let mut log = LogFile::open(&path).unwrap();
        log.write_all(b"one\n").unwrap();
        fs::rename(&path, &rotated).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&rotated).unwrap(), "zero\none\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }
}
