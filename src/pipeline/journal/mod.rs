//! What Kafka has acknowledged: the producer's memory over restarts.
//!
//! Duties:
//! 1. one line per acknowledged announcement (name, size, mtime, inode) and one per file that went away, on disk
//!    (`fdatasync`) before [`Journal::append`] returns;
//! 2. survive `kill -9` and power loss: a torn last line is cut off, a damaged line is skipped, and both cost no more
//!    than a second announcement, which the worker's ledger makes harmless;
//! 3. one producer per watch directory: a second one is refused while the first holds the lock;
//! 4. stay small: rewritten with only the latest line of each file when most lines are outdated.
//!
//! Guarantee F3: a file is written here only after Kafka's word, so whatever is missing here is announced (again).
//!
//! It lies in the watch directory by default, under a hidden name: the identity of a file (its inode) belongs to that
//! file system, a container's watch directory is usually its only durable one, and the lock then guards exactly what
//! must have one producer. A directory that the producer may not write to needs `[pipeline] journal`.
//!
//! Format: a head line, then `<checksum, 16 hex digits> <JSON>` lines. Counterpart: the `seen` set of
//! `kafka_producer.py`, which a restart empties.

mod line;

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use celeriac::failpoint;
pub(crate) use line::Entry;
use line::{entry, line};

use super::file_event::Version;

const HEAD: &str = "celeriac-journal 1";

/// Outdated lines that are put up with before the journal is rewritten; about 1 MB.
const COMPACT_AFTER_LINES: usize = 10_000;

/// What was announced last, by file name.
pub(crate) type Announced = HashMap<String, Version>;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Another producer holds the lock. End it, or watch another directory.
    #[error(
        "another producer is at work on this directory (it holds {0:?}); there can be only one"
    )]
    Locked(PathBuf),
    /// The file at this place is something else. It is left as it is.
    #[error(
        "{0:?} is not a producer's journal; move it away or name another one in [pipeline] journal"
    )]
    Foreign(PathBuf),
    /// Any other trouble with the disk.
    #[error("cannot {action} the journal {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// The open journal, locked for this process.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes up to which the file is whole.
    whole_bytes: u64,
    lines: usize,
    /// Entries that were alive at the last rewrite; the next one comes after twice as many.
    live_at_compaction: usize,
    _lock: File,
}

impl Journal {
    /// Opens or creates the journal, repairs it, and returns what it remembers.
    ///
    /// # Errors
    /// See [`JournalError`]; nothing is changed then.
    pub(crate) fn open(path: &Path) -> Result<(Self, Announced), JournalError> {
        let lock = lock(path)?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(io("open", path))?;
        let mut journal = Self {
            path: path.to_owned(),
            file,
            whole_bytes: 0,
            lines: 0,
            live_at_compaction: 0,
            _lock: lock,
        };
        let announced = journal.load()?;
        journal.live_at_compaction = announced.len();
        Ok((journal, announced))
    }

    /// Writes the entries and waits until the disk has them.
    ///
    /// # Errors
    /// The disk's. Nothing of the batch is remembered then: give the same entries again.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        failpoint("before_journal");
        let text: String = entries.iter().map(line).collect();
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // A half-written line in the middle would swallow the next one. If even this fails, the line's checksum
            // tells at the next start.
            self.file
                .set_len(self.whole_bytes)
                .map_err(io("repair", &self.path))?;
            return Err(io("write", &self.path)(source));
        }
        failpoint("after_journal");
        self.whole_bytes += text.len() as u64;
        self.lines += entries.len();
        if self.lines > COMPACT_AFTER_LINES + 2 * self.live_at_compaction {
            self.compact()?;
        }
        Ok(())
    }

    /// Reads everything, cuts off a torn end, and leaves the file ready to append.
    fn load(&mut self) -> Result<Announced, JournalError> {
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(io("read", &self.path))?;
        let mut reader = BufReader::new(&self.file);
        let mut announced = Announced::new();
        let (mut whole_bytes, mut lines, mut damaged) = (0_u64, 0_usize, 0_usize);
        let mut raw = Vec::new();
        loop {
            raw.clear();
            // A line has a file name of at most 255 bytes; what is longer is no line of ours.
            let read = reader
                .by_ref()
                .take(16 * 1024)
                .read_until(b'\n', &mut raw)
                .map_err(io("read", &self.path))?;
            if whole_bytes == 0
                && !raw.is_empty()
                && !HEAD.as_bytes().starts_with(raw.trim_ascii_end())
            {
                return Err(JournalError::Foreign(self.path.clone()));
            }
            if raw.last() != Some(&b'\n') && read < 16 * 1024 {
                break;
            }
            if whole_bytes > 0 {
                lines += 1;
                match entry(&raw) {
                    Some(Entry::Announced(name, version)) => drop(announced.insert(name, version)),
                    Some(Entry::Gone(name)) => drop(announced.remove(&name)),
                    None => damaged += 1,
                }
            }
            whole_bytes += read as u64;
        }
        if damaged > 0 {
            log::warn!(
                "Journal {:?} has {damaged} damaged lines; their files are announced again",
                self.path
            );
        }
        self.file
            .set_len(whole_bytes)
            .map_err(io("repair", &self.path))?;
        (self.whole_bytes, self.lines) = (whole_bytes, lines);
        if whole_bytes == 0 {
            self.begin()?;
        }
        Ok(announced)
    }

    /// The head line of a new journal; the directory entry is made durable with it.
    fn begin(&mut self) -> Result<(), JournalError> {
        let head = format!("{HEAD}\n");
        self.file
            .write_all(head.as_bytes())
            .and_then(|()| self.file.sync_all())
            .and_then(|()| sync_parent(&self.path))
            .map_err(io("begin", &self.path))?;
        self.whole_bytes = head.len() as u64;
        Ok(())
    }

    /// Rewrites the journal with the latest line of each file: beside it first, then in its place.
    fn compact(&mut self) -> Result<(), JournalError> {
        let announced = self.load()?;
        let beside = with_suffix(&self.path, ".new");
        let mut text = format!("{HEAD}\n");
        for (name, version) in &announced {
            text.push_str(&line(&Entry::Announced(name.clone(), *version)));
        }
        let rewrite = || -> std::io::Result<File> {
            let mut file = File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)?;
            sync_parent(&self.path)?;
            OpenOptions::new().read(true).append(true).open(&self.path)
        };
        self.file = rewrite().map_err(io("rewrite", &self.path))?;
        self.whole_bytes = text.len() as u64;
        self.lines = announced.len();
        self.live_at_compaction = announced.len();
        Ok(())
    }
}

/// The lock is a file of its own, since a rewrite replaces the journal. The system frees it when the process dies.
fn lock(journal: &Path) -> Result<File, JournalError> {
    let path = with_suffix(journal, ".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io("create the lock of", journal))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(path)),
        Err(TryLockError::Error(source)) => Err(io("lock", journal)(source)),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn io<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> JournalError + use<'a> {
    move |source| JournalError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(n: u64) -> Version {
        Version {
            size: n,
            mtime_ns: -5,
            inode: n + 1,
        }
    }

    fn announced(name: &str, n: u64) -> Entry {
        Entry::Announced(name.to_owned(), version(n))
    }

    fn reopen(path: &Path) -> Announced {
        Journal::open(path).unwrap().1
    }

    #[test]
    fn a_reopened_journal_remembers_the_latest_version_of_each_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".journal");
        let (mut journal, empty) = Journal::open(&path).unwrap();
        assert!(empty.is_empty());
        journal
            .append(&[announced("a.csv", 1), announced("new\nline \"q\" ü.csv", 2)])
            .unwrap();
        journal
            .append(&[
                announced("a.csv", 3),
                announced("b.csv", 4),
                Entry::Gone("b.csv".to_owned()),
            ])
            .unwrap();
        drop(journal);
        let expected = HashMap::from([
            ("a.csv".to_owned(), version(3)),
            ("new\nline \"q\" ü.csv".to_owned(), version(2)),
        ]);
        assert_eq!(reopen(&path), expected);
    }

    #[test]
    fn a_second_producer_is_refused_until_the_first_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".journal");
        let first = Journal::open(&path).unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Locked(_))));
        drop(first);
        assert!(Journal::open(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_no_journal_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "precious data").unwrap();
        assert!(matches!(
            Journal::open(&path),
            Err(JournalError::Foreign(_))
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious data");
    }

    #[test]
    fn a_damaged_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal
            .append(&[
                announced("a.csv", 1),
                announced("b.csv", 2),
                announced("c.csv", 3),
            ])
            .unwrap();
        drop(journal);
        let damaged = std::fs::read_to_string(&path)
            .unwrap()
            .replace("b.csv", "x.csv");
        std::fs::write(&path, damaged).unwrap();
        let mut names: Vec<_> = reopen(&path).into_keys().collect();
        names.sort();
        assert_eq!(names, ["a.csv", "c.csv"]);
    }

    #[test]
    fn outdated_lines_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&[announced("kept.csv", 7)]).unwrap();
        let batch: Vec<Entry> = (0..1000).map(|n| announced("busy.csv", n)).collect();
        for _ in 0..=COMPACT_AFTER_LINES / 1000 {
            journal.append(&batch).unwrap();
        }
        assert!(
            std::fs::metadata(&path).unwrap().len() < 100_000,
            "rewritten"
        );
        journal.append(&[announced("after.csv", 8)]).unwrap();
        drop(journal);
        let expected = HashMap::from([
            ("kept.csv".to_owned(), version(7)),
            ("busy.csv".to_owned(), version(999)),
            ("after.csv".to_owned(), version(8)),
        ]);
        assert_eq!(reopen(&path), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Killed anywhere in a write: every earlier entry is still there, and the journal goes on.
        #[test]
        fn a_torn_end_loses_only_the_torn_entry(entries in 1_usize..6, cut in 0_usize..2000) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(".journal");
            let (mut journal, _) = Journal::open(&path).unwrap();
            let mut whole_until = Vec::new();
            for n in 0..entries {
                journal.append(&[announced(&format!("{n}.csv"), n as u64)]).unwrap();
                whole_until.push(journal.whole_bytes);
            }
            drop(journal);
            let length = std::fs::metadata(&path).unwrap().len();
            let cut = (cut as u64) % (length + 1);
            OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();

            let (mut journal, left) = Journal::open(&path).unwrap();
            prop_assert_eq!(left.len(), whole_until.iter().filter(|end| **end <= cut).count());
            journal.append(&[announced("next.csv", 99)]).unwrap();
            drop(journal);
            let again = reopen(&path);
            prop_assert_eq!(again.len(), left.len() + 1);
            prop_assert_eq!(again.get("next.csv"), Some(&version(99)));
        }
    }
}
