//! `celeriac consume`: makes a task of every file event.
//!
//! Counterpart: `worker/kafka_consumer.py`, which takes no options.

use celeriac_cli::{Command, CommandFuture, Loaded};
use clap::ArgMatches;
use tokio_util::sync::CancellationToken;

use super::options;
use crate::app;
use crate::pipeline::relay::relay;

const ABOUT: &str = "Send a task for every file event in Kafka";

const LONG_ABOUT: &str = "\
Read file events from Kafka and send worker.tasks.process_file_task for each of them.

A path is checked as text first: relative ones are taken against the working directory, and every one must lie below \
the watch directory. A record that is not acceptable is logged and kept in the topic TOPIC.dlq, with its place and the \
reason in headers; the next one is handled.

An offset is committed only when Redis has accepted the task (or Kafka the bad record). While Redis is away, records \
wait, nothing is committed, and the group is not left.";

const EXAMPLES: &str = "\
Examples:
  celeriac consume
  celeriac -b redis://cache:6379/0 consume --bootstrap-servers kafka-1:9092 --group nightly
  celeriac consume --watch-dir /srv/incoming -l debug";

/// The command.
pub(super) struct Consume;

impl Command for Consume {
    fn clap(&self) -> clap::Command {
        clap::Command::new("consume")
            .about(ABOUT)
            .long_about(LONG_ABOUT)
            .after_help(EXAMPLES)
            .arg(options::watch_dir())
            .arg(options::bootstrap_servers())
            .arg(options::topic())
            .arg(options::group())
    }

    fn run(&self, matches: &ArgMatches, loaded: Loaded) -> CommandFuture {
        let settings = options::settings(matches, &loaded);
        Box::pin(async move {
            let settings = settings?;
            let app = app::for_sending(&loaded)?;
            let stop = CancellationToken::new();
            options::until_signal(&stop, relay(&settings, app, &stop)).await??;
            Ok(())
        })
    }
}
