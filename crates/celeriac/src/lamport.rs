//! A logical clock: events and replies carry its value, so that a monitor can tell which came first.
//!
//! Counterpart: `kombu/clocks.py::LamportClock` @ 5.7.0.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module's text. Cheap to clone; all clones are the same clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct LamportClock {
    value: Arc<AtomicU64>,
}

impl LamportClock {
    /// One further: before anything is sent that carries it.
    pub(crate) fn forward(&self) -> u64 {
        self.value.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// As it stands.
    pub(crate) fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Never behind what was reached before, by an earlier life of this worker.
    pub(crate) fn catch_up(&self, reached: u64) {
        self.value.fetch_max(reached, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_goes_forward() {
        let clock = LamportClock::default();
        let same = clock.clone();
        assert_eq!((clock.forward(), same.forward()), (1, 2));
        clock.catch_up(7);
        clock.catch_up(3);
        assert_eq!((same.value(), same.forward()), (7, 8));
    }
}
