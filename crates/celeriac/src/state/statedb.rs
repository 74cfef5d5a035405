//! What is kept across a restart, in one file: the revoked ids and the logical clock.
//!
//! ```json
//! {"format": "celeriac state 1", "clock": 40, "revoked": ["d0a530cc-…"]}
//! ```
//! The file is replaced as a whole: whoever reads it finds the old state or the new one. It is written soon
//! after something was revoked, so that even a killed worker remembers, and when the worker stops.
//!
//! Counterpart: `celery/worker/state.py::Persistent` @ 5.7.0. Differences: a text of our own instead of
//! Python's shelve, which only Python can read, and written before the stop too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::WorkerState;
use crate::backoff::pause;

/// Tells our files from others', and from those of a later form.
const FORMAT: &str = "celeriac state 1";

/// The file is written at most this often; a fleet's tool may revoke thousands one by one.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The state file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateDbError {
    /// It cannot be read, or not be written. A person has to see to its rights.
    #[error("cannot {what} the state file {}: {source}; give another one with --statedb", .path.display())]
    Io {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is something else in it.
    #[error(
        "the state file {} is none of this program's ({reason}); a Python worker's cannot be read here. \
         Move it away, or give another one with --statedb",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What is in the file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) clock: u64,
    /// Oldest first.
    pub(super) revoked: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Document<S> {
    format: String,
    #[serde(flatten)]
    saved: S,
}

/// Reads the file; nothing where there is none yet.
pub(super) fn load(path: &Path) -> Result<Saved, StateDbError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => return Err(failed("read", path, error)),
    };
    let foreign = |reason: String| StateDbError::Foreign {
        path: path.to_owned(),
        reason,
    };
    let document: Document<Saved> =
        serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()))?;
    if document.format != FORMAT {
        return Err(foreign(format!("its format is {:?}", document.format)));
    }
    Ok(document.saved)
}

/// Replaces the file.
pub(super) fn save(path: &Path, saved: &Saved) -> Result<(), StateDbError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let document = Document {
        format: FORMAT.to_owned(),
        saved,
    };
    let text = serde_json::to_string(&document).map_err(io::Error::from);
    text.and_then(|text| replace(path, &beside, text.as_bytes()))
        .map_err(|error| failed("write", path, error))
}

fn replace(path: &Path, beside: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(beside, path)
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> StateDbError {
    StateDbError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Writes the file whenever something was revoked, and at the end. Returns at once without a file.
pub(crate) async fn keep(state: WorkerState, end: CancellationToken) {
    let Some(path) = state.inner.statedb.clone() else {
        return;
    };
    loop {
        tokio::select! {
            biased;
            // cancel-safe: both only wait
            () = end.cancelled() => break,
            () = state.inner.changed.notified() => {}
        }
        write(&state, &path).await;
        pause(WRITE_INTERVAL, &end).await;
    }
    write(&state, &path).await;
}

async fn write(state: &WorkerState, path: &Path) {
    let (saved, path) = (state.saved(), path.to_owned());
    let written = tokio::task::spawn_blocking(move || save(&path, &saved)).await;
    if let Ok(Err(error)) = written {
        log::error!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        assert_eq!(load(&path).expect("no file yet"), Saved::default());
        for clock in [1, 2] {
            let saved = Saved {
                clock,
                revoked: vec!["a".to_owned(), "b\n\u{e9}".to_owned()],
            };
            save(&path, &saved).expect("it can be written");
            assert_eq!(load(&path).expect("it can be read"), saved);
        }
        let files = fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_of_somebody_else_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        for (content, reason) in [
            (&b"\x13\x57\x9a\xce shelve"[..], "expected value"),
            (
                br#"{"format": "celeriac state 9", "clock": 1, "revoked": []}"#,
                "its format is",
            ),
            (br#"{"clock": 1}"#, "missing field"),
        ] {
            fs::write(&path, content).expect("a directory that can be written");
            let error = load(&path).expect_err("not ours").to_string();
            assert!(error.contains(reason), "{error}");
            assert!(error.contains("give another one with --statedb"), "{error}");
            assert_eq!(fs::read(&path).expect("still there"), content);
        }
    }
}
