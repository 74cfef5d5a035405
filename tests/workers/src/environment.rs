//! A harness has variables of its own; the command line reads Celery's.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Starts this program once more if one of the harness's variables is not yet in the one that Celery reads. Pairs of names:
/// the harness's, Celery's.
///
/// # Errors
/// The program cannot be started again.
pub(crate) fn with_celerys_names(variables: &[(&str, &str)]) -> std::io::Result<()> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1));
    let mut is_needed = false;
    for (theirs, celerys) in variables {
        if let Some(value) = env::var_os(theirs).filter(|value| !value.is_empty())
            && env::var_os(celerys).as_ref() != Some(&value)
        {
            command.env(celerys, value);
            is_needed = true;
        }
    }
    match is_needed {
        true => Err(command.exec()),
        false => Ok(()),
    }
}
