//! Keeps passwords out of the list of processes.
//!
//! Everyone on the machine may read a process's arguments (`ps`, `/proc/<pid>/cmdline`); its environment
//! only the same user. So when an option's value is a URL with a password, the program moves it to the
//! variable of the same meaning and executes itself anew, before it does anything else. The process
//! keeps its id. What remains is the moment between the two: a secret is best given in the environment
//! or the settings file from the start.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process;

use celeriac::settings::has_password;
use clap::Command;

use super::argv::{self, Found};
use super::options::URL_OPTIONS;

/// Variables that would win over those of [`URL_OPTIONS`], where the flag has to win.
const STRONGER: [(&str, &[&str]); 2] = [
    ("CELERY_BROKER_URL", &["BROKER_URL", "CELERY_BROKER"]),
    ("CELERY_RESULT_BACKEND", &["RESULT_BACKEND"]),
];

/// The same command line with its passwords in the environment.
#[derive(Debug, PartialEq)]
struct Moved {
    argv: Vec<OsString>,
    environment: Vec<(String, String)>,
}

/// Returns at once when there is no password in the arguments; otherwise the program begins anew without
/// them, and this does not return.
///
/// # Errors
/// The program could not be executed again.
pub(crate) fn hide(root: &Command, argv: &[OsString]) -> io::Result<()> {
    let Some(moved) = moved(root, argv) else {
        return Ok(());
    };
    let mut again = process::Command::new(env::current_exe()?);
    again.args(&moved.argv[1..]).arg0(&moved.argv[0]);
    for (variable, value) in moved.environment {
        let stronger = STRONGER.iter().find(|(weaker, _)| *weaker == variable);
        for name in stronger.map_or(&[][..], |(_, names)| names) {
            again.env_remove(name);
        }
        again.env(variable, value);
    }
    Err(again.exec())
}

fn moved(root: &Command, argv: &[OsString]) -> Option<Moved> {
    let scan = argv::scan(root, argv);
    let variable = |found: &Found| variable_of(root, scan.command.as_deref(), &found.id);
    let ids: Vec<&str> = scan
        .values
        .iter()
        .filter(|found| has_password(&found.value) && variable(found).is_some())
        .map(|found| found.id.as_str())
        .collect();
    if ids.is_empty() {
        return None;
    }
    let mut left: Vec<Option<OsString>> = argv.iter().cloned().map(Some).collect();
    let mut environment = Vec::new();
    // All of one option go, also those without a password: the last one counts, wherever it stands.
    for found in scan
        .values
        .iter()
        .filter(|found| ids.contains(&found.id.as_str()))
    {
        left[found.at] = found.left.as_ref().map(OsString::from);
        if found.is_next {
            left[found.at + 1] = None;
        }
        let variable = variable(found)?;
        environment.retain(|(name, _)| *name != variable);
        environment.push((variable, found.value.clone()));
    }
    Some(Moved {
        argv: left.into_iter().flatten().collect(),
        environment,
    })
}

/// The variable that means the same as an option.
fn variable_of(root: &Command, command: Option<&str>, id: &str) -> Option<String> {
    if let Some((_, variable)) = URL_OPTIONS.iter().find(|(option, _)| *option == id) {
        return Some((*variable).to_owned());
    }
    let command = root.find_subcommand(command?)?;
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_id().as_str() == id)?;
    Some(arg.get_env()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    fn root() -> Command {
        Command::new("celeriac")
            .arg(Arg::new("app").short('A').long("app").global(true))
            .arg(Arg::new("broker").short('b').long("broker").global(true))
            .arg(
                Arg::new("result_backend")
                    .long("result-backend")
                    .global(true),
            )
            .arg(
                Arg::new("no_color")
                    .short('C')
                    .action(ArgAction::SetTrue)
                    .global(true),
            )
            .subcommand(
                Command::new("consume").arg(
                    Arg::new("database")
                        .long("database-url")
                        .env("DATABASE_URL"),
                ),
            )
    }

    fn check(typed: &str, left: &str, environment: &[(&str, &str)]) {
        let argv: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
        let moved = moved(&root(), &argv).expect("there is a password");
        let left: Vec<OsString> = left.split(' ').map(OsString::from).collect();
        assert_eq!(moved.argv, left, "{typed}");
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(moved.environment, environment, "{typed}");
    }

    #[test]
    fn a_url_with_a_password_goes_to_the_environment_however_it_was_typed() {
        let url = "redis://:secret@h/0";
        let broker = [("CELERY_BROKER_URL", url)];
        for option in ["-b ", "-b", "-b=", "--broker ", "--broker="] {
            check(
                &format!("celeriac {option}{url} consume"),
                "celeriac consume",
                &broker,
            );
            check(
                &format!("celeriac consume {option}{url} -A x"),
                "celeriac consume -A x",
                &broker,
            );
        }
        check(
            &format!("celeriac -Cb {url} consume"),
            "celeriac -C consume",
            &broker,
        );
        check(
            &format!("celeriac --result-backend={url} consume"),
            "celeriac consume",
            &[("CELERY_RESULT_BACKEND", url)],
        );
    }

    #[test]
    fn an_option_of_the_program_goes_to_its_own_variable() {
        let url = "postgres://u:secret@h/db";
        check(
            &format!("celeriac consume --database-url {url}"),
            "celeriac consume",
            &[("DATABASE_URL", url)],
        );
    }

    #[test]
    fn of_several_equal_options_the_last_one_counts_and_none_stays() {
        check(
            "celeriac -b redis://:secret@h/0 consume -b redis://i/0",
            "celeriac consume",
            &[("CELERY_BROKER_URL", "redis://i/0")],
        );
    }

    #[test]
    fn without_a_password_nothing_is_moved() {
        for typed in [
            "celeriac -b redis://h/0 consume",
            "celeriac consume",
            "celeriac consume -- -b redis://:secret@h/0",
            "celeriac consume -b",
        ] {
            let argv: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
            assert_eq!(moved(&root(), &argv), None, "{typed}");
        }
    }
}
