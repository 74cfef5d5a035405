//! One line at a time about a server that is away.
//!
//! While Kafka or Redis is away, every attempt fails, from several places at once. A person wants to read one line
//! when it begins, one now and then while it lasts, and one when it is over.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// At most one line in this time.
pub(crate) const SAY_EVERY: Duration = Duration::from_secs(10);

/// What is known about one server's absence.
#[derive(Debug)]
pub(crate) struct Outage {
    server: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    said: Option<Instant>,
}

impl Outage {
    /// `server` as it stands in the log: `Kafka at localhost:9092`. No passwords.
    pub(crate) fn new(server: String) -> Self {
        Self {
            server,
            state: Mutex::default(),
        }
    }

    /// It does not answer. `consequence` says what that means here, `reason` what was seen.
    pub(crate) fn note(&self, consequence: &str, reason: &dyn std::fmt::Display) {
        if let Some(seconds) = self.due(Instant::now()) {
            let server = &self.server;
            match seconds {
                0 => log::warn!("{server} is not available: {consequence} ({reason})"),
                _ => log::warn!(
                    "{server} has not been available for {seconds} s: {consequence} ({reason})"
                ),
            }
        }
    }

    /// Whether it was away when last tried.
    pub(crate) fn is_on(&self) -> bool {
        self.state
            .lock()
            .expect("no panic while holding this lock")
            .since
            .is_some()
    }

    /// It answers.
    pub(crate) fn over(&self) {
        let mut state = self.state.lock().expect("no panic while holding this lock");
        if let Some(since) = state.since.take() {
            let spoken = state.said.take().is_some();
            drop(state);
            if spoken {
                log::info!(
                    "{} is available again after {} s",
                    self.server,
                    since.elapsed().as_secs()
                );
            }
        }
    }

    /// Seconds since the beginning, if a line is due.
    fn due(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().expect("no panic while holding this lock");
        let since = *state.since.get_or_insert(now);
        if state
            .said
            .is_some_and(|said| now.duration_since(said) < SAY_EVERY)
        {
            return None;
        }
        state.said = Some(now);
        Some(now.duration_since(since).as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_at_once_and_then_every_ten_seconds() {
        let outage = Outage::new("Redis".to_owned());
        let start = Instant::now();
        let at = |seconds| outage.due(start + Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(1), at(9), at(10), at(19), at(25)],
            [Some(0), None, None, Some(10), None, Some(25)]
        );
        outage.over();
        assert_eq!(at(26), Some(0), "a new outage begins with a line");
    }
}
