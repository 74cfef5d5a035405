//! Celery's command line for any Celeriac app.
//!
//! A team's own worker is a `main` of a few lines: register the tasks, describe the [`Program`], and
//! hand it to [`main`]. It then has Celery's commands, flags, environment variables, output and exit
//! codes, beside commands of its own.
//!
//! - `program`: what a program is made of, and [`Loaded`], what its commands are given.
//! - `run`: from the arguments to the exit code; [`main`].
//! - `command_line`: reading what was typed as Celery (click) does, and taking passwords out of it.
//! - `exit`, `output`, `shutdown`: exit codes, stdout and stderr, [`shutdown_signal`].
//! - `logging`: Celery's log lines, or JSON.
//! - `worker`, `call`, `result`, `dead_letter`: the commands; `nodename`: what workers are called.
//!
//! Counterpart: `celery/bin/` and `celery/apps/worker.py` @ 5.7.0.

mod call;
mod command_line;
mod dead_letter;
mod exit;
mod logging;
mod nodename;
mod output;
mod program;
mod result;
mod run;
mod shutdown;
mod worker;

pub use exit::{ExitError, ExitStatus};
pub use program::{BuildApp, Command, CommandFuture, Loaded, Program};
pub use run::main;
pub use shutdown::shutdown_signal;

/// Of the whole program (feature `mimalloc`, on by default): see "What was found" in
/// `docs/performance.md`.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: celeriac_allocator::Allocator = celeriac_allocator::Allocator;
