//! The ids that must not run: a set with a limit, whose members are forgotten after a while.
//!
//! Counterpart: `celery/utils/collections.py::LimitedSet` and `celery/worker/state.py` (`REVOKES_MAX`,
//! `REVOKE_EXPIRES`) @ 5.7.0. Difference: a member whose time is over is no member, also before the next
//! addition.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The environment variable for how many ids are remembered; 0: without limit.
const MAX_VARIABLE: &str = "CELERY_WORKER_REVOKES_MAX";

/// The environment variable for how many seconds an id is remembered; 0: for ever.
const EXPIRES_VARIABLE: &str = "CELERY_WORKER_REVOKE_EXPIRES";

/// A limit that is no number. Whoever has set the variable must act.
#[derive(Debug, thiserror::Error)]
#[error("Invalid value for {variable}: expected {expected}, got {value:?}")]
pub struct RevokedError {
    variable: &'static str,
    expected: &'static str,
    value: String,
}

/// How many ids are remembered, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max: usize,
    pub(super) expires: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max: 50_000,
            expires: Duration::from_secs(10_800),
        }
    }
}

impl Limits {
    pub(super) fn from_environment() -> Result<Self, RevokedError> {
        let variable = |name| std::env::var(name).ok();
        Self::default().set(variable(MAX_VARIABLE), variable(EXPIRES_VARIABLE))
    }

    fn set(self, max: Option<String>, expires: Option<String>) -> Result<Self, RevokedError> {
        let max = match max {
            Some(value) => value.trim().parse().map_err(|_| RevokedError {
                variable: MAX_VARIABLE,
                expected: "a whole number, 0 or more",
                value,
            })?,
            None => self.max,
        };
        let seconds = |value: String| {
            let seconds = value.trim().parse().ok();
            let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            duration.ok_or(RevokedError {
                variable: EXPIRES_VARIABLE,
                expected: "a number of seconds, 0 or more",
                value,
            })
        };
        let expires = expires.map(seconds).transpose()?.unwrap_or(self.expires);
        Ok(Self { max, expires })
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct LimitedSet {
    limits: Limits,
    next: u64,
    by_age: BTreeMap<u64, (Instant, Arc<str>)>,
    numbers: HashMap<Arc<str>, u64>,
}

impl LimitedSet {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            by_age: BTreeMap::new(),
            numbers: HashMap::new(),
        }
    }

    /// Adds an id, or makes it young again. The oldest goes where there are too many. Returns how many have gone.
    pub(super) fn add(&mut self, id: &str, now: Instant) -> usize {
        let id: Arc<str> = Arc::from(id);
        let number = self.next;
        self.next += 1;
        if let Some(older) = self.numbers.insert(Arc::clone(&id), number) {
            self.by_age.remove(&older);
        }
        self.by_age.insert(number, (now, id));
        self.purge(now)
    }

    pub(super) fn contains(&self, id: &str, now: Instant) -> bool {
        let entry = self
            .numbers
            .get(id)
            .and_then(|number| self.by_age.get(number));
        entry.is_some_and(|(added, _)| !self.is_over(*added, now))
    }

    /// All of them, oldest first.
    pub(super) fn ids(&mut self, now: Instant) -> Vec<String> {
        self.purge(now);
        let ids = self.by_age.values();
        ids.map(|(_, id)| id.to_string()).collect()
    }

    fn purge(&mut self, now: Instant) -> usize {
        let count = self.numbers.len();
        while let Some(oldest) = self.by_age.first_entry() {
            let is_over = self.limits.expires > Duration::ZERO
                && now.saturating_duration_since(oldest.get().0) >= self.limits.expires;
            let is_too_many = self.limits.max > 0 && self.numbers.len() > self.limits.max;
            if !is_over && !is_too_many {
                break;
            }
            let (_, id) = oldest.remove();
            self.numbers.remove(&id);
        }
        count - self.numbers.len()
    }

    fn is_over(&self, added: Instant, now: Instant) -> bool {
        let expires = self.limits.expires;
        expires > Duration::ZERO && now.saturating_duration_since(added) >= expires
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(max: usize, expires_secs: u64) -> LimitedSet {
        LimitedSet::new(Limits {
            max,
            expires: Duration::from_secs(expires_secs),
        })
    }

    #[test]
    fn the_oldest_goes_first_and_what_is_added_again_is_young() {
        let mut revoked = set(2, 100);
        let now = Instant::now();
        for id in ["a", "b", "a", "c"] {
            revoked.add(id, now);
        }
        assert_eq!(revoked.ids(now), ["a", "c"]);
        assert!(!revoked.contains("b", now));
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut revoked = set(10, 100);
        let now = Instant::now();
        revoked.add("a", now);
        let later = now + Duration::from_secs(100);
        assert!(revoked.contains("a", now + Duration::from_secs(99)));
        assert!(!revoked.contains("a", later));
        assert!(revoked.ids(later).is_empty());
        assert!(revoked.numbers.is_empty(), "it takes no memory either");
    }

    #[test]
    fn nothing_is_no_limit() {
        let mut revoked = set(0, 0);
        let now = Instant::now();
        for number in 0..1000 {
            revoked.add(&number.to_string(), now);
        }
        let later = now + Duration::from_secs(1_000_000);
        assert_eq!(revoked.ids(later).len(), 1000);
    }

    #[test]
    fn a_limit_in_the_environment_is_a_number() {
        let text = |text: &str| Some(text.to_owned());
        let limits = Limits::default()
            .set(text("7"), text("1.5"))
            .expect("numbers");
        assert_eq!(
            (limits.max, limits.expires),
            (7, Duration::from_millis(1500))
        );
        let error = Limits::default()
            .set(text("many"), None)
            .expect_err("no number");
        assert_eq!(
            error.to_string(),
            "Invalid value for CELERY_WORKER_REVOKES_MAX: expected a whole number, 0 or more, got \"many\""
        );
        assert!(Limits::default().set(None, text("-1")).is_err());
    }
}
