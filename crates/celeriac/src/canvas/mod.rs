//! Canvas: what is sent when a task has ended, and instead of it.
//!
//! - `follow`: which calls follow, in which order; `compose`: a call as a message.
//! - `ids`: the ids of what follows, the same whenever the task runs again.
//! - `signature`: a canvas in Celery's words, for whoever sends one.
//!
//! What a canvas is made of, and what becomes of it, stands in `celeriac_protocol::canvas`.
//!
//! Counterpart: `celery/canvas.py` and `celery/app/trace.py` (`_dispatch_callbacks_and_chain`) @ 5.7.0.

mod compose;
mod follow;
#[cfg(test)]
mod golden_tests;
mod ids;
mod signature;

pub(crate) use compose::Parent;
pub(crate) use follow::{
    Action, FollowUp, FollowUps, Unsendable, added, after_success, body, errbacks, instead,
};
pub(crate) use ids::Ids;
pub(crate) use signature::NOTHING;
pub use signature::{Signature, chain, chord, group, signature};
