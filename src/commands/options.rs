//! Options that several commands have, and what all of them do with a signal.

use std::future::Future;
use std::pin::pin;

use celeriac_cli::{Loaded, shutdown_signal};
use clap::{Arg, ArgMatches, value_parser};
use tokio_util::sync::CancellationToken;

use crate::settings::{Flags, Settings, SettingsError};

pub(super) fn watch_dir() -> Arg {
    text(
        "watch_dir",
        "DIRECTORY",
        "WATCH_DIR",
        "data",
        "Where files are dropped; every path must lie below it",
    )
}

pub(super) fn quarantine_dir() -> Arg {
    text(
        "quarantine_dir",
        "DIRECTORY",
        "QUARANTINE_DIR",
        "quarantine",
        "Where bad files go",
    )
}

pub(super) fn log_dir() -> Arg {
    text(
        "log_dir",
        "DIRECTORY",
        "LOG_DIR",
        "logs",
        "Where errors.log is",
    )
}

/// Tied to its variable, so that a password that was typed is moved there.
pub(super) fn database_url() -> Arg {
    Arg::new("database_url")
        .long("database-url")
        .value_name("URL")
        .env("DATABASE_URL")
        .help("PostgreSQL; without it libpq's PG* variables count")
}

pub(super) fn bootstrap_servers() -> Arg {
    text(
        "bootstrap_servers",
        "HOST:PORT,…",
        "KAFKA_BOOTSTRAP_SERVERS",
        "localhost:9092",
        "Kafka's addresses",
    )
}

pub(super) fn topic() -> Arg {
    text(
        "topic",
        "TOPIC",
        "KAFKA_TOPIC",
        "file_events",
        "The topic of file events; bad records go to TOPIC.dlq",
    )
}

pub(super) fn group() -> Arg {
    text(
        "group",
        "GROUP",
        "KAFKA_GROUP",
        "file-processing-group",
        "The consumer group",
    )
}

pub(super) fn millis(id: &'static str, long: &'static str, help: String) -> Arg {
    Arg::new(id)
        .long(long)
        .value_name("MS")
        .value_parser(value_parser!(u64))
        .help(help)
}

/// The default stands in the help only: the settings file comes between the variable and it.
fn text(
    id: &'static str,
    value: &'static str,
    variable: &'static str,
    default: &str,
    help: &str,
) -> Arg {
    Arg::new(id)
        .long(id.replace('_', "-"))
        .value_name(value)
        .help(format!("{help} [env: {variable}] [default: {default}]"))
}

/// The settings, with what the command's flags say.
///
/// # Errors
/// A setting that is wrong.
pub(crate) fn settings(matches: &ArgMatches, loaded: &Loaded) -> Result<Settings, SettingsError> {
    let text = |id: &str| {
        let value = matches.try_get_one::<String>(id).ok().flatten();
        value.filter(|value| !value.is_empty()).cloned()
    };
    let count = |id: &str| matches.try_get_one::<u64>(id).ok().flatten().copied();
    let flags = Flags {
        watch_dir: text("watch_dir"),
        quarantine_dir: text("quarantine_dir"),
        log_dir: text("log_dir"),
        settle_ms: count("settle_ms"),
        rescan_ms: count("rescan_ms"),
        announce_again_ms: count("announce_again_ms"),
        journal: text("journal"),
        bootstrap_servers: text("bootstrap_servers"),
        topic: text("topic"),
        group: text("group"),
        database_url: text("database_url"),
    };
    Settings::of_process(&flags, loaded)
}

/// Does the work; the first INT or TERM cancels `stop`, on which the work is to end by itself.
///
/// # Errors
/// The system refuses to tell about signals.
pub(super) async fn until_signal<T>(
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> anyhow::Result<T> {
    let mut work = pin!(work);
    tokio::select! {
        // The signals are listened to before anything is done: from then on none ends the process unasked.
        biased;
        // cancel-safe: a signal that comes later stays pending.
        heard = shutdown_signal() => heard?,
        // cancel-safe: it is awaited again below.
        done = &mut work => return Ok(done),
    }
    stop.cancel();
    Ok(work.await)
}
