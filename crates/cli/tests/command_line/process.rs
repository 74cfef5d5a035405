//! Runs the example programs: a directory of its own as the working directory, and no variables from outside.

#![expect(
    clippy::unwrap_used,
    reason = "a test's world: what fails here fails the test"
)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// No step of these programs takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker where nobody listens: connecting is refused at once.
pub(crate) const NO_BROKER: &str = "redis://:secret@127.0.0.1:1/0";

/// A program to be started.
pub(crate) struct Start {
    command: Command,
    directory: TempDir,
}

/// A program that runs; killed when dropped.
pub(crate) struct Process {
    child: Child,
    directory: TempDir,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// One of the package's example programs.
pub(crate) fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let target = tests.ancestors().nth(2).unwrap();
    let program = target.join("examples").join(name);
    assert!(
        program.exists(),
        "cargo test builds {}; --test alone does not",
        program.display()
    );
    program
}

/// Runs the worker's example by a line of arguments, separated by blanks.
pub(crate) fn adder(line: &str) -> Ended {
    Start::new("adder", line.split_whitespace()).run()
}

impl Start {
    pub(crate) fn new(name: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(example(name));
        command
            .args(args)
            .current_dir(directory.path())
            .env_clear()
            .stdin(Stdio::null());
        Self { command, directory }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.directory.path().join(name), text).unwrap();
        self
    }

    pub(crate) fn spawn(mut self) -> Process {
        let out = File::create(self.directory.path().join("stdout")).unwrap();
        let err = File::create(self.directory.path().join("stderr")).unwrap();
        let child = self.command.stdout(out).stderr(err).spawn().unwrap();
        Process {
            child,
            directory: self.directory,
        }
    }

    pub(crate) fn run(self) -> Ended {
        self.spawn().wait()
    }

    /// Starts it with an stdout and stderr whose readers have gone away.
    pub(crate) fn run_without_readers(mut self) -> Option<i32> {
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        eventually("it ends", || child.try_wait().unwrap()).code()
    }
}

impl Process {
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.path().join(file)).unwrap_or_default()
    }

    /// Waits until stderr has this text.
    pub(crate) fn wait_for(&self, text: &str) {
        eventually(text, || self.read("stderr").contains(text).then_some(()));
    }

    pub(crate) fn wait_for_stdout(&self, text: &str) {
        eventually(text, || self.read("stdout").contains(text).then_some(()));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait(mut self) -> Ended {
        let status = eventually("it ends", || self.child.try_wait().unwrap());
        Ended {
            code: status.code(),
            stdout: self.read("stdout"),
            stderr: self.read("stderr"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has mostly ended already; what a failing test leaves behind ends here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits for a condition.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that looks again and again at another process"
)]
pub(crate) fn eventually<T>(reason: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {reason}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
