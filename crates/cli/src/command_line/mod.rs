//! The command line: what may be typed, what was typed, and what was wrong with it.
//!
//! - `options`: the global options and the whole command line of a program.
//! - `environment`: Celery's variables for the options of its commands.
//! - `argv`: what stands where in the arguments, apart from clap's reading.
//! - `secrets`: no password stays in the list of processes.
//! - `usage`: usage errors in click's words.
//!
//! Counterpart: `celery/bin/celery.py` and `celery/bin/base.py` @ 5.7.0, and click.

mod argv;
mod environment;
mod options;
mod secrets;
mod usage;

pub(crate) use options::{Global, command_line};
pub(crate) use secrets::hide;
pub(crate) use usage::{text, text_of};
