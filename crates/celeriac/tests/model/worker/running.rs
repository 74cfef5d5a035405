//! The way of one message: note the start, run, send what follows, store, acknowledge.

use rand::Rng;
use rand::seq::IteratorRandom;

use super::super::broker::{Broker, Claim, DEATHS_MAX, Kind, Message};
use super::super::wire::Wire;
use super::super::wrong::Wrong;
use super::{Held, Life, Settlement, Stage, Worker};

impl Worker {
    /// Brings one message a step further.
    pub(super) fn go_on(&mut self, wire: &mut Wire<'_>) -> Life {
        let Some(claim) = self.held.keys().copied().choose(wire.rng) else {
            return Life::Goes;
        };
        let held = self.held[&claim].clone();
        if let Some(settlement) = held.settling {
            self.settle(wire, claim, settlement);
            return Life::Goes;
        }
        if !held.is_acked && !self.is_still_ours(wire, claim) {
            return Life::Goes;
        }
        match held.stage {
            Stage::Received => self.begin(wire, claim, &held),
            Stage::Started => return self.run(wire, claim, &held),
            Stage::Ran if wire.wrong == Some(Wrong::StoreBeforeSend) => {
                self.store(wire, claim, &held);
            }
            Stage::Ran => self.send_what_follows(wire, claim, &held),
            Stage::Sent if wire.wrong == Some(Wrong::StoreBeforeSend) => {
                self.send_what_follows(wire, claim, &held);
            }
            Stage::Sent if wire.wrong == Some(Wrong::AckBeforeStore) && !held.is_acked => {
                self.settle(wire, claim, Settlement::Ack);
            }
            Stage::Sent => self.store(wire, claim, &held),
            Stage::Stored if held.is_acked => {
                self.held.remove(&claim);
            }
            Stage::Stored => self.settle(wire, claim, Settlement::Ack),
        }
        Life::Goes
    }

    fn begin(&mut self, wire: &mut Wire<'_>, claim: Claim, held: &Held) {
        let envelope = held.message.envelope;
        let deaths = wire.call(|broker, _| Ok(broker.deaths.get(&envelope).copied()));
        let Ok(deaths) = deaths.map(Option::unwrap_or_default) else {
            return;
        };
        if held.message.kind == Kind::Bad || deaths >= DEATHS_MAX {
            return self.settle(wire, claim, Settlement::DeadLetter);
        }
        if !held.message.acks_late && !held.is_acked {
            return self.settle(wire, claim, Settlement::Ack);
        }
        if !self.may_start(claim, deaths > 0) && wire.wrong != Some(Wrong::SuspectsTogether) {
            return;
        }
        let Some(held) = self.held.get_mut(&claim) else {
            return;
        };
        held.has_begun = true;
        held.is_suspect = deaths > 0;
        let is_marked = held.is_acked || wire.wrong == Some(Wrong::StartMarkedLate);
        let mark = |broker: &mut Broker, _: &mut _| {
            broker.starts.insert(claim);
            Ok(())
        };
        // Not answered: it may be noted; it is noted again, and nothing else starts beside a suspect.
        if is_marked || wire.call(mark).is_ok() {
            self.reach(claim, Stage::Started);
        }
    }

    /// A suspect runs alone, so that an innocent is seen beside a death once at most.
    fn may_start(&self, claim: Claim, is_suspect: bool) -> bool {
        let others = self.held.iter().filter(|(other, _)| **other != claim);
        let mut running = others.filter(|(_, held)| held.has_begun);
        running.all(|(_, other)| !is_suspect && !other.is_suspect)
    }

    fn run(&mut self, wire: &mut Wire<'_>, claim: Claim, held: &Held) -> Life {
        if held.message.kind == Kind::Poison {
            return Life::Ends;
        }
        if wire.rng.random_ratio(1, 3) {
            self.reach(claim, Stage::Ran);
        }
        Life::Goes
    }

    fn send_what_follows(&mut self, wire: &mut Wire<'_>, claim: Claim, held: &Held) {
        let is_followed = held.message.kind == Kind::Good { is_followed: true };
        if is_followed {
            let id = match wire.wrong {
                Some(Wrong::NewIdsOnSecondRun) => wire.rng.random_range(10_000..1_000_000),
                _ => held.message.id + 1_000,
            };
            let follow_up = Message {
                envelope: 0,
                id,
                follows: Some(held.message.id),
                delivery_tag: 1_000_000 + id,
                kind: Kind::Good { is_followed: false },
                acks_late: true,
            };
            let sent = wire.call(|broker, _| {
                broker.acts(claim, held);
                broker.publish(follow_up);
                Ok(())
            });
            if sent.is_err() {
                return;
            }
        }
        self.reach(claim, next_after_sending(wire.wrong));
    }

    fn store(&mut self, wire: &mut Wire<'_>, claim: Claim, held: &Held) {
        let stored = wire.call(|broker, _| {
            broker.acts(claim, held);
            broker.results.insert(held.message.id);
            Ok(())
        });
        if stored.is_ok() {
            self.reach(claim, next_after_storing(wire.wrong));
        }
    }

    fn reach(&mut self, claim: Claim, stage: Stage) {
        if let Some(held) = self.held.get_mut(&claim) {
            held.stage = stage;
        }
    }
}

fn next_after_sending(wrong: Option<Wrong>) -> Stage {
    match wrong {
        Some(Wrong::StoreBeforeSend) => Stage::Stored,
        _ => Stage::Sent,
    }
}

fn next_after_storing(wrong: Option<Wrong>) -> Stage {
    match wrong {
        Some(Wrong::StoreBeforeSend) => Stage::Sent,
        _ => Stage::Stored,
    }
}
