//! Between a worker and the broker: connections that break, replies that are lost, servers that refuse.

use rand::Rng;
use rand::rngs::SmallRng;

use super::broker::{Broker, Refused, Script};
use super::wrong::Wrong;

/// How many ticks a worker waits at most before it connects again (jitter).
pub(crate) const RECONNECT_MAX: u64 = 5;

/// A worker's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Up,
    /// Broken; opened again when the broker is there, and this many more ticks have passed.
    Broken {
        wait: u64,
    },
    /// Opened in this tick: the worker has not seen it yet.
    Fresh,
}

/// Why a command has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The server answered with an error.
    Refused,
    /// No answer: it may have been done.
    Unanswered,
}

/// What a worker has in its hands for one step.
pub(crate) struct Wire<'a> {
    pub(crate) broker: &'a mut Broker,
    pub(crate) rng: &'a mut SmallRng,
    pub(crate) link: &'a mut Link,
    pub(crate) trace: &'a mut Option<Vec<String>>,
    pub(crate) now: u64,
    pub(crate) wrong: Option<Wrong>,
    /// Whether things may go wrong on this way.
    pub(crate) is_rough: bool,
}

impl Wire<'_> {
    /// Runs a script on the server, if it gets there, and if the server does not refuse.
    pub(crate) fn call<T>(
        &mut self,
        script: impl FnOnce(&mut Broker, &mut Script) -> Result<T, Refused>,
    ) -> Result<T, Failed> {
        if !self.is_up() {
            return Err(Failed::Unanswered);
        }
        let breaks = self.is_rough && self.rng.random_ratio(1, 50);
        if breaks {
            *self.link = Link::Broken {
                wait: self.rng.random_range(0..=RECONNECT_MAX),
            };
            if self.rng.random() {
                self.note(|| "  … not sent: the connection broke".to_owned());
                return Err(Failed::Unanswered);
            }
        }
        let refuses = self.is_rough && self.rng.random_ratio(1, 30);
        let refuse = refuses.then(|| self.rng.random_range(0..3));
        let result = script(self.broker, &mut Script { refuse });
        if breaks {
            self.note(|| "  … done, but the reply was lost".to_owned());
            return Err(Failed::Unanswered);
        }
        result.map_err(|Refused| {
            self.note(|| "  … refused by the server".to_owned());
            Failed::Refused
        })
    }

    pub(crate) fn is_up(&self) -> bool {
        *self.link == Link::Up
    }

    /// Whether the connection is a new one; says so once.
    pub(crate) fn reconnected(&mut self) -> bool {
        let is_fresh = *self.link == Link::Fresh;
        if is_fresh {
            *self.link = Link::Up;
        }
        is_fresh
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = self.trace {
            trace.push(format!("{:>4}: {}", self.now, line()));
        }
    }
}
