//! A model of who holds a message, from the producer's push until it is settled; the specification of
//! the engine's way with the broker, without the engine and without a broker.
//!
//! - `broker`: Redis, as far as both languages use it, write by write.
//! - `worker`: ours, step by step: take, start, send, store, ack, give back, beat, watch, take over.
//! - `python`: Python's, as our messages meet it.
//! - `wire`: connections that break, replies that are lost, servers that refuse.
//! - `member`: a process, which may be stopped, cut off or dead.
//! - `world`: one run: kills, stops, outages, clocks that jump; all from one seed.
//! - `promises`: what must hold in every state, and in the end.
//! - `wrong`: the mistakes that the design warns of. Each of them must be found.
//!
//! `MODEL_SEED=n cargo test -p celeriac --test model` runs one seed and prints what happened;
//! `MODEL_RUNS=n` says how many are run.

mod broker;
mod member;
mod promises;
mod python;
mod wire;
mod worker;
mod world;
mod wrong;

use wrong::TABLE;

/// How many seeds the right order must stand.
const RUNS: u64 = 400;

/// Within how many seeds each mistake must show.
const RUNS_TO_FIND: u64 = 5_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn the_right_order_keeps_every_promise() {
    let seeds = match number("MODEL_SEED") {
        Some(seed) => seed..=seed,
        None => 0..=number("MODEL_RUNS").unwrap_or(RUNS),
    };
    for seed in seeds {
        if world::run(seed, None, false).is_err() {
            let (broken, trace) = world::run(seed, None, true).expect_err("the same seed");
            panic!(
                "{:?} is broken: {}\nMODEL_SEED={seed}; what happened:\n{}",
                broken.promise,
                broken.how,
                trace.join("\n")
            );
        }
    }
}

#[test]
fn each_wrong_order_breaks_its_promise() {
    let mut silent = Vec::new();
    for (wrong, promise) in TABLE {
        let breaks = |seed| {
            let result = world::run(seed, Some(*wrong), false);
            result.is_err_and(|(broken, _)| broken.promise == *promise)
        };
        if !(0..RUNS_TO_FIND).any(breaks) {
            silent.push(wrong);
        }
    }
    assert!(silent.is_empty(), "these break nothing: {silent:?}");
}
