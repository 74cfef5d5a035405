//! The Kafka consumer's thread: poll, pass on, commit, pause and resume.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use tokio::sync::mpsc;

use super::ConsumerError;
use super::rebalance::{Context, commit};
use super::shared::{Phase, Shared};
use crate::pipeline::offsets::{Partition, Ticket};
use crate::pipeline::record::Record;

/// How long one `poll` waits; also how soon the thread hears that it should stop.
const POLL: Duration = Duration::from_millis(100);

/// Commits are gathered for this long.
const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// Pause after a commit that failed.
const COMMIT_RETRY: Duration = Duration::from_secs(1);

/// Full for this long, the partitions are paused: pausing throws away what was fetched ahead, so not at once.
const FULL_PATIENCE: Duration = Duration::from_secs(1);

/// While full, how often to look whether there is room (the bell does not ring for a record taken from the channel).
const FULL_CHECK: Duration = Duration::from_millis(20);

/// The thread's own.
pub(super) struct Polling {
    consumer: BaseConsumer<Context>,
    shared: Arc<Shared>,
    records: mpsc::Sender<(Record, Ticket)>,
    /// Received while there was no room: at most what came between a full channel and the pause.
    held: VecDeque<(Record, Ticket)>,
    full_since: Option<Instant>,
    is_paused: bool,
    next_commit: Instant,
}

impl Polling {
    pub(super) fn new(
        consumer: BaseConsumer<Context>,
        shared: Arc<Shared>,
        records: mpsc::Sender<(Record, Ticket)>,
    ) -> Self {
        Self {
            consumer,
            shared,
            records,
            held: VecDeque::new(),
            full_since: None,
            is_paused: false,
            next_commit: Instant::now(),
        }
    }

    pub(super) fn run(mut self) -> Result<(), ConsumerError> {
        while self.shared.lock().phase != Phase::Closing {
            self.keep_within_bounds();
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    let record = own(&message);
                    self.received(record);
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                    return Err(ConsumerError::Fatal(error));
                }
                // The listener has heard it; librdkafka goes on by itself.
                Some(Err(_)) | None => {}
            }
            self.commit_when_due();
        }
        self.commit();
        // Dropping the consumer leaves the group.
        Ok(())
    }

    fn received(&mut self, record: Record) {
        self.consumer.context().listener.answers();
        let ticket = self
            .shared
            .lock()
            .offsets
            .received(&record.partition, record.offset);
        if let Some(ticket) = ticket {
            self.held.push_back((record, ticket));
        }
        self.pass_on();
    }

    fn pass_on(&mut self) {
        while let Some(next) = self.held.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(back)) = self.records.try_send(next) {
                self.held.push_front(back);
                return;
            }
        }
    }

    /// Returns when there is room for a record, or when the partitions are paused.
    fn keep_within_bounds(&mut self) {
        if std::mem::take(&mut self.shared.lock().is_assigned_anew) {
            self.is_paused = false;
        }
        loop {
            self.pass_on();
            let phase = self.shared.lock().phase;
            if phase == Phase::Running && self.held.is_empty() && self.records.capacity() > 0 {
                self.full_since = None;
                return self.resume();
            }
            let full_since = *self.full_since.get_or_insert_with(Instant::now);
            if phase != Phase::Running || full_since.elapsed() >= FULL_PATIENCE {
                return self.pause();
            }
            self.shared.wait(FULL_CHECK);
        }
    }

    fn pause(&mut self) {
        if !self.is_paused {
            let paused = self
                .consumer
                .assignment()
                .and_then(|all| self.consumer.pause(&all));
            self.note_flow("pause", paused);
            self.is_paused = true;
        }
    }

    fn resume(&mut self) {
        if self.is_paused {
            let resumed = self
                .consumer
                .assignment()
                .and_then(|all| self.consumer.resume(&all));
            self.note_flow("resume", resumed);
            self.is_paused = false;
        }
    }

    fn note_flow(&self, what: &str, result: KafkaResult<()>) {
        match result {
            Ok(()) => log::debug!("Kafka consumer: {what}"),
            Err(error) => log::warn!("Kafka consumer: cannot {what}: {error}"),
        }
    }

    fn commit_when_due(&mut self) {
        let now = Instant::now();
        if std::mem::take(&mut self.shared.lock().has_commit_failed) {
            self.next_commit = now + COMMIT_RETRY;
        }
        if now >= self.next_commit {
            self.next_commit = now + COMMIT_EVERY;
            self.commit();
        }
    }

    fn commit(&self) {
        let marks = self.shared.lock().offsets.take_committable();
        commit(&self.consumer, &marks);
    }
}

fn own(message: &BorrowedMessage<'_>) -> Record {
    let headers = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter());
    Record {
        partition: Partition {
            topic: message.topic().to_owned(),
            number: message.partition(),
        },
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect(),
    }
}
