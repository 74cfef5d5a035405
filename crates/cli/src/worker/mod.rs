//! `worker`: takes messages and runs tasks until it is told to stop.
//!
//! Counterpart: `celery/bin/worker.py` and `celery/apps/worker.py` @ 5.7.0. Deliberate differences:
//! - An option exists only where it has an effect, or where what it asks for is so anyway:
//!   `--without-gossip`, `--without-mingle` and `--without-heartbeat` (this worker does none of these)
//!   and `-O` (a task always goes to whoever is free). Whoever types those from habit gets what they mean.
//! - `-P` takes Celery's names; the banner says what really runs the tasks. `solo` runs one at a time.
//! - `--prefetch-multiplier 0` means no limit, as in the settings (there, the flag's 0 is ignored).
//!
//! - `options`: what may be typed. `run`: what is done with it.
//! - `banner`, `pidfile`, `signals`: as in Celery. `supervise`: a parent that restarts it.

mod banner;
mod options;
mod pidfile;
mod run;
mod signals;
mod supervise;

pub(crate) use options::{clap, node};
pub(crate) use run::{blocking_threads, run};
pub(crate) use supervise::{is_parent, supervise};
