//! The program's own commands, beside Celery's: `produce`, `consume`, `ingest`, `db`.
//!
//! Each file has what is typed (clap), what it means (settings), and a call into the pipeline; and the exit codes of
//! its errors.

mod consume;
mod db;
mod ingest;
pub(crate) mod options;
mod produce;

use celeriac_cli::Command;

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Command>> {
    vec![
        Box::new(produce::Produce),
        Box::new(consume::Consume),
        Box::new(ingest::Ingest),
        Box::new(db::Db),
    ]
}

/// What Celery's `worker` command takes beside its own: where the tasks find and put things.
pub(crate) fn worker_options() -> Vec<clap::Arg> {
    vec![
        options::watch_dir(),
        options::quarantine_dir(),
        options::log_dir(),
        options::database_url(),
    ]
}
