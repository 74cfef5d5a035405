//! Canvas: calls that belong together, and what is sent for them.
//!
//! - `signature`: a call as it travels inside other messages; `embed`: what follows a task.
//! - `tree`: a signature taken apart into a chain, a group or a chord; `join`: `|`; `link`: callbacks and errbacks.
//! - `freeze`: ids are fixed; `steps`: a chain's; `results`: what will come of it.
//! - `plan`: what is sent, in which order; `replace`: in place of a running task; `errors`:
//!   what does not run after all.
//! - `stamp`: headers on every task.
//!
//! Nothing here sends anything or draws an id by itself: whoever has a [`Plan`] carries it out.
//!
//! Counterpart: `celery/canvas.py @ 5.7.0`.

mod embed;
mod errors;
mod freeze;
mod join;
mod link;
mod plan;
mod replace;
mod results;
mod signature;
mod stamp;
mod steps;
mod tree;

pub(crate) use embed::EMBED;
pub use embed::Embed;
pub use errors::{Lost, LostTask};
pub use freeze::Belongs;
pub use plan::{Call, CanvasError, Plan, Planner, Step};
pub use replace::Replaced;
pub use signature::Signature;
pub use stamp::StampingVisitor;
pub use tree::{Canvas, Chain, Chord, Group};
