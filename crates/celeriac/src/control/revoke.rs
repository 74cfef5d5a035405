//! Revoking tasks: before they run, while they wait, while they run.
//!
//! A revoked id is not started here, whenever its message comes; what waits is discarded when its turn
//! comes, and what runs goes on unless it is terminated. So that a caller who waits hears of it at once, the
//! state REVOKED is stored by the first worker that hears of it, where the stored state says that no worker
//! has the task.
//!
//! Counterpart: `revoke`, `_revoke`, `terminate` and `hello` in `celery/worker/control.py` @ 5.7.0.
//! Difference: a run is ended by dropping it, whatever signal is named; there is no process to send it to.

use std::collections::HashSet;

use celeriac_protocol::exception::TaskException;
use celeriac_protocol::repr;
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use celeriac_protocol::timestamp;
use serde_json::{Value, json};

use super::Control;
use super::arguments::Arguments;
use super::panel::{Answer, ok};
use crate::clock;
use crate::log_lines::shown;
use crate::state::MAX_ID_BYTES;
use crate::transport::Error;

/// The signals that Celery's users name, and their numbers.
const SIGNALS: [(&str, i64); 10] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGABRT", 6),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
];

/// Ids that one line of the log names; a request may have tens of thousands.
const LOGGED_IDS: usize = 50;

/// What was revoked, and has still to be written down.
#[derive(Debug)]
pub(super) struct Revoked {
    /// The ids that do not run here.
    pub(super) idle: Vec<String>,
    pub(super) answer: Value,
}

impl Control {
    pub(super) fn revoke(&self, arguments: &Arguments<'_>) -> Result<Answer, TaskException> {
        arguments.require(&["task_id"])?;
        let ids = ids(arguments)?;
        match arguments.is_true("terminate") {
            true => self.revoke_and_terminate(&ids, arguments.get("signal")),
            false => {
                let idle = self.state.revoke(&ids);
                log::info!("Tasks flagged as revoked: {}", listed(&ids));
                let answer = ok(&format!("tasks {} flagged as revoked", repr_set(&ids)));
                Ok(Answer::Revoked(Revoked { idle, answer }))
            }
        }
    }

    pub(super) fn terminate(&self, arguments: &Arguments<'_>) -> Result<Answer, TaskException> {
        arguments.require(&["signal", "task_id"])?;
        self.revoke_and_terminate(&ids(arguments)?, arguments.get("signal"))
    }

    fn revoke_and_terminate(
        &self,
        ids: &[String],
        signal: &Value,
    ) -> Result<Answer, TaskException> {
        let signal = signal_number(signal)?;
        let idle = self.state.revoke(ids);
        let terminated = self.state.terminate(ids, signal);
        for id in &terminated {
            log::info!("Terminating {} ({signal})", shown(id));
        }
        let answer = match terminated.is_empty() {
            true => ok("terminate: tasks unknown"),
            false => ok(&format!("terminate: {}", terminated.join(", "))),
        };
        Ok(Answer::Revoked(Revoked { idle, answer }))
    }

    /// Stores REVOKED for what no worker has taken up. While the backend is away one line says so.
    pub(super) async fn mark_revoked(&self, ids: &[String]) {
        for (count, id) in ids.iter().enumerate() {
            if let Err(error) = self.mark_one(id).await {
                let others = match ids.len() - count - 1 {
                    0 => String::new(),
                    others => format!(" and {others} more"),
                };
                return log::warn!(
                    "Failed to mark task {}{others} as revoked in backend: {error}",
                    shown(id)
                );
            }
        }
    }

    async fn mark_one(&self, id: &str) -> Result<(), Error> {
        let backend = self.app.backend();
        let stored = match backend.get(id).await {
            // Nowhere to mark it.
            Err(Error::NoResultBackend) => return Ok(()),
            stored => stored?.map(|meta| meta.status),
        };
        let is_idle = stored.is_none_or(|state| {
            matches!(
                state,
                State::Pending | State::Received | State::Retry | State::Rejected
            )
        });
        if !is_idle {
            return Ok(());
        }
        let exception = TaskException::task_revoked("revoked").to_value();
        let mut meta = TaskMeta::new(id, State::Revoked, exception);
        meta.date_done = Some(timestamp::isoformat(clock::now()));
        backend.store(&[meta]).await
    }

    /// A neighbour that starts: it gets our revoked ids, and we its own.
    pub(super) fn hello(&self, arguments: &Arguments<'_>) -> Result<Value, TaskException> {
        arguments.require(&["from_node"])?;
        let from = arguments.get("from_node").as_str().unwrap_or_default();
        if from == self.hostname {
            return Ok(Value::Null);
        }
        log::info!("sync with {}", shown(from));
        // A list; up to Celery 5.6 a dict of ids and their times.
        let theirs: Vec<String> = match arguments.get("revoked") {
            Value::Array(ids) => {
                let ids = ids.iter().filter_map(Value::as_str);
                ids.map(str::to_owned).collect()
            }
            Value::Object(ids) => ids.keys().cloned().collect(),
            _ => Vec::new(),
        };
        let fits = |id: &String| id.len() <= MAX_ID_BYTES;
        let theirs: Vec<String> = theirs.into_iter().filter(fits).collect();
        if !theirs.is_empty() {
            self.state.revoke(&theirs);
        }
        Ok(json!({
            "revoked": self.state.revoked_ids(),
            "clock": self.state.forward_clock(),
        }))
    }
}

/// Each once, in their order.
fn ids(arguments: &Arguments<'_>) -> Result<Vec<String>, TaskException> {
    let mut ids = arguments.texts("task_id")?;
    if ids.iter().any(|id| id.len() > MAX_ID_BYTES) {
        let text = format!("a task id has at most {MAX_ID_BYTES} bytes");
        return Err(TaskException::builtin("ValueError", text));
    }
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    Ok(ids)
}

/// Counterpart: `celery/platforms.py::Signals.signum`.
pub(super) fn signal_number(signal: &Value) -> Result<i64, TaskException> {
    let wrong = || TaskException::type_error("signal name must be uppercase string.");
    let name = match signal {
        Value::Null => "SIGTERM",
        Value::String(name) if name.is_empty() => "SIGTERM",
        Value::String(name) => name,
        Value::Number(number) => return number.as_i64().ok_or_else(wrong),
        _ => return Err(wrong()),
    };
    if name.to_uppercase() != name {
        return Err(wrong());
    }
    let name = match name.starts_with("SIG") {
        true => name.to_owned(),
        false => format!("SIG{name}"),
    };
    let known = SIGNALS.iter().find(|(known, _)| *known == name);
    known.map(|(_, number)| *number).ok_or_else(|| {
        let text = format!("module 'signal' has no attribute '{name}'");
        TaskException::builtin("AttributeError", text)
    })
}

fn listed(ids: &[String]) -> String {
    let shown: Vec<_> = ids.iter().take(LOGGED_IDS).map(|id| shown(id)).collect();
    let listed = shown.join(", ");
    match ids.len().saturating_sub(LOGGED_IDS) {
        0 => listed,
        others => format!("{listed} and {others} more"),
    }
}

/// Python's `repr` of a set of texts.
fn repr_set(ids: &[String]) -> String {
    if ids.is_empty() {
        return "set()".to_owned();
    }
    let texts = ids.iter().map(|id| repr::repr_value(&json!(id)));
    format!("{{{}}}", texts.collect::<Vec<_>>().join(", "))
}
