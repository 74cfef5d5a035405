//! The Kafka consumer: records in, commits out, on a thread of its own.
//!
//! Duties:
//! 1. begin with the earliest record, and commit only what [`Offsets`] allows, a few times a second;
//! 2. bounded: when too much is in hand (Redis is away), pause the partitions and keep polling, so that the group
//!    keeps its member (Kafka would otherwise give our partitions away after `max.poll.interval.ms`);
//! 3. at a rebalance, commit what is done of the partitions that leave and forget the rest; of partitions that are
//!    already lost, commit nothing: they have another owner, who must not be overwritten;
//! 4. at the end commit, then leave the group.
//!
//! A thread, because librdkafka calls back from within `poll`, and committing there has to wait for the broker.
//!
//! Counterpart: `KafkaConsumer` of kafka-python in `worker/kafka_consumer.py`. Difference: it commits by the clock,
//! whether or not Redis has the task.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientContext, Offset, TopicPartitionList, config::RDKafkaLogLevel};
use tokio::sync::mpsc;

use super::kafka_client::{ClientError, Listener, configuration};
use super::offsets::{Mark, Offsets, Partition, Ticket};
use super::record::Record;
use crate::settings::Kafka;

/// Records between the thread and whoever handles them.
const RECORDS: usize = 256;

/// How long one `poll` waits; also how soon the thread hears that it should stop.
const POLL: Duration = Duration::from_millis(100);

/// Commits are gathered for this long.
const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// Pause after a commit that failed.
const COMMIT_RETRY: Duration = Duration::from_secs(1);

/// Full for this long, the partitions are paused: pausing throws away what was fetched ahead, so not at once.
const FULL_PATIENCE: Duration = Duration::from_secs(1);

/// How long closing may take (the last commit and leaving the group) before the process ends without.
const CLOSE_LIMIT: Duration = Duration::from_secs(15);

const DEFAULTS: [(&str, &str); 3] = [
    // A consumer that was killed is missed after this time, in ms (the broker's least is 6000).
    ("session.timeout.ms", "10000"),
    // Records are small, and a pause throws away what was fetched ahead.
    ("queued.min.messages", "1000"),
    // As with the Python consumer, the topic comes into being by whoever is first.
    ("allow.auto.create.topics", "true"),
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
        let polling = Polling {
            consumer,
            shared: Arc::clone(&shared),
            records: sender,
            held: VecDeque::new(),
            full_since: None,
            is_paused: false,
            next_commit: Instant::now(),
        };
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
        self.shared.lock().offsets.done(ticket);
        self.shared.changed.notify_one();
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Running,
    Draining,
    Closing,
}

#[derive(Default)]
struct State {
    offsets: Offsets,
    phase: Phase,
    /// A rebalance undoes a pause.
    is_assigned_anew: bool,
    has_commit_failed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding this lock")
    }

    fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
        self.changed.notify_one();
    }
}

/// The thread's own.
struct Polling {
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
    fn run(mut self) -> Result<(), ConsumerError> {
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
        self.commit(CommitMode::Sync);
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
            let state = self.shared.lock();
            drop(
                self.shared
                    .changed
                    .wait_timeout(state, Duration::from_millis(20))
                    .expect("no panic while holding this lock"),
            );
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
            self.commit(CommitMode::Async);
        }
    }

    fn commit(&self, mode: CommitMode) {
        let marks = self.shared.lock().offsets.take_committable();
        commit(&self.consumer, &marks, mode);
    }
}

/// Commits, and says so where it fails; a failed commit in the background is told through the context.
fn commit(consumer: &BaseConsumer<Context>, marks: &[Mark], mode: CommitMode) {
    if marks.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::with_capacity(marks.len());
    for Mark {
        partition,
        next_offset,
    } in marks
    {
        list.add_partition_offset(
            &partition.topic,
            partition.number,
            Offset::Offset(*next_offset),
        )
        .expect("an offset that Kafka gave us is one that it takes");
    }
    if let Err(error) = consumer.commit(&list, mode) {
        consumer.context().commit_callback(Err(error), &list);
    }
}

/// What librdkafka calls from within `poll`.
struct Context {
    listener: Listener,
    shared: Arc<Shared>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.listener.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.heard(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else {
            return;
        };
        let partitions = partitions(list);
        let marks: Vec<Mark> = {
            let mut state = self.shared.lock();
            partitions
                .iter()
                .filter_map(|partition| state.offsets.revoked(partition))
                .collect()
        };
        // Guarantee F3, the other way round: what is lost has a new owner, whose mark is not ours to move.
        if consumer.assignment_lost() {
            log::warn!(
                "Lost the partitions {}; their records are handled by another consumer",
                numbers(&partitions)
            );
        } else {
            commit(consumer, &marks, CommitMode::Sync);
            log::info!("Gave back the partitions {}", numbers(&partitions));
        }
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            self.listener.answers();
            self.shared.lock().is_assigned_anew = true;
            log::info!("Consuming the partitions {}", numbers(&partitions(list)));
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let Err(error) = result else {
            return self.listener.answers();
        };
        let mut state = self.shared.lock();
        state.has_commit_failed = true;
        for partition in partitions(offsets) {
            state.offsets.commit_failed(&partition);
        }
        drop(state);
        self.listener.away(&error);
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    let elements = list.elements();
    elements
        .iter()
        .map(|one| Partition {
            topic: one.topic().to_owned(),
            number: one.partition(),
        })
        .collect()
}

/// `file_events [0, 1]`, or `[]`.
fn numbers(partitions: &[Partition]) -> String {
    let numbers: Vec<i32> = partitions
        .iter()
        .map(|partition| partition.number)
        .collect();
    let topic = partitions
        .first()
        .map(|partition| format!("{} ", partition.topic));
    format!("{}{numbers:?}", topic.unwrap_or_default())
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
