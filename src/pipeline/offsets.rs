//! What may be committed to Kafka: per partition, the offset up to which *everything* is done.
//!
//! Records are handled side by side and finish in any order, but Kafka keeps one number a partition. A record that is
//! still waiting for Redis therefore holds back the mark of all later ones. Pure: no Kafka, no clock.
//!
//! Guarantee F3: an offset is handed out by [`Offsets::take_committable`] only after [`Offsets::done`] was called for
//! it and for every earlier record of the partition. A partition that was taken away is forgotten, and what finishes
//! afterwards belongs to an old assignment and moves nothing, not even when the partition has come back meanwhile.

use std::collections::{BTreeMap, HashMap};

/// A partition of one of the subscribed topics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Partition {
    pub(crate) topic: String,
    pub(crate) number: i32,
}

/// One received record. Given back to [`Offsets::done`] when the record is where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    partition: Partition,
    offset: i64,
    assignment: u64,
}

/// The next offset to read of a partition, as Kafka's commit wants it (last done + 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) partition: Partition,
    pub(crate) next_offset: i64,
}

/// The state of all partitions that are ours.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    partitions: HashMap<Partition, Progress>,
    assignments: u64,
}

#[derive(Debug)]
struct Progress {
    assignment: u64,
    /// Received, not yet passed by the mark → whether it is done.
    pending: BTreeMap<i64, bool>,
    /// What may be committed.
    mark: Option<i64>,
    /// What was handed out for a commit that has not failed.
    taken: Option<i64>,
}

impl Offsets {
    /// A record came in. `None` if it is already being handled (Kafka may deliver again after a pause).
    pub(crate) fn received(&mut self, partition: &Partition, offset: i64) -> Option<Ticket> {
        if self
            .partitions
            .get(partition)
            .is_some_and(|progress| progress.went_back(offset))
        {
            // The topic was made anew, or someone moved the group's offset: count afresh.
            self.partitions.remove(partition);
        }
        let assignments = &mut self.assignments;
        let progress = self.partitions.entry(partition.clone()).or_insert_with(|| {
            *assignments += 1;
            Progress {
                assignment: *assignments,
                pending: BTreeMap::new(),
                mark: None,
                taken: None,
            }
        });
        if progress.pending.contains_key(&offset) {
            return None;
        }
        progress.pending.insert(offset, false);
        Some(Ticket {
            partition: partition.clone(),
            offset,
            assignment: progress.assignment,
        })
    }

    /// The record is in Redis, or in the dead letter topic.
    pub(crate) fn done(&mut self, ticket: &Ticket) {
        if !self.is_current(ticket) {
            return;
        }
        let Some(progress) = self.partitions.get_mut(&ticket.partition) else {
            return;
        };
        if let Some(done) = progress.pending.get_mut(&ticket.offset) {
            *done = true;
        }
        progress.advance();
    }

    /// Whether the record's partition is still ours, without having been away meanwhile.
    pub(crate) fn is_current(&self, ticket: &Ticket) -> bool {
        self.partitions
            .get(&ticket.partition)
            .is_some_and(|progress| progress.assignment == ticket.assignment)
    }

    /// The marks that have moved since they were last handed out.
    pub(crate) fn take_committable(&mut self) -> Vec<Mark> {
        let mut marks: Vec<Mark> = self
            .partitions
            .iter_mut()
            .filter_map(|(partition, progress)| {
                let next_offset = progress.take()?;
                Some(Mark {
                    partition: partition.clone(),
                    next_offset,
                })
            })
            .collect();
        marks.sort_by(|a, b| a.partition.cmp(&b.partition));
        marks
    }

    /// A commit failed: its marks are handed out again.
    pub(crate) fn commit_failed(&mut self, partition: &Partition) {
        if let Some(progress) = self.partitions.get_mut(partition) {
            progress.taken = None;
        }
    }

    /// The partition goes to another consumer: its last mark, if it still must be committed. The rest is dropped,
    /// and the new owner gets it again.
    pub(crate) fn revoked(&mut self, partition: &Partition) -> Option<Mark> {
        let mut progress = self.partitions.remove(partition)?;
        let next_offset = progress.take()?;
        Some(Mark {
            partition: partition.clone(),
            next_offset,
        })
    }
}

impl Progress {
    /// Whether a record is older than what is behind us. What is pending may be delivered again; that is no way back.
    fn went_back(&self, offset: i64) -> bool {
        !self.pending.contains_key(&offset) && self.mark.is_some_and(|mark| offset < mark)
    }

    fn advance(&mut self) {
        while let Some(first) = self.pending.first_entry() {
            if !*first.get() {
                break;
            }
            self.mark = Some(first.key() + 1);
            first.remove();
        }
    }

    fn take(&mut self) -> Option<i64> {
        if self.mark == self.taken {
            return None;
        }
        self.taken = self.mark;
        self.mark
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partition(number: i32) -> Partition {
        Partition {
            topic: "file_events".to_owned(),
            number,
        }
    }

    fn marks(offsets: &mut Offsets) -> Vec<(i32, i64)> {
        offsets
            .take_committable()
            .into_iter()
            .map(|mark| (mark.partition.number, mark.next_offset))
            .collect()
    }

    #[test]
    fn a_record_that_waits_holds_back_all_later_ones() {
        let mut offsets = Offsets::default();
        let tickets: Vec<_> = (5..8)
            .map(|n| offsets.received(&partition(0), n).unwrap())
            .collect();
        offsets.done(&tickets[1]);
        offsets.done(&tickets[2]);
        assert_eq!(marks(&mut offsets), []);
        offsets.done(&tickets[0]);
        assert_eq!(marks(&mut offsets), [(0, 8)]);
        assert_eq!(marks(&mut offsets), [], "nothing moved since");
    }

    #[test]
    fn gaps_between_offsets_do_not_stop_the_mark() {
        let mut offsets = Offsets::default();
        let a = offsets.received(&partition(0), 3).unwrap();
        let b = offsets.received(&partition(0), 9).unwrap(); // compacted away or a transaction's marker
        offsets.done(&a);
        assert_eq!(marks(&mut offsets), [(0, 4)]);
        offsets.done(&b);
        assert_eq!(marks(&mut offsets), [(0, 10)]);
    }

    #[test]
    fn what_finishes_after_a_revocation_moves_nothing() {
        let mut offsets = Offsets::default();
        let a = offsets.received(&partition(0), 0).unwrap();
        let b = offsets.received(&partition(0), 1).unwrap();
        offsets.done(&a);
        assert_eq!(offsets.revoked(&partition(0)).unwrap().next_offset, 1);
        offsets.done(&b);
        assert_eq!(marks(&mut offsets), []);
        // The partition comes back, and so does record 1. The ticket of the old time is worth nothing.
        let again = offsets.received(&partition(0), 1).unwrap();
        assert!(offsets.is_current(&again) && !offsets.is_current(&b));
        offsets.done(&b);
        assert_eq!(marks(&mut offsets), []);
        offsets.done(&again);
        assert_eq!(marks(&mut offsets), [(0, 2)]);
    }

    #[test]
    fn a_failed_commit_is_tried_again() {
        let mut offsets = Offsets::default();
        let a = offsets.received(&partition(1), 0).unwrap();
        offsets.done(&a);
        assert_eq!(marks(&mut offsets), [(1, 1)]);
        offsets.commit_failed(&partition(1));
        assert_eq!(marks(&mut offsets), [(1, 1)]);
    }

    #[test]
    fn a_record_delivered_twice_is_handled_once() {
        let mut offsets = Offsets::default();
        assert!(offsets.received(&partition(0), 4).is_some());
        assert!(offsets.received(&partition(0), 4).is_none());
    }

    #[test]
    fn a_topic_made_anew_is_counted_afresh() {
        let mut offsets = Offsets::default();
        let old = offsets.received(&partition(0), 900).unwrap();
        offsets.done(&old);
        assert_eq!(marks(&mut offsets), [(0, 901)]);
        let first = offsets.received(&partition(0), 0).unwrap();
        offsets.done(&first);
        assert_eq!(marks(&mut offsets), [(0, 1)]);
    }

    proptest! {
        /// Whatever the order of finishing: no mark ever passes a record that is not done, and in the end it
        /// stands behind the last one.
        #[test]
        fn a_mark_never_passes_unfinished_work(order in Just((0..40_i64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut offsets = Offsets::default();
            let tickets: Vec<_> = (0..40).map(|n| offsets.received(&partition(0), n).unwrap()).collect();
            let mut done = [false; 40];
            let mut last = 0;
            for n in order {
                offsets.done(&tickets[n as usize]);
                done[n as usize] = true;
                for (_, next) in marks(&mut offsets) {
                    prop_assert!(next > last, "marks only move forward");
                    prop_assert!(done[..next as usize].iter().all(|done| *done));
                    last = next;
                }
            }
            prop_assert_eq!(last, 40);
        }
    }
}
