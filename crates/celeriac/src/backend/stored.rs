//! A result as it is stored: its bytes, and for how long. And the bytes of whatever else a backend keeps.
//!
//! Counterpart: `celery/backends/base.py` (`encode`, `decode`) and `celery/backends/redis.py` (`_set_with_state`)
//! @ 5.7.0.

use std::time::Duration;

use celeriac_protocol::exception::TaskException;
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use celeriac_protocol::{
    Accept, Compression, DecodeError, EncodeError, Limits, Serializer, payload,
};
use serde_json::Value;

use crate::app::Settings;
use crate::log_lines::shown;
use crate::traceback;
use crate::transport::Error;

/// The largest value that Redis takes.
const BYTES_MAX: usize = 512 * 1024 * 1024;

/// How results are written and for how long they are kept.
#[derive(Debug, Clone)]
pub(super) struct Documents {
    serializer: Serializer,
    accept: Accept,
    compression: Option<Compression>,
    limits: Limits,
    expires: Option<Duration>,
    failure_expires: Option<Duration>,
}

/// What is stored of one result.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    /// Whole seconds; 0: for ever.
    pub(super) expires_secs: u64,
    /// Whoever waits for the task waits for this.
    pub(super) is_final: bool,
}

impl Documents {
    pub(super) fn new(settings: &Settings) -> Self {
        let failure = settings.result_failure_expires;
        Self {
            serializer: settings.result_serializer,
            accept: settings
                .result_accept_content
                .unwrap_or(settings.accept_content),
            compression: settings.result_compression,
            limits: Limits::new(BYTES_MAX, BYTES_MAX),
            expires: settings.result_expires,
            failure_expires: failure.map_or(settings.result_expires, |expires| {
                (!expires.is_zero()).then_some(expires)
            }),
        }
    }

    /// What to store. What cannot be stored is a failure, as in Celery; to try it again would not help.
    pub(super) fn write(&self, meta: &TaskMeta) -> Document {
        let exception = match sized(payload::write(meta, self.serializer, self.compression)) {
            Ok(bytes) => return self.document(&meta.status, bytes),
            Err(exception) => exception,
        };
        let (id, text) = (shown(&meta.task_id), exception.display());
        log::error!(task_id = &*id; "cannot store the result of {id}, storing a failure instead: {text}");
        let failure = TaskMeta {
            date_done: meta.date_done.clone(),
            group_id: meta.group_id.clone(),
            parent_id: meta.parent_id.clone(),
            traceback: Some(traceback::one_line(&exception)),
            ..TaskMeta::new(&meta.task_id, State::Failure, exception.to_value())
        };
        let bytes = payload::write(&failure, self.serializer, self.compression);
        let bytes = bytes.unwrap_or_else(|_| failure.to_json().into_bytes());
        self.document(&State::Failure, bytes)
    }

    /// The bytes of what is no result.
    ///
    /// # Errors
    /// It cannot be stored, and this is the exception to say so.
    pub(super) fn write_value(&self, value: &Value) -> Result<Vec<u8>, TaskException> {
        sized(payload::write_value(
            value,
            self.serializer,
            self.compression,
        ))
    }

    fn document(&self, status: &State, bytes: Vec<u8>) -> Document {
        let expires = match status {
            State::Failure => self.failure_expires,
            _ => self.expires,
        };
        Document {
            bytes,
            expires_secs: whole_secs(expires),
            is_final: status.is_ready(),
        }
    }

    /// What is stored under `key`.
    ///
    /// # Errors
    /// It is no result, or the settings accept none.
    pub(super) fn read(&self, key: &str, bytes: &[u8]) -> Result<TaskMeta, Error> {
        self.check_accepted()?;
        let read = self.decode(bytes);
        read.map_err(|error| holds_no("task result", key, &error))
    }

    /// As [`Self::read`], of what is no result; `what` names it in errors.
    ///
    /// # Errors
    /// It cannot be read, or the settings accept none.
    pub(super) fn read_value(
        &self,
        what: &'static str,
        key: &str,
        bytes: &[u8],
    ) -> Result<Value, Error> {
        self.check_accepted()?;
        let read = payload::read_value(what, bytes, self.serializer, &self.limits);
        read.map_err(|error| holds_no(what, key, &error))
    }

    fn check_accepted(&self) -> Result<(), Error> {
        if self.accept.takes(self.serializer) {
            return Ok(());
        }
        let (name, content_type) = (self.serializer.name(), self.serializer.content_type());
        let reply = format!(
            "Refusing to deserialize untrusted content of type {name} ({content_type}); \
             result_accept_content (or accept_content) does not name result_serializer"
        );
        Err(Error::Reply { reply })
    }

    fn decode(&self, bytes: &[u8]) -> Result<TaskMeta, DecodeError> {
        payload::read(bytes, self.serializer, &self.limits)
    }

    /// Whether these bytes are a SUCCESS, which nothing is stored over. What cannot be read is none.
    pub(super) fn is_success(&self, bytes: &[u8]) -> bool {
        self.decode(bytes)
            .is_ok_and(|meta| meta.status == State::Success)
    }
}

/// Whole seconds, rounded down; 0: for ever. Less than a second is a second.
pub(super) fn whole_secs(expires: Option<Duration>) -> u64 {
    expires.map_or(0, |expires| expires.as_secs().max(1))
}

/// What was written, unless it is too large.
fn sized(written: Result<Vec<u8>, EncodeError>) -> Result<Vec<u8>, TaskException> {
    let (module, class, text) = match written {
        Ok(bytes) if bytes.len() < BYTES_MAX => return Ok(bytes),
        Ok(_) => (
            "celery.exceptions",
            "BackendStoreError",
            "value too large for Redis backend".to_owned(),
        ),
        Err(error) => ("kombu.exceptions", "EncodeError", error.to_string()),
    };
    Err(TaskException::new(module, class, vec![text.into()]))
}

fn holds_no(what: &str, key: &str, error: &DecodeError) -> Error {
    Error::Reply {
        reply: format!("key {key:?} holds no {what}: {error}"),
    }
}
