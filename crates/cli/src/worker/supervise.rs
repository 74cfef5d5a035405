//! `worker --supervise`: a small parent that starts the worker anew when it has crashed.
//!
//! Tasks run in the worker's own process, so one that ends the process ends the worker. The parent runs no task and holds no
//! connection. It passes on every signal that means something to a worker, and ends as the worker ends: with its exit
//! code, unless it was killed or has panicked. Then a new one is started after a pause that grows. The parent has seen
//! the old one end, which is more than any neighbour can know; so it tells the new one, which gives back at once what the
//! old one held, and counts the starts that it did not survive.
//!
//! Counterpart: none; Celery's prefork pool does this for its children.

use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io};

use anyhow::Context;
use celeriac::Succession;
use clap::ArgMatches;
use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal,
};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::exit::ExitStatus;

/// The parent's process id; only a supervised worker has it.
const PARENT: &str = "CELERIAC_SUPERVISOR";
/// The worker's own name among the claims.
const WORKER: &str = "CELERIAC_SUPERVISED_WORKER";
/// The names of those before it that have crashed, by commas.
const CRASHED: &str = "CELERIAC_SUPERVISED_CRASHED";

/// The first pause before a new start; doubled until [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A worker that has lived for so long did not crash because of its start: the pauses begin anew.
const LIVED_WELL: Duration = Duration::from_secs(60);

/// Crashed workers that the next one is told of; the others are noticed by their silence.
const CRASHED_MAX: usize = 16;

/// What Rust ends a process with that has panicked.
const PANICKED: i32 = 101;

/// What means something to a worker.
const SIGNALS: [Signal; 5] = [
    Signal::TERM,
    Signal::INT,
    Signal::QUIT,
    Signal::HUP,
    Signal::USR1,
];

/// Whether this process is to be the parent.
pub(crate) fn is_parent(matches: &ArgMatches) -> bool {
    matches.get_flag("supervise") && env::var_os(PARENT).is_none()
}

/// What the parent has told this worker; nothing without a parent. From now on the worker stops warmly when the parent dies.
///
/// # Errors
/// The parent is gone already, or the system refuses.
pub(super) fn succession() -> anyhow::Result<Succession> {
    let Some(parent) = env::var(PARENT)
        .ok()
        .and_then(|text| text.parse::<i32>().ok())
    else {
        return Ok(Succession::default());
    };
    set_parent_process_death_signal(Some(Signal::TERM))
        .context("cannot tie this worker to its parent")?;
    let is_there = getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent);
    anyhow::ensure!(is_there, "the parent of this supervised worker is gone");
    let id = |text: &str| Uuid::parse_str(text).ok();
    let crashed = env::var(CRASHED).unwrap_or_default();
    Ok(Succession {
        worker: env::var(WORKER).ok().as_deref().and_then(id),
        predecessors: crashed.split(',').filter_map(id).collect(),
    })
}

/// Starts the worker, and starts it anew until it ends in a way that is meant.
///
/// # Errors
/// It cannot be started.
pub(crate) fn supervise() -> anyhow::Result<ExitStatus> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (sender, mut signals) = mpsc::channel(SIGNALS.len());
        for number in SIGNALS {
            let mut incoming = signal(SignalKind::from_raw(number.as_raw()))
                .context("cannot listen to signals")?;
            let sender = sender.clone();
            #[expect(clippy::disallowed_methods, reason = "it lives as long as the process")]
            tokio::spawn(async move {
                while incoming.recv().await.is_some() {
                    if sender.send(number).await.is_err() {
                        return;
                    }
                }
            });
        }
        generations(&mut signals).await
    })
}

async fn generations(signals: &mut mpsc::Receiver<Signal>) -> anyhow::Result<ExitStatus> {
    let mut crashed: Vec<String> = Vec::new();
    let mut pause = FIRST_PAUSE;
    loop {
        let worker = Uuid::new_v4().to_string();
        let started = Instant::now();
        let ended = generation(&worker, &crashed, signals)
            .await
            .context("cannot start the worker")?;
        let crash = match (ended.status.signal(), ended.status.code()) {
            (Some(signal), _) => format!("was killed by signal {signal}"),
            (None, Some(PANICKED)) => "has panicked".to_owned(),
            (None, code) => return Ok(meant(code)),
        };
        if ended.is_stopping {
            log::error!("The worker {crash} while it stopped");
            return Ok(ExitStatus::Failed);
        }
        if started.elapsed() >= LIVED_WELL {
            pause = FIRST_PAUSE;
        }
        log::error!(
            "The worker (process {}) {crash}; starting it anew in {} s",
            ended.process,
            pause.as_secs()
        );
        crashed.push(worker);
        if crashed.len() > CRASHED_MAX {
            crashed.remove(0);
        }
        tokio::select! {
            // cancel-safe, both: they only wait
            () = tokio::time::sleep(pause) => {}
            Some(number) = signals.recv() => if stops(number) {
                return Ok(ExitStatus::Ok);
            },
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How one worker has ended.
struct Ended {
    status: process::ExitStatus,
    process: u32,
    /// It had been told to stop.
    is_stopping: bool,
}

async fn generation(
    worker: &str,
    crashed: &[String],
    signals: &mut mpsc::Receiver<Signal>,
) -> io::Result<Ended> {
    let mut command = Command::new(env::current_exe()?);
    command
        .args(env::args_os().skip(1))
        .env(PARENT, getpid().as_raw_nonzero().to_string())
        .env(WORKER, worker)
        .env(CRASHED, crashed.join(","))
        .stdin(Stdio::inherit());
    // A group of its own: Ctrl+C reaches it once, through the parent.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = tokio::process::Command::from(command).spawn()?;
    let process = child.id().unwrap_or_default();
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // cancel-safe, both: the status is kept, a signal stays in the channel
            status = child.wait() => return Ok(Ended { status: status?, process, is_stopping }),
            Some(number) = signals.recv() => {
                is_stopping |= stops(number);
                if let Some(pid) = pid {
                    // It may have ended this moment; then there is nothing to tell it.
                    kill_process(pid, number).ok();
                }
            }
        }
    }
}

fn stops(number: Signal) -> bool {
    [Signal::TERM, Signal::INT, Signal::QUIT].contains(&number)
}

/// The worker ended with this code, and so does the parent.
fn meant(code: Option<i32>) -> ExitStatus {
    let known = [
        ExitStatus::Ok,
        ExitStatus::Usage,
        ExitStatus::Unavailable,
        ExitStatus::CannotCreate,
    ];
    let is_it = |status: &ExitStatus| Some(i32::from(status.code())) == code;
    known.into_iter().find(is_it).unwrap_or(ExitStatus::Failed)
}
