//! Usage errors as click prints them, so that whoever knows Celery's knows these.
//!
//! ```text
//! Usage: celeriac worker [OPTIONS]
//! Try 'celeriac worker --help' for help.
//!
//! Error: No such option '--foo'. Did you mean '--pool'?
//! ```
//!
//! Counterpart: click's exceptions and `click_didyoumean`, as Celery 5.7.0 shows them.

use std::error::Error as _;
use std::ffi::OsString;
use std::num::ParseIntError;

use celeriac::settings::mask_url;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

use super::argv;

/// Names less alike than this (0 to 1) are not suggested.
const LIKENESS_MIN: f64 = 0.6;

/// The text of an error about the command line, for stderr.
pub(crate) fn text(root: &Command, argv: &[OsString], error: &Error) -> String {
    let scan = argv::scan(root, argv);
    let command = scan
        .command
        .as_deref()
        .and_then(|name| root.find_subcommand(name));
    if is_without_usage(error) {
        let option = as_typed(argv, &option_names(root, command, error));
        return format!("Error: Option '{option}' requires an argument.\n");
    }
    // An option that stands before the command's name is about the program.
    let invalid = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let at = argv
        .iter()
        .position(|typed| option_name(&typed.to_string_lossy()) == option_name(invalid));
    let is_programs = at.is_some() && at < scan.command_at;
    let command = command.filter(|_| !is_programs);
    let message = message(root, command, error);
    format!("{}\nError: {message}\n", head(root, command))
}

/// The same for an error that is found after clap has read the command line.
pub(crate) fn text_of(root: &Command, command: Option<&str>, message: &str) -> String {
    let command = command.and_then(|name| root.find_subcommand(name));
    format!("{}\nError: {message}\n", head(root, command))
}

fn head(root: &Command, command: Option<&Command>) -> String {
    let program = root.get_name();
    match command {
        None => format!(
            "Usage: {program} [OPTIONS] [COMMAND] [ARGS]...\nTry '{program} --help' for help.\n"
        ),
        Some(command) => {
            let name = command.get_name();
            let mut arguments = String::new();
            for positional in command.get_positionals() {
                arguments.push(' ');
                let name = positional_name(positional);
                match positional.is_required_set() {
                    true => arguments.push_str(&name),
                    false => arguments.push_str(&format!("[{name}]...")),
                }
            }
            format!(
                "Usage: {program} {name} [OPTIONS]{arguments}\nTry '{program} {name} --help' for help.\n"
            )
        }
    }
}

fn positional_name(arg: &Arg) -> String {
    arg.get_value_names()
        .and_then(|names| names.first())
        .map_or_else(
            || arg.get_id().as_str().to_ascii_uppercase(),
            ToString::to_string,
        )
}

/// click prints no usage when an option lacks its value.
fn is_without_usage(error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidValue
        && context(error, ContextKind::InvalidValue).is_none_or(str::is_empty)
}

/// The names of the option that lacks its value: `-c`, `--concurrency`.
fn option_names(root: &Command, command: Option<&Command>, error: &Error) -> Vec<String> {
    let invalid = context(error, ContextKind::InvalidArg).unwrap_or_default();
    label(root, command, invalid)
        .split(" / ")
        .map(|name| name.trim_matches('\'').to_owned())
        .collect()
}

/// The one of an option's names that stands in the arguments.
fn as_typed(argv: &[OsString], names: &[String]) -> String {
    let typed = argv
        .iter()
        .rev()
        .find_map(|typed| names.iter().find(|name| *typed == *name.as_str()));
    typed.or(names.last()).cloned().unwrap_or_default()
}

fn message(root: &Command, command: Option<&Command>, error: &Error) -> String {
    let invalid = context(error, ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if invalid.starts_with('-') => {
            unknown_option(root, command, invalid)
        }
        ErrorKind::UnknownArgument => {
            format!("Got unexpected extra argument ({})", mask_url(invalid))
        }
        ErrorKind::InvalidSubcommand => unknown_command(
            root,
            context(error, ContextKind::InvalidSubcommand).unwrap_or_default(),
        ),
        ErrorKind::MissingRequiredArgument => format!("Missing argument '{}'.", bare(invalid)),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let value = mask_url(context(error, ContextKind::InvalidValue).unwrap_or_default());
            let reason = match error.source() {
                Some(source) if source.is::<ParseIntError>() => {
                    format!("'{value}' is not a valid integer.")
                }
                Some(source) => source.to_string(),
                None => format!("'{value}'{}", not_one_of(error)),
            };
            format!(
                "Invalid value for {}: {reason}",
                label(root, command, invalid)
            )
        }
        // Whatever else clap may find: its own first line, without what was typed in full.
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            mask_url(line.strip_prefix("error: ").unwrap_or(line))
        }
    }
}

/// The values that would have been right, where there is a list of them.
fn not_one_of(error: &Error) -> String {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
            let valid: Vec<String> = valid.iter().map(|value| format!("'{value}'")).collect();
            format!(" is not one of {}.", valid.join(", "))
        }
        _ => String::new(),
    }
}

fn unknown_option(root: &Command, command: Option<&Command>, typed: &str) -> String {
    let typed = typed.split('=').next().unwrap_or_default();
    let longs = root
        .get_arguments()
        .chain(command.into_iter().flat_map(Command::get_arguments))
        .filter_map(Arg::get_long)
        .map(|long| format!("--{long}"));
    let mut alike = alike(typed, longs);
    alike.truncate(3);
    match alike.as_slice() {
        [] => format!("No such option '{typed}'."),
        [one] => format!("No such option '{typed}'. Did you mean '{one}'?"),
        several => {
            let names: Vec<String> = several.iter().map(|name| format!("'{name}'")).collect();
            format!(
                "No such option '{typed}'. (Did you mean one of: {}?)",
                names.join(", ")
            )
        }
    }
}

fn unknown_command(root: &Command, typed: &str) -> String {
    let names = root
        .get_subcommands()
        .map(|command| command.get_name().to_owned());
    let typed = mask_url(typed);
    let mut text = format!("No such command '{typed}'.");
    let alike = alike(&typed, names);
    if !alike.is_empty() {
        text.push_str("\n\nDid you mean one of these?");
        for name in alike {
            text.push_str(&format!("\n    {name}"));
        }
    }
    text
}

/// The names that look like what was typed, the nearest first.
fn alike(typed: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<(f64, String)> = names
        .map(|name| (strsim::normalized_damerau_levenshtein(typed, &name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .collect();
    found.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    found.into_iter().map(|(_, name)| name).collect()
}

/// `'-l' / '--loglevel'`, from clap's `--loglevel <LEVEL>`.
fn label(root: &Command, command: Option<&Command>, invalid: &str) -> String {
    let name = option_name(invalid);
    let Some(long) = name.strip_prefix("--") else {
        return format!("'{}'", bare(name));
    };
    let arg = command
        .into_iter()
        .flat_map(Command::get_arguments)
        .chain(root.get_arguments())
        .find(|arg| arg.get_long() == Some(long));
    match arg.and_then(Arg::get_short) {
        Some(short) => format!("'-{short}' / '--{long}'"),
        None => format!("'--{long}'"),
    }
}

fn option_name(invalid: &str) -> &str {
    invalid.split([' ', '=']).next().unwrap_or_default()
}

fn bare(name: &str) -> &str {
    name.trim_matches(['<', '>', '[', ']', '.'])
}

fn context(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        ContextValue::Strings(texts) => texts.first().map(String::as_str),
        _ => None,
    }
}
