//! From the arguments to the exit code.
//!
//! In this order: passwords out of the arguments, read them, change directory, check the app's name,
//! look for a failpoint, load the settings, start the log, run the command in a runtime, say in one line what went wrong.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use celeriac::Settings;
use celeriac::settings::{Sources, has_password, mask_url};
use clap::error::ErrorKind;
use clap::{ArgMatches, Command};
use tokio::runtime::{Builder, Runtime};

use crate::command_line::{self, Global};
use crate::exit::{ExitError, ExitStatus};
use crate::logging::{self, LogOptions};
use crate::program::{Loaded, Program};
use crate::{call, dead_letter, output, result, worker};

/// How long threads that still work may hold up the end of the process, once the command is done.
const LEFTOVERS_MAX: Duration = Duration::from_secs(1);

/// Runs a program by the arguments and environment of this process, and returns its exit code.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a program is made to be run, once"
)]
pub fn main(program: Program) -> ExitCode {
    let argv: Vec<OsString> = env::args_os().collect();
    run(&program, &argv).into()
}

fn run(program: &Program, argv: &[OsString]) -> ExitStatus {
    let root = command_line::command_line(program);
    if let Err(error) = command_line::hide(&root, argv) {
        output::to_stderr(&format!(
            "Error: cannot take the password out of the arguments ({error}); put it into the environment\n"
        ));
        return ExitStatus::Failed;
    }
    let matches = match root.clone().try_get_matches_from(argv) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp) => {
            output::to_stdout(&error.to_string());
            return ExitStatus::Ok;
        }
        Err(error) => {
            output::to_stderr(&command_line::text(&root, argv, &error));
            return ExitStatus::Usage;
        }
    };
    if matches.get_flag("version") {
        output::to_stdout(&format!("{} ({})\n", program.version, program.name));
        return ExitStatus::Ok;
    }
    let Some((name, own)) = matches.subcommand() else {
        let mut root = root;
        output::to_stdout(&root.render_help().to_string());
        return ExitStatus::Ok;
    };
    match dispatch(program, name, own) {
        Ok(status) => status,
        Err(error) => report(&root, name, &error),
    }
}

fn dispatch(program: &Program, name: &str, matches: &ArgMatches) -> anyhow::Result<ExitStatus> {
    let global = Global::of(matches);
    if let Some(directory) = &global.workdir {
        env::set_current_dir(directory)
            .with_context(|| format!("cannot change to the directory {}", directory.display()))?;
    }
    check_app(program, global.app.as_deref())?;
    celeriac::check_failpoint()?;
    let loaded = load(program, &global, matches)?;
    let node = if name == "worker" {
        worker::node(matches)
    } else {
        String::new()
    };
    let log = LogOptions::of(matches, &node).map_err(ExitError::usage)?;
    logging::start(&log, global.no_color)?;
    if name == "worker" && worker::is_parent(matches) {
        return worker::supervise();
    }
    let mut runtime = Builder::new_multi_thread();
    if name == "worker" {
        runtime.max_blocking_threads(worker::blocking_threads(matches, &loaded.settings));
    }
    let runtime = runtime
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = execute(&runtime, program, name, matches, &global, loaded);
    runtime.shutdown_timeout(LEFTOVERS_MAX);
    outcome
}

fn execute(
    runtime: &Runtime,
    program: &Program,
    name: &str,
    matches: &ArgMatches,
    global: &Global,
    loaded: Loaded,
) -> anyhow::Result<ExitStatus> {
    runtime.block_on(async {
        match name {
            "worker" => worker::run(program, matches, global, loaded).await,
            "call" => call::run(program, matches, loaded)
                .await
                .map(|()| ExitStatus::Ok),
            "result" => result::run(program, matches, loaded)
                .await
                .map(|()| ExitStatus::Ok),
            "dead-letter" => dead_letter::run(program, matches, loaded).await,
            own => {
                let command = program
                    .commands
                    .iter()
                    .find(|command| command.clap().get_name() == own)
                    .expect("clap accepts only commands that the program has");
                command.run(matches, loaded).await.map(|()| ExitStatus::Ok)
            }
        }
    })
}

/// Celery's error for a module that is not there, and what there is.
fn check_app(program: &Program, app: Option<&str>) -> Result<(), AppNotFound> {
    let Some(app) = app else { return Ok(()) };
    let module = app.split(':').next().unwrap_or_default();
    if program.app_names.contains(&module) {
        return Ok(());
    }
    Err(AppNotFound(format!(
        "\nUnable to load celery application.\nThe module {module} was not found.\n\
         This program has {}.",
        program.app_names.join(", ")
    )))
}

/// Apart from other usage errors: it is about the program, whichever command follows.
#[derive(Debug)]
struct AppNotFound(String);

impl std::fmt::Display for AppNotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AppNotFound {}

fn load(program: &Program, global: &Global, options: &ArgMatches) -> anyhow::Result<Loaded> {
    let loaded = Settings::load(&Sources {
        broker_url: global.broker.clone(),
        result_backend: global.result_backend.clone(),
        config: global.config.clone(),
        program_tables: program.tables.iter().map(ToString::to_string).collect(),
    })?;
    Ok(Loaded {
        settings: loaded.settings,
        tables: loaded.tables,
        file: loaded.file,
        options: options.clone(),
    })
}

/// Says what went wrong, and with which exit code.
fn report(root: &Command, name: &str, error: &anyhow::Error) -> ExitStatus {
    if let Some(AppNotFound(message)) = error.downcast_ref() {
        output::to_stderr(&command_line::text_of(root, None, message));
        return ExitStatus::Usage;
    }
    let status = error
        .downcast_ref()
        .map_or(ExitStatus::Failed, ExitError::status);
    let message = masked(&in_one_line(error));
    if status == ExitStatus::Usage {
        output::to_stderr(&command_line::text_of(root, Some(name), &message));
    } else if !message.is_empty() {
        output::to_stderr(&format!("Error: {message}\n"));
    }
    status
}

/// The error and its causes, without those that an error before them has told already.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// The last place where a password in some library's error can be caught.
fn masked(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|word| {
            if word.contains("://") && has_password(word) {
                mask_url(word)
            } else {
                word.to_owned()
            }
        })
        .collect()
}
