//! Watching the others: who is silent, what is old, and giving it back in a later step.

use super::super::broker::{Broker, Restorer};
use super::super::wire::Wire;
use super::super::wrong::Wrong;
use super::{SILENCE, Verdict, Worker};

impl Worker {
    /// Whose beat has not changed for too long, while we could see it?
    pub(super) fn look_at_the_others(&mut self, wire: &mut Wire<'_>) {
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
    pub(super) fn look_for_the_old(&mut self, wire: &mut Wire<'_>) {
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

    pub(super) fn carry_out(&mut self, wire: &mut Wire<'_>) {
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
}
