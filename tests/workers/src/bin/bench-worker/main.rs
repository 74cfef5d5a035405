//! The worker that is measured beside Python's: `bench-worker worker`.
//!
//! The harness hands over `BROKER_URL`, `RESULT_URL`, `QUEUE` and `COUNTER_URL` (where tasks leave their traces), and
//! `ACKS_LATE`, `IGNORE_RESULT` and `PREFETCH_MULT` where a run asks for them. Everything else is the product's default.

#![expect(
    non_local_definitions,
    reason = "the celery crate's macro writes its impl into a const"
)]

mod tasks;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use celeriac::App;
use celeriac_cli::Loaded;
use celeriac_test_workers::{Harness, Sink};

fn main() -> ExitCode {
    let worker = Harness {
        name: "bench-worker",
        about: "Runs the tasks of the benchmark",
        app_names: &["bench_app"],
        variables: &[
            ("RESULT_URL", "CELERY_RESULT_BACKEND"),
            ("QUEUE", "CELERY_WORKER_QUEUES"),
            ("PREFETCH_MULT", "CELERY_WORKER_PREFETCH_MULTIPLIER"),
        ],
        build,
    };
    worker.main()
}

fn build(loaded: &Loaded) -> anyhow::Result<App> {
    let is_set = |name: &str| env::var(name).is_ok_and(|value| value == "1");
    let mut settings = loaded.settings.clone();
    settings.task_acks_late = is_set("ACKS_LATE");
    settings.task_ignore_result = is_set("IGNORE_RESULT");
    let counter = env::var("COUNTER_URL").context("COUNTER_URL is not set")?;
    let sink = Arc::new(Sink::new(&counter)?);
    let app = App::builder("bench_app", settings);
    Ok(tasks::register(app, &sink).build()?)
}
