//! The options of `worker`, and their values.
//!
//! Counterpart: the options in `celery/bin/worker.py` @ 5.7.0.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::{logging, nodename};

/// Celery's pools, in its order.
const POOLS: [&str; 7] = [
    "prefork",
    "eventlet",
    "gevent",
    "solo",
    "processes",
    "threads",
    "custom",
];

const EXAMPLES: &str = "\
Examples:
  PROGRAM -A APP worker --loglevel=info
  PROGRAM -A APP worker -l info -Q hipri,lopri -c 8 -n w1@%h
  REMAP_SIGTERM=SIGQUIT PROGRAM -A APP worker

Signals: TERM finishes what runs and stops; QUIT gives everything back and stops;
Ctrl+C is TERM the first time and QUIT the second.
Every option can also be set as CELERY_WORKER_<OPTION>.";

/// The command's options.
pub(crate) fn clap() -> Command {
    let command = Command::new("worker")
        .about("Start worker instance")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("hostname")
                .short('n')
                .long("hostname")
                .value_name("NAME")
                .help("The worker's name [default: celery@%h]; %h: host, %n: name, %d: domain")
                .help_heading("Worker Options")
                .value_parser(|typed: &str| nodename::node_name(typed, &nodename::host())),
        )
        .arg(
            Arg::new("prefetch_multiplier")
                .long("prefetch-multiplier")
                .value_name("NUMBER")
                .help("Messages taken ahead for each task that can run; 0: no limit")
                .help_heading("Worker Options")
                .allow_negative_numbers(true)
                .value_parser(parse_count),
        )
        .arg(
            Arg::new("disable_prefetch")
                .long("disable-prefetch")
                .help("Take a message only when it can start at once")
                .help_heading("Worker Options")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("pidfile")
                .long("pidfile")
                .value_name("FILE")
                .help("Write the process id here; refuse to start while its owner lives")
                .help_heading("Worker Options"),
        )
        .arg(
            Arg::new("supervise")
                .long("supervise")
                .action(ArgAction::SetTrue)
                .help("Start the worker anew when it crashes, from a small parent process")
                .help_heading("Worker Options"),
        )
        .arg(
            Arg::new("statedb")
                .short('S')
                .long("statedb")
                .value_name("FILE")
                .help("Keep the ids of revoked tasks here across a restart")
                .help_heading("Worker Options"),
        )
        .args(pool_options())
        .args(queue_options())
        .args(heartbeat_options())
        .args(options_that_are_so_anyway());
    logging::add_options(command, "WARNING")
}

fn pool_options() -> [Arg; 5] {
    [
        Arg::new("concurrency")
            .short('c')
            .long("concurrency")
            .value_name("N|auto")
            .help("How many tasks run at the same time; auto or 0: as many as there are CPUs")
            .help_heading("Pool Options")
            .allow_negative_numbers(true)
            .value_parser(parse_concurrency),
        Arg::new("pool")
            .short('P')
            .long("pool")
            .value_name("POOL")
            .help("Celery's names; solo: one task at a time; else there is one pool, of async tasks and threads")
            .help_heading("Pool Options")
            .value_parser(parse_pool),
        Arg::new("task_events")
            .short('E')
            .long("task-events")
            .visible_alias("events")
            .action(ArgAction::SetTrue)
            .help("Tell monitors (Flower, celery events) what happens to the tasks")
            .help_heading("Pool Options"),
        time_limit("time_limit", "time-limit", "End a task after so many seconds"),
        time_limit(
            "soft_time_limit",
            "soft-time-limit",
            "Tell a task after so many seconds that it is to end",
        ),
    ]
}

/// Weaker than what the message, the task or the settings say, as in Celery.
fn time_limit(id: &'static str, long: &'static str, help: &str) -> Arg {
    Arg::new(id)
        .long(long)
        .value_name("SECONDS")
        .help(format!("{help}, where nothing else says when"))
        .help_heading("Pool Options")
        .allow_negative_numbers(true)
        .value_parser(parse_seconds)
}

fn queue_options() -> [Arg; 2] {
    [
        Arg::new("queues")
            .short('Q')
            .long("queues")
            .value_name("QUEUES")
            .help("The queues to take from, separated by commas")
            .help_heading("Queue Options"),
        Arg::new("exclude_queues")
            .short('X')
            .long("exclude-queues")
            .value_name("QUEUES")
            .help("Queues not to take from, separated by commas")
            .help_heading("Queue Options"),
    ]
}

fn heartbeat_options() -> [Arg; 2] {
    [
        Arg::new("without_heartbeat")
            .long("without-heartbeat")
            .action(ArgAction::SetTrue)
            .help("Do not tell monitors that the worker lives")
            .help_heading("Features"),
        Arg::new("heartbeat_interval")
            .long("heartbeat-interval")
            .value_name("SECONDS")
            .help("How often to tell them [default: 2]")
            .help_heading("Features")
            .allow_negative_numbers(true)
            .value_parser(parse_count),
    ]
}

fn options_that_are_so_anyway() -> [Arg; 3] {
    let flag = |id: &'static str, long: &'static str| {
        Arg::new(id)
            .long(long)
            .action(ArgAction::SetTrue)
            .help("Always so: this worker has none")
            .help_heading("Features")
    };
    [
        Arg::new("optimization")
            .short('O')
            .long("optimization")
            .value_name("PROFILE")
            .help("default or fair: this worker is always fair")
            .help_heading("Features")
            .value_parser(|typed: &str| one_of(typed, &["default", "fair"])),
        flag("without_gossip", "without-gossip"),
        flag("without_mingle", "without-mingle"),
    ]
}

fn parse_pool(typed: &str) -> Result<String, String> {
    one_of(typed, &POOLS)
}

fn one_of(typed: &str, choices: &[&str]) -> Result<String, String> {
    if choices.contains(&typed) {
        Ok(typed.to_owned())
    } else {
        Err(format!(
            "'{typed}' is not one of '{}'.",
            choices.join("', '")
        ))
    }
}

/// A number of tasks; 0 for what the settings say. `auto` goes past the settings, to the machine.
#[derive(Debug, Clone, Copy)]
pub(super) enum Concurrency {
    Settings,
    Auto,
    Number(usize),
}

fn parse_concurrency(typed: &str) -> Result<Concurrency, String> {
    if typed.eq_ignore_ascii_case("auto") {
        return Ok(Concurrency::Auto);
    }
    match typed.trim().parse::<usize>() {
        Ok(0) => Ok(Concurrency::Settings),
        Ok(number) => Ok(Concurrency::Number(number)),
        Err(_) => Err(format!(
            "must be a non-negative integer or 'auto', got '{typed}'"
        )),
    }
}

fn parse_count(typed: &str) -> Result<usize, String> {
    match typed.trim().parse::<i64>() {
        Ok(number) => {
            usize::try_from(number).map_err(|_| format!("{typed} is not in the range x>=0."))
        }
        Err(_) => Err(format!("'{typed}' is not a valid integer.")),
    }
}

fn parse_seconds(typed: &str) -> Result<Duration, String> {
    let seconds = typed.trim().parse::<f64>();
    let seconds = seconds.map_err(|_| format!("'{typed}' is not a valid float."))?;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{typed} is not in the range x>=0."))
}

/// The worker's name, as `-n` says or by default.
pub(crate) fn node(matches: &ArgMatches) -> String {
    matches
        .get_one::<String>("hostname")
        .cloned()
        .unwrap_or_else(|| format!("celery@{}", nodename::host()))
}
