//! What signals mean to a worker.
//!
//! | signal | effect | exit code |
//! | --- | --- | --- |
//! | TERM | warm: finish what runs | 0 |
//! | first INT (Ctrl+C) | warm | 1 |
//! | second INT, or QUIT | cold: give everything back at once | 0 |
//! | then once more | says that it is at it; ends a soft stop's waiting | |
//! | and again | ends at once | 1 |
//! | HUP, unless stdout is a terminal | warm, and then begins anew | |
//!
//! `REMAP_SIGTERM=SIGQUIT` makes TERM a QUIT. Counterpart: `celery/apps/worker.py` @ 5.7.0, its lines on
//! stdout and its exit codes as measured.

use std::env;
use std::io::{self, IsTerminal};

use celeriac::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::ExitStatus;
use crate::output;

const WARM: &str = "worker: Warm shutdown (MainProcess)";
const COLD: &str = "worker: Cold shutdown (MainProcess)";
const COLD_NEXT: &str =
    "worker: Hitting Ctrl+C again will initiate cold shutdown, terminating all running tasks!";
const LAST_NEXT: &str = "worker: Hitting Ctrl+C again will terminate all running tasks!";
const WAITING: &str = "Waiting gracefully for cold shutdown to complete...";

const RESTARTING: &str = "Restarting celery worker";

/// After so many signals to stop cold, the next one ends the process at once.
const COLD_SIGNALS_MAX: usize = 2;

/// A signal that stops a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stop {
    Term,
    Int,
    Quit,
    Hup,
}

/// What a signal makes the worker do.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Warm,
    Cold,
    /// Nothing more than what is already being done.
    None,
    AtOnce,
}

/// How far stopping has come.
#[derive(Debug, Default)]
struct Stopping {
    is_term_quit: bool,
    is_interrupted: bool,
    cold_signals: usize,
    is_restart: bool,
}

impl Stopping {
    fn on(&mut self, stop: Stop) -> (Vec<&'static str>, Order) {
        match stop {
            Stop::Term if self.is_term_quit => self.on(Stop::Quit),
            Stop::Term => {
                let order = if self.cold_signals == 0 {
                    Order::Warm
                } else {
                    Order::None
                };
                (vec![WARM], order)
            }
            Stop::Int if !self.is_interrupted && self.cold_signals == 0 => {
                self.is_interrupted = true;
                (vec![COLD_NEXT, WARM], Order::Warm)
            }
            Stop::Int => self.colder(),
            Stop::Hup => {
                self.is_restart = true;
                (vec![RESTARTING], Order::Warm)
            }
            Stop::Quit => {
                let (mut lines, order) = self.colder();
                lines.push(COLD);
                (lines, order)
            }
        }
    }

    fn colder(&mut self) -> (Vec<&'static str>, Order) {
        self.cold_signals += 1;
        match self.cold_signals {
            1 => (vec![LAST_NEXT], Order::Cold),
            COLD_SIGNALS_MAX => (vec![WAITING], Order::Cold),
            _ => (vec![], Order::AtOnce),
        }
    }

    fn status(&self) -> ExitStatus {
        let is_warm_by_int = self.is_interrupted && self.cold_signals == 0;
        if is_warm_by_int || self.cold_signals > COLD_SIGNALS_MAX {
            ExitStatus::Failed
        } else {
            ExitStatus::Ok
        }
    }
}

/// The signals of a worker. From its making on they no longer end the process by themselves.
pub(super) struct WorkerSignals {
    term: Signal,
    int: Signal,
    quit: Signal,
    /// Closing a terminal must not leave a worker behind in the background: there, HUP is not ours.
    hup: Option<Signal>,
    stopping: Stopping,
}

impl WorkerSignals {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: if io::stdout().is_terminal() {
                None
            } else {
                Some(signal(SignalKind::hangup())?)
            },
            stopping: Stopping {
                is_term_quit: env::var("REMAP_SIGTERM").is_ok_and(|value| value == "SIGQUIT"),
                ..Stopping::default()
            },
        })
    }

    /// Passes signals on to the worker, until one says that the process has to end at once.
    ///
    /// # Cancel safety
    /// A signal that has been received has been passed on.
    pub(super) async fn pass_on(&mut self, shutdown: &Shutdown) {
        loop {
            let stop = tokio::select! {
                // cancel-safe, all four: a signal stays pending until it is received.
                _ = self.term.recv() => Stop::Term,
                _ = self.int.recv() => Stop::Int,
                _ = self.quit.recv() => Stop::Quit,
                () = received(&mut self.hup) => Stop::Hup,
            };
            let (lines, order) = self.stopping.on(stop);
            for line in lines {
                output::to_stdout(&format!("\n{line}\n"));
            }
            match order {
                Order::Warm => shutdown.warm(),
                Order::Cold => shutdown.cold(),
                Order::None => {}
                Order::AtOnce => return,
            }
        }
    }

    /// Whether the program is to begin anew once the worker has stopped.
    pub(super) fn is_restart(&self) -> bool {
        self.stopping.is_restart && self.stopping.cold_signals == 0
    }

    /// What the process ends with once the worker has stopped.
    pub(super) fn status(&self) -> ExitStatus {
        self.stopping.status()
    }
}

/// Waits for a signal; for ever, where it is not listened to.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of the signals prints and does, and the exit code at the end.
    fn check(is_term_quit: bool, signals: &[Stop], expected: &[(&[&str], Order)], status: u8) {
        let mut stopping = Stopping {
            is_term_quit,
            ..Stopping::default()
        };
        let seen: Vec<_> = signals.iter().map(|stop| stopping.on(*stop)).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(lines, order)| (lines.to_vec(), *order))
            .collect();
        assert_eq!(seen, expected, "{signals:?}");
        assert_eq!(stopping.status().code(), status, "{signals:?}");
    }

    #[test]
    fn signals_print_and_do_what_celerys_do() {
        check(false, &[Stop::Term], &[(&[WARM], Order::Warm)], 0);
        check(false, &[Stop::Int], &[(&[COLD_NEXT, WARM], Order::Warm)], 1);
        check(
            false,
            &[Stop::Quit],
            &[(&[LAST_NEXT, COLD], Order::Cold)],
            0,
        );
        check(true, &[Stop::Term], &[(&[LAST_NEXT, COLD], Order::Cold)], 0);
        check(
            false,
            &[Stop::Int, Stop::Int],
            &[
                (&[COLD_NEXT, WARM], Order::Warm),
                (&[LAST_NEXT], Order::Cold),
            ],
            0,
        );
        check(
            false,
            &[Stop::Term, Stop::Quit],
            &[(&[WARM], Order::Warm), (&[LAST_NEXT, COLD], Order::Cold)],
            0,
        );
    }

    #[test]
    fn whoever_keeps_asking_ends_it_at_once() {
        check(
            false,
            &[Stop::Int, Stop::Int, Stop::Int, Stop::Term, Stop::Int],
            &[
                (&[COLD_NEXT, WARM], Order::Warm),
                (&[LAST_NEXT], Order::Cold),
                (&[WAITING], Order::Cold),
                (&[WARM], Order::None),
                (&[], Order::AtOnce),
            ],
            1,
        );
    }
}
