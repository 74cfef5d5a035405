//! `-l/--loglevel`, `-f/--logfile` and `--log-format`: for the worker and the program's own commands.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};

use super::level::Level;
use crate::nodename;

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Format {
    /// Celery's lines.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to log, where, and how.
#[derive(Debug, Clone)]
pub(crate) struct LogOptions {
    /// From which level on.
    pub(crate) level: Level,
    /// A file instead of stderr.
    pub(crate) file: Option<PathBuf>,
    /// Text or JSON.
    pub(crate) format: Format,
}

/// Adds the options, unless `command` has options of these names itself.
pub(crate) fn add_options(command: Command, default_level: &'static str) -> Command {
    let option = |id: &'static str| Arg::new(id).help_heading("Logging");
    let options = [
        option("loglevel")
            .short('l')
            .long("loglevel")
            .value_name("LEVEL")
            .default_value(default_level)
            .hide_default_value(true)
            .value_parser(Level::parse)
            .help(format!(
                "DEBUG, INFO, WARNING, ERROR, CRITICAL or FATAL, in any case [default: {default_level}]"
            )),
        option("logfile")
            .short('f')
            .long("logfile")
            .value_name("FILE")
            .help("Log to this file instead of stderr; %n, %h and %d stand for parts of the worker's name"),
        option("log_format")
            .long("log-format")
            .value_name("FORMAT")
            .default_value("text")
            .hide_default_value(true)
            .value_parser(parse_format)
            .help("text: Celery's lines; json: one object a line [default: text]"),
    ];
    options.into_iter().fold(command, |command, option| {
        let is_own = command
            .get_arguments()
            .any(|arg| arg.get_id() == option.get_id());
        if is_own { command } else { command.arg(option) }
    })
}

fn parse_format(typed: &str) -> Result<Format, String> {
    match typed.to_ascii_lowercase().as_str() {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err(format!("'{typed}' is not one of 'text', 'json'.")),
    }
}

impl LogOptions {
    /// What was typed; `node` is the name of the worker, for the file's abbreviations.
    ///
    /// A command without these options, or with options of its own by these names, logs warnings as
    /// text to stderr.
    ///
    /// # Errors
    /// An abbreviation that does not exist.
    pub(crate) fn of(matches: &ArgMatches, node: &str) -> Result<Self, String> {
        let level = get::<Level>(matches, "loglevel").unwrap_or(Level::Warning);
        let format = get::<Format>(matches, "log_format").unwrap_or(Format::Text);
        let file = get::<String>(matches, "logfile")
            .map(|path| nodename::expand_path(&path, node))
            .transpose()?;
        Ok(Self {
            level,
            file: file.map(PathBuf::from),
            format,
        })
    }
}

fn get<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> Option<T> {
    matches.try_get_one::<T>(id).ok().flatten().cloned()
}
