//! The pidfile of a worker: one worker a file, and a stale one is taken over.
//!
//! Counterpart: `celery/platforms.py` (`Pidfile`, `create_pidlock`) @ 5.7.0, its words and its exit
//! code 73 too.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::Context;
use rustix::process::{Pid, test_kill_process};

use crate::exit::{ExitError, ExitStatus};
use crate::output;

/// Readable for all: others look up the worker's id here.
const MODE: u32 = 0o644;

/// A pidfile that this process has made; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Pidfile {
    path: PathBuf,
}

impl Pidfile {
    /// Writes this process's id into a new file.
    ///
    /// # Errors
    /// The file belongs to a process that lives (exit code 73), or cannot be written.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        // Made absolute: the file is removed at the end, from whatever directory that may be.
        let path = std::path::absolute(path)?;
        if let Some(owner) = owner(&path) {
            let path = path.display();
            output::to_stderr(&format!(
                "ERROR: Pidfile ({path}) already exists.\nSeems we're already running? (pid: {owner})\n"
            ));
            return Err(ExitError::new(ExitStatus::CannotCreate, "").into());
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&path);
        match file.and_then(|mut file| writeln!(file, "{}", process::id())) {
            Ok(()) => Ok(Self { path }),
            Err(error) => {
                Err(error).with_context(|| format!("cannot write the pidfile {}", path.display()))
            }
        }
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Gone or not ours any more: either way there is nothing left to do at the end of the process.
        drop(fs::remove_file(&self.path));
    }
}

/// The living process that owns the file. A file without one is removed.
fn owner(path: &Path) -> Option<u32> {
    // Not there; or not readable, and then making it will say why.
    let text = fs::read_to_string(path).ok()?;
    let id = text.trim().parse::<u32>().ok();
    // A file with our own id is from before a restart: in a container, process ids repeat.
    let is_other = id != Some(process::id());
    match id.filter(|id| is_other && is_alive(*id)) {
        Some(id) => Some(id),
        None => {
            if is_other {
                output::to_stderr("Stale pidfile exists - Removing it.\n");
            }
            // If it cannot be removed, making it anew fails and says so.
            drop(fs::remove_file(path));
            None
        }
    }
}

fn is_alive(id: u32) -> bool {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    // A process that we may not signal is somebody else's, so not a worker of ours: stale, as in Celery.
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.pid");
        (directory, path)
    }

    #[test]
    fn the_file_has_the_process_id_while_it_is_held() {
        let (_directory, path) = path();
        let pidfile = Pidfile::create(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", process::id())
        );
        drop(pidfile);
        assert!(!path.exists());
    }

    #[test]
    fn a_living_owner_keeps_its_file() {
        let (_directory, path) = path();
        let mut other = process::Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(&path, format!("{}\n", other.id())).unwrap();
        let error = Pidfile::create(&path).unwrap_err();
        other.kill().unwrap();
        other.wait().unwrap();
        let error = error
            .downcast_ref::<ExitError>()
            .expect("it has an exit code");
        assert_eq!(error.status().code(), 73);
        assert!(path.exists());
    }

    #[test]
    fn a_file_without_an_owner_is_taken_over() {
        for text in ["2147483646\n", "nonsense", ""] {
            let (_directory, path) = path();
            fs::write(&path, text).unwrap();
            Pidfile::create(&path).expect("it is stale");
        }
    }
}
