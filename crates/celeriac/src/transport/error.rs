//! What can go wrong between us and a broker.

/// A transport's error.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is wrong or its scheme is not supported. Permanent; the person who wrote it must act.
    #[error("invalid {whose} URL {url}: {reason}")]
    Url {
        /// `broker`, or `result backend`.
        whose: &'static str,
        /// The URL with its password masked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection, or it broke, or it stayed silent for too long. Try again.
    #[error("{reason}")]
    Connection {
        /// The cause in one line.
        reason: String,
    },
    /// The server answered with an error (OOM, READONLY, LOADING, WRONGTYPE, NOPERM …). Try again: a
    /// person may have to act, and nothing was lost.
    #[error("{reply}")]
    Reply {
        /// The server's words.
        reply: String,
    },
    /// A task whose run was given up (a time limit, a cold stop, another worker has it) wants to write. Permanent.
    #[error("the run is over; nothing of it is written any more")]
    GivenUp,
    /// A result was asked for, and the app has no `result_backend`. Permanent; Celery's words.
    #[error("No result backend is configured.\nPlease see the documentation for more information.")]
    NoResultBackend,
}

impl Error {
    /// Waiting can help; nothing was lost.
    pub fn is_transient(&self) -> bool {
        !matches!(
            self,
            Self::Url { .. } | Self::NoResultBackend | Self::GivenUp
        )
    }

    /// The connection is at fault, as opposed to one command.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Connection { .. })
    }

    /// A new connection may help: this one is broken, or leads to a server that is not (or no longer) the one to write to.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::Reply { reply } => ["READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED"]
                .iter()
                .any(|code| reply.starts_with(code)),
            Self::Url { .. } | Self::NoResultBackend | Self::GivenUp => false,
        }
    }
}
