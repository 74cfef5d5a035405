//! A worker of ours: what it holds, what it knows, and each single step that it may take next.
//!
//! A step is at most one exchange with the server. Between any two of them the worker may be killed or
//! stopped, its connection may break, a reply may be lost.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::IteratorRandom;

use super::broker::{
    Beat, Broker, Claim, DEATHS_MAX, Kind, Message, Restorer, VISIBILITY, WorkerId,
};
use super::wire::{Failed, Wire};
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
    pub(crate) fn is_sure(&self, held: &Held, now: u64) -> bool {
        !held.is_acked
            && held.settling.is_none()
            && self.beaten.is_some_and(|beaten| now < beaten + SILENCE)
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

    fn take(&mut self, wire: &mut Wire<'_>) {
        if wire.wrong == Some(Wrong::ClaimAfterReply) {
            return self.take_in_two_commands(wire);
        }
        self.recover(wire);
        if self.held.len() >= PREFETCH || self.unanswered.is_some() || self.beaten.is_none() {
            return;
        }
        let claim = self.fresh_claim();
        let (now, wrong) = (wire.now, wire.wrong);
        match wire.call(|broker, script| broker.take(script, wrong, claim, now)) {
            Ok(Some((claim, message))) => self.hold(claim, message, now),
            Ok(None) | Err(Failed::Refused) => {}
            Err(Failed::Unanswered) if wrong == Some(Wrong::LostReplyForgotten) => {}
            Err(Failed::Unanswered) => self.unanswered = Some((claim, now)),
        }
    }

    /// Asks for the claim whose reply was lost, by its known tag.
    fn recover(&mut self, wire: &mut Wire<'_>) {
        let Some((claim, asked)) = self.unanswered else {
            return;
        };
        let found = wire.call(|broker, _| Ok(broker.unacked.get(&claim).cloned()));
        if let Ok(found) = found {
            self.unanswered = None;
            if let Some(message) = found {
                self.hold(claim, message, asked);
            }
        }
    }

    fn take_in_two_commands(&mut self, wire: &mut Wire<'_>) {
        match self.popped.take() {
            None if self.held.len() < PREFETCH => {
                self.popped = wire
                    .call(|broker, _| Ok(broker.queue.pop_back()))
                    .ok()
                    .flatten();
            }
            None => {}
            Some(message) => {
                let (claim, now) = (self.fresh_claim(), wire.now);
                let record = message.clone();
                let written = wire.call(|broker, _| {
                    broker.unacked.insert(claim, record);
                    broker.index.insert(claim, now);
                    Ok(())
                });
                match written {
                    Ok(()) => self.hold(claim, message, now),
                    Err(_) => self.popped = Some(message),
                }
            }
        }
    }

    fn hold(&mut self, claim: Claim, message: Message, renewed: u64) {
        let held = Held {
            message,
            stage: Stage::Received,
            renewed,
            is_acked: false,
            has_begun: false,
            is_suspect: false,
            settling: None,
        };
        self.held.insert(claim, held);
    }

    fn fresh_claim(&mut self) -> Claim {
        self.next_claim += 1;
        Claim {
            worker: self.id,
            number: self.next_claim,
        }
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
        if self.is_sure(held, wire.now) || wire.wrong == Some(Wrong::SettleUnasked) {
            return true;
        }
        self.renew(wire);
        let held = self.held.get(&claim);
        held.is_some_and(|held| self.is_sure(held, wire.now))
    }

    /// Brings one message a step further.
    fn go_on(&mut self, wire: &mut Wire<'_>) -> Life {
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

    /// A message that has not begun goes back: the worker stops, or cannot run it.
    fn give_back(&mut self, wire: &mut Wire<'_>) {
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

    fn settle(&mut self, wire: &mut Wire<'_>, claim: Claim, settlement: Settlement) {
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

    /// Whose beat has not changed for too long, while we could see it?
    fn look_at_the_others(&mut self, wire: &mut Wire<'_>) {
        let now = wire.now;
        let Ok((beats, unacked)) =
            wire.call(|broker, _| Ok((broker.beats.clone(), broker.unacked.clone())))
        else {
            return;
        };
        self.seen.retain(|worker, _| beats.contains_key(worker));
        for (worker, beat) in beats {
            let (seen, since) = *self.seen.entry(worker).or_insert((beat, now));
            if seen != beat {
                self.seen.insert(worker, (beat, now));
            }
            let is_dead = match wire.wrong {
                Some(Wrong::DeadByWallClock) => self.wall(now) - beat.wall >= SILENCE.cast_signed(),
                _ => seen == beat && now >= since + SILENCE,
            };
            if is_dead && worker != self.id {
                let theirs = unacked.iter().filter(|(claim, _)| claim.worker == worker);
                let claims: Vec<_> = theirs
                    .map(|(claim, message)| (*claim, message.clone()))
                    .collect();
                if !claims.is_empty() {
                    let silent = Some(beat);
                    self.verdict = Some(Verdict { claims, silent });
                }
            }
        }
    }

    /// What has nobody renewed for the visibility timeout?
    fn look_for_the_old(&mut self, wire: &mut Wire<'_>) {
        let now = wire.now;
        if now < self.restores_from || self.verdict.is_some() {
            return;
        }
        if let Ok(claims) = wire.call(|broker, _| Ok(broker.old_claims(now)))
            && !claims.is_empty()
        {
            self.verdict = Some(Verdict {
                claims,
                silent: None,
            });
        }
    }

    fn carry_out(&mut self, wire: &mut Wire<'_>) {
        let Some(verdict) = &mut self.verdict else {
            return;
        };
        let Some((claim, message)) = verdict.claims.pop() else {
            self.verdict = None;
            return;
        };
        let (now, wrong, silent) = (wire.now, wire.wrong, verdict.silent);
        // Whether it was done or not: the next look shows.
        wire.call(|broker: &mut Broker, _| {
            match silent {
                Some(beat) => broker.take_over(wrong, (claim, &message), beat),
                None => broker.restore_old(wrong, (claim, &message), Restorer::Age, now),
            }
            Ok(())
        })
        .ok();
    }

    fn wall(&self, now: u64) -> i64 {
        now.cast_signed() + self.wall_offset
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
