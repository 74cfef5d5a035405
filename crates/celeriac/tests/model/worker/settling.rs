//! Settling: acknowledge, give back, keep as a dead letter; tried again until the broker has answered.

use rand::Rng;
use rand::seq::IteratorRandom;

use super::super::broker::Claim;
use super::super::wire::Wire;
use super::{Settlement, Stage, Worker};

impl Worker {
    /// A message that has not begun goes back: the worker stops, or cannot run it.
    pub(super) fn give_back(&mut self, wire: &mut Wire<'_>) {
        let waiting = self.held.iter().filter(|(_, held)| {
            held.stage == Stage::Received && !held.is_acked && held.settling.is_none()
        });
        let Some(claim) = waiting.map(|(claim, _)| *claim).choose(wire.rng) else {
            return;
        };
        if wire.rng.random_ratio(1, 3) && self.is_still_ours(wire, claim) {
            self.settle(wire, claim, Settlement::Requeue);
        }
    }

    pub(super) fn settle(&mut self, wire: &mut Wire<'_>, claim: Claim, settlement: Settlement) {
        let wrong = wire.wrong;
        let Some(held) = self.held.get_mut(&claim) else {
            return;
        };
        let message = held.message.clone();
        let settled = wire.call(|broker, script| match settlement {
            Settlement::Ack => broker.ack(script, claim),
            Settlement::Requeue => broker.requeue(script, wrong, claim, &message),
            Settlement::DeadLetter => broker.dead_letter(script, wrong, claim),
        });
        held.settling = settled.err().map(|_| settlement);
        // A task that is acknowledged before it runs is only then run.
        let is_early = settlement == Settlement::Ack && held.stage != Stage::Stored;
        if is_early && held.settling.is_none() {
            held.is_acked = true;
        } else if held.settling.is_none() {
            self.held.remove(&claim);
        }
    }
}
