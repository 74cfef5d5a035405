//! Messages that nobody can run: they are kept with their reason, those behind them run, and a person can look at them,
//! send them again, or drop them.
//!
//! - here: messages as Celery writes them, changed; and what is kept.
//! - `garbage`: every kind of them. `memory`: bombs and large ones. `command`: `dead-letter`.

mod command;
mod garbage;
mod memory;

use celeriac_tests::fleet::Fleet;
use redis::AsyncCommands;
use serde_json::{Value, json};

/// A call of `proj.echo` as Celery writes it, changed: `null` in `headers` and the like is a value, `GONE` takes a key away.
struct Sent<'a> {
    body: &'a [u8],
    headers: Value,
    properties: Value,
    envelope: Value,
}

const GONE: &str = "(gone)";

const BODY: &[u8] =
    b"[[\"bad\"], {}, {\"callbacks\": null, \"errbacks\": null, \"chain\": null, \"chord\": null}]";

impl Default for Sent<'_> {
    fn default() -> Self {
        Self {
            body: BODY,
            headers: json!({}),
            properties: json!({}),
            envelope: json!({}),
        }
    }
}

impl Sent<'_> {
    fn bytes(&self) -> Vec<u8> {
        let id = uuid::Uuid::new_v4().to_string();
        let mut headers = json!({"lang": "py", "task": "proj.echo", "id": id, "retries": 0, "timelimit": [null, null],
            "eta": null, "expires": null});
        let mut properties = json!({"correlation_id": id, "reply_to": id, "delivery_mode": 2, "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "celery"}, "body_encoding": "base64", "delivery_tag": id});
        change(&mut headers, &self.headers);
        change(&mut properties, &self.properties);
        let mut envelope = celeriac::protocol::Envelope::default();
        envelope.encode_body(self.body);
        let mut envelope = json!({"body": envelope.body, "content-encoding": "utf-8",
            "content-type": "application/json", "headers": headers, "properties": properties});
        change(&mut envelope, &self.envelope);
        envelope.to_string().into_bytes()
    }
}

fn change(object: &mut Value, changes: &Value) {
    let object = object.as_object_mut().expect("an object");
    for (key, value) in changes.as_object().expect("an object") {
        match value.as_str() {
            Some(GONE) => drop(object.shift_remove(key)),
            _ => drop(object.insert(key.clone(), value.clone())),
        }
    }
}

fn with_headers(headers: Value) -> Vec<u8> {
    Sent {
        headers,
        ..Sent::default()
    }
    .bytes()
}

fn with_body(body: impl AsRef<[u8]>) -> Vec<u8> {
    Sent {
        body: body.as_ref(),
        ..Sent::default()
    }
    .bytes()
}

async fn push(fleet: &Fleet, message: &[u8]) {
    let mut connection = fleet.redis.connect().await;
    connection
        .lpush::<_, _, ()>("celery", message)
        .await
        .expect("redis runs");
}

/// The records, oldest first: what their first line says, and the message behind it.
async fn records(fleet: &Fleet) -> Vec<(Value, Vec<u8>)> {
    let records: Vec<Vec<u8>> = fleet.run(&["LRANGE", "celery.dead", "0", "-1"]).await;
    let parts = records.iter().rev().map(|record| {
        let end = record
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a line");
        let line = serde_json::from_slice(&record[..end]).expect("JSON");
        (line, record[end + 1..].to_vec())
    });
    parts.collect()
}
