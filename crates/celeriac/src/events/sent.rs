//! `task-sent`: told by whoever has sent a task, where `task_send_sent_event` is set.
//!
//! Counterpart: `send_task_message` in `celery/app/amqp.py` @ 5.7.0. As there, the sender names itself `gen<pid>@<host>`,
//! and a task is sent although this cannot be told.

use std::time::Duration;

use celeriac_protocol::event::{Event, TaskSent};
use celeriac_protocol::message::TaskMessage;
use tokio::time::timeout;

use super::{origin, sender};
use crate::app::{App, send};

/// How long a sender waits for the broker to take the event.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells that this message was put into this queue.
pub(crate) async fn announce_sent(app: &App, message: &TaskMessage, queue: &str) {
    let headers = &message.headers;
    let event = Event::TaskSent(TaskSent {
        uuid: &headers.id,
        root_id: headers.root_id.as_deref(),
        parent_id: headers.parent_id.as_deref(),
        name: &headers.task,
        args: headers.argsrepr.as_deref().unwrap_or_default(),
        kwargs: headers.kwargsrepr.as_deref().unwrap_or_default(),
        retries: headers.retries,
        eta: headers.eta.as_deref(),
        expires: headers.expires.as_deref(),
        queue,
        exchange: "",
        routing_key: queue,
    });
    let hostname = send::origin();
    let body = event.to_json(&origin(&hostname, app.lamport().forward()));
    let routing_key = event.routing_key();
    let told = sender::publish(app, &hostname, &routing_key, &body);
    match timeout(PATIENCE, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("events: {error}"),
        Err(_) => log::debug!("events: the broker does not answer"),
    }
}
