//! Celery's command line for any Celeriac app.
//!
//! A team's own worker is a `main` of a few lines: register the tasks, describe the [`Program`], and
//! hand it to [`main`]. It then has Celery's commands, flags, environment variables, output and exit
//! codes, beside commands of its own.
//!
//! - `program`: what a program is made of, and [`Loaded`], what its commands are given.
//! - `run`: from the arguments to the exit code; [`main`].
//! - `options`, `usage`, `argv`, `environment`: reading the command line as Celery (click) does.
//! - `secrets`: no password stays in the list of processes.
//! - `exit`: the exit codes.
//! - `worker`, `call`: the commands; `banner`, `nodename`, `pidfile`, `signals` are the worker's.
//! - `logging`: Celery's log lines, or JSON.
//!
//! Counterpart: `celery/bin/` and `celery/apps/worker.py` @ 5.7.0.

mod argv;
mod banner;
mod call;
mod environment;
mod exit;
mod logging;
mod nodename;
mod options;
mod output;
mod pidfile;
mod program;
mod run;
mod secrets;
mod signals;
mod usage;
mod worker;

pub use exit::{ExitError, ExitStatus};
pub use program::{BuildApp, Command, CommandFuture, Loaded, Program};
pub use run::main;
pub use signals::shutdown_signal;
