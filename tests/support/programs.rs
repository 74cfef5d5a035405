//! Our programs, and Python's worker.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{root, service};

/// A program of this workspace, built if it is not; the example `client` is `examples/client`.
///
/// # Panics
/// It does not build.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        // `cargo test` builds the programs of a package only for that package's own tests.
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--locked", "--workspace", "--bins"])
            .args(["--example", "client"])
            .current_dir(root());
        // What `cargo test` has set for this test would differ from what a shell sets, and ring's build script, for one,
        // runs anew whenever it does: a hundred crates would be built again for every other run.
        for (name, _) in std::env::vars_os() {
            let is_of_a_package =
                |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
            if name.to_str().is_some_and(is_of_a_package) {
                build.env_remove(name);
            }
        }
        let status = build.status().expect("cargo runs");
        assert!(status.success(), "the programs do not build");
    });
    let test = std::env::current_exe().expect("a running program has a path");
    let directory = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>/deps");
    directory.join(name)
}

/// Our test worker on this Redis: broker in database 0, results in database 1.
pub fn test_worker(broker: &str, backend: &str) -> Command {
    let mut command = Command::new(program("test-worker"));
    command.args(["-A", "proj", "worker", "--loglevel=debug", "-c", "2"]);
    on(&mut command, broker, backend);
    command
}

/// Python's Celery worker with the tasks of `tests/python/proj.py`.
pub fn python_worker(broker: &str, backend: &str) -> Command {
    python_worker_of("proj", broker, backend)
}

/// Python's Celery worker with the tasks of `tests/python/<app>.py`.
pub fn python_worker_of(app: &str, broker: &str, backend: &str) -> Command {
    let mut command = python();
    command.args([
        "-m",
        "celery",
        "-A",
        app,
        "worker",
        "--loglevel=info",
        "-c",
        "2",
    ]);
    command.args(["--without-gossip", "--without-mingle", "-n", "python@%h"]);
    on(&mut command, broker, backend);
    command
}

/// The Python that has Celery, in the directory of the tests' Python files.
pub fn python() -> Command {
    let mut command = Command::new(service("CELERIAC_PYTHON"));
    command
        .current_dir(root().join("tests/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1");
    command
}

fn on(command: &mut Command, broker: &str, backend: &str) {
    command
        .env("CELERY_BROKER_URL", broker)
        .env("CELERY_RESULT_BACKEND", backend)
        // A superuser's worker is what the tests often are; Python warns of it.
        .env("PYTHONWARNINGS", "ignore");
}
