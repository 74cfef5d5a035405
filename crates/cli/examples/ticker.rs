//! A program with a command of its own beside Celery's: `tick` prints lines until Ctrl+C or TERM.
//!
//! `cargo run -p celeriac-cli --example ticker -- tick --every-ms 500`

use std::time::Duration;

use celeriac::App;
use celeriac_cli::{Command, CommandFuture, Loaded, Program, shutdown_signal};
use clap::{Arg, ArgMatches, value_parser};
use log::info;

struct Tick;

impl Command for Tick {
    fn clap(&self) -> clap::Command {
        clap::Command::new("tick")
            .about("Log a line again and again")
            .arg(
                Arg::new("every_ms")
                    .long("every-ms")
                    .default_value("500")
                    .value_parser(value_parser!(u64)),
            )
            .arg(
                Arg::new("goodbye_ms")
                    .long("goodbye-ms")
                    .default_value("0")
                    .value_parser(value_parser!(u64)),
            )
            // With a password on the command line, the URL is moved to the variable.
            .arg(
                Arg::new("where")
                    .long("where")
                    .value_name("URL")
                    .env("TICKER_URL"),
            )
    }

    fn run(&self, matches: &ArgMatches, loaded: Loaded) -> CommandFuture {
        let every = milliseconds(matches, "every_ms");
        let goodbye = milliseconds(matches, "goodbye_ms");
        let is_somewhere = matches.contains_id("where");
        Box::pin(async move {
            let ticks = async {
                for number in 1_u64.. {
                    info!(number, is_somewhere, tables = loaded.tables.len(); "tick");
                    tokio::time::sleep(every).await;
                }
            };
            // cancel-safe: a tick is nothing that could be lost.
            tokio::select! {
                () = ticks => {}
                stop = shutdown_signal() => stop?,
            }
            // What has been begun may be finished: a second signal is needed to end it here.
            tokio::time::sleep(goodbye).await;
            Ok(())
        })
    }
}

fn milliseconds(matches: &ArgMatches, option: &str) -> Duration {
    Duration::from_millis(matches.get_one(option).copied().unwrap_or_default())
}

fn main() -> std::process::ExitCode {
    celeriac_cli::main(Program {
        name: "ticker",
        version: env!("CARGO_PKG_VERSION"),
        about: "Ticks",
        app_names: &["ticker"],
        tables: &["ticker"],
        build_app: Box::new(|loaded| Ok(App::builder("ticker", loaded.settings.clone()).build()?)),
        worker_options: Vec::new(),
        commands: vec![Box::new(Tick)],
    })
}
