//! A run that ends at any of its steps, as by `kill -9`, and the one that comes after it.
//!
//! The future is dropped at each of its waits in turn. What runs on a thread meanwhile goes on to its end or stops, as it
//! would in a worker that is about to die.

use std::fs;
use std::future::Future;
use std::task::Poll;

use sensor_tasks::process_file::process_file;
use tokio_util::sync::CancellationToken;

use crate::world::{World, csv};

/// Polls `future` that many times and then drops it; whether it came to its end.
async fn run_for<F: Future>(future: F, polls: u32) -> bool {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}

/// Ends a run after each of its steps, and lets another worker do the rest; how many steps there were.
async fn crash_at_every_step(
    world: &World,
    text: impl Fn(u32) -> String,
    check: impl AsyncFn(&str, u32),
) -> u32 {
    for polls in 1..10_000 {
        let name = format!("{polls}.csv");
        let path = world.drop_file(&name, text(polls));
        let dying = world.worker_at(&world.url);
        let token = CancellationToken::new();
        let is_done = run_for(process_file(&dying, &path, &name, &token), polls).await;
        drop(dying);
        world
            .run(&path, &name)
            .await
            .expect("the next run comes to an end");
        check(&name, polls).await;
        if is_done {
            return polls;
        }
    }
    panic!("the run never came to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_file_is_loaded_once_wherever_its_first_run_dies() {
    let world = World::new().await;
    let steps = crash_at_every_step(
        &world,
        |seed| csv(2_000, seed),
        async |name, _| {
            assert!(world.path(name).exists());
        },
    )
    .await;
    assert!(steps > 5, "the run has many steps: {steps}");
    let ledger = world.ledger().await;
    assert_eq!(ledger.len(), steps as usize, "{ledger:?}");
    assert!(
        ledger.iter().all(|row| row.ends_with(" loaded")),
        "{ledger:?}"
    );
    assert_eq!(
        world.number("select count(*) from raw_sensor_data").await,
        2_000 * i64::from(steps)
    );
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_quarantined_whole_wherever_its_first_run_dies() {
    let world = World::new().await;
    let text = |seed| csv(20, seed).replace("0.02,", "abc,");
    let steps = crash_at_every_step(&world, text, async |name, seed| {
        assert!(!world.path(name).exists(), "{name} was left behind");
        assert_eq!(
            fs::read_to_string(world.quarantine(name)).expect("it was moved"),
            text(seed)
        );
        assert!(world.quarantine(&format!("{name}.error.json")).exists());
    })
    .await;
    assert!(steps > 5, "the run has many steps: {steps}");
    let ledger = world.ledger().await;
    assert_eq!(ledger.len(), steps as usize, "{ledger:?}");
    assert_eq!(
        world
            .number("select count(*) from ingest_files where moved_at is null")
            .await,
        0
    );
    assert_eq!(
        fs::read_dir(world.quarantine(""))
            .expect("it is there")
            .count(),
        2 * steps as usize,
        "nothing else is left"
    );
}
