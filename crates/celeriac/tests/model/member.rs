//! A process: the program, whether it runs, and how long it could not do its duties.

use super::broker::WorkerId;
use super::python::Python;
use super::wire::Link;
use super::worker::Worker;

#[derive(Debug)]
pub(crate) enum Program {
    Ours(Worker),
    Python(Python),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// SIGSTOP, until this tick.
    Paused {
        until: u64,
    },
    /// SIGKILL; another worker starts in its place at this tick.
    Dead {
        replaced: Option<u64>,
    },
}

/// A process.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) program: Program,
    pub(crate) state: State,
    pub(crate) link: Link,
    /// Ticks in which it was stopped or cut off alone, since it last renewed what it holds.
    pub(crate) away_ticks: u64,
    /// Ticks in which nobody had a broker, likewise.
    pub(crate) outage_ticks: u64,
}

impl Member {
    pub(crate) fn new(program: Program) -> Self {
        Self {
            program,
            state: State::Running,
            link: Link::Broken { wait: 0 },
            away_ticks: 0,
            outage_ticks: 0,
        }
    }

    pub(crate) fn id(&self) -> WorkerId {
        match &self.program {
            Program::Ours(worker) => worker.id,
            Program::Python(python) => python.id,
        }
    }

    pub(crate) fn ours(&self) -> Option<&Worker> {
        match &self.program {
            Program::Ours(worker) => Some(worker),
            Program::Python(_) => None,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead { .. })
    }
}
