//! The promises, as what must hold in every state, and in the end.
//!
//! Counterpart: section M of docs/guarantees.md.

use super::broker::{Broker, DEATHS_MAX, Kind, Restorer, VISIBILITY};
use super::member::Member;
use super::wire::RECONNECT_MAX;
use super::worker::{BEAT_EVERY, GRACE, Held, SILENCE};
use super::world::World;

/// What a mistake breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// M1: a message that was sent is in its queue, claimed, a dead letter, or done.
    NeverNowhere,
    /// M2: what a living worker holds is nobody else's, and who lost it knows before it acts.
    OneOwner,
    /// M6: what is stored has sent what follows; what is acknowledged is stored.
    OrderOfSettling,
    /// M6: a second run sends the same ids.
    SameIds,
    /// M5: only what killed its workers is parked.
    HarmsNobody,
    /// In the end, everything that was sent is done or a dead letter.
    AllSettled,
}

/// How often a message's start has ended in its worker's end, as it really was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ended {
    starts: u32,
    /// Those in which nothing else was running.
    alone: u32,
}

/// A broken promise, in words.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) promise: Promise,
    pub(crate) how: String,
}

type Judged = Result<(), Broken>;

fn broken(promise: Promise, how: String) -> Judged {
    Err(Broken { promise, how })
}

/// A worker that could not do its duties for most of this time is away: taking over from it is right.
/// The rest is what it may lag behind: two beats, and the wait before it reconnects.
const LAG: u64 = 2 * BEAT_EVERY + RECONNECT_MAX + 1;

impl World {
    /// What must hold after every single step.
    pub(crate) fn judge(&mut self) -> Judged {
        every_message_is_in_one_place(&self.broker)?;
        self.restored_only_from_the_absent()?;
        self.whoever_is_sure_owns()?;
        settled_in_order(&self.broker)?;
        self.parked_only_the_guilty()
    }

    /// What must hold when nothing goes wrong any more, and time has passed.
    pub(crate) fn judge_the_end(&self) -> Judged {
        let broker = &self.broker;
        if let Some(message) = broker.queue.iter().chain(broker.unacked.values()).next() {
            return broken(Promise::AllSettled, format!("still there: {message:?}"));
        }
        for message in &broker.history.sent {
            let mut dead_letters = broker.dead_letters.iter();
            let is_dead = dead_letters.any(|dead| dead.envelope == message.envelope);
            let must_run = message.acks_late && matches!(message.kind, Kind::Good { .. });
            if must_run && !is_dead && !broker.results.contains(&message.id) {
                return broken(Promise::AllSettled, format!("never ran: {message:?}"));
            }
        }
        Ok(())
    }

    fn restored_only_from_the_absent(&mut self) -> Judged {
        for (claim, message, by) in self.broker.history.restored.drain(..) {
            let Some(member) = self
                .members
                .iter()
                .find(|member| member.id() == claim.worker)
            else {
                continue;
            };
            let Some(ours) = member.ours() else { continue };
            let runs = |held: &&Held| held.has_begun;
            if ours.held.get(&claim).filter(runs).is_some() {
                let ended = self.ended.entry(message.envelope).or_default();
                ended.starts += 1;
                ended.alone += u32::from(ours.held.values().filter(runs).count() == 1);
            }
            let (away, outage) = (member.away_ticks, member.outage_ticks);
            let is_excused = member.is_dead()
                || match by {
                    Restorer::Silence => away + LAG >= SILENCE,
                    // An outage alone makes nobody old.
                    Restorer::Age => away + outage + LAG >= VISIBILITY && away + 1 >= GRACE,
                    // Python does not know that nobody could renew.
                    Restorer::Python => away + outage + LAG >= VISIBILITY,
                };
            if !is_excused {
                return broken(
                    Promise::OneOwner,
                    format!("{claim:?} was restored ({by:?}) while its worker lived: {message:?}"),
                );
            }
        }
        Ok(())
    }

    fn whoever_is_sure_owns(&self) -> Judged {
        if let Some((claim, message)) = self.broker.history.strangers.first() {
            return broken(
                Promise::OneOwner,
                format!("{claim:?} took effect and was another's by then: {message:?}"),
            );
        }
        for worker in self
            .members
            .iter()
            .filter(|member| !member.is_dead())
            .filter_map(Member::ours)
        {
            for (claim, held) in &worker.held {
                if worker.is_sure(held, self.now, self.wrong)
                    && !self.broker.unacked.contains_key(claim)
                {
                    return broken(
                        Promise::OneOwner,
                        format!("a worker is sure of {claim:?}, which is gone: {held:?}"),
                    );
                }
            }
        }
        Ok(())
    }

    fn parked_only_the_guilty(&self) -> Judged {
        for message in &self.broker.dead_letters {
            let ended = self.ended.get(&message.envelope).copied();
            let ended = ended.unwrap_or_default();
            let is_right = match message.kind {
                Kind::Bad => true,
                Kind::Poison => ended.starts >= DEATHS_MAX,
                // Killed from outside, again and again while it ran: nobody can tell that from poison.
                Kind::Good { .. } => ended.alone >= DEATHS_MAX - 1 && ended.starts >= DEATHS_MAX,
            };
            if !is_right {
                return broken(
                    Promise::HarmsNobody,
                    format!("parked, where its worker died so often: {ended:?}: {message:?}"),
                );
            }
        }
        Ok(())
    }
}

fn every_message_is_in_one_place(broker: &Broker) -> Judged {
    let mut places = vec![0_u8; broker.history.sent.len()];
    let alive = broker.queue.iter().chain(broker.unacked.values());
    let settled = broker
        .dead_letters
        .iter()
        .chain(broker.history.acked.values());
    for message in alive.chain(settled) {
        places[message.envelope as usize] += 1;
    }
    for (message, places) in broker.history.sent.iter().zip(places) {
        match places {
            1 => {}
            0 => return broken(Promise::NeverNowhere, format!("nowhere: {message:?}")),
            _ => return broken(Promise::OneOwner, format!("there twice: {message:?}")),
        }
    }
    Ok(())
}

fn settled_in_order(broker: &Broker) -> Judged {
    let sent = &broker.history.sent;
    let mut follow_ups = vec![None; sent.len() + 1];
    for message in sent {
        let Some(parent) = message.follows else {
            continue;
        };
        let first = follow_ups[parent as usize].get_or_insert(message.id);
        if *first != message.id {
            return broken(Promise::SameIds, format!("another one before: {message:?}"));
        }
    }
    for message in sent {
        let is_followed = message.kind == Kind::Good { is_followed: true };
        if is_followed
            && follow_ups[message.id as usize].is_none()
            && broker.results.contains(&message.id)
        {
            return broken(
                Promise::OrderOfSettling,
                format!("stored before what follows was sent: {message:?}"),
            );
        }
    }
    for message in broker.history.acked.values() {
        if message.acks_late && !broker.results.contains(&message.id) {
            return broken(
                Promise::OrderOfSettling,
                format!("acknowledged before its result was stored: {message:?}"),
            );
        }
    }
    Ok(())
}
