//! `celeriac`: Celery's command line, and the pipeline's commands beside it.

mod app;
mod commands;
mod pipeline;
mod settings;

use std::process::ExitCode;

use celeriac_cli::Program;

fn main() -> ExitCode {
    celeriac_cli::main(Program {
        name: "celeriac",
        version: env!("CARGO_PKG_VERSION"),
        about: "Celery in Rust: the worker of a file pipeline, from a directory over Kafka to PostgreSQL",
        app_names: &[app::NAME],
        tables: &settings::TABLES,
        build_app: Box::new(app::build),
        worker_options: commands::worker_options(),
        commands: commands::all(),
    })
}
