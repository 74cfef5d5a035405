//! The states of a task. Counterpart: `celery/states.py @ 5.7.0`.

use std::{convert::Infallible, fmt, str::FromStr};

/// A task's state as stored in the result backend and sent in events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is known of the task.
    Pending,
    /// A worker has it (only in events).
    Received,
    /// It runs (stored when `task_track_started` is on).
    Started,
    /// Done.
    Success,
    /// It raised.
    Failure,
    /// Cancelled, or expired before it ran.
    Revoked,
    /// A worker refused it (only in events).
    Rejected,
    /// It will run again.
    Retry,
    /// It raised `Ignore`: no state is stored.
    Ignored,
    /// A state of the task's own, such as `PROGRESS`.
    Other(String),
}

impl State {
    /// The name on the wire: `SUCCESS`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "PENDING",
            Self::Received => "RECEIVED",
            Self::Started => "STARTED",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
            Self::Rejected => "REJECTED",
            Self::Retry => "RETRY",
            Self::Ignored => "IGNORED",
            Self::Other(name) => name,
        }
    }

    /// The result will not change any more (`READY_STATES`).
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }

    /// The result is an exception (`EXCEPTION_STATES`).
    pub fn is_exception(&self) -> bool {
        matches!(self, Self::Failure | Self::Revoked | Self::Retry)
    }

    /// `.get()` raises (`PROPAGATE_STATES`).
    pub fn is_propagated(&self) -> bool {
        matches!(self, Self::Failure | Self::Revoked)
    }
}

impl From<&str> for State {
    fn from(name: &str) -> Self {
        match name {
            "PENDING" => Self::Pending,
            "RECEIVED" => Self::Received,
            "STARTED" => Self::Started,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "REVOKED" => Self::Revoked,
            "REJECTED" => Self::Rejected,
            "RETRY" => Self::Retry,
            "IGNORED" => Self::Ignored,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl FromStr for State {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self::from(name))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
