//! The queues that the worker takes from.
//!
//! Counterpart: `active_queues` in `celery/worker/control.py` and `kombu/entity.py::Queue.as_dict` @ 5.7.0.

use serde_json::{Value, json};

use super::Control;

impl Control {
    pub(super) fn active_queues(&self) -> Value {
        self.queues.iter().map(|queue| described(queue)).collect()
    }
}

/// A queue as Celery makes it from a name: with a direct exchange of that name.
fn described(queue: &str) -> Value {
    json!({
        "name": queue,
        "exchange": {
            "name": queue,
            "type": "direct",
            "arguments": null,
            "durable": true,
            "passive": false,
            "auto_delete": false,
            "delivery_mode": null,
            "no_declare": false,
        },
        "routing_key": queue,
        "queue_arguments": null,
        "binding_arguments": null,
        "consumer_arguments": null,
        "durable": true,
        "exclusive": false,
        "auto_delete": false,
        "no_ack": false,
        "alias": null,
        "bindings": [],
        "no_declare": null,
        "expires": null,
        "message_ttl": null,
        "max_length": null,
        "max_length_bytes": null,
        "max_priority": null,
    })
}
