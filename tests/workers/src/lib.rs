//! What the harnesses' workers share: the harness's environment, and where tasks leave their traces.

mod environment;
mod sink;

pub use environment::with_celerys_names;
pub use sink::Sink;
