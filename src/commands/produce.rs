//! `celeriac produce`: announces new files to Kafka.
//!
//! Counterpart: `kafka_producer.py`, which takes no options.

use std::sync::Arc;
use std::time::Duration;

use celeriac_cli::{Command, CommandFuture, ExitError, ExitStatus, Loaded};
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use sensor_tasks::Ingest;
use tokio_util::sync::CancellationToken;

use super::options;
use crate::app;
use crate::pipeline::announcer::{AnnounceError, Scope, announce};
use crate::settings::Settings;

const ABOUT: &str = "Watch a directory and announce every new *.csv file to Kafka";

const LONG_ABOUT: &str = "\
Watch a directory and announce every new *.csv file (any case) to Kafka.

A file that is renamed into the directory is announced at once: that is the best way to deliver one. A file that is \
written in place is announced when its writer closes it; where that cannot be seen (it was there before the start, or \
the directory is a network mount), when its size and time of change have stayed the same for --settle-ms. Hidden \
files, *.tmp and *.part are left alone; directories, FIFOs, sockets and links are ignored with one log line.

What Kafka has acknowledged is written to a journal, so that a restart neither misses a file nor announces it again. \
While Kafka is away, files wait.

Where a database is named, a file that has no row in ingest_files after --announce-again-ms is announced again, so that \
not even a Kafka or Redis that has lost its data loses a file.";

const EXAMPLES: &str = "\
Examples:
  celeriac produce
  celeriac produce --watch-dir /srv/incoming --bootstrap-servers kafka-1:9092,kafka-2:9092
  celeriac produce --once --timeout 30";

/// The command.
pub(super) struct Produce;

impl Command for Produce {
    fn clap(&self) -> clap::Command {
        clap::Command::new("produce")
            .about(ABOUT)
            .long_about(LONG_ABOUT)
            .after_help(EXAMPLES)
            .arg(options::watch_dir())
            .arg(options::bootstrap_servers())
            .arg(options::topic())
            .arg(options::millis(
                "settle_ms",
                "settle-ms",
                "A file whose closing cannot be seen is complete after so long without a change [default: 2000]"
                    .to_owned(),
            ))
            .arg(options::millis(
                "rescan_ms",
                "rescan-ms",
                "Look at the whole directory this often, beside notification [default: 5000]".to_owned(),
            ))
            .arg(options::millis(
                "announce_again_ms",
                "announce-again-ms",
                "Announce a file again that has no row in ingest_files after so long; 0: never [default: 600000]"
                    .to_owned(),
            ))
            .arg(options::database_url())
            .arg(
                Arg::new("journal")
                    .long("journal")
                    .value_name("FILE")
                    .help("What Kafka has acknowledged [default: .celeriac-journal in the watch directory]"),
            )
            .arg(
                Arg::new("once")
                    .long("once")
                    .action(ArgAction::SetTrue)
                    .help("Announce what is there, and exit"),
            )
            .arg(
                Arg::new("timeout")
                    .long("timeout")
                    .value_name("SECONDS")
                    .requires("once")
                    .default_value("60")
                    .value_parser(value_parser!(u64).range(1..))
                    .help("With --once: give up when nothing moves for so long (Kafka away: exit code 69)"),
            )
    }

    fn run(&self, matches: &ArgMatches, loaded: Loaded) -> CommandFuture {
        let settings = options::settings(matches, &loaded);
        let timeout = matches
            .get_one::<u64>("timeout")
            .copied()
            .unwrap_or_default();
        let scope = match matches.get_flag("once") {
            true => Scope::WhatIsThere(Duration::from_secs(timeout)),
            false => Scope::All,
        };
        Box::pin(async move { produce(&settings?, scope).await })
    }
}

async fn produce(settings: &Settings, scope: Scope) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let ledger = ledger(settings, scope)?;
    let announced = announce(settings, scope, ledger, &stop);
    let announced = options::until_signal(&stop, announced).await?;
    match announced {
        Err(error @ AnnounceError::Unreachable { .. }) => {
            Err(ExitError::unavailable(error.to_string()).into())
        }
        Ok(()) if scope != Scope::All && stop.is_cancelled() => {
            let message = "interrupted before every file was announced; run it again to go on";
            Err(ExitError::new(ExitStatus::Interrupted, message).into())
        }
        other => Ok(other?),
    }
}

/// Where to look for what has become of announced files. `--once` does not stay for that.
fn ledger(settings: &Settings, scope: Scope) -> anyhow::Result<Option<Arc<Ingest>>> {
    if scope != Scope::All || settings.pipeline.announce_again.is_zero() {
        return Ok(None);
    }
    if !settings.names_database {
        log::info!(
            "No database is named (DATABASE_URL): a file that is lost behind Kafka is not announced again"
        );
        return Ok(None);
    }
    Ok(Some(Arc::new(app::ingest(settings, 1)?)))
}
