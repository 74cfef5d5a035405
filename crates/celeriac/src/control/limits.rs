//! Rate and time limits that remote control sets for a task of this worker.
//!
//! Counterpart: `celery/worker/control.py` (`rate_limit`, `time_limit`) @ 5.7.0. Deliberate difference: a time limit that
//! was set holds from the next start on; in Celery it has no effect on a running consumer.

use std::time::Duration;

use celeriac_protocol::exception::TaskException;
use serde_json::{Value, json};

use super::Control;
use super::arguments::Arguments;
use super::panel::ok;
use crate::handler::RateLimit;
use crate::log_lines::shown;
use crate::state::TaskLimits;

impl Control {
    pub(super) fn rate_limit(&self, arguments: &Arguments<'_>) -> Result<Value, TaskException> {
        arguments.require(&["task_name", "rate_limit"])?;
        let text = match arguments.get("rate_limit") {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let rate = match text.is_empty() {
            true => None,
            false => match text.parse::<RateLimit>() {
                Ok(rate) => Some(rate),
                Err(error) => {
                    let cause = TaskException::builtin("ValueError", error.to_string());
                    let text = format!("Invalid rate limit string: {}", cause.repr());
                    return Ok(nok(&text));
                }
            },
        };
        let Some(task) = self.task_of(arguments, "Rate limit") else {
            return Ok(nok("unknown task"));
        };
        let limit = rate.filter(|rate| rate.interval().is_some());
        self.rates.set(&task, limit);
        let name = shown(&task);
        Ok(match arguments.is_true("rate_limit") {
            true => {
                log::info!("New rate limit for tasks of type {name}: {}.", shown(&text));
                ok("new rate limit set successfully")
            }
            false => {
                log::info!("Rate limits disabled for tasks of type {name}");
                ok("rate limit disabled successfully")
            }
        })
    }

    pub(super) fn time_limit(&self, arguments: &Arguments<'_>) -> Result<Value, TaskException> {
        arguments.require(&["task_name"])?;
        let limits = TaskLimits {
            soft: seconds(arguments, "soft")?,
            hard: seconds(arguments, "hard")?,
        };
        let Some(task) = self.task_of(arguments, "Change time limit") else {
            return Ok(nok("unknown task"));
        };
        self.state.limit_time(&task, limits);
        let shown_limit = |name: &str| celeriac_protocol::repr::repr_value(arguments.get(name));
        log::info!(
            "New time limits for tasks of type {}: soft={} hard={}",
            shown(&task),
            shown_limit("soft"),
            shown_limit("hard"),
        );
        Ok(ok("time limits set successfully"))
    }

    /// The registered task that a method is about.
    fn task_of(&self, arguments: &Arguments<'_>, what: &str) -> Option<String> {
        let named = arguments.get("task_name").as_str().unwrap_or_default();
        if self.app.registered(named).is_none() {
            log::error!("{what} attempt for unknown task {}", shown(named));
            return None;
        }
        Some(named.to_owned())
    }
}

fn seconds(arguments: &Arguments<'_>, name: &str) -> Result<Option<Duration>, TaskException> {
    match arguments.get(name) {
        Value::Null => Ok(None),
        Value::Number(number) => {
            let seconds = number.as_f64().unwrap_or(-1.0);
            let wrong = |_| TaskException::builtin("ValueError", format!("{name} is no time"));
            Duration::try_from_secs_f64(seconds)
                .map(Some)
                .map_err(wrong)
        }
        _ => Err(TaskException::type_error(format!(
            "{name} has to be a number of seconds"
        ))),
    }
}

/// A bad answer, as Celery shows it.
fn nok(text: &str) -> Value {
    json!({"error": text})
}
