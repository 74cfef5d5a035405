//! The dead letter topic: where a bad record is kept with its reason.
//!
//! The copy has the record's exact key, value (or none) and headers. These headers are added, all of them text:
//!
//! | header | value |
//! | --- | --- |
//! | `reason` | the class word: `not_json`, `outside_root`, … |
//! | `error` | the sentence |
//! | `topic`, `partition`, `offset` | where the record stands |
//! | `timestamp` | of the record, milliseconds since 1970 (absent if it has none) |
//! | `truncated` | bytes of the original value, only where Kafka did not take all of it |
//!
//! Guarantee F3: the record's own offset is committed only after Kafka has acknowledged the copy.

use super::file_event::BadRecord;
use super::kafka_producer::{DeliveryError, Outgoing, Producer};
use super::record::Record;

/// What is kept of a value that is too large with its headers: a record can be as large as the broker allows, and its
/// copy is a little larger. The whole value still stands where the headers say.
const KEPT_BYTES: usize = 256 * 1024;

/// A producer for one dead letter topic.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    producer: Producer,
    topic: String,
}

impl DeadLetters {
    pub(crate) fn new(producer: Producer, topic: String) -> Self {
        Self { producer, topic }
    }

    /// Keeps the record; returns when Kafka has it.
    ///
    /// # Errors
    /// [`DeliveryError::Fatal`] only.
    pub(crate) async fn keep(&self, record: &Record, bad: &BadRecord) -> Result<(), DeliveryError> {
        let mut headers = headers(record, bad);
        match self.send(record, record.value.as_deref(), &headers).await {
            Err(DeliveryError::TooLarge) => {}
            other => return other,
        }
        let value = record.value.as_deref().unwrap_or_default();
        headers.push((
            "truncated".to_owned(),
            Some(value.len().to_string().into_bytes()),
        ));
        let kept = &value[..value.len().min(KEPT_BYTES)];
        self.send(record, Some(kept), &headers).await
    }

    async fn send(
        &self,
        record: &Record,
        value: Option<&[u8]>,
        headers: &[(String, Option<Vec<u8>>)],
    ) -> Result<(), DeliveryError> {
        let outgoing = Outgoing {
            topic: &self.topic,
            key: record.key.as_deref(),
            value,
            headers,
        };
        self.producer.deliver(outgoing).await.map(drop)
    }

    /// Closes the producer.
    pub(crate) async fn close(self) {
        self.producer.close().await;
    }
}

fn headers(record: &Record, bad: &BadRecord) -> Vec<(String, Option<Vec<u8>>)> {
    let mut headers = record.headers.clone();
    let added = [
        ("reason", Some(bad.class().to_owned())),
        ("error", Some(bad.to_string())),
        ("topic", Some(record.partition.topic.clone())),
        ("partition", Some(record.partition.number.to_string())),
        ("offset", Some(record.offset.to_string())),
        ("timestamp", record.timestamp_ms.map(|ms| ms.to_string())),
    ];
    for (key, value) in added {
        if let Some(value) = value {
            headers.push((key.to_owned(), Some(value.into_bytes())));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::offsets::Partition;

    #[test]
    fn headers_say_why_and_where_behind_those_that_were_there() {
        let record = Record {
            partition: Partition {
                topic: "file_events".to_owned(),
                number: 3,
            },
            offset: 17,
            timestamp_ms: Some(1_795_455_816_694),
            key: None,
            value: None,
            headers: vec![("traceparent".to_owned(), Some(b"00-1".to_vec()))],
        };
        let headers: Vec<(String, String)> = headers(&record, &BadRecord::Tombstone)
            .into_iter()
            .map(|(key, value)| (key, String::from_utf8(value.unwrap()).unwrap()))
            .collect();
        let expected = [
            ("traceparent", "00-1"),
            ("reason", "tombstone"),
            ("error", "the record has no value (a tombstone)"),
            ("topic", "file_events"),
            ("partition", "3"),
            ("offset", "17"),
            ("timestamp", "1795455816694"),
        ];
        assert_eq!(
            headers,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }
}
