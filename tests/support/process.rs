//! A process that a test has started: its output in a file, signals, and its end.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually::eventually;

/// How long a program may take to say or do what a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running program. It is killed with the value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    /// The log, open: a test that has failed shows it, also where its directory is gone by then.
    written: File,
}

impl Process {
    /// Starts it; what it writes goes to `<directory>/<name>.log`.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(directory: &Path, name: &str, command: &mut Command) -> Self {
        let log = directory.join(format!("{name}.log"));
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a test's directory can be written");
        let err = out.try_clone().expect("a file handle can be doubled");
        let written = File::open(&log).expect("a test's directory can be read");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            child,
            log,
            written,
        }
    }

    /// Starts a worker, of either language, and returns when it is ready.
    ///
    /// # Panics
    /// It is not ready within [`PATIENCE`].
    pub async fn ready(directory: &Path, name: &str, command: &mut Command) -> Self {
        let mut worker = Self::start(directory, name, command);
        worker.says(" ready.").await;
        worker
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        let mut log = Vec::new();
        let mut written = &self.written;
        let read = written
            .rewind()
            .and_then(|()| written.read_to_end(&mut log));
        read.expect("an open file can be read");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits until it has written this so often. A result is stored before the line that tells of it.
    ///
    /// # Panics
    /// Not within twice [`PATIENCE`].
    pub async fn says_times(&self, text: &str, count: usize) {
        let what = format!("{text:?} {count} times");
        eventually(&what, PATIENCE * 2, async || {
            (self.log().matches(text).count() >= count).then_some(())
        })
        .await;
    }

    /// Waits until it has written this.
    ///
    /// # Panics
    /// Not within [`PATIENCE`], or it has ended before.
    pub async fn says(&mut self, text: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            // Looked at before the log: what it said at its end counts.
            let ended = self.has_ended();
            if self.log().contains(text) {
                return;
            }
            let is_late = std::time::Instant::now() > deadline;
            assert!(
                ended.is_none() && !is_late,
                "has not said {text:?} (ended: {ended:?}); its log:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id is positive"), signal).expect("the process runs");
    }

    /// Sends SIGSTOP, and returns when no thread of it runs any more.
    ///
    /// # Panics
    /// It has ended, or does not stop within [`PATIENCE`].
    pub async fn stop(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.id());
        let is_stopped = |task: std::fs::DirEntry| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            status.contains("State:\tT")
        };
        eventually("the process stops", PATIENCE, async || {
            let mut tasks = std::fs::read_dir(&tasks).expect("it is there").flatten();
            tasks.all(is_stopped).then_some(())
        })
        .await;
    }

    /// Ends it with SIGKILL, and waits for its end.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Ends it and its children with SIGKILL, as a machine that loses power does.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub fn kill_with_children(&mut self) {
        let list = format!("/proc/{0}/task/{0}/children", self.id());
        let children = std::fs::read_to_string(list).unwrap_or_default();
        self.kill();
        for child in children.split_whitespace() {
            if let Some(pid) = child.parse().ok().and_then(Pid::from_raw) {
                // It may have ended with its parent.
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }

    /// How it has ended, if it has.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end within [`PATIENCE`].
    pub async fn ends(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the process ends", PATIENCE, async || {
            child.try_wait().expect("a child can be waited for")
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
        if std::thread::panicking() {
            let name = self
                .log
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let mut err = std::io::stderr().lock();
            // The test has failed already; what cannot be shown is not worth a second panic.
            std::io::Write::write_all(&mut err, format!("--- {name}\n{}\n", self.log()).as_bytes())
                .ok();
        }
    }
}
