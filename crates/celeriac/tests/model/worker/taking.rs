//! Taking: the claim is named by us before the server makes it, so that a lost reply can be asked for.

use super::super::broker::{Claim, Message};
use super::super::wire::{Failed, Wire};
use super::super::wrong::Wrong;
use super::{Held, PREFETCH, Stage, Worker};

impl Worker {
    pub(super) fn take(&mut self, wire: &mut Wire<'_>) {
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
    pub(super) fn recover(&mut self, wire: &mut Wire<'_>) {
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
}
