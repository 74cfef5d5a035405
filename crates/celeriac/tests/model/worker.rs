//! A worker of ours: what it holds, what it knows, and each single step that it may take next.
//!
//! A step is at most one exchange with the server. Between any two of them the worker may be killed or
//! stopped, its connection may break, a reply may be lost.
//!
//! - here: what it does in its turn, the beat and the renewal, and whether a message is still its own.
//! - `taking`, `running`, `settling`: a message's way through it.
//! - `watching`: the others, and what they have left behind.

mod running;
mod settling;
mod taking;
mod watching;

use std::collections::BTreeMap;

use rand::Rng;

use super::broker::{Beat, Claim, Message, VISIBILITY, WorkerId};
use super::wire::Wire;
use super::wrong::Wrong;

/// How often a worker says that it lives, and renews what it holds.
pub(crate) const BEAT_EVERY: u64 = 2;

/// How long another must have been silent, on an unbroken connection of the watcher, to be dead.
pub(crate) const SILENCE: u64 = 20;

/// How long after a reconnect nothing is restored by its age.
pub(crate) const GRACE: u64 = 10;

/// How many messages a worker holds at most.
const PREFETCH: usize = 3;

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Received,
    Started,
    Ran,
    Sent,
    Stored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settlement {
    Ack,
    Requeue,
    DeadLetter,
}

#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) message: Message,
    pub(crate) stage: Stage,
    /// When a renewal that was answered was asked for.
    renewed: u64,
    /// Acknowledged before it ran: not ours at the broker any more.
    pub(crate) is_acked: bool,
    /// The broker may have noted its start.
    pub(crate) has_begun: bool,
    /// A start of it has ended in its worker's death, so it runs alone.
    is_suspect: bool,
    /// The broker may have settled it already; only the answer is missing. Tried again until it comes.
    settling: Option<Settlement>,
}

/// What a look found, to be given back in a later step.
#[derive(Clone, Debug)]
struct Verdict {
    claims: Vec<(Claim, Message)>,
    /// `None`: they are old.
    silent: Option<Beat>,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) held: BTreeMap<Claim, Held>,
    /// The wall clock's error.
    pub(crate) wall_offset: i64,
    /// When a beat that was answered was sent.
    beaten: Option<u64>,
    beats: u64,
    next_claim: u32,
    /// Claims of a take that was not answered, and when it was asked for.
    unanswered: Option<(Claim, u64)>,
    /// BRPOP's reply, where the record is a second command.
    popped: Option<Message>,
    /// The last beat seen of each other worker, and since when it is the same.
    seen: BTreeMap<WorkerId, (Beat, u64)>,
    verdict: Option<Verdict>,
    restores_from: u64,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Goes,
    /// The task has killed its worker.
    Ends,
}

impl Worker {
    pub(crate) fn new(id: WorkerId) -> Self {
        Self {
            id,
            held: BTreeMap::new(),
            wall_offset: 0,
            beaten: None,
            beats: 0,
            next_claim: 0,
            unanswered: None,
            popped: None,
            seen: BTreeMap::new(),
            verdict: None,
            restores_from: 0,
        }
    }

    /// Whether it may act on a message without asking the broker: nobody can have it meanwhile, by our
    /// own monotonic clock, which is never ahead of those who watch us.
    pub(crate) fn is_sure(&self, held: &Held, now: u64, wrong: Option<Wrong>) -> bool {
        let was_heard = self.beaten.is_some_and(|beaten| now < beaten + SILENCE);
        !held.is_acked
            && held.settling.is_none()
            && (was_heard || wrong == Some(Wrong::SureByRenewalAlone))
            && now < held.renewed + VISIBILITY
    }

    /// Whether it has just said that it lives, and was heard.
    pub(crate) fn has_renewed(&self, now: u64) -> bool {
        self.beaten == Some(now)
    }

    /// What a connected worker does before anything else, whenever time has passed.
    pub(crate) fn duties(&mut self, wire: &mut Wire<'_>) {
        if wire.reconnected() {
            self.after_reconnect(wire);
        }
        let is_due = self
            .beaten
            .is_none_or(|beaten| wire.now >= beaten + BEAT_EVERY);
        if is_due && wire.is_up() {
            self.renew(wire);
        }
        if wire.now.is_multiple_of(3) && wire.is_up() {
            self.look_at_the_others(wire);
        }
    }

    /// One step of its own choice.
    pub(crate) fn step(&mut self, wire: &mut Wire<'_>) -> Life {
        match wire.rng.random_range(0..10) {
            0 | 1 => self.take(wire),
            2 => self.give_back(wire),
            3 => self.look_for_the_old(wire),
            4 => self.carry_out(wire),
            _ => return self.go_on(wire),
        }
        Life::Goes
    }

    /// What the outage has hidden: the replies of our takes, and that the others lived.
    fn after_reconnect(&mut self, wire: &mut Wire<'_>) {
        if wire.wrong != Some(Wrong::OutageIsSilence) {
            self.seen.clear();
        }
        self.verdict = None;
        self.restores_from = match wire.wrong {
            Some(Wrong::NoGraceAfterOutage) => 0,
            _ => wire.now + GRACE,
        };
        // Renewed at once, and only then anything else: what is held may be old.
        self.renew(wire);
    }

    /// The beat and the renewal. What another worker has taken over is lost: dropped, settled no more.
    fn renew(&mut self, wire: &mut Wire<'_>) {
        self.recover(wire);
        let ours = self.held.iter().filter(|(_, held)| !held.is_acked);
        let claims: Vec<Claim> = match wire.wrong {
            Some(Wrong::NoRenewal) => Vec::new(),
            _ => ours.map(|(claim, _)| *claim).collect(),
        };
        let (id, now) = (self.id, wire.now);
        self.beats += 1;
        let beat = Beat {
            count: self.beats,
            wall: self.wall(now),
        };
        let asked = claims.clone();
        let Ok(lost) = wire.call(move |broker, script| broker.renew(script, id, beat, &asked, now))
        else {
            return;
        };
        self.beaten = Some(now);
        for claim in claims {
            if let Some(held) = self.held.get_mut(&claim) {
                held.renewed = now;
                if lost.contains(&claim) && held.settling.is_none() {
                    wire.note(|| format!("worker {id} finds {claim:?} taken over"));
                    self.held.remove(&claim);
                }
            }
        }
    }

    /// Whether the message is still ours; asks the broker where we cannot know.
    fn is_still_ours(&mut self, wire: &mut Wire<'_>, claim: Claim) -> bool {
        let Some(held) = self.held.get(&claim) else {
            return false;
        };
        if self.is_sure(held, wire.now, wire.wrong) || wire.wrong == Some(Wrong::SettleUnasked) {
            return true;
        }
        self.renew(wire);
        let held = self.held.get(&claim);
        held.is_some_and(|held| self.is_sure(held, wire.now, wire.wrong))
    }

    fn wall(&self, now: u64) -> i64 {
        now.cast_signed() + self.wall_offset
    }
}
