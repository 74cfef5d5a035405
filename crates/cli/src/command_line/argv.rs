//! What stands where in the arguments, before (and apart from) clap's own reading of them.
//!
//! Needed twice: to take passwords out of the arguments, and to say in a usage error which command it
//! was about.

use std::ffi::OsString;

use clap::{Arg, Command};

/// An option's value in the arguments.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    /// The option's id.
    pub(super) id: String,
    /// The value as typed.
    pub(super) value: String,
    /// The argument in which the option stands.
    pub(super) at: usize,
    /// What of that argument is left without the option: the other letters of `-Cb URL`.
    pub(super) left: Option<String>,
    /// The value stands in the next argument.
    pub(super) is_next: bool,
}

/// The arguments, understood as far as options and the command's name go.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The command's name, if there is one and it exists.
    pub(super) command: Option<String>,
    /// The argument that is the command's name.
    pub(super) command_at: Option<usize>,
    /// Every option with a value, in order.
    pub(super) values: Vec<Found>,
}

/// Reads `argv` (with the program's name first) by the options that `root` and its command define.
pub(super) fn scan(root: &Command, argv: &[OsString]) -> Scan {
    let mut scan = Scan::default();
    let mut at = 1;
    while at < argv.len() {
        let text = argv[at].to_string_lossy().into_owned();
        if text == "--" {
            break;
        }
        let next = argv
            .get(at + 1)
            .map(|next| next.to_string_lossy().into_owned());
        let options = options(root, scan.command.as_deref());
        if let Some(found) = value_at(&options, &text, at, next) {
            at += usize::from(found.is_next);
            scan.values.push(found);
        } else if !text.starts_with('-') && scan.command.is_none() {
            scan.command = root
                .find_subcommand(&text)
                .map(|command| command.get_name().to_owned());
            scan.command_at = scan.command.as_ref().map(|_| at);
        }
        at += 1;
    }
    scan
}

/// The options that may stand before (`None`) or behind the command's name.
fn options<'a>(root: &'a Command, command: Option<&str>) -> Vec<&'a Arg> {
    let own = command.and_then(|name| root.find_subcommand(name));
    root.get_arguments()
        .chain(own.into_iter().flat_map(Command::get_arguments))
        .filter(|arg| !arg.is_positional())
        .collect()
}

fn value_at(options: &[&Arg], text: &str, at: usize, next: Option<String>) -> Option<Found> {
    let found = |arg: &Arg, inline: Option<&str>, left: Option<String>| {
        let is_next = inline.is_none();
        Some(Found {
            id: arg.get_id().as_str().to_owned(),
            value: inline.map(str::to_owned).or(next)?,
            at,
            left,
            is_next,
        })
    };
    if let Some(long) = text.strip_prefix("--") {
        let (name, inline) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let arg = options.iter().find(|arg| arg.get_long() == Some(name))?;
        return if arg.get_action().takes_values() {
            found(arg, inline, None)
        } else {
            None
        };
    }
    let letters = text.strip_prefix('-')?;
    for (position, letter) in letters.char_indices() {
        let arg = options.iter().find(|arg| arg.get_short() == Some(letter))?;
        if arg.get_action().takes_values() {
            let rest = &letters[position + letter.len_utf8()..];
            let inline = Some(rest.strip_prefix('=').unwrap_or(rest)).filter(|_| !rest.is_empty());
            let left = (position > 0).then(|| format!("-{}", &letters[..position]));
            return found(arg, inline, left);
        }
    }
    None
}
