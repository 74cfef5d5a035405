//! A watch on one directory, from outside: what to watch, what it hands out, how it ends.
//!
//! A thread of its own does the work ([`super::watch_loop`]), since looking at a directory may block (a network mount
//! that hangs).
//!
//! Counterpart: the `os.listdir` loop of `kafka_producer.py`. Difference: it announces files that are half written.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use super::entry::named_in_record;
use super::notices::Notice;
use super::watch_loop::Watch;
use crate::pipeline::file_event::Version;
use crate::pipeline::journal::Announced;

/// Items between the watcher and whoever announces them.
const ITEMS: usize = 1024;

/// What to watch and how.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// As configured; the announced paths begin with it, as `os.path.join(WATCH_DIR, name)` does.
    pub(crate) directory: PathBuf,
    /// How long a file must look the same where its closing cannot be seen.
    pub(crate) settle: Duration,
    /// Time between two rescans.
    pub(crate) rescan: Duration,
    /// When to end.
    pub(crate) until: Until,
}

/// When the watch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// When everything that is there has been handed out.
    NothingWaits,
    /// When it is told to.
    Stopped,
}

/// A complete file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// What the watch and the journal call it ([`super::entry::key_of`]).
    pub(crate) key: String,
    /// How the record names it: directory and name, or a URL.
    pub(crate) path: String,
    /// The name alone, as the record has it.
    pub(crate) name: String,
    pub(crate) version: Version,
}

impl Found {
    /// A file of `directory` (as configured, and absolute) by its key.
    pub(super) fn new(directory: &Path, absolute: &Path, key: String, version: Version) -> Self {
        let (path, name) = named_in_record(directory, absolute, &key);
        Self {
            key,
            path,
            name,
            version,
        }
    }
}

/// What the watcher hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// Announce it.
    Found(Found),
    /// A file that had been handed out is not there any more.
    Gone(String),
}

/// Why the watch ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// At the start.
    #[error(
        "the watch directory {0:?} does not exist; create it, or name another one with --watch-dir or WATCH_DIR"
    )]
    Missing(PathBuf),
    /// At the start.
    #[error("the watch directory {0:?} is not a directory")]
    NotADirectory(PathBuf),
    /// The directory cannot be listed.
    #[error("cannot read the watch directory {directory:?}")]
    Unreadable {
        /// As configured.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// While it was watched. Watching its successor is for the caller, since the journal may lie in it.
    #[error("the watch directory {0:?} was moved, removed or replaced")]
    Replaced(PathBuf),
}

/// The handle on the thread.
#[derive(Debug)]
pub(crate) struct Watcher {
    items: mpsc::Receiver<Item>,
    stop: SyncSender<Notice>,
    thread: JoinHandle<Result<(), WatchError>>,
}

impl Watcher {
    /// Begins to watch. What `announced` has is not handed out again.
    ///
    /// # Errors
    /// The directory is missing, is none, or cannot be read.
    pub(crate) fn start(options: Options, announced: Announced) -> Result<Self, WatchError> {
        let (sender, items) = mpsc::channel(ITEMS);
        let watch = Watch::begin(options, announced, sender)?;
        let stop = watch.notices.sender.clone();
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || watch.run())
            .expect("a process that cannot start its first threads cannot work");
        Ok(Self {
            items,
            stop,
            thread,
        })
    }

    /// The next item; `None` when the watch has ended ([`Watcher::outcome`] says why).
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        self.items.recv().await
    }

    /// Why the watch has ended; to be asked after [`Watcher::next`] gave `None`.
    ///
    /// # Errors
    /// It cannot go on. `Ok` means that nothing is left to do.
    pub(crate) async fn outcome(self) -> Result<(), WatchError> {
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        joined
            .expect("a join does not panic")
            .expect("the watch thread does not panic")
    }

    /// Ends the watch without waiting for its thread: that may hang on a dead network mount, and the process must be
    /// able to end all the same.
    pub(crate) fn stop(self) {
        drop(self.items);
        // A full channel means that the thread is at work and will find its output closed.
        self.stop.try_send(Notice::Stop).unwrap_or_default();
    }
}

/// The files that a journal remembers, as the watch would hand them out.
///
/// # Errors
/// The working directory cannot be found.
pub(crate) fn remembered(directory: &Path, announced: &Announced) -> std::io::Result<Vec<Found>> {
    let absolute = std::path::absolute(directory)?;
    let found = announced
        .iter()
        .map(|(key, version)| Found::new(directory, &absolute, key.clone(), *version));
    Ok(found.collect())
}

/// Whether there is a directory to watch.
///
/// # Errors
/// It is missing, is none, or cannot be looked at.
pub(crate) fn check_directory(directory: &Path) -> Result<(), WatchError> {
    identity(directory).map(drop)
}

/// Device and inode: what tells a directory from its successor of the same name.
pub(super) fn identity(directory: &Path) -> Result<(u64, u64), WatchError> {
    match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => Ok((metadata.dev(), metadata.ino())),
        Ok(_) => Err(WatchError::NotADirectory(directory.to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(WatchError::Missing(directory.to_owned()))
        }
        Err(source) => Err(WatchError::Unreadable {
            directory: directory.to_owned(),
            source,
        }),
    }
}
