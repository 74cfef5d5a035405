//! `worker`: takes messages and runs tasks until it is told to stop.
//!
//! Counterpart: `celery/bin/worker.py` and `celery/apps/worker.py` @ 5.7.0. Deliberate differences:
//! - An option exists only where it has an effect, or where what it asks for is so anyway:
//!   `--without-gossip`, `--without-mingle` and `--without-heartbeat` (this worker does none of these)
//!   and `-O` (a task always goes to whoever is free). Whoever types those from habit gets what they mean.
//! - `-P` takes Celery's names; the banner says what really runs the tasks. `solo` runs one at a time.
//! - `--prefetch-multiplier 0` means no limit, as in the settings (there, the flag's 0 is ignored).

use std::num::NonZero;
use std::thread;

use anyhow::Context;
use celeriac::{App, Settings, Shutdown, Worker, WorkerOptions, clock};
use chrono::Local;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::banner::Banner;
use crate::exit::{ExitError, ExitStatus};
use crate::logging::{self, Level};
use crate::nodename;
use crate::options::Global;
use crate::output;
use crate::pidfile::Pidfile;
use crate::program::{Loaded, Program};
use crate::signals::WorkerSignals;

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

/// What really runs the tasks, whatever `-P` says.
const POOL: &str = "tokio";

const EXAMPLES: &str = "\
Examples:
  PROGRAM -A APP worker --loglevel=info
  PROGRAM -A APP worker -l info -Q hipri,lopri -c 8 -n w1@%h
  REMAP_SIGTERM=SIGQUIT PROGRAM -A APP worker

Signals: TERM finishes what runs and stops; QUIT gives everything back and stops;
Ctrl+C is TERM the first time and QUIT the second.
Every option with a value can also be set as CELERY_WORKER_<OPTION>.";

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
                .value_parser(parse_multiplier),
        )
        .arg(
            Arg::new("pidfile")
                .long("pidfile")
                .value_name("FILE")
                .help("Write the process id here; refuse to start while its owner lives")
                .help_heading("Worker Options"),
        )
        .args(pool_options())
        .args(queue_options())
        .args(options_that_are_so_anyway());
    logging::add_options(command, "WARNING")
}

fn pool_options() -> [Arg; 2] {
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
    ]
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

fn options_that_are_so_anyway() -> [Arg; 4] {
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
        flag("without_heartbeat", "without-heartbeat"),
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
enum Concurrency {
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

fn parse_multiplier(typed: &str) -> Result<usize, String> {
    match typed.trim().parse::<i64>() {
        Ok(number) => {
            usize::try_from(number).map_err(|_| format!("{typed} is not in the range x>=0."))
        }
        Err(_) => Err(format!("'{typed}' is not a valid integer.")),
    }
}

/// The worker's name, as `-n` says or by default.
pub(crate) fn node(matches: &ArgMatches) -> String {
    matches
        .get_one::<String>("hostname")
        .cloned()
        .unwrap_or_else(|| format!("celery@{}", nodename::host()))
}

/// Runs the worker to its end.
///
/// # Errors
/// The app cannot be made, the pidfile is taken, or the worker gives up.
pub(crate) async fn run(
    program: &Program,
    matches: &ArgMatches,
    global: &Global,
    mut loaded: Loaded,
) -> anyhow::Result<ExitStatus> {
    let node = node(matches);
    apply(matches, &mut loaded.settings);
    let queues = queues(matches, &loaded.settings)?;
    let concurrency = concurrency(matches, &loaded.settings);
    warn_superuser();
    let _pidfile = match matches.get_one::<String>("pidfile") {
        Some(path) => Some(Pidfile::create(
            nodename::expand_path(path, &node)
                .map_err(ExitError::usage)?
                .as_ref(),
        )?),
        None => None,
    };
    let app = (program.build_app)(&loaded)?;
    if !global.quiet {
        print_banner(program, matches, &app, &node, concurrency, &queues);
    }
    let mut signals = WorkerSignals::listen().context("cannot listen to signals")?;
    let shutdown = Shutdown::new();
    let worker = Worker::new(
        app,
        WorkerOptions {
            hostname: node,
            concurrency,
            queues,
        },
    );
    tokio::select! {
        outcome = worker.run(shutdown.clone()) => outcome?,
        // cancel-safe: it has passed on what it has received. It returns only when all has to end now;
        // what the worker still holds then is given back by whoever finds it silent.
        () = signals.pass_on(&shutdown) => {}
    }
    Ok(signals.status())
}

fn apply(matches: &ArgMatches, settings: &mut Settings) {
    if let Some(multiplier) = matches.get_one::<usize>("prefetch_multiplier") {
        settings.worker_prefetch_multiplier = *multiplier;
    }
    match matches.get_one::<Concurrency>("concurrency") {
        Some(Concurrency::Number(number)) => settings.worker_concurrency = Some(*number),
        Some(Concurrency::Auto) => settings.worker_concurrency = None,
        Some(Concurrency::Settings) | None => {}
    }
}

fn pool(matches: &ArgMatches) -> Option<&str> {
    matches.get_one::<String>("pool").map(String::as_str)
}

fn concurrency(matches: &ArgMatches, settings: &Settings) -> usize {
    if pool(matches) == Some("solo") {
        return 1;
    }
    // Looks at the CPU quota and affinity too, as Celery's auto does.
    let cpus = || thread::available_parallelism().map_or(1, NonZero::get);
    settings.worker_concurrency.unwrap_or_else(cpus)
}

fn queues(matches: &ArgMatches, settings: &Settings) -> Result<Vec<String>, ExitError> {
    let names = |id: &str| -> Vec<String> {
        let text = matches.get_one::<String>(id).map_or("", String::as_str);
        let mut names: Vec<String> = Vec::new();
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    };
    let mut queues = names("queues");
    if queues.is_empty() {
        queues.push(settings.task_default_queue.clone());
    }
    let excluded = names("exclude_queues");
    queues.retain(|queue| !excluded.contains(queue));
    if queues.is_empty() {
        return Err(ExitError::usage(
            "Invalid value for '-X' / '--exclude-queues': no queue is left to take from.",
        ));
    }
    Ok(queues)
}

fn warn_superuser() {
    if rustix::process::geteuid().is_root() {
        output::to_stderr(
            "SecurityWarning: You're running the worker with superuser privileges: this is not \
             recommended. Start it as another user.\n",
        );
    }
}

fn print_banner(
    program: &Program,
    matches: &ArgMatches,
    app: &App,
    node: &str,
    concurrency: usize,
    queues: &[String],
) {
    let concurrency = match pool(matches) {
        Some(asked) => format!("{concurrency} ({POOL}, for {asked})"),
        None => format!("{concurrency} ({POOL})"),
    };
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let platform = [system.sysname(), system.release(), system.machine()]
        .map(text)
        .join("-");
    let is_listing = matches
        .get_one::<Level>("loglevel")
        .is_some_and(|level| *level <= Level::Info);
    let tasks = is_listing.then(|| app.task_names());
    let banner = Banner {
        node,
        version: &format!("{} ({})", program.version, program.name),
        platform: &platform,
        at: clock::now().with_timezone(&Local),
        app: app.name(),
        transport: &app.settings().masked_broker_url(),
        results: &app.settings().masked_result_backend(),
        concurrency: &concurrency,
        queues,
        tasks: tasks.as_deref(),
    };
    output::to_stdout(&banner.text());
}
