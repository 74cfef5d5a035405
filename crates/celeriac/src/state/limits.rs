//! Time limits of tasks that remote control has set.
//!
//! Counterpart: `celery/worker/control.py::time_limit` @ 5.7.0, which writes them into the task.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A soft and a hard time limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TaskLimits {
    pub(crate) soft: Option<Duration>,
    pub(crate) hard: Option<Duration>,
}

/// See the module's text. The tasks are registered ones, so there are not many.
#[derive(Debug, Default)]
pub(super) struct LimitTable {
    /// Nearly always there are none, and every start asks.
    are_any: AtomicBool,
    by_task: Mutex<HashMap<String, TaskLimits>>,
}

impl LimitTable {
    pub(super) fn of(&self, task: &str) -> Option<TaskLimits> {
        if !self.are_any.load(Ordering::Relaxed) {
            return None;
        }
        let by_task = self.by_task.lock().unwrap_or_else(PoisonError::into_inner);
        by_task.get(task).copied()
    }

    pub(super) fn set(&self, task: &str, limits: TaskLimits) {
        let mut by_task = self.by_task.lock().unwrap_or_else(PoisonError::into_inner);
        by_task.insert(task.to_owned(), limits);
        self.are_any.store(true, Ordering::Relaxed);
    }
}
