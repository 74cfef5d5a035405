//! `add::s((2, 2))`: signatures of tasks made with the macro.
//!
//! Counterpart: `celery/app/task.py` (`Task.s`, `Task.si`) @ 5.7.0.

use celery::task::Task;
use serde::Serialize;

use crate::canvas::{Signature, signature};

/// Signatures of a task made with `#[celery::task]`.
pub trait TaskSignature: Task {
    /// A call with these arguments; what goes before it in a chain comes before them.
    fn s(args: impl Serialize) -> Signature {
        signature(Self::NAME, args)
    }

    /// A call with these arguments, which does not take the result of what goes before.
    fn si(args: impl Serialize) -> Signature {
        Self::s(args).immutable()
    }
}

impl<T: Task> TaskSignature for T {}
