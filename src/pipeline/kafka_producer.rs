//! Sending records to Kafka so that they are there when we say so.
//!
//! Guarantee F3: [`Producer::deliver`] returns only with the delivery report of a record that all in-sync replicas
//! have (`acks=all`), and `enable.idempotence` keeps librdkafka's own repetitions from showing up twice. An outage is
//! waited out inside librdkafka, without limit: records keep their order, and nobody has to send anything again.
//!
//! Counterpart: `KafkaProducer` of kafka-python in `kafka_producer.py`, whose `flush()` says nothing of failures.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};

use super::kafka_client::{ClientError, Listener, configuration, is_away};
use crate::settings::Kafka;

/// First and longest pause before a record that Kafka has refused is sent again.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

const DEFAULTS: [(&str, &str); 2] = [
    // Nothing is gained by waiting for company: while one request is under way, the next one fills.
    ("linger.ms", "0"),
    // The broker's own limit decides.
    ("message.max.bytes", "10485760"),
];

const FIXED: [(&str, &str); 3] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    // Never give up.
    ("message.timeout.ms", "0"),
];

/// A record to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(String, Option<Vec<u8>>)],
}

/// Where a record is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// Why a record will never be delivered by this producer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// The broker's limit (`max.message.bytes`). Only a smaller record helps.
    #[error("the record is larger than Kafka takes")]
    TooLarge,
    /// librdkafka cannot keep its promise of order without duplicates any more. A new producer can.
    #[error("the Kafka producer cannot go on: {0}")]
    Fatal(String),
}

/// A connection for sending. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Producer {
    inner: FutureProducer<Listener>,
    listener: Listener,
}

impl Producer {
    /// Makes the producer; connecting goes on in the background.
    ///
    /// # Errors
    /// The settings are wrong.
    pub(crate) fn new(kafka: &Kafka, listener: Listener) -> Result<Self, ClientError> {
        let config = configuration(kafka, &DEFAULTS, &FIXED);
        let inner = config.create_with_context(listener.clone())?;
        Ok(Self { inner, listener })
    }

    /// Sends a record and waits until Kafka has it, however long that takes.
    ///
    /// # Errors
    /// See [`DeliveryError`]; everything else is tried again.
    ///
    /// # Cancel safety
    /// A dropped future leaves it open whether the record arrives.
    pub(crate) async fn deliver(&self, outgoing: Outgoing<'_>) -> Result<Delivered, DeliveryError> {
        let mut pause = RETRY_FIRST;
        loop {
            match self
                .inner
                .send(record(outgoing), Duration::from_secs(60))
                .await
            {
                Ok(delivery) => {
                    self.listener.answers();
                    return Ok(Delivered {
                        partition: delivery.partition,
                        offset: delivery.offset,
                    });
                }
                Err((error, _)) => self.judge(outgoing.topic, &error)?,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }

    /// Says that records have been waiting for their delivery report.
    pub(crate) fn note_waiting(&self, count: usize) {
        self.listener
            .away(&format_args!("{count} records are not acknowledged"));
    }

    /// Drops what is not acknowledged and closes the connection.
    pub(crate) async fn close(self) {
        // Closing joins threads of librdkafka.
        let closing = tokio::task::spawn_blocking(move || {
            self.inner.purge(PurgeConfig::default().queue().inflight());
            drop(self);
        });
        if tokio::time::timeout(Duration::from_secs(5), closing)
            .await
            .is_err()
        {
            log::warn!(
                "The Kafka producer did not close in time; it is left to end with the process"
            );
        }
    }

    /// Whether an error is final for this record; if not, says what is the matter.
    fn judge(&self, topic: &str, error: &KafkaError) -> Result<(), DeliveryError> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Err(DeliveryError::TooLarge),
            Some(RDKafkaErrorCode::Fatal) => Err(DeliveryError::Fatal(error.to_string())),
            _ if self.inner.client().fatal_error().is_some() => {
                Err(DeliveryError::Fatal(error.to_string()))
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                let reason = format_args!(
                    "it has no topic {topic}; create it or let the broker create topics"
                );
                self.listener.away(&reason);
                Ok(())
            }
            _ if is_away(error) => {
                self.listener.away(error);
                Ok(())
            }
            _ => {
                log::error!("Kafka refused a record for topic {topic}; it is sent again: {error}");
                Ok(())
            }
        }
    }
}

fn record(outgoing: Outgoing<'_>) -> FutureRecord<'_, [u8], [u8]> {
    let mut headers = OwnedHeaders::new_with_capacity(outgoing.headers.len());
    for (key, value) in outgoing.headers {
        headers = headers.insert(Header {
            key,
            value: value.as_ref(),
        });
    }
    let mut record = FutureRecord::to(outgoing.topic);
    record.key = outgoing.key;
    record.payload = outgoing.value;
    record.headers = (!outgoing.headers.is_empty()).then_some(headers);
    record
}
