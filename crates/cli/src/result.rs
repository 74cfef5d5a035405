//! `result ID`: waits for a task and prints its value, or prints its traceback.
//!
//! Counterpart: `celery/bin/result.py` @ 5.7.0. Beside it: `--timeout`, since both wait for ever for an id that nobody has
//! sent. A task that has failed is one line here; there it is the traceback of the command itself.

use std::time::Duration;

use celeriac::protocol::repr;
use celeriac::{App, ResultError, transport};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;

use crate::exit::{ExitError, ExitStatus};
use crate::output;
use crate::program::{Loaded, Program};

const EXAMPLES: &str = "\
Waits until the task has ended, for ever without --timeout: an id that nobody has sent is
pending, too. Exit code 1 if the task has failed or was revoked, 124 after the timeout.

Examples:
  PROGRAM -A APP result 5f0c1e2a-77b0-4d0e-9d9a-2f6f0a1c7d11
  PROGRAM -A APP result 5f0c1e2a-77b0-4d0e-9d9a-2f6f0a1c7d11 --timeout 10
  PROGRAM -A APP result 5f0c1e2a-77b0-4d0e-9d9a-2f6f0a1c7d11 --traceback";

/// The command's options.
pub(crate) fn clap() -> Command {
    let option = |id: &'static str| Arg::new(id).long(id).help_heading("Result Options");
    Command::new("result")
        .about("Print the return value for a given task id")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("task_id")
                .value_name("TASK_ID")
                .required(true)
                .help("The task's id, as call prints it"),
        )
        .arg(
            option("task")
                .short('t')
                .value_name("TASK")
                .help("Name of the task, which this program must have"),
        )
        .arg(
            option("traceback")
                .action(ArgAction::SetTrue)
                .help("Show the traceback instead, without waiting"),
        )
        .arg(
            option("timeout")
                .value_name("SECONDS")
                .allow_negative_numbers(true)
                .value_parser(parse_timeout)
                .help("Wait no longer than this"),
        )
}

/// Prints the value, as Python's `str` shows it, or the traceback.
///
/// # Errors
/// The task has failed, the timeout has passed, or the backend is away.
pub(crate) async fn run(
    program: &Program,
    matches: &ArgMatches,
    loaded: Loaded,
) -> anyhow::Result<()> {
    let app = (program.build_app)(&loaded)?;
    if let Some(task) = matches.get_one::<String>("task")
        && !app.task_names().contains(task)
    {
        anyhow::bail!("Task of kind '{task}' never registered, please make sure it's imported.");
    }
    let id = matches
        .get_one::<String>("task_id")
        .expect("clap has seen to it that there is an id");
    let shown = match matches.get_flag("traceback") {
        true => traceback(&app, id).await?,
        false => value(&app, id, matches.get_one::<Duration>("timeout").copied()).await?,
    };
    output::to_stdout(&format!("{shown}\n"));
    Ok(())
}

async fn traceback(app: &App, id: &str) -> anyhow::Result<String> {
    let traceback = app.async_result(id).traceback().await;
    let traceback = traceback.map_err(|error| away(app, &error))?;
    Ok(traceback.unwrap_or_else(|| "None".to_owned()))
}

async fn value(app: &App, id: &str, timeout: Option<Duration>) -> anyhow::Result<String> {
    match app.async_result(id).get::<Value>(timeout).await {
        Ok(value) => Ok(repr::str_value(&value)),
        Err(ResultError::Backend { source, .. }) => Err(away(app, &source)),
        Err(error @ ResultError::Timeout { .. }) => {
            Err(ExitError::new(ExitStatus::TimedOut, error.to_string()).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// A backend that cannot be asked; 1 where there is none, as in Celery.
fn away(app: &App, error: &transport::Error) -> anyhow::Error {
    if matches!(error, transport::Error::NoResultBackend) {
        return anyhow::anyhow!("{error}");
    }
    let url = app.backend_url();
    ExitError::unavailable(format!("cannot ask the result backend at {url}: {error}")).into()
}

fn parse_timeout(typed: &str) -> Result<Duration, String> {
    let seconds: f64 = typed
        .parse()
        .map_err(|_| format!("'{typed}' is not a valid float."))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("'{typed}': {error}"))
}
