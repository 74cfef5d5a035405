//! Why a file could not be brought to its end, and whether waiting helps.
//!
//! A bad file is no error here: its verdict is a result. Errors are what keeps a verdict from being given or recorded.
//!
//! Keeps (F4): an outage never becomes a verdict about a file, and never uses up an attempt.

use std::io;

use sqlx::postgres::PgDatabaseError;

/// What went wrong. [`Error::is_transient`] says whether to wait for better times.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL, a disk or a directory is away, full or busy. Nobody needs to act unless it lasts; tried again without end.
    #[error("{what}: {cause}")]
    Transient {
        /// What was being done.
        what: String,
        /// What the system said.
        cause: String,
    },
    /// Tables, rights or settings do not fit this worker. An operator must act; tried again without end, so that all
    /// files load once that is done.
    #[error("{0}")]
    Deployment(String),
    /// The file changed while it was read; started again, and later handed back.
    #[error("{path} changed while it was read")]
    FileChanged {
        /// The file.
        path: String,
    },
    /// The engine has taken the task back. Nothing is recorded; whoever runs it next completes it.
    #[error("stopped by the worker")]
    Cancelled,
    /// PostgreSQL refuses the rows by a constraint of its own: the file is bad by a rule that we do not know.
    #[error("PostgreSQL refuses the rows: {0}")]
    RefusedRows(String),
    /// A defect. Counted retries, then FAILURE.
    #[error("{what}: {cause}")]
    Unexpected {
        /// What was being done.
        what: String,
        /// What the system said.
        cause: String,
    },
}

impl Error {
    /// Whether the same attempt may succeed later without anybody changing the file.
    pub fn is_transient(&self) -> bool {
        self.is_outage() || matches!(self, Self::FileChanged { .. })
    }

    /// Whether waiting alone may help; a file that changed must be read again instead.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Transient { .. } | Self::Deployment(_))
    }

    pub(crate) fn transient(what: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::Transient {
            what: what.into(),
            cause: cause.into(),
        }
    }

    pub(crate) fn unexpected(what: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::Unexpected {
            what: what.into(),
            cause: cause.into(),
        }
    }

    /// An error of reading, writing or moving a file. All of them may pass: a full or sick disk, a file system that is
    /// away, a directory without permission. What says something about the file itself is told apart before.
    pub(crate) fn of_disk(what: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        let cause: io::Error = cause.into();
        if cause.get_ref().is_some_and(|inner| inner.is::<Stopped>()) {
            return Self::Cancelled;
        }
        Self::transient(what, cause.to_string())
    }

    /// An error of PostgreSQL or of the way to it.
    pub(crate) fn of_database(what: &str, cause: sqlx::Error) -> Self {
        match cause {
            sqlx::Error::Database(error) => match error.try_downcast::<PgDatabaseError>() {
                Ok(error) => by_sqlstate(what, &error),
                Err(error) => Self::unexpected(what, error.to_string()),
            },
            sqlx::Error::Configuration(error) => Self::Deployment(format!("{what}: {error}")),
            sqlx::Error::PoolTimedOut => Self::transient(
                what,
                "no connection to PostgreSQL within the time allowed; is it up?",
            ),
            // A broken connection also shows as a message that makes no sense.
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::transient(what, cause.to_string()),
            _ => Self::unexpected(what, cause.to_string()),
        }
    }
}

/// The cause inside an [`io::Error`] when the engine has stopped a reading.
#[derive(Debug, thiserror::Error)]
#[error("stopped by the worker")]
pub(crate) struct Stopped;

/// What an SQLSTATE means for us (PostgreSQL's Appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Outage,
    Deployment,
    BadRows,
    Defect,
}

fn by_sqlstate(what: &str, error: &PgDatabaseError) -> Error {
    let place = error
        .r#where()
        .map(|place| format!(" ({place})"))
        .unwrap_or_default();
    let cause = format!("{} [{}]{place}", error.message(), error.code());
    match meaning(error.code()) {
        Meaning::Outage => Error::transient(what, cause),
        Meaning::Deployment => Error::Deployment(format!(
            "{what}: {cause}; have the migrations run ('celeriac db migrate'), and may this user write the tables?"
        )),
        Meaning::BadRows => Error::RefusedRows(cause),
        Meaning::Defect => Error::unexpected(what, cause),
    }
}

fn meaning(sqlstate: &str) -> Meaning {
    match sqlstate {
        // In use, lock not available, read-only server, canceled by an operator or a limit.
        "55006" | "55P03" | "25006" | "57014" => Meaning::Outage,
        _ => match sqlstate.get(..2).unwrap_or_default() {
            // Connection, transaction rolled back (serialization, deadlock), resources, operator, system (I/O), internal.
            "08" | "40" | "53" | "57" | "58" | "XX" => Meaning::Outage,
            // Login, database, schema, syntax or access rule (undefined table 42P01, no right 42501), prerequisite state.
            "28" | "3D" | "3F" | "42" | "55" => Meaning::Deployment,
            // Data and integrity: our own rules let only good rows through, so a constraint was added.
            "22" | "23" => Meaning::BadRows,
            _ => Meaning::Defect,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_and_deployment_errors_are_waited_out() {
        for state in [
            "08006", "57P01", "57P03", "53300", "53100", "40001", "40P01", "25006", "55P03",
            "57014", "58030", "XX000",
        ] {
            assert_eq!(meaning(state), Meaning::Outage, "{state}");
        }
        for state in ["42P01", "42501", "42703", "28P01", "3D000", "3F000"] {
            assert_eq!(meaning(state), Meaning::Deployment, "{state}");
        }
        assert_eq!(meaning("23514"), Meaning::BadRows);
        assert_eq!(meaning("25P02"), Meaning::Defect);
        assert!(Error::of_database("x", sqlx::Error::PoolTimedOut).is_transient());
        assert!(!Error::of_database("x", sqlx::Error::RowNotFound).is_transient());
    }

    #[test]
    fn a_stopped_reading_is_no_outage() {
        let stopped = io::Error::other(Stopped);
        assert!(matches!(Error::of_disk("x", stopped), Error::Cancelled));
        assert!(Error::of_disk("x", io::Error::from_raw_os_error(28)).is_transient());
    }
}
