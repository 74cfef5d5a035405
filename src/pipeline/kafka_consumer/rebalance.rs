//! What librdkafka calls from within `poll`: partitions come and go, commits succeed or fail.
//!
//! Guarantee F3, the other way round: of partitions that go, what is done is committed while they still are ours; of
//! partitions that are lost already, nothing is, since they have a new owner whose mark is not ours to move.

use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
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

/// Commits, and says so where it fails; a failed commit in the background is told through the context.
pub(super) fn commit(consumer: &BaseConsumer<Context>, marks: &[Mark], mode: CommitMode) {
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
