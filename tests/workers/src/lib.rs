//! What the harnesses' workers share: how they start, and where tasks leave their traces.

mod environment;
mod harness;
mod sink;

pub use harness::Harness;
pub use sink::Sink;
