//! From a method's name to its answer.
//!
//! Counterpart: `celery/worker/control.py` (`Panel`) @ 5.7.0. What this worker has no use for (pools that
//! grow, further queues) is an unknown method, and answered as such.

use celeriac_protocol::Map;
use celeriac_protocol::exception::TaskException;
use serde_json::{Value, json};

use super::Control;
use super::arguments::Arguments;
use super::process;
use super::revoke::Revoked;
use crate::log_lines::shown;

/// What a method answers.
#[derive(Debug)]
pub(super) enum Answer {
    /// This, at once.
    Value(Value),
    /// What waits for its time; it has still to be read.
    Scheduled,
    /// Some tasks, those of them that wait for their time not yet among them.
    Query {
        /// All that were asked for.
        ids: Vec<String>,
        /// What was found of the others.
        found: Map,
    },
    /// Tasks were revoked, and it has still to be written down.
    Revoked(Revoked),
    /// A heartbeat is to be sent; null.
    Heartbeat,
    /// Nothing.
    NoReply,
}

impl Control {
    /// Runs a method.
    ///
    /// # Errors
    /// What Python's method would raise; it becomes the answer.
    pub(super) fn answer(
        &self,
        method: &str,
        arguments: &Arguments<'_>,
    ) -> Result<Answer, TaskException> {
        let value = match method {
            "revoke" => return self.revoke(arguments),
            "terminate" => return self.terminate(arguments),
            "revoke_by_stamped_headers" => self.revoke_by_stamped_headers(arguments)?,
            "shutdown" => {
                self.stop(arguments);
                return Ok(Answer::NoReply);
            }
            "ping" => ok("pong"),
            "active" | "dump_active" => self.active(arguments.is_true("safe")),
            "reserved" | "dump_reserved" => self.reserved(),
            "scheduled" | "dump_schedule" => return Ok(Answer::Scheduled),
            "query_task" => return self.query_task(arguments),
            "registered" | "dump_tasks" => self.registered(arguments),
            "revoked" | "dump_revoked" => Value::from(self.state.revoked_ids()),
            "stats" => self.stats(),
            "conf" | "dump_conf" => self.conf(arguments.is_true("with_defaults")),
            "active_queues" => {
                arguments.only(&[])?;
                self.active_queues()
            }
            "report" => {
                arguments.only(&[])?;
                ok(&self.report())
            }
            "clock" => json!({"clock": self.state.clock()}),
            "rate_limit" => self.rate_limit(arguments)?,
            "time_limit" => self.time_limit(arguments)?,
            "hello" => self.hello(arguments)?,
            "memsample" => Value::from(process::memory()),
            "enable_events" => {
                arguments.only(&[])?;
                self.switch_events(true)
            }
            "disable_events" => {
                arguments.only(&[])?;
                self.switch_events(false)
            }
            "heartbeat" => {
                log::debug!("Heartbeat requested by remote.");
                return Ok(Answer::Heartbeat);
            }
            "election" => {
                arguments.require(&["id", "topic"])?;
                Value::Null
            }
            "autoscale" => {
                return Err(TaskException::builtin(
                    "ValueError",
                    "Autoscale not enabled",
                ));
            }
            "pool_restart" => {
                return Err(TaskException::builtin(
                    "ValueError",
                    "Pool restarts not enabled",
                ));
            }
            unknown => return Err(TaskException::builtin("KeyError", unknown)),
        };
        Ok(Answer::Value(value))
    }

    fn switch_events(&self, on: bool) -> Value {
        let switched = if on { "enabled" } else { "disabled" };
        if self.events.switch(on) {
            log::info!("Events of group {{task}} {switched} by remote.");
            return ok(&format!("task events {switched}"));
        }
        ok(&format!("task events already {switched}"))
    }

    fn stop(&self, arguments: &Arguments<'_>) {
        let message = arguments.get("msg").as_str();
        log::warn!("{}", shown(message.unwrap_or("Got shutdown from remote")));
        self.shutdown.warm();
    }
}

/// A good answer, as Celery shows it.
pub(super) fn ok(text: &str) -> Value {
    json!({"ok": text})
}
