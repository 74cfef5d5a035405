//! The options that every command has, before or after its name.
//!
//! Counterpart: the group `celery` in `celery/bin/celery.py` @ 5.7.0. Deliberate differences: they may
//! also stand behind the command's name, `--config` names a TOML file instead of a Python module, and
//! `--loader` and `--skip-checks`, which are about Python modules and Django, do not exist. The variable
//! `APP` is not read, only `CELERY_APP`: the app is in the program, and a variable of that common name
//! would more often stop a worker than help it.

use std::env;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::exit::ExitStatus;
use crate::logging;
use crate::program::Program;
use crate::{call, dead_letter, result, worker};

use super::environment;

/// Options whose value may be a URL with a password, and the variable that takes its place.
pub(super) const URL_OPTIONS: [(&str, &str); 2] = [
    ("broker", "CELERY_BROKER_URL"),
    ("result_backend", "CELERY_RESULT_BACKEND"),
];

/// The values of the global options.
pub(crate) struct Global {
    /// `-A`.
    pub(crate) app: Option<String>,
    /// `-b`.
    pub(crate) broker: Option<String>,
    /// `--result-backend`.
    pub(crate) result_backend: Option<String>,
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
    /// `--workdir`.
    pub(crate) workdir: Option<PathBuf>,
    /// `-C`, or `NO_COLOR` in the environment.
    pub(crate) no_color: bool,
    /// `-q`.
    pub(crate) quiet: bool,
}

impl Global {
    /// Reads them from what was typed; an empty value is none, as in Celery.
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let text = |id: &str| {
            matches
                .get_one::<String>(id)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        let path = |id: &str| matches.get_one::<PathBuf>(id).cloned();
        Self {
            app: text("app").or_else(|| {
                env::var("CELERY_APP")
                    .ok()
                    .filter(|value| !value.is_empty())
            }),
            broker: text("broker"),
            result_backend: text("result_backend"),
            config: path("config"),
            workdir: path("workdir"),
            no_color: matches.get_flag("no_color") || is_set("NO_COLOR"),
            quiet: matches.get_flag("quiet"),
        }
    }
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// The whole command line of a program.
pub(crate) fn command_line(program: &Program) -> Command {
    let own = program.commands.iter().map(|command| {
        logging::add_options(command.clap(), command.default_loglevel())
            // A help text must not print the URL that is in the environment.
            .mut_args(|arg| arg.hide_env_values(true))
    });
    Command::new(program.name)
        .version(program.version)
        .about(program.about)
        .after_help(ExitStatus::HELP)
        .args_override_self(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(global_options())
        .subcommand(with_examples(
            program,
            environment::with_variables(worker::clap()).args(worker_options(program)),
        ))
        .subcommand(with_examples(
            program,
            environment::with_variables(call::clap()),
        ))
        .subcommand(with_examples(
            program,
            environment::with_variables(result::clap()),
        ))
        .subcommand(with_examples(program, dead_letter::clap()))
        .subcommands(own)
        // Like click, the last of several equal options counts.
        .mut_subcommands(|command| command.args_override_self(true))
}

/// What the program's tasks need to be told.
fn worker_options(program: &Program) -> Vec<Arg> {
    let options = program.worker_options.iter().cloned();
    options
        .map(|arg| arg.help_heading("Task Options").hide_env_values(true))
        .collect()
}

/// Fills the program's name and app into the examples of a command's help.
fn with_examples(program: &Program, command: Command) -> Command {
    let text = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let app = program.app_names.first().copied().unwrap_or_default();
    command.after_help(text.replace("PROGRAM", program.name).replace("APP", app))
}

fn global_options() -> Vec<Arg> {
    let option = |id: &'static str| Arg::new(id).global(true).help_heading("Global Options");
    vec![
        option("app")
            .short('A')
            .long("app")
            .value_name("APP")
            .help("The app; a name that this program does not have is refused [env: CELERY_APP]"),
        option("broker")
            .short('b')
            .long("broker")
            .value_name("URL")
            .help("Where the messages are [env: CELERY_BROKER_URL]"),
        option("result_backend")
            .long("result-backend")
            .value_name("URL")
            .help("Where results are stored [env: CELERY_RESULT_BACKEND]"),
        option("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("The settings file [env: CELERIAC_CONFIG] [default: celeriac.toml, if there]"),
        option("workdir")
            .long("workdir")
            .value_name("DIRECTORY")
            .value_parser(value_parser!(PathBuf))
            .help("Change to this directory before anything else"),
        option("no_color")
            .short('C')
            .long("no-color")
            .action(ArgAction::SetTrue)
            .help("No colours in the log, not even on a terminal"),
        option("quiet")
            .short('q')
            .long("quiet")
            .action(ArgAction::SetTrue)
            .help("No banner"),
        Arg::new("version")
            .long("version")
            .action(ArgAction::SetTrue)
            .help_heading("Global Options")
            .help("Print the version"),
    ]
}
