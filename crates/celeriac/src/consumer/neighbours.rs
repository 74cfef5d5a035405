//! The other workers of the fleet: saying that we live, noticing who does not, and taking over what it held (promise M2).
//!
//! Dead is who has stayed silent for [`DEAD_AFTER`] before our own eyes: by our monotonic clock, on one unbroken connection.
//! While the broker is away nobody can be heard, so an outage restarts the watch and makes nobody dead; so does a pause
//! of this process. Who was taken for dead and lives all the same (it was stopped for a while) finds its number gone with
//! its next beat, and asks for each of its claims.
//!
//! Counterpart: none; a dead worker of Python's is noticed by the visibility timeout alone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::held::Held;
use super::strays::Strays;
use crate::app::App;
use crate::backoff::pause;
use crate::transport::{Beats, Error};

/// How often a worker says that it lives. With it, a dead worker's messages are back after [`DEAD_AFTER`] and two beats at
/// the latest: within 15 s.
pub(crate) const BEAT: Duration = Duration::from_millis(2500);

/// Who was silent for so long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// From this long without an answered beat on, others may have begun to take us for dead: what we hold is in doubt.
pub(crate) const DOUBTFUL_AFTER: Duration = Duration::from_secs(8);

/// A look that comes later than this is one after a pause of this process; it has not watched meanwhile.
const LOOK_MAX: Duration = BEAT.saturating_mul(2);

/// Says once that we live. Should others have taken us for dead, what they have taken over is cancelled.
///
/// # Errors
/// The broker is away.
pub(crate) async fn beat(app: &App, held: &Held) -> Result<Beats, Error> {
    let asked = Instant::now();
    let beats = app.transport().beat().await?;
    held.answered(asked, beats.is_unbroken).await?;
    Ok(beats)
}

/// Beats and watches until told to end, which is after the last message was settled.
pub(crate) async fn watch(
    app: App,
    held: Held,
    mut predecessors: Vec<Uuid>,
    end: CancellationToken,
) {
    let mut watch = Watch::default();
    let mut strays = Strays::default();
    loop {
        let mut wait = BEAT;
        match beat(&app, &held).await {
            Ok(beats) => {
                if let Err(error) = strays.look(&app, &held, &beats).await {
                    log::debug!("could not ask what this worker holds: {error}");
                }
                let dead = watch.look(&beats, Instant::now());
                let dead = dead.into_iter().map(|(worker, beat)| (worker, Some(beat)));
                // Their parent has seen them end.
                let known = std::mem::take(&mut predecessors);
                let known = known.into_iter().map(|worker| (worker.to_string(), None));
                for (worker, beat) in known.chain(dead).collect::<Vec<_>>() {
                    if !take_over(&app, &held, &worker, beat).await && beat.is_none() {
                        predecessors.extend(Uuid::parse_str(&worker));
                    }
                }
            }
            Err(error) => {
                log::debug!("could not say that this worker lives: {error}");
                watch = Watch::default();
                // One connection has failed, and the others go on watching: there is no time to lose.
                wait = BEAT / 5;
            }
        }
        if !pause(wait, &end).await {
            return;
        }
    }
}

/// `false`: it is to be tried again with the next beat.
async fn take_over(app: &App, held: &Held, worker: &str, number: Option<i64>) -> bool {
    let mut taking = app.transport().take_over(worker, number);
    let taken = loop {
        tokio::select! {
            taken = &mut taking => break taken,
            // A dead worker may have held many thousands: meanwhile nobody must take us for dead.
            () = tokio::time::sleep(BEAT) => {
                beat(app, held).await.ok();
            }
        }
    };
    match taken {
        Ok(Some(count)) => {
            if count > 0 {
                log::info!("Restored {count} message(s) of worker {worker}, which is dead");
            }
            true
        }
        // Another worker is at it.
        Ok(None) => false,
        Err(error) => {
            if held.patience().is_worth_mentioning() {
                log::warn!("cannot take over from worker {worker}, which is dead: {error}");
            }
            false
        }
    }
}

/// What was seen of the others so far.
#[derive(Debug, Default)]
struct Watch {
    connection: u64,
    looked: Option<Instant>,
    seen: HashMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    beat: i64,
    silent: Duration,
}

impl Watch {
    /// Takes note of the beats. Returns the dead, with the number at which each has stopped.
    fn look(&mut self, beats: &Beats, now: Instant) -> Vec<(String, i64)> {
        if self.connection != beats.connection {
            self.seen.clear();
            self.connection = beats.connection;
        }
        let since = self.looked.replace(now);
        let since = since.map_or(Duration::ZERO, |looked| {
            now.saturating_duration_since(looked)
        });
        let watched = if since > LOOK_MAX {
            Duration::ZERO
        } else {
            since
        };
        self.seen
            .retain(|worker, _| beats.others.contains_key(worker));
        let mut dead = Vec::new();
        for (worker, beat) in &beats.others {
            let fresh = Seen {
                beat: *beat,
                silent: Duration::ZERO,
            };
            let seen = match self.seen.get_mut(worker) {
                Some(seen) if seen.beat == *beat => {
                    seen.silent += watched;
                    seen
                }
                _ => self
                    .seen
                    .entry(worker.clone())
                    .insert_entry(fresh)
                    .into_mut(),
            };
            if seen.silent >= DEAD_AFTER {
                dead.push((worker.clone(), *beat));
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(connection: u64, other: i64) -> Beats {
        Beats {
            is_unbroken: true,
            connection,
            others: [("other".to_owned(), other)].into(),
        }
    }

    /// After how many looks in a row, two seconds apart, the other one is dead.
    fn looks_until_dead(
        mut number: impl FnMut(u32) -> (u64, i64),
        pause_at: Option<u32>,
    ) -> Option<u32> {
        let mut watch = Watch::default();
        let mut now = Instant::now();
        for look in 0..20 {
            let (connection, beat) = number(look);
            if !watch.look(&beats(connection, beat), now).is_empty() {
                return Some(look);
            }
            now += if pause_at == Some(look) {
                BEAT * 60
            } else {
                BEAT
            };
        }
        None
    }

    #[test]
    fn who_counts_up_lives_and_who_stands_still_is_dead_in_time() {
        assert_eq!(looks_until_dead(|look| (1, look.into()), None), None);
        let dead = looks_until_dead(|_| (1, 7), None).expect("it stands still");
        // It died up to a beat before the first look that saw its last number.
        let latest = BEAT * dead + BEAT;
        assert!(latest < Duration::from_secs(15), "{latest:?}");
        assert!(BEAT * dead > DOUBTFUL_AFTER, "it must have begun to doubt");
    }

    #[test]
    fn an_outage_or_a_pause_of_our_own_makes_nobody_dead() {
        // A connection a look: nobody was heard, and nobody is dead.
        assert_eq!(looks_until_dead(|look| (look.into(), 7), None), None);
        let through = looks_until_dead(|_| (1, 7), None);
        let broken = looks_until_dead(|look| (if look < 4 { 1 } else { 2 }, 7), None);
        assert_eq!(broken, through.map(|looks| looks + 4));
        // The machine slept for two minutes after the second look; those do not count.
        let paused = looks_until_dead(|_| (1, 7), Some(1));
        assert_eq!(paused, through.map(|looks| looks + 1));
    }
}
