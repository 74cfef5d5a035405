//! Time limits: which ones hold for a request, and waiting for them.
//!
//! The message's win over the task's (or those that remote control has set), these over the settings', these over the
//! worker's command line.
//!
//! Counterpart: `celery/worker/request.py` (`execute_using_pool`, `on_timeout`) and
//! `celery/concurrency/asynpool.py` @ 5.7.0.

use std::time::Duration;

use serde_json::{Number, Value, json};

use super::Request;
use crate::context::Context;
use crate::state::TaskLimits;

/// One limit, and as it was written: `2` and `2.0` are shown as such.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Limit {
    pub(super) after: Duration,
    pub(super) shown: Value,
}

/// What has ended a run.
#[derive(Debug)]
pub(super) enum Exceeded {
    /// The soft limit, and the task does not listen.
    Soft,
    /// The hard limit.
    Hard(Limit),
}

/// The limits of one request.
#[derive(Debug, Default)]
pub(super) struct TimeLimits {
    soft: Option<Limit>,
    hard: Option<Limit>,
}

impl TimeLimits {
    /// `of_worker`: what the command line says; `changed`: what remote control has set for the task.
    pub(super) fn new(
        request: &Request,
        of_worker: TaskLimits,
        changed: Option<TaskLimits>,
    ) -> Self {
        let message = &request.message().headers.timelimit;
        let options = request.options();
        let of_task = changed.unwrap_or(TaskLimits {
            soft: options.soft_time_limit,
            hard: options.time_limit,
        });
        Self {
            soft: written(message.soft.as_ref(), message.soft_duration())
                .or_else(|| set(of_task.soft))
                .or_else(|| typed(of_worker.soft)),
            hard: written(message.hard.as_ref(), message.hard_duration())
                .or_else(|| set(of_task.hard))
                .or_else(|| typed(of_worker.hard)),
        }
    }

    pub(super) fn are_any(&self) -> bool {
        self.soft.is_some() || self.hard.is_some()
    }

    /// Waits until a limit ends the run; for ever where none does.
    pub(super) async fn exceeded(self, request: &Context, say: impl Fn(&Limit)) -> Exceeded {
        let hard = async {
            match self.hard {
                Some(limit) => {
                    tokio::time::sleep(limit.after).await;
                    limit
                }
                None => std::future::pending().await,
            }
        };
        let soft = async {
            if let Some(limit) = self.soft {
                tokio::time::sleep(limit.after).await;
                say(&limit);
                if !request.reach_soft_limit() {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            // cancel-safe, both: they only wait
            limit = hard => Exceeded::Hard(limit),
            () = soft => Exceeded::Soft,
        }
    }
}

/// Nothing, and a limit of 0, are none, as in Celery.
fn written(number: Option<&Number>, after: Option<Duration>) -> Option<Limit> {
    let after = after.filter(|after| !after.is_zero())?;
    Some(Limit {
        after,
        shown: json!(number),
    })
}

fn set(after: Option<Duration>) -> Option<Limit> {
    let after = after.filter(|after| !after.is_zero())?;
    Some(Limit {
        after,
        shown: seconds(after),
    })
}

/// Celery's command line makes a float of it.
fn typed(after: Option<Duration>) -> Option<Limit> {
    let limit = set(after)?;
    let shown = json!(limit.after.as_secs_f64());
    Some(Limit { shown, ..limit })
}

/// Seconds as Python would print them: `10`, or `1.5`.
pub(super) fn seconds(duration: Duration) -> Value {
    if duration.subsec_nanos() == 0 {
        json!(duration.as_secs())
    } else {
        json!(duration.as_secs_f64())
    }
}
