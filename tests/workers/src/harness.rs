//! The command line of a harness's worker: that of the product, with the harness's tasks and variables.

use std::process::ExitCode;

use celeriac::App;
use celeriac_cli::{Loaded, Program};

use crate::environment::with_celerys_names;

/// What a harness wants of its worker.
#[derive(Debug)]
pub struct Harness {
    /// The program.
    pub name: &'static str,
    /// What its help says.
    pub about: &'static str,
    /// What `-A` names.
    pub app_names: &'static [&'static str],
    /// What the harness calls its variables, and what Celery does.
    pub variables: &'static [(&'static str, &'static str)],
    /// Registers the tasks.
    pub build: fn(&Loaded) -> anyhow::Result<App>,
}

impl Harness {
    /// Runs the command line.
    ///
    /// # Panics
    /// The program cannot be started again with Celery's variables.
    pub fn main(self) -> ExitCode {
        with_celerys_names(self.variables).expect("a program that runs can be started again");
        celeriac_cli::main(Program {
            name: self.name,
            version: env!("CARGO_PKG_VERSION"),
            about: self.about,
            app_names: self.app_names,
            tables: &[],
            build_app: Box::new(self.build),
            worker_options: Vec::new(),
            commands: Vec::new(),
        })
    }
}
