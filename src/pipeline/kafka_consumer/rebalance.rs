//! What librdkafka calls from within `poll`: partitions come and go; and committing.
//!
//! Guarantee F3, the other way round: of partitions that go, what is done is committed while they still are ours; of
//! partitions that are lost already, nothing is, since they have a new owner whose mark is not ours to move.

use std::sync::Arc;

use celeriac::failpoint;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Offset, TopicPartitionList, config::RDKafkaLogLevel};

use super::shared::Shared;
use crate::pipeline::kafka_client::Listener;
use crate::pipeline::offsets::{Mark, Partition};

/// What librdkafka calls from within `poll`.
pub(super) struct Context {
    pub(super) listener: Listener,
    pub(super) shared: Arc<Shared>,
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
            commit(consumer, &marks);
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
}

impl Context {
    /// The marks are handed out again, after a pause.
    fn commit_failed(&self, error: &KafkaError, marks: &[Mark]) {
        let mut state = self.shared.lock();
        state.has_commit_failed = true;
        for mark in marks {
            state.offsets.commit_failed(&mark.partition);
        }
        drop(state);
        self.listener.away(error);
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

/// Commits, and waits for Kafka's word. Never in the background: rdkafka 0.39 tells nobody that such a commit has failed
/// (its issue 856), and the mark would stay where it was until the next record came.
pub(super) fn commit(consumer: &BaseConsumer<Context>, marks: &[Mark]) {
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
    failpoint("before_offset_commit");
    match consumer.commit(&list, CommitMode::Sync) {
        Ok(()) => {
            failpoint("after_offset_commit");
            consumer.context().listener.answers();
        }
        Err(error) => consumer.context().commit_failed(&error, marks),
    }
}
