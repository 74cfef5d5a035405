//! The worker that Celery's own integration tests are run against: `conformance-worker worker -n NODE -E -c 2`.
//!
//! The harness hands over `BROKER_URL`, `RESULT_BACKEND`, `RESULT_EXTENDED`, and `REDIS_HOST` and `REDIS_PORT`, where tasks
//! leave their traces. The tasks are those of Celery's `t/integration/tasks.py` @ 5.7.0, under their names there.

#![expect(
    non_local_definitions,
    reason = "the celery crate's macro writes its impl into a const"
)]

mod function;
mod tasks;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use celeriac::App;
use celeriac_cli::Loaded;
use celeriac_test_workers::{Harness, Sink};

fn main() -> ExitCode {
    let worker = Harness {
        name: "conformance-worker",
        about: "Runs the tasks of Celery's integration tests",
        app_names: &["conformance"],
        variables: &[
            ("BROKER_URL", "CELERY_BROKER_URL"),
            ("RESULT_BACKEND", "CELERY_RESULT_BACKEND"),
        ],
        build,
    };
    worker.main()
}

fn build(loaded: &Loaded) -> anyhow::Result<App> {
    let mut settings = loaded.settings.clone();
    settings.result_extended = env::var("RESULT_EXTENDED").is_ok_and(|value| value == "1");
    let variable =
        |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let (host, port) = (
        variable("REDIS_HOST", "localhost"),
        variable("REDIS_PORT", "6379"),
    );
    let sink = Sink::new(&format!("redis://{host}:{port}/0"))?;
    let app = App::builder("conformance", settings).manage(Arc::new(sink));
    Ok(tasks::register(app).build()?)
}
