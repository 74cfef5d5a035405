//! Remote control as Python's clients do it, and as somebody does it who means no good.

use std::process::Command;
use std::time::{Duration, Instant};

use celeriac::protocol::json;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fleet::Fleet;
use crate::programs::python;

/// The channel of requests, in database 0.
pub const CHANNEL: &str = "/0.celery.pidbox";

/// The exchange of replies.
const REPLIES: &str = "reply.celery.pidbox";

/// How long a reply is waited for.
const REPLY_PATIENCE_SECS: u32 = 5;

/// Asks with Python's Celery: the calls of `tests/python/ask.py`, all in one process.
///
/// # Panics
/// Python fails.
pub async fn ask(fleet: &Fleet, calls: &[Value]) -> Vec<Value> {
    let mut command = python();
    command.arg("ask.py").arg(json!(calls).to_string());
    let answers = run(fleet, command).await;
    let answers = answers.lines().map(serde_json::from_str);
    answers
        .map(|answer| answer.expect("a line of JSON"))
        .collect()
}

/// A broadcast for [`ask`], to one node that answers.
pub fn to(node: &str, method: &str, arguments: &Value) -> Value {
    json!(["broadcast", method, arguments, [node], 1])
}

/// Python's `celery` command line.
///
/// # Panics
/// It fails.
pub async fn celery(fleet: &Fleet, arguments: &[&str]) -> String {
    let mut command = python();
    command.args(["-m", "celery", "-A", "proj"]).args(arguments);
    run(fleet, command).await
}

async fn run(fleet: &Fleet, mut command: Command) -> String {
    command
        .env("CELERY_BROKER_URL", fleet.redis.url(0))
        .env("CELERY_RESULT_BACKEND", fleet.redis.url(1));
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("no panic").expect("python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A client of its own that binds its reply queue as kombu's do.
#[derive(Debug)]
pub struct Client {
    connection: MultiplexedConnection,
    oid: String,
}

impl Client {
    /// Binds the queue.
    ///
    /// # Panics
    /// Redis is away.
    pub async fn bind(fleet: &Fleet) -> Self {
        let mut connection = fleet.redis.connect().await;
        let oid = Uuid::new_v4().to_string();
        let member = format!("{oid}\u{6}\u{16}\u{6}\u{16}{oid}.{REPLIES}");
        let bound = redis::cmd("SADD")
            .arg(format!("_kombu.binding.{REPLIES}"))
            .arg(member)
            .query_async::<()>(&mut connection)
            .await;
        bound.expect("redis runs");
        Self { connection, oid }
    }

    /// Sends a request and waits for one reply: the answer, and how long it took.
    ///
    /// # Panics
    /// There is none.
    pub async fn ask(&mut self, method: &str, arguments: &Value) -> (Value, Duration) {
        let asked = Instant::now();
        let to = json!({"exchange": REPLIES, "routing_key": self.oid});
        self.publish(&request(method, arguments, &to)).await;
        let reply = redis::cmd("BRPOP")
            .arg(format!("{}.{REPLIES}", self.oid))
            .arg(REPLY_PATIENCE_SECS)
            .query_async::<Option<(String, Vec<u8>)>>(&mut self.connection)
            .await;
        let (_, reply) = reply.expect("redis runs").expect("a reply");
        let took = asked.elapsed();
        let envelope = celeriac::protocol::Envelope::parse(&reply).expect("an envelope");
        let body = envelope
            .decode_body(&celeriac::protocol::Limits::default())
            .expect("a body");
        let body = json::parse("body", &body).expect("JSON");
        let answers = body.as_object().expect("an object").values().next();
        (answers.expect("a node").clone(), took)
    }

    /// Broadcasts these bytes, and returns how many have heard them.
    ///
    /// # Panics
    /// Redis is away.
    pub async fn publish(&mut self, bytes: &[u8]) -> usize {
        let heard = redis::cmd("PUBLISH")
            .arg(CHANNEL)
            .arg(bytes)
            .query_async(&mut self.connection)
            .await;
        heard.expect("redis runs")
    }
}

/// The bytes of a request.
pub fn request(method: &str, arguments: &Value, reply_to: &Value) -> Vec<u8> {
    let body = json!({
        "method": method, "arguments": arguments, "destination": null, "pattern": null, "matcher": null,
        "ticket": "a ticket", "reply_to": reply_to,
    });
    enveloped(&body.to_string(), &json!({"clock": 1}))
}

/// A body in kombu's envelope, as plain text.
pub fn enveloped(body: &str, headers: &Value) -> Vec<u8> {
    let envelope = json!({
        "body": body, "content-encoding": "utf-8", "content-type": "application/json", "headers": headers,
        "properties": {"delivery_info": {"exchange": "celery.pidbox", "routing_key": ""}, "delivery_tag": "t"},
    });
    envelope.to_string().into_bytes()
}
