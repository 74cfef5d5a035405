//! A Celery worker engine and client in Rust: the same messages, results and log lines as Python's.
//!
//! A program registers its tasks with an [`App`], and either sends them ([`App::send_task`], [`Delay`])
//! or runs them ([`Worker`]). Any worker of either language can run what any client has sent.
//!
//! Calls that belong together are written as in Celery, whichever language runs each of them:
//!
//! ```no_run
//! # #![allow(non_local_definitions)]
//! use std::time::Duration;
//!
//! use celeriac::{App, TaskSignature, chain, chord, signature};
//! use celery::task::TaskResult;
//!
//! #[celery::task(name = "sums.add")]
//! fn add(x: i64, y: i64) -> TaskResult<i64> {
//!     Ok(x + y)
//! }
//!
//! # async fn run(app: &App) -> Result<(), Box<dyn std::error::Error>> {
//! // Python has the second task: add(2, 2) | reports.summarise.s()
//! let sent = chain![add::s((2, 2)), signature("reports.summarise", ())].delay(app).await?;
//! let report: String = sent.get(Duration::from_secs(10)).await?;
//!
//! let header = (0..10).map(|n| add::s((n, n)));
//! let sent = chord(header, signature("reports.total", ()).set("queue", "reports"));
//! let total: i64 = sent.delay(app).await?.get(Duration::from_secs(10)).await?;
//! # drop((report, total));
//! # Ok(())
//! # }
//! ```
//! See [`Signature`], [`group`], [`ResultNode`], [`GroupResult`].
//!
//! # Rooms, from the outside in
//! - `worker`, `shutdown`: a worker's life, from the first connection to the last message given back.
//! - `control`: remote control.
//! - `checks`: what does not fit together, said at the start.
//! - `events`: what monitors are told.
//! - `consumer`: connecting, taking, and what to do with a message.
//! - `executor`: running tasks, and the order in which their end is settled.
//! - `canvas`: calls that belong together, and what is sent when a task has ended.
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
    ResultSet, SendError, SendOptions, Settings, join, settings,
};
pub use canvas::{Signature, chain, chord, group, signature};
pub use celeriac_protocol as protocol;
pub use celery_task::{Delay, TaskSignature};
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
