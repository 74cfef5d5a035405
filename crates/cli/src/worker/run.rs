//! Runs a worker: settings, pidfile, app, banner, and then until it is told to stop.

use std::ffi::CStr;
use std::num::NonZero;
use std::os::unix::process::CommandExt;
use std::time::Duration;
use std::{env, io, process, thread};

use anyhow::Context;
use celeriac::{App, DEFAULT_HEARTBEAT, Settings, Shutdown, Worker, WorkerOptions, clock};
use chrono::Local;
use clap::ArgMatches;

use super::banner::Banner;
use super::options::{Concurrency, node};
use super::pidfile::Pidfile;
use super::signals::WorkerSignals;
use super::supervise;
use crate::command_line::Global;
use crate::exit::{ExitError, ExitStatus};
use crate::logging::Level;
use crate::nodename;
use crate::output;
use crate::program::{Loaded, Program};

/// What really runs the tasks, whatever `-P` says.
const POOL: &str = "tokio";

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
    apply(matches, &node, &mut loaded.settings)?;
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
    let succession = supervise::succession()?;
    let mut signals = WorkerSignals::listen().context("cannot listen to signals")?;
    let shutdown = Shutdown::new();
    let worker = Worker::new(
        app,
        WorkerOptions {
            hostname: node,
            concurrency,
            queues,
            heartbeat: heartbeat(matches),
            time_limit: matches.get_one::<Duration>("time_limit").copied(),
            soft_time_limit: matches.get_one::<Duration>("soft_time_limit").copied(),
            succession,
        },
    );
    tokio::select! {
        outcome = worker.run(shutdown.clone()) => outcome?,
        // cancel-safe: it has passed on what it has received. It returns only when all has to end now;
        // what the worker still holds then is given back by whoever finds it silent.
        () = signals.pass_on(&shutdown) => {}
    }
    if signals.is_restart() {
        return Err(restart()).context("cannot begin anew");
    }
    Ok(signals.status())
}

/// The same program with the same arguments, environment and process id. Returns only if it cannot be.
fn restart() -> io::Error {
    match env::current_exe() {
        Ok(program) => process::Command::new(program)
            .args(env::args_os().skip(1))
            .exec(),
        Err(error) => error,
    }
}

fn apply(matches: &ArgMatches, node: &str, settings: &mut Settings) -> Result<(), ExitError> {
    if let Some(multiplier) = matches.get_one::<usize>("prefetch_multiplier") {
        settings.worker_prefetch_multiplier = *multiplier;
    }
    if matches.get_flag("disable_prefetch") {
        settings.worker_disable_prefetch = true;
    }
    match matches.get_one::<Concurrency>("concurrency") {
        Some(Concurrency::Number(number)) => settings.worker_concurrency = Some(*number),
        Some(Concurrency::Auto) => settings.worker_concurrency = None,
        Some(Concurrency::Settings) | None => {}
    }
    settings.worker_send_task_events |= matches.get_flag("task_events");
    if let Some(path) = matches.get_one::<String>("statedb") {
        settings.worker_state_db = Some(path.clone());
    }
    if let Some(path) = &mut settings.worker_state_db {
        *path = nodename::expand_path(path, node).map_err(ExitError::usage)?;
    }
    Ok(())
}

/// How often to tell monitors that the worker lives; 0 is the default, as in Celery.
fn heartbeat(matches: &ArgMatches) -> Option<Duration> {
    let seconds = matches.get_one::<usize>("heartbeat_interval");
    let every = seconds.filter(|seconds| **seconds > 0);
    let every = every.map_or(DEFAULT_HEARTBEAT, |seconds| {
        Duration::from_secs(*seconds as u64)
    });
    (!matches.get_flag("without_heartbeat")).then_some(every)
}

fn pool(matches: &ArgMatches) -> Option<&str> {
    matches.get_one::<String>("pool").map(String::as_str)
}

fn concurrency(matches: &ArgMatches, settings: &Settings) -> usize {
    if pool(matches) == Some("solo") {
        return 1;
    }
    let asked = match matches.get_one::<Concurrency>("concurrency") {
        Some(Concurrency::Number(number)) => Some(*number),
        Some(Concurrency::Auto) => None,
        Some(Concurrency::Settings) | None => settings.worker_concurrency,
    };
    asked.unwrap_or_else(cpus)
}

/// Looks at the CPU quota and affinity too, as Celery's auto does.
fn cpus() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Threads for what may block: tasks that never yield, twice as many as slots, their CPU work, and some for the runtime's own
/// (a name to resolve).
pub(crate) fn blocking_threads(matches: &ArgMatches, settings: &Settings) -> usize {
    let slots = concurrency(matches, settings);
    slots
        .saturating_mul(2)
        .saturating_add(slots.max(cpus()))
        .saturating_add(64)
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
    let text = |part: &CStr| part.to_string_lossy().into_owned();
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
        task_events: app.settings().worker_send_task_events,
        queues,
        tasks: tasks.as_deref(),
    };
    output::to_stdout(&banner.text());
}
