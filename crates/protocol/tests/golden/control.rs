//! Remote control: recorded requests are understood, and a reply composed here is what Celery's worker wrote.

use celeriac_protocol::control::{ControlReply, ControlRequest, REPLY_EXCHANGE, ReplyTo};
use celeriac_protocol::{Envelope, json};
use serde::Deserialize;
use serde_json::Value;

use crate::{check_all, fixture};

#[derive(Deserialize)]
struct Recorded {
    name: String,
    key: String,
    message: String,
}

fn recorded(is_reply: bool) -> Vec<Recorded> {
    let lines = fixture::<Recorded>("control").into_iter();
    lines
        .filter(|line| line.key.ends_with(REPLY_EXCHANGE) == is_reply)
        .collect()
}

#[test]
fn every_reply_is_composed_byte_for_byte() {
    let cases = recorded(true).into_iter().map(|line| {
        let envelope = Envelope::parse(line.message.as_bytes()).unwrap();
        let info = envelope.properties.delivery_info.clone();
        let to = ReplyTo {
            exchange: info.exchange.unwrap(),
            routing_key: info.routing_key.unwrap(),
        };
        assert_eq!(to.queue(), line.key, "{}", line.name);
        let body = json::parse(
            "body",
            &envelope
                .decode_body(&celeriac_protocol::Limits::default())
                .unwrap(),
        )
        .unwrap();
        let (node, answer) = body.as_object().unwrap().iter().next().unwrap();
        let reply = ControlReply {
            node,
            answer: answer.clone(),
            ticket: &envelope.headers["ticket"],
            clock: envelope.headers["clock"].as_u64().unwrap(),
        };
        let tag = envelope.properties.delivery_tag.unwrap();
        (line.name, reply.to_json(&to, &tag), line.message)
    });
    check_all("replies", cases);
}

#[test]
fn every_request_is_understood() {
    for line in recorded(false) {
        let request = ControlRequest::parse(line.message.as_bytes()).unwrap();
        assert_eq!(line.key, "/0.celery.pidbox");
        assert_eq!(format!("control_{}", request.method), line.name);
        assert!(request.clock.is_some(), "{}", line.name);
        assert_eq!(request.is_for("w1@host"), Ok(true), "{}", line.name);
        let is_elsewhere = !matches!(request.method.as_str(), "registered" | "clock");
        assert_eq!(request.is_for("w2@host"), Ok(is_elsewhere), "{}", line.name);
        // Only `enable_events` was sent without waiting for replies.
        let is_awaited = request.method != "enable_events";
        assert_eq!(request.reply_to.is_some(), is_awaited, "{}", line.name);
        assert_eq!(request.ticket == Value::Null, !is_awaited, "{}", line.name);
        assert!(request.expires > Some(1.7e9), "{}", line.name);
    }
}
