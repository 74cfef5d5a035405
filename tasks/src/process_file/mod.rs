//! `worker.tasks.process_file_task`: one file from the watch directory to its fate.
//!
//! - `path`: a path as text to a place below the root · `open`: only regular files there
//! - `run`: from a path to its fate · `load`: a good file · `refuse`: a bad one
//! - `rows`: rows for COPY · `store`: PostgreSQL · `ledger`, `recorded`: `ingest_files`
//! - `quarantine`: moving a bad file · `whole_file`: files that appear whole or not at all · `error_log`: `errors.log`
//! - `job`: one run: waiting, stopping, work off the async threads · `error`: what may keep a verdict away
//! - `task`: the Celery task · `settings`: what the program gives us · `fate`: the result

mod error;
mod error_log;
mod fate;
mod job;
mod ledger;
mod load;
mod open;
mod path;
mod quarantine;
mod recorded;
mod refuse;
mod rows;
mod run;
mod settings;
mod store;
mod task;
mod whole_file;

pub use error::Error;
pub use fate::Fate;
pub use open::MAX_FILE_BYTES;
pub use path::below_root;
pub use recorded::{MAX_PATHS, RecordedFile, recorded_files};
pub use run::{Examination, examine, process_file};
pub use settings::{Ingest, IngestSettings, SettingsError, connect_options};
pub use task::{process_file_task, register};
