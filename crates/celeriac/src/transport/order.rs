//! In which order a take looks at its queues, within a priority step.
//!
//! Counterpart: `kombu/utils/scheduling.py` @ 5.7.0. As there, `sorted` and `priority` let one queue starve
//! those behind it, which is what they are chosen for.

use crate::app::settings::QueueOrder;

/// Where the order of the queues stands.
#[derive(Debug)]
pub(super) struct Cycle {
    strategy: QueueOrder,
    /// How far it is turned, so that none is always first.
    turn: usize,
}

impl Cycle {
    pub(super) fn new(strategy: QueueOrder) -> Self {
        Self { strategy, turn: 0 }
    }

    /// The queues in the order of the next take.
    pub(super) fn next(&mut self, queues: &[String]) -> Vec<String> {
        let mut ordered = queues.to_vec();
        match self.strategy {
            QueueOrder::RoundRobin => {
                self.turn = (self.turn + 1) % queues.len().max(1);
                ordered.rotate_left(self.turn);
            }
            QueueOrder::Sorted => ordered.sort_unstable(),
            QueueOrder::Priority => {}
        }
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which queue each of four takes looks at first.
    fn firsts(strategy: QueueOrder) -> Vec<String> {
        let queues = ["b", "a", "c"].map(str::to_owned);
        let mut cycle = Cycle::new(strategy);
        (0..4).map(|_| cycle.next(&queues)[0].clone()).collect()
    }

    #[test]
    fn the_strategy_says_which_queue_is_the_first() {
        // Each in its turn, and the turn comes round.
        assert_eq!(firsts(QueueOrder::RoundRobin), ["a", "c", "b", "a"]);
        assert_eq!(firsts(QueueOrder::Sorted), ["a"; 4]);
        assert_eq!(firsts(QueueOrder::Priority), ["b"; 4]);
    }
}
