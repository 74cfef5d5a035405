//! Celery's variables for options: `CELERY_<COMMAND>_<OPTION>`, as `CELERY_WORKER_CONCURRENCY`.
//!
//! Counterpart: click's `auto_envvar_prefix="CELERY"` in `celery/bin/celery.py` @ 5.7.0.

use std::env;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Command};

/// Lets each option of `command` be set by its variable; a flag by `true`, `1`, `yes` and the like. An empty variable is not set,
/// as in click.
pub(super) fn with_variables(command: Command) -> Command {
    let name = command.get_name().to_ascii_uppercase();
    command.mut_args(|arg| {
        let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
        if !(is_flag || arg.get_action().takes_values()) || arg.is_positional() {
            return arg;
        }
        let variable = format!(
            "CELERY_{name}_{}",
            arg.get_id().as_str().to_ascii_uppercase()
        );
        match env::var_os(&variable) {
            Some(value) if !value.is_empty() => {
                let arg = arg.env(variable).hide_env(true);
                match is_flag {
                    // yes, no, on, off, 1, 0 and the like, as click.
                    true => arg.value_parser(BoolishValueParser::new()),
                    false => arg,
                }
            }
            _ => arg,
        }
    })
}
