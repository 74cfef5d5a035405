//! The worker that a fault harness breaks: `fault-worker worker -l info`.
//!
//! The harness hands over `FAULT_BROKER_URL`, `FAULT_BACKEND_URL`, `FAULT_SINK_URL`, `FAULT_VISIBILITY_TIMEOUT` (seconds),
//! `FAULT_CONCURRENCY` and `FAULT_WORKER_NAME`, and asks for late acks. Everything else is the product's default.

#![expect(
    non_local_definitions,
    reason = "the celery crate's macro writes its impl into a const"
)]

mod tasks;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use celeriac::App;
use celeriac_cli::Loaded;
use celeriac_test_workers::{Harness, Sink};

fn main() -> ExitCode {
    let worker = Harness {
        name: "fault-worker",
        about: "Runs the tasks of the fault harness",
        app_names: &["fault"],
        variables: &[
            ("FAULT_BROKER_URL", "CELERY_BROKER_URL"),
            ("FAULT_BACKEND_URL", "CELERY_RESULT_BACKEND"),
            ("FAULT_CONCURRENCY", "CELERY_WORKER_CONCURRENCY"),
            ("FAULT_WORKER_NAME", "CELERY_WORKER_HOSTNAME"),
        ],
        build,
    };
    worker.main()
}

fn build(loaded: &Loaded) -> anyhow::Result<App> {
    let mut settings = loaded.settings.clone();
    settings.task_acks_late = true;
    if let Ok(seconds) = env::var("FAULT_VISIBILITY_TIMEOUT") {
        let seconds = seconds.parse().context("FAULT_VISIBILITY_TIMEOUT")?;
        let timeout = Duration::try_from_secs_f64(seconds).context("FAULT_VISIBILITY_TIMEOUT")?;
        settings.broker_transport_options.visibility_timeout = timeout;
    }
    let sink = env::var("FAULT_SINK_URL").context("FAULT_SINK_URL is not set")?;
    let app = App::builder("fault", settings).manage(Arc::new(Sink::new(&sink)?));
    Ok(tasks::register(app).build()?)
}
