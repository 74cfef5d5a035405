//! `celery.chord_unlock`: asks whether the header of a chord has ended, again and again, and then sends the body.
//!
//! It is for result backends that cannot count the parts of a chord. Redis can, so nobody sends it there; sent by
//! hand it does what it does in a worker in Python.
//!
//! Counterpart: `unlock_chord` in `celery/app/builtins.py` @ 5.7.0. What differs: an outage of the broker or of the
//! backend delays the body, and does not fail it.

use std::time::Duration;

use celeriac_protocol::canvas::Canvas;
use celeriac_protocol::exception::TaskException;
use futures_util::future::{join_all, try_join_all};
use serde_json::Value;

use super::{argument, canvas, list, sent, type_error, unreachable};
use crate::app::{ResultError, ResultNode};
use crate::handler::{FailedChord, Invocation, MaxRetries, Outcome, Retry};
use crate::log_lines::shown;

pub(super) const PARAMETERS: &[&str] =
    &["group_id", "callback", "interval", "max_retries", "result"];

pub(super) async fn run(invocation: &Invocation) -> Result<Value, Outcome> {
    let chord = Chord::of(invocation)?;
    let are_ready = try_join_all(chord.header.iter().map(ResultNode::ready)).await;
    let are_ready = are_ready.map_err(|error| chord.again(Some(unreachable(&error))))?;
    if !are_ready.into_iter().all(|is_ready| is_ready) {
        return Err(chord.again(None));
    }
    let values = Value::Array(chord.joined().await?);
    match sent(invocation, &chord.body, &[values]).await {
        Ok(_) => Ok(Value::Null),
        Err(error) if error.is_transient() => Err(chord.again(Some(unreachable(&error)))),
        Err(error) => {
            let cause = unreachable(&error);
            let why = format!("Callback error: {}", cause.repr());
            Err(chord.raised(cause, why))
        }
    }
}

/// What is waited for, and how.
struct Chord<'a> {
    invocation: &'a Invocation,
    group: String,
    body: Canvas,
    header: Vec<ResultNode>,
    interval: Duration,
    max_retries: Option<u32>,
}

impl<'a> Chord<'a> {
    fn of(invocation: &'a Invocation) -> Result<Self, Outcome> {
        let app = invocation.context.app();
        let header = list(invocation, 4, "result")?;
        let header = header.iter().map(|tuple| app.result_from_tuple(tuple));
        let header = header.map(|result| result.map(ResultNode::allow_join));
        let header = header.collect::<Option<_>>();
        let group = argument(invocation, 0, "group_id")?;
        let optional = |place, name| match argument(invocation, place, name) {
            Ok(Value::Null) | Err(_) => None,
            Ok(value) => Some(value),
        };
        let interval = optional(2, "interval").map(|interval| {
            let interval = interval.as_f64().map(Duration::try_from_secs_f64);
            let interval = interval.and_then(Result::ok);
            interval.ok_or_else(|| type_error("interval must be a number of seconds"))
        });
        let max_retries = optional(3, "max_retries").map(|most| {
            let most = most.as_u64().and_then(|most| u32::try_from(most).ok());
            most.ok_or_else(|| type_error("max_retries must be a number"))
        });
        Ok(Self {
            group: group.as_str().unwrap_or_default().to_owned(),
            body: canvas(invocation, 1, "callback")?,
            header: header.ok_or_else(|| type_error("result must be a list of results"))?,
            interval: interval
                .transpose()?
                .unwrap_or(app.settings().result_chord_retry_interval),
            max_retries: max_retries.transpose()?,
            invocation,
        })
    }

    /// Asks once more later; where that may not be, nobody will, and so the body fails.
    fn again(&self, cause: Option<TaskException>) -> Outcome {
        let context = &self.invocation.context;
        let most = self.max_retries;
        let most = most.map_or(MaxRetries::Unlimited, MaxRetries::Times);
        if most.allows(context.retries() + 1) {
            return Outcome::from(Retry {
                countdown: Some(self.interval),
                exception: cause,
                ..Retry::default()
            });
        }
        let exceeded = || context.retries_exceeded(context.args(), context.kwargs());
        let raised = cause.unwrap_or_else(exceeded);
        let why = format!("chord_unlock could not be retried: {}", raised.repr());
        log::error!("Chord '{}': {why}", shown(&self.group));
        self.failed(why, raised, true)
    }

    /// The results of the header, in its order.
    async fn joined(&self) -> Result<Vec<Value>, Outcome> {
        let limit = self.invocation.context.app().settings();
        let limit = limit.result_chord_join_timeout;
        let joined = join_all(self.header.iter().map(|result| result.get::<Value>(limit))).await;
        let joined = joined.into_iter().collect::<Result<_, ResultError>>();
        joined.map_err(|error| {
            let exception = match &error {
                ResultError::Backend { source, .. } if source.is_transient() => {
                    return self.again(Some(unreachable(&error)));
                }
                ResultError::Timeout { .. } => TaskException::timeout("The operation timed out."),
                error => match error.exception() {
                    Some(exception) => exception.clone(),
                    None => unreachable(error),
                },
            };
            // Celery would name the task, but never finds it among the results that it remembers: it remembers successes.
            let why = exception.repr();
            self.raised(exception, why)
        })
    }

    fn raised(&self, cause: TaskException, why: String) -> Outcome {
        log::error!("Chord '{}' raised: {}", shown(&self.group), cause.repr());
        self.failed(why, cause, false)
    }

    fn failed(&self, why: String, cause: TaskException, is_raised: bool) -> Outcome {
        Outcome::FailChord(Box::new(FailedChord {
            group: self.group.clone(),
            body: self.body.to_signature(),
            why,
            cause,
            is_raised,
        }))
    }
}
