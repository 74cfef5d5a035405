//! A result as it is stored: its bytes, and for how long.
//!
//! Counterpart: `celery/backends/base.py` (`encode`, `decode`) and `celery/backends/redis.py` (`_set_with_state`)
//! @ 5.7.0.

use std::time::Duration;

use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;

use crate::app::Settings;
use crate::transport::Error;

/// How results are written and for how long they are kept.
#[derive(Debug, Clone)]
pub(super) struct Documents {
    expires: Option<Duration>,
    failure_expires: Option<Duration>,
}

/// What is stored of one result.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    /// Whole seconds; 0: for ever.
    pub(super) expires_secs: u64,
}

impl Documents {
    pub(super) fn new(settings: &Settings) -> Self {
        let failure = settings.result_failure_expires;
        Self {
            expires: settings.result_expires,
            failure_expires: failure.map_or(settings.result_expires, |expires| {
                (!expires.is_zero()).then_some(expires)
            }),
        }
    }

    /// What to store.
    pub(super) fn write(&self, meta: &TaskMeta) -> Document {
        let expires = match meta.status {
            State::Failure => self.failure_expires,
            _ => self.expires,
        };
        Document {
            bytes: meta.to_json().into_bytes(),
            // Less than a second is a second: 0 would mean for ever.
            expires_secs: expires.map_or(0, |expires| expires.as_secs().max(1)),
        }
    }

    /// What is stored under `key`.
    ///
    /// # Errors
    /// It is no result.
    pub(super) fn read(&self, key: &str, bytes: &[u8]) -> Result<TaskMeta, Error> {
        TaskMeta::parse(bytes).map_err(|error| Error::Reply {
            reply: format!("key {key:?} holds no task result: {error}"),
        })
    }

    /// Whether these bytes are a SUCCESS. What cannot be read is none.
    pub(super) fn is_success(&self, bytes: &[u8]) -> bool {
        self.read("", bytes)
            .is_ok_and(|meta| meta.status == State::Success)
    }
}
