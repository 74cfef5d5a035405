//! A Celery worker engine and client in Rust: the same messages, results and log lines as Python's.
//!
//! A program registers its tasks with an [`App`], and either sends them ([`App::send_task`], [`Delay`])
//! or runs them ([`Worker`]). Any worker of either language can run what any client has sent.
//!
//! # Rooms, from the outside in
//! - `worker`, `shutdown`: a worker's life, from the first connection to the last message given back.
//! - `control`: remote control.
//! - `checks`: what does not fit together, said at the start.
//! - `events`: what monitors are told.
//! - `consumer`: connecting, taking, and what to do with a message.
//! - `executor`: running tasks, and the order in which their end is settled.
//! - `canvas`: what is sent when a task has ended.
//! - `app`: settings, tasks, sending.
//! - `state`: what a worker has and remembers.
//! - `handler`, `context`, `traceback`: the seam to tasks; `celery_task`: tasks made with the `celery` crate's macro.
//! - `transport`, `backend`: the broker and the results.
//! - `threads`: those that may go on for ever.
//! - `failpoint`: where crash tests let the process end.

mod app;
mod backend;
mod backoff;
mod canvas;
mod celery_task;
mod checks;
pub mod clock;
mod consumer;
mod context;
mod control;
mod events;
mod executor;
mod failpoint;
pub mod handler;
mod lamport;
pub mod log_lines;
mod shutdown;
mod state;
mod threads;
mod traceback;
pub mod transport;
mod worker;

pub use app::{
    App, AppBuilder, AsyncResult, DeadLetters, GroupResult, Pages, ResultError, ResultNode,
    SendError, SendOptions, Settings, join, settings,
};
pub use celeriac_protocol as protocol;
pub use celery_task::Delay;
pub use context::Context;
pub use events::DEFAULT_HEARTBEAT;
pub use executor::{BlockingError, blocking};
pub use failpoint::{CANVAS_FAILPOINTS, FAILPOINTS, FailpointError, check_failpoint, failpoint};
pub use handler::{
    ExceptionKind, Handler, Invocation, MaxRetries, Outcome, RateLimit, Retry, TaskOptions,
};
pub use shutdown::Shutdown;
pub use state::{RevokedError, StateDbError, StateError};
pub use worker::{Succession, Worker, WorkerError, WorkerOptions};

/// The version of the engine, as the banner shows it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
