//! A worker of Python's, as our messages meet it: it takes, runs and acknowledges, and it restores
//! everything that is older than the visibility timeout, whoever holds it.
//!
//! Its own losses are not the subject: here its take is one step, and its tags are unique.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::IteratorRandom;

use super::broker::{Claim, Kind, Message, Restorer, Script, WorkerId};
use super::wire::Wire;
use super::worker::{Life, Stage};

const PREFETCH: usize = 2;

#[derive(Debug)]
pub(crate) struct Python {
    pub(crate) id: WorkerId,
    held: BTreeMap<Claim, (Message, Stage)>,
    next_claim: u32,
}

impl Python {
    pub(crate) fn new(id: WorkerId) -> Self {
        Self {
            id,
            held: BTreeMap::new(),
            next_claim: 0,
        }
    }

    pub(crate) fn step(&mut self, wire: &mut Wire<'_>) -> Life {
        if !wire.is_up() {
            return Life::Goes;
        }
        match wire.rng.random_range(0..5) {
            0 => self.take(wire),
            1 => restore(wire),
            _ => return self.go_on(wire),
        }
        Life::Goes
    }

    fn take(&mut self, wire: &mut Wire<'_>) {
        if self.held.len() >= PREFETCH {
            return;
        }
        let Some(message) = wire.broker.queue.pop_back() else {
            return;
        };
        self.next_claim += 1;
        let claim = Claim {
            worker: self.id,
            number: self.next_claim,
        };
        wire.broker.index.insert(claim, wire.now);
        wire.broker.unacked.insert(claim, message.clone());
        self.held.insert(claim, (message, Stage::Received));
    }

    fn go_on(&mut self, wire: &mut Wire<'_>) -> Life {
        let Some(claim) = self.held.keys().copied().choose(wire.rng) else {
            return Life::Goes;
        };
        let (message, stage) = self.held[&claim].clone();
        let next = match (stage, message.kind) {
            // Python discards what it cannot read; this one leaves it to us.
            (Stage::Received, Kind::Bad) => None,
            (Stage::Received, Kind::Poison) => return Life::Ends,
            (Stage::Received, Kind::Good { .. }) => Some(Stage::Ran),
            (_, Kind::Good { is_followed: true }) if stage == Stage::Ran => {
                wire.broker.publish(Message {
                    id: message.id + 1_000,
                    follows: Some(message.id),
                    delivery_tag: 2_000_000 + message.id,
                    kind: Kind::Good { is_followed: false },
                    ..message
                });
                Some(Stage::Sent)
            }
            (Stage::Ran, _) => Some(Stage::Sent),
            (Stage::Sent, _) => {
                wire.broker.results.insert(message.id);
                Some(Stage::Stored)
            }
            (_, _) => {
                // Its tag may be another's by now (restored and taken again): then nothing is removed.
                let acked = wire.broker.ack(&mut Script { refuse: None }, claim);
                acked.is_err().then_some(Stage::Stored)
            }
        };
        match next {
            Some(stage) => self.held.insert(claim, (message, stage)),
            None if message.kind == Kind::Bad => None,
            None => self.held.remove(&claim),
        };
        Life::Goes
    }
}

fn restore(wire: &mut Wire<'_>) {
    for (claim, message) in wire.broker.old_claims(wire.now) {
        wire.broker
            .restore_old(None, (claim, &message), Restorer::Python, wire.now);
    }
}
