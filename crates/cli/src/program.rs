//! What a program is made of: its name, its app, and the commands that it has beside Celery's.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use celeriac::{App, Settings};
use clap::ArgMatches;

/// A program with Celery's command line.
pub struct Program {
    /// The name of the program, as in its usage and its banner.
    pub name: &'static str,
    /// Its version, as in `--version` and the banner.
    pub version: &'static str,
    /// One sentence for the help.
    pub about: &'static str,
    /// The names that `-A` may say, the first one being the app's; `worker.tasks` also stands for
    /// `worker.tasks:app`.
    pub app_names: &'static [&'static str],
    /// Tables of the settings file that the program reads itself.
    pub tables: &'static [&'static str],
    /// Makes the app. Runs inside the runtime, and not before a command needs the app.
    pub build_app: BuildApp,
    /// Options of the `worker` command beside Celery's, for what the tasks need; `build_app` finds what
    /// was typed in [`Loaded::options`].
    pub worker_options: Vec<clap::Arg>,
    /// Commands beside Celery's.
    pub commands: Vec<Box<dyn Command>>,
}

/// Makes the app from the settings.
pub type BuildApp = Box<dyn Fn(&Loaded) -> anyhow::Result<App>>;

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("app_names", &self.app_names)
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}

/// What a [`Command`] returns: its work, run to its end on the runtime's main thread.
pub type CommandFuture = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// A command of the program's own.
///
/// Beside its own options it has the global ones, and `-l/--loglevel`, `-f/--logfile` and
/// `--log-format` unless it defines options of these names itself. An option with `.env("NAME")` whose
/// value on the command line is a URL with a password is moved to that variable before anything else
/// happens, so that the password does not stay in the list of processes.
pub trait Command {
    /// Its name, options and help. The letters `A b C q l f h` are taken.
    fn clap(&self) -> clap::Command;

    /// From which level on it logs unless `-l` says otherwise.
    fn default_loglevel(&self) -> &'static str {
        "INFO"
    }

    /// Does the work. To stop cleanly on Ctrl+C and TERM, wait for [`crate::shutdown_signal`].
    fn run(&self, matches: &ArgMatches, loaded: Loaded) -> CommandFuture;
}

/// The settings as they hold: flag > environment > file > default.
#[derive(Clone)]
pub struct Loaded {
    /// Celery's settings.
    pub settings: Settings,
    /// The program's own tables of the settings file, each under its name, unparsed.
    pub tables: toml::Table,
    /// The settings file, if one was read.
    pub file: Option<PathBuf>,
    /// The options of the command that runs.
    pub options: ArgMatches,
}

impl fmt::Debug for Loaded {
    /// The tables' names only: what is in them may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("settings", &self.settings)
            .field("tables", &self.tables.keys().collect::<Vec<_>>())
            .field("file", &self.file)
            .finish()
    }
}
