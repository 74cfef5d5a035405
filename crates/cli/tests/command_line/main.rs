//! The command line as a process: what is printed where, and the exit code. Needs no service.
//!
//! - `process`: starts the example programs, each in a directory and environment of its own.
//! - `usage`: what is typed wrongly. `settings`: what is set wrongly.
//! - `worker`: banner, log, signals, pidfile. `secrets`: passwords. `own_command`: a program's own. `dead_letter`, `result`: their usage.

mod dead_letter;
mod own_command;
mod process;
mod result;
mod secrets;
mod settings;
mod usage;
mod worker;
