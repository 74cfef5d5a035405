//! The Kafka consumer: records in, commits out, on a thread of its own.
//!
//! Duties:
//! 1. begin with the earliest record, and commit only what [`super::offsets`] allows, a few times a second;
//! 2. bounded: when too much is in hand (Redis is away), pause the partitions and keep polling, so that the group
//!    keeps its member (Kafka would otherwise give our partitions away after `max.poll.interval.ms`);
//! 3. at a rebalance, commit what is done of the partitions that leave and forget the rest; of partitions that are
//!    already lost, commit nothing: they have another owner, who must not be overwritten;
//! 4. at the end commit, then leave the group.
//!
//! A thread, because librdkafka calls back from within `poll`, and committing there has to wait for the broker.
//!
//! - `polling`: the thread · `rebalance`: what librdkafka calls back · `shared`: what both sides see
//!
//! Counterpart: `KafkaConsumer` of kafka-python in `worker/kafka_consumer.py`. Difference: it commits by the clock,
//! whether or not Redis has the task.

mod polling;
mod rebalance;
mod shared;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::sync::mpsc;

use polling::Polling;
use rebalance::Context;
use shared::{Phase, Shared};

use super::kafka_client::{ClientError, Listener, configuration};
use super::offsets::Ticket;
use super::record::Record;
use crate::settings::Kafka;

/// Records between the thread and whoever handles them.
const RECORDS: usize = 256;

/// How long closing may take (the last commit and leaving the group) before the process ends without.
const CLOSE_LIMIT: Duration = Duration::from_secs(15);

const DEFAULTS: [(&str, &str); 2] = [
    // A consumer that was killed is missed after this time, in ms (the broker's least is 6000).
    ("session.timeout.ms", "10000"),
    // Records are small, and a pause throws away what was fetched ahead.
    ("queued.min.messages", "1000"),
];

const FIXED: [(&str, &str); 3] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
];

/// Why consuming cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumerError {
    /// librdkafka cannot go on, for example because another consumer has the same `group.instance.id`.
    #[error("the Kafka consumer cannot go on")]
    Fatal(#[source] KafkaError),
}

/// The handle on the thread.
pub(crate) struct Consumer {
    records: mpsc::Receiver<(Record, Ticket)>,
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), ConsumerError>>,
}

impl Consumer {
    /// Joins the group; connecting goes on in the background.
    ///
    /// # Errors
    /// The settings are wrong.
    pub(crate) fn start(kafka: &Kafka, listener: Listener) -> Result<Self, ClientError> {
        let shared = Arc::new(Shared::default());
        let consumer: BaseConsumer<Context> = configuration(kafka, &DEFAULTS, &FIXED)
            .set("group.id", &kafka.group)
            .create_with_context(Context {
                listener,
                shared: Arc::clone(&shared),
            })?;
        consumer.subscribe(&[&kafka.topic])?;
        let (sender, records) = mpsc::channel(RECORDS);
        let polling = Polling::new(consumer, Arc::clone(&shared), sender);
        let thread = std::thread::Builder::new()
            .name("kafka-consumer".to_owned())
            .spawn(move || polling.run())
            .expect("a process that cannot start its first threads cannot work");
        Ok(Self {
            records,
            shared,
            thread,
        })
    }

    /// The next record whose partition is still ours; `None` when the thread has ended.
    ///
    /// # Cancel safety
    /// No record is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<(Record, Ticket)> {
        loop {
            let (record, ticket) = self.records.recv().await?;
            if self.shared.lock().offsets.is_current(&ticket) {
                return Some((record, ticket));
            }
        }
    }

    /// The record is where it belongs and may be committed.
    pub(crate) fn done(&self, ticket: &Ticket) {
        self.shared.done(ticket);
    }

    /// Takes no more records, but stays in the group.
    pub(crate) fn drain(&self) {
        self.shared.enter(Phase::Draining);
    }

    /// Commits what is done, leaves the group and ends the thread.
    ///
    /// # Errors
    /// Why the thread had ended before.
    pub(crate) async fn close(self) -> Result<(), ConsumerError> {
        self.shared.enter(Phase::Closing);
        drop(self.records);
        let joining = tokio::task::spawn_blocking(move || self.thread.join());
        match tokio::time::timeout(CLOSE_LIMIT, joining).await {
            Ok(joined) => joined
                .expect("a join does not panic")
                .expect("the Kafka consumer's thread does not panic"),
            Err(_elapsed) => {
                log::warn!(
                    "Kafka did not answer at the end; what was not committed is handled again"
                );
                Ok(())
            }
        }
    }
}
