//! W: the worker is killed in mid-COPY, gets a message several times, or takes longer than the visibility timeout.
//! W2 is `failpoints`; the ownership of messages has rows of its own in `tests/whole/ownership.rs`.

use std::time::{Duration, Instant};

use celeriac_tests::copying::NO_COMMIT;
use celeriac_tests::files::Files;
use celeriac_tests::pipeline::{Pipeline, Role};
use uuid::Uuid;

use crate::Row;

const VISIBILITY: Duration = Duration::from_secs(2);

/// A worker's message comes back soon.
const SETTINGS: &str = "[broker_transport_options]
visibility_timeout = 2
unacked_restore_interval = 0.5
";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::long("w1::killed_in_mid_copy_five_times", killed_in_mid_copy),
        Row::short("w3::one_message_five_times", one_message_five_times),
        Row::long(
            "w4::longer_than_the_visibility_timeout",
            longer_than_visible,
        ),
    ]
}

async fn killed_in_mid_copy() {
    let rows = 200_000;
    let pipeline = Pipeline::new(SETTINGS).await;
    let mut files = Files::new(pipeline.data());
    files.drop_good("large.csv", 1, rows);
    let _running = (pipeline.consumer().await, pipeline.producer().await);
    for number in 0..5 {
        let blocker = pipeline.database.session(NO_COMMIT).await;
        let mut worker = pipeline.worker(&format!("worker{number}")).await;
        let least =
            i64::try_from(Uuid::new_v4().as_u128() % u128::from(rows)).expect("it is small");
        pipeline.has_copied_more_than(least).await;
        worker.kill();
        drop(blocker);
        pipeline.has_nothing_of_it(Duration::from_secs(5)).await;
    }
    let _last = pipeline.worker("last").await;
    pipeline.check(&files).await;
}

async fn one_message_five_times() {
    let pipeline = Pipeline::new("").await;
    let mut files = Files::new(pipeline.data());
    files.drop_good("a.csv", 1, 20_000);
    for id in ["one", "one", "one", "two", "two"] {
        pipeline.send("a.csv", id).await;
    }
    let args = "-A worker.tasks worker --loglevel=info -c 4".split(' ');
    let command = pipeline.command(args);
    let worker = pipeline
        .started("worker", command, Role::Worker.ready())
        .await;
    pipeline.check(&files).await;
    assert_eq!(
        worker.log().matches("] succeeded in").count(),
        5,
        "{}",
        worker.log()
    );
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(pipeline.database.number(deadlocks).await, 0);
}

async fn longer_than_visible() {
    let pipeline = Pipeline::new(SETTINGS).await;
    let mut files = Files::new(pipeline.data());
    files.drop_good("slow.csv", 1, 500);
    pipeline.send("slow.csv", "slow").await;
    let blocker = pipeline.database.session(NO_COMMIT).await;
    let workers = [pipeline.worker("one").await, pipeline.worker("two").await];
    pipeline.are_held(1).await;
    let start = Instant::now();
    // The time itself is what is tested.
    tokio::time::sleep_until((start + 4 * VISIBILITY).into()).await;
    drop(blocker);
    pipeline.check(&files).await;
    let received = workers
        .iter()
        .map(|worker| worker.log().matches("] received").count());
    assert_eq!(received.sum::<usize>(), 1, "the claim was renewed");
}
