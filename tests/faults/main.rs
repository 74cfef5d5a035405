//! The table of faults: something goes wrong at a given step of a file's way, and afterwards everything that is
//! promised must hold. `README.md` beside this file has the whole table.
//!
//! `cargo test` runs the short rows; `make faults-pipeline` sets `CELERIAC_FAULTS=full` and runs all of them. The
//! arguments are those of every test binary: a part of a name, `--exact`, `--list`, `--test-threads`.

mod failpoints;
mod files;
mod kafka;
mod postgresql;
mod quarantine;
mod redis;
mod soak;
mod worker;

use std::future::Future;

use libtest_mimic::{Arguments, Trial};

/// Rows at a time: they mostly wait.
const SIDE_BY_SIDE: usize = 4;

/// One fault, and the check that follows it.
struct Row {
    name: String,
    is_short: bool,
    run: Box<dyn FnOnce() + Send>,
}

impl Row {
    /// A row for `make test`.
    fn short<F: Future<Output = ()>>(
        name: impl Into<String>,
        run: impl FnOnce() -> F + Send + 'static,
    ) -> Self {
        Self {
            is_short: true,
            ..Self::long(name, run)
        }
    }

    /// A row for `make faults-pipeline`.
    fn long<F: Future<Output = ()>>(
        name: impl Into<String>,
        run: impl FnOnce() -> F + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            is_short: false,
            run: Box::new(move || block_on(run())),
        }
    }
}

fn block_on(row: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be made").block_on(row);
}

fn main() -> std::process::ExitCode {
    let is_full = std::env::var_os("CELERIAC_FAULTS").is_some_and(|set| set == "full");
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(SIDE_BY_SIDE);
    let families = [
        failpoints::rows(),
        worker::rows(),
        postgresql::rows(),
        quarantine::rows(),
        files::rows(),
        kafka::rows(),
        redis::rows(),
        soak::rows(),
    ];
    let rows = families.into_iter().flatten();
    let chosen = rows.filter(|row| is_full || row.is_short);
    let trial = |row: Row| {
        Trial::test(row.name, move || {
            (row.run)();
            Ok(())
        })
    };
    libtest_mimic::run(&arguments, chosen.map(trial).collect()).exit_code()
}
