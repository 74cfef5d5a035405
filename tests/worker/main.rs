//! A team's own worker, for the tests: tasks of every kind, and Celery's command line.

#![expect(
    non_local_definitions,
    reason = "the celery crate's macro writes its impl into a const"
)]

mod options;
mod tasks;
mod typed;

use std::process::ExitCode;

use celeriac::App;
use celeriac_cli::Program;

fn main() -> ExitCode {
    celeriac_cli::main(Program {
        name: "test-worker",
        version: env!("CARGO_PKG_VERSION"),
        about: "Runs the tests' tasks",
        app_names: &["proj"],
        tables: &[],
        build_app: Box::new(|loaded| {
            let app = App::builder("proj", loaded.settings.clone());
            let app = options::register(tasks::register(app));
            Ok(typed::register(app).build()?)
        }),
        worker_options: Vec::new(),
        commands: Vec::new(),
    })
}
