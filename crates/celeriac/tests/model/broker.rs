//! Redis, as far as both languages' workers use it: what a script does, write by write.
//!
//! A script holds up every other client, but it does not roll back: the server may refuse any one of its
//! writes (WRONGTYPE, a missing right, OOM), and what was written before stays. [`Script`] is where it does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::worker::Held;
use super::wrong::Wrong;

/// How old a claim must be before anybody may restore it (the visibility timeout), in ticks.
pub(crate) const VISIBILITY: u64 = 60;

/// A message that has killed this many workers is parked.
pub(crate) const DEATHS_MAX: u32 = 3;

pub(crate) type WorkerId = u32;
pub(crate) type TaskId = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs; whether something follows it (a callback, the rest of a chain).
    Good { is_followed: bool },
    /// Nobody can read it.
    Bad,
    /// Running it kills the worker.
    Poison,
}

/// One envelope. A task that was sent twice is two envelopes, with one task id.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) envelope: u32,
    pub(crate) id: TaskId,
    pub(crate) follows: Option<TaskId>,
    /// The envelope's own tag; nobody guarantees that it is unique.
    pub(crate) delivery_tag: u32,
    pub(crate) kind: Kind,
    pub(crate) acks_late: bool,
}

/// The field in `unacked`: the worker's prefix and its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) worker: WorkerId,
    pub(crate) number: u32,
}

/// What a living worker writes every now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) count: u64,
    /// The writer's wall clock. Nobody may judge by it.
    pub(crate) wall: i64,
}

/// Who gave back what another worker had claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restorer {
    /// Python's restore: everything older than the visibility timeout.
    Python,
    /// Ours, by the same rule.
    Age,
    /// Ours, because the owner was seen silent.
    Silence,
}

/// The server answered with an error.
#[derive(Debug)]
pub(crate) struct Refused;

/// A script on its way through the server.
#[derive(Debug)]
pub(crate) struct Script {
    /// Which of its writes is refused.
    pub(crate) refuse: Option<u32>,
}

impl Script {
    /// Asks the server for one write.
    fn write(&mut self) -> Result<(), Refused> {
        match &mut self.refuse {
            Some(0) => Err(Refused),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(crate) queue: VecDeque<Message>,
    pub(crate) unacked: BTreeMap<Claim, Message>,
    pub(crate) index: BTreeMap<Claim, u64>,
    pub(crate) dead_letters: Vec<Message>,
    pub(crate) beats: BTreeMap<WorkerId, Beat>,
    /// Claims whose task was started.
    pub(crate) starts: BTreeSet<Claim>,
    /// How many of a message's starts ended in its owner's death.
    pub(crate) deaths: BTreeMap<u32, u32>,
    pub(crate) results: BTreeSet<TaskId>,
    pub(crate) history: History,
    next_envelope: u32,
}

/// What no server knows, and the promises are about.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) sent: Vec<Message>,
    pub(crate) acked: BTreeMap<u32, Message>,
    /// Not judged yet.
    pub(crate) restored: Vec<(Claim, Message, Restorer)>,
    /// Something took effect for a message that its worker did not own any more.
    pub(crate) strangers: Vec<(Claim, Message)>,
}

impl Broker {
    pub(crate) fn publish(&mut self, mut message: Message) {
        message.envelope = self.next_envelope;
        self.next_envelope += 1;
        self.history.sent.push(message.clone());
        self.queue.push_front(message);
    }

    /// Look, write the claim, pop last.
    pub(crate) fn take(
        &mut self,
        script: &mut Script,
        wrong: Option<Wrong>,
        claim: Claim,
        now: u64,
    ) -> Result<Option<(Claim, Message)>, Refused> {
        let Some(message) = self.queue.back().cloned() else {
            return Ok(None);
        };
        let claim = match wrong {
            Some(Wrong::ClaimByDeliveryTag) => Claim {
                worker: 0,
                number: message.delivery_tag,
            },
            _ => claim,
        };
        if wrong == Some(Wrong::PopBeforeClaim) {
            script.write()?;
            self.queue.pop_back();
        }
        script.write()?;
        self.index.insert(claim, now);
        script.write()?;
        self.unacked.insert(claim, message.clone());
        if wrong != Some(Wrong::PopBeforeClaim) {
            if script.write().is_err() {
                self.forget(claim);
                return Err(Refused);
            }
            self.queue.pop_back();
        }
        Ok(Some((claim, message)))
    }

    /// Removes the claim; another worker's claim on the same message has another tag.
    pub(crate) fn ack(&mut self, script: &mut Script, claim: Claim) -> Result<(), Refused> {
        script.write()?;
        if let Some(message) = self.unacked.remove(&claim) {
            self.history.acked.insert(message.envelope, message);
        }
        self.starts.remove(&claim);
        // An index entry without a record is cleaned up by anybody; the reverse would leak.
        script.write()?;
        self.index.remove(&claim);
        Ok(())
    }

    /// Gives back what is still claimed: push, then remove.
    pub(crate) fn requeue(
        &mut self,
        script: &mut Script,
        wrong: Option<Wrong>,
        claim: Claim,
        message: &Message,
    ) -> Result<(), Refused> {
        if wrong == Some(Wrong::RequeueBlindly) || self.unacked.contains_key(&claim) {
            if wrong == Some(Wrong::RemoveBeforePush) {
                script.write()?;
                self.forget(claim);
            }
            script.write()?;
            self.queue.push_back(message.clone());
        }
        // Never refused in this model. Where only this were refused, the message would be there twice:
        // the lesser evil, and the reason for this order.
        self.forget(claim);
        Ok(())
    }

    /// Keeps what nobody can run: write, then remove.
    pub(crate) fn dead_letter(
        &mut self,
        script: &mut Script,
        wrong: Option<Wrong>,
        claim: Claim,
    ) -> Result<(), Refused> {
        let Some(message) = self.unacked.get(&claim).cloned() else {
            return Ok(());
        };
        if wrong == Some(Wrong::RemoveBeforeDeadLetter) {
            script.write()?;
            self.forget(claim);
        }
        script.write()?;
        self.dead_letters.push(message);
        self.forget(claim);
        Ok(())
    }

    /// The beat and the renewal of everything held, in one step; returns the claims that are gone.
    pub(crate) fn renew(
        &mut self,
        script: &mut Script,
        worker: WorkerId,
        beat: Beat,
        claims: &[Claim],
        now: u64,
    ) -> Result<Vec<Claim>, Refused> {
        script.write()?;
        self.beats.insert(worker, beat);
        let mut lost = Vec::new();
        for claim in claims {
            if self.unacked.contains_key(claim) {
                self.index.insert(*claim, now);
            } else {
                lost.push(*claim);
            }
        }
        Ok(lost)
    }

    pub(crate) fn old_claims(&self, now: u64) -> Vec<(Claim, Message)> {
        let old = self
            .index
            .iter()
            .filter(|(_, score)| **score + VISIBILITY <= now);
        old.filter_map(|(claim, _)| Some((*claim, self.unacked.get(claim)?.clone())))
            .collect()
    }

    /// Takes note of an effect of a task; whoever causes it must own the message.
    pub(crate) fn acts(&mut self, claim: Claim, held: &Held) {
        if !held.is_acked && !self.unacked.contains_key(&claim) {
            self.history.strangers.push((claim, held.message.clone()));
        }
    }

    /// Gives back a claim that is too old, if it still is.
    pub(crate) fn restore_old(
        &mut self,
        wrong: Option<Wrong>,
        (claim, message): (Claim, &Message),
        by: Restorer,
        now: u64,
    ) {
        let is_old = self
            .index
            .get(&claim)
            .is_some_and(|score| score + VISIBILITY <= now);
        if is_old || wrong == Some(Wrong::RestoreUnchecked) {
            self.restore(wrong, claim, message, by);
        }
    }

    /// Gives back a claim of a worker that was seen silent, if its beat is still the same.
    pub(crate) fn take_over(
        &mut self,
        wrong: Option<Wrong>,
        (claim, message): (Claim, &Message),
        silent: Beat,
    ) {
        let is_silent = self.beats.get(&claim.worker) == Some(&silent);
        if is_silent || wrong == Some(Wrong::RestoreUnchecked) {
            self.restore(wrong, claim, message, Restorer::Silence);
        }
    }

    fn restore(&mut self, wrong: Option<Wrong>, claim: Claim, message: &Message, by: Restorer) {
        if self.unacked.contains_key(&claim) || wrong == Some(Wrong::RestoreUnchecked) {
            if self.starts.contains(&claim) || wrong == Some(Wrong::DeliveriesCounted) {
                *self.deaths.entry(message.envelope).or_default() += 1;
            }
            self.history.restored.push((claim, message.clone(), by));
            self.queue.push_back(message.clone());
        }
        self.forget(claim);
    }

    fn forget(&mut self, claim: Claim) {
        self.unacked.remove(&claim);
        self.index.remove(&claim);
        self.starts.remove(&claim);
    }
}
