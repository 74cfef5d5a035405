//! The log: Celery's lines for people and their tools, or one JSON object a line.
//!
//! - `level`: Celery's names of levels.
//! - `options`: `-l`, `-f`, `--log-format`.
//! - `line`, `json`: the two forms of a record.
//! - `file`: a log file that may be rotated.
//! - `setup`: puts them together.
//!
//! To stderr, as Celery; colours only on a terminal. Counterpart: `celery/app/log.py` @ 5.7.0.

mod file;
mod json;
mod level;
mod line;
mod options;
mod setup;

pub(crate) use level::Level;
pub(crate) use options::{LogOptions, add_options};
pub(crate) use setup::start;
