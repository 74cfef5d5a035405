//! A team's own worker, whole: one task, and all of Celery's command line.
//!
//! `cargo run -p celeriac-cli --example adder -- -A adder worker -l info`, and from Python
//! `app.send_task("adder.add", (1, 2))`.

#![expect(
    non_local_definitions,
    reason = "the celery crate's macro writes its impl into a const"
)]

use celeriac::App;
use celeriac_cli::Program;
use celery::task::TaskResult;

#[celery::task(name = "adder.add")]
async fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

fn main() -> std::process::ExitCode {
    celeriac_cli::main(Program {
        name: "adder",
        version: env!("CARGO_PKG_VERSION"),
        about: "Adds numbers",
        app_names: &["adder"],
        tables: &[],
        build_app: Box::new(|loaded| {
            Ok(App::builder("adder", loaded.settings.clone())
                .task::<add>()
                .build()?)
        }),
        worker_options: Vec::new(),
        commands: Vec::new(),
    })
}
