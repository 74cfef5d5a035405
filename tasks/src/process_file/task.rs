//! `worker.tasks.process_file_task(file_path)`: the Celery task around [`process_file`].
//!
//! Keeps (F4): an outage uses up no retries and is tried again without end; `max_retries` is for the unexpected. A file's
//! fate, whatever it is, is a SUCCESS.
//!
//! Deliberate difference from the seed: late acks, so that a killed worker loses no file.

use std::sync::Arc;
use std::time::Duration;

use celeriac::protocol::exception::TaskException;
use celeriac::{AppBuilder, Context, Retry};
use celery::error::TaskError;
use celery::task::TaskResult;
use serde_json::Value;

use super::error::Error;
use super::job::jitter;
use super::run::process_file;
use super::settings::Ingest;

/// Counted retries, for the unexpected.
const MAX_RETRIES: u32 = 5;

/// Wait before a counted retry.
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// Wait before the task comes again after an outage that outlasted the waits in its slot.
const OUTAGE_DELAY: Duration = Duration::from_secs(25);

/// Wait for an operator to run the migrations or to grant a right.
const DEPLOYMENT_DELAY: Duration = Duration::from_secs(45);

/// Wait for a writer to end.
const CHANGED_DELAY: Duration = Duration::from_secs(5);

/// Registers the tasks of this package with an app, and gives them what they share.
#[must_use]
pub fn register(app: AppBuilder, ingest: Arc<Ingest>) -> AppBuilder {
    app.task::<process_file_task>().manage(ingest)
}

#[expect(missing_docs, non_local_definitions, reason = "made by the macro")]
mod definition {
    use super::{TaskResult, Value, run_in_worker};

    /// Brings the file at `file_path` to its fate. Its results stand in `docs/ingest-rules.md`, "Result".
    #[celery::task(
        name = "worker.tasks.process_file_task",
        max_retries = 5,
        min_retry_delay = 10,
        max_retry_delay = 10,
        acks_late = true
    )]
    pub async fn process_file_task(file_path: String) -> TaskResult<Value> {
        run_in_worker(&file_path).await
    }
}

pub use definition::process_file_task;

async fn run_in_worker(file_path: &str) -> TaskResult<Value> {
    let Some(context) = Context::current() else {
        return Err(TaskError::UnexpectedError(
            "the task was run outside of a worker".to_owned(),
        ));
    };
    let Some(ingest) = context.state::<Ingest>() else {
        let text = "the program gave the worker no Ingest: see sensor_tasks::register";
        return Err(context.raise(TaskException::builtin("RuntimeError", text)));
    };
    let fate = process_file(&ingest, file_path, context.id(), context.cancelled()).await;
    fate.map(|fate| fate.to_json(file_path))
        .map_err(|error| context.retry(retry(&error)))
}

/// When and how the task is tried again.
fn retry(error: &Error) -> Retry {
    let (kind, delay) = match error {
        Error::Transient { .. } => ("OSError", OUTAGE_DELAY),
        Error::Deployment(_) => ("RuntimeError", DEPLOYMENT_DELAY),
        Error::FileChanged { .. } => ("OSError", CHANGED_DELAY),
        Error::Cancelled | Error::RefusedRows(_) | Error::Unexpected { .. } => {
            ("RuntimeError", RETRY_DELAY)
        }
    };
    Retry {
        countdown: Some(if error.is_transient() {
            jitter(delay)
        } else {
            delay
        }),
        max_retries: Some(MAX_RETRIES),
        exception: Some(TaskException::builtin(kind, error.to_string())),
        is_uncounted: error.is_transient(),
        ..Retry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_use_up_no_retries_and_come_again_within_a_minute() {
        for error in [
            Error::transient("cannot connect to PostgreSQL", "refused"),
            Error::Deployment("no tables".to_owned()),
            Error::FileChanged {
                path: "a.csv".to_owned(),
            },
        ] {
            let retry = retry(&error);
            let countdown = retry.countdown.expect("one is given");
            assert!(retry.is_uncounted, "{error}");
            assert!(
                (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&countdown),
                "{countdown:?}"
            );
        }
    }

    #[test]
    fn the_unexpected_is_counted() {
        let retry = retry(&Error::unexpected("reading", "nonsense"));
        assert_eq!(
            (retry.is_uncounted, retry.max_retries, retry.countdown),
            (false, Some(5), Some(RETRY_DELAY))
        );
    }
}
