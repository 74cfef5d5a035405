//! The exit codes, in one place; the help lists them.
//!
//! Counterpart: `celery/platforms.py` (`EX_OK` and the like) and click's usage errors. What Celery ends
//! with by an uncaught exception (a broker that `call` cannot reach, settings it cannot read) is 1 here too.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done; a worker that stopped after TERM or QUIT.
    Ok = 0,
    /// It did not work; a worker that stopped after Ctrl+C.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A service that the command is about cannot be reached.
    Unavailable = 69,
    /// The pidfile is taken.
    CannotCreate = 73,
    /// What was waited for has not come in time; the number of `timeout(1)`.
    TimedOut = 124,
    /// Ctrl+C before everything was done that has an end, or twice.
    Interrupted = 130,
    /// TERM after another signal to stop.
    Terminated = 143,
}

impl ExitStatus {
    /// The lines of the help.
    pub(crate) const HELP: &'static str = "\
Exit codes:
  0    done; a worker stopped by TERM or QUIT
  1    failed; a worker stopped by Ctrl+C
  2    the command line is wrong
  69   a service cannot be reached
  73   the pidfile is taken
  124  what was waited for has not come in time
  130  interrupted before it was done, or twice (143: by TERM), without waiting for a clean stop";

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// An error that says what the process ends with. Every other error ends it with [`ExitStatus::Failed`].
#[derive(Debug)]
pub struct ExitError {
    status: ExitStatus,
    message: String,
}

impl ExitError {
    /// Ends with `status` after `message` has been printed; an empty message prints nothing.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// Exit code 2: the command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Usage, message)
    }

    /// Exit code 69: a service cannot be reached.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Unavailable, message)
    }

    /// What the process ends with.
    pub fn status(&self) -> ExitStatus {
        self.status
    }
}

impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ExitError {}
