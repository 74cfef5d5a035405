//! The requests in our hands, and the tasks that we know.
//!
//! Counterpart: `celery/worker/request.py::Request.info` and the inspect commands of
//! `celery/worker/control.py` @ 5.7.0.

use std::sync::Arc;

use celeriac_protocol::exception::TaskException;
use celeriac_protocol::message::TaskMessage;
use celeriac_protocol::{Map, repr, timestamp};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::Control;
use super::arguments::Arguments;
use super::panel::Answer;
use crate::app::Registered;
use crate::handler::MaxRetries;
use crate::state::{HeldRequest, Stage, Waiting};
use crate::transport::Delivery;

/// Messages that are read at once, to be shown.
const READ_TOGETHER: usize = 256;

/// The priority of an entry in Python's timer.
const TIMER_PRIORITY: u8 = 6;

impl Control {
    pub(super) fn active(&self, is_safe: bool) -> Value {
        self.each(|held| match held.stage {
            Stage::Active(_) => Some(self.info(held, is_safe)),
            Stage::Reserved => None,
        })
    }

    pub(super) fn reserved(&self) -> Value {
        self.each(|held| (held.stage == Stage::Reserved).then(|| self.info(held, false)))
    }

    /// What waits for its time. The messages are in the broker: what it does not hand out now is not shown.
    pub(super) async fn scheduled(&self) -> Value {
        let shown = self.read_waiting(self.state.waiting()).await;
        let shown = shown.into_iter().map(|(eta, request)| {
            json!({
                "eta": timestamp::isoformat(eta),
                "priority": TIMER_PRIORITY,
                "request": request,
            })
        });
        shown.collect()
    }

    /// Those of the ids that wait for their time, beside what was found at once.
    pub(super) async fn query_waiting(&self, ids: &[String], mut found: Map) -> Value {
        let mut waiting = self.state.waiting();
        waiting.retain(|one| ids.iter().any(|id| **id == *one.id));
        for (_, request) in self.read_waiting(waiting).await {
            if let Some(id) = request["id"].as_str() {
                found.insert(id.to_owned(), json!(["scheduled", request]));
            }
        }
        Value::Object(found)
    }

    async fn read_waiting(&self, waiting: Vec<Waiting>) -> Vec<(DateTime<Utc>, Value)> {
        let mut shown = Vec::new();
        let limits = self.app.settings().message_limits();
        for batch in waiting.chunks(READ_TOGETHER) {
            let light = |one: &Waiting| {
                Delivery::new(Arc::clone(&one.tag), Arc::clone(&one.queue), Vec::new())
            };
            let mut deliveries: Vec<Delivery> = batch.iter().map(light).collect();
            if let Err(error) = self.app.transport().read_again(&mut deliveries).await {
                log::debug!("pidbox: cannot read what waits for its time: {error}");
                break;
            }
            for (one, delivery) in batch.iter().zip(&deliveries) {
                if let Ok(message) = TaskMessage::decode(&limits, delivery.raw()) {
                    let held = HeldRequest {
                        message: Arc::new(message),
                        stage: Stage::Reserved,
                        is_acknowledged: false,
                    };
                    shown.push((one.eta, self.info(&held, false)));
                }
            }
        }
        shown
    }

    pub(super) fn query_task(&self, arguments: &Arguments<'_>) -> Result<Answer, TaskException> {
        arguments.require(&["ids"])?;
        let ids = arguments.texts("ids")?;
        let mut found = Map::new();
        for held in self.state.held_by_id(&ids) {
            let stage = match held.stage {
                Stage::Reserved => "reserved",
                Stage::Active(_) => "active",
            };
            let id = held.message.headers.id.clone();
            found.insert(id, json!([stage, self.info(&held, false)]));
        }
        Ok(Answer::Query { ids, found })
    }

    /// `name`, or `name [acks_late=True]` with the attributes that were asked for.
    pub(super) fn registered(&self, arguments: &Arguments<'_>) -> Value {
        let asked: Vec<&str> = match arguments.get("taskinfoitems") {
            Value::Array(items) if !items.is_empty() => {
                items.iter().filter_map(Value::as_str).collect()
            }
            _ => vec!["rate_limit"],
        };
        let names = match arguments.is_true("builtins") {
            true => self.app.all_task_names(),
            false => self.app.task_names(),
        };
        let describe = |name: &String| {
            let task = self.app.registered(name)?;
            let known = |item: &&str| {
                let value = match **item == *"rate_limit" {
                    true => self.rates.rate(name)?.to_string(),
                    false => attribute(task, item)?,
                };
                Some(format!("{item}={value}"))
            };
            let known: Vec<String> = asked.iter().filter_map(known).collect();
            Some(match known.is_empty() {
                true => name.clone(),
                false => format!("{name} [{}]", known.join(" ")),
            })
        };
        names.iter().filter_map(describe).map(Value::from).collect()
    }

    fn each(&self, show: impl FnMut(&HeldRequest) -> Option<Value>) -> Value {
        self.state.held().iter().filter_map(show).collect()
    }

    fn info(&self, held: &HeldRequest, is_safe: bool) -> Value {
        let message = &*held.message;
        let headers = &message.headers;
        let (args, kwargs) = match is_safe {
            true => (
                json!(repr::repr_args(&message.args)),
                json!(repr::repr_kwargs(&message.kwargs)),
            ),
            false => (json!(message.args), json!(message.kwargs)),
        };
        let started = match held.stage {
            Stage::Active(since) => Some(since.timestamp_micros() as f64 / 1e6),
            Stage::Reserved => None,
        };
        let delivery = &message.properties.delivery_info;
        json!({
            "id": headers.id,
            "name": headers.task,
            "args": args,
            "kwargs": kwargs,
            "type": headers.task,
            "hostname": self.hostname,
            "time_start": started,
            "acknowledged": held.is_acknowledged,
            "delivery_info": {
                "exchange": delivery.exchange,
                "routing_key": delivery.routing_key,
                "priority": message.properties.priority,
                "redelivered": delivery.redelivered.unwrap_or(false),
            },
            "worker_pid": started.map(|_| std::process::id()),
        })
    }
}

/// A task's attribute as Python shows it; `None` where it has none of that name, or none that counts.
fn attribute(task: &Registered, name: &str) -> Option<String> {
    let options = &task.effective;
    let value = match name {
        "name" => return Some(task.handler.name().to_owned()),
        "acks_late" => json!(options.acks_late),
        "acks_on_failure" => json!(options.acks_on_failure),
        "acks_on_timeout" => json!(options.acks_on_timeout),
        "ignore_result" => json!(options.ignore_result),
        "store_errors_even_if_ignored" => json!(options.store_errors_even_if_ignored),
        "track_started" => json!(options.track_started),
        "send_events" => json!(options.send_events),
        "max_retries" => match options.max_retries {
            MaxRetries::Times(times) => json!(times),
            MaxRetries::Unlimited => Value::Null,
        },
        "default_retry_delay" => json!(options.default_retry_delay.as_secs()),
        "time_limit" => json!(options.time_limit?.as_secs_f64()),
        "soft_time_limit" => json!(options.soft_time_limit?.as_secs_f64()),
        _ => return None,
    };
    Some(repr::repr_value(&value))
}
