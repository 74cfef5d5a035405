//! K: Kafka is away, dies, moves its partitions. K3, K4 and K8 are rows of `tests/whole` (`records`, `outages`); K5 and
//! K6 are failpoints.

use celeriac_tests::eventually::eventually;
use celeriac_tests::files::Files;
use celeriac_tests::pipeline::{Pipeline, Role};
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::proxy::{OpenProxy, free_port};
use rustix::process::Signal;

use crate::Row;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row::short(
        "k1::kafka_is_away_at_the_start",
        away_at_the_start,
    )]
}

/// K1, and F3: what Kafka has not acknowledged is not in the journal, so the next producer announces it.
async fn away_at_the_start() {
    let pipeline = Pipeline::new("[pipeline]\nsettle_ms = 100\nrescan_ms = 500\n").await;
    let mut files = Files::new(pipeline.data());
    files.drop_good("before.csv", 1, 50);
    let port = free_port();
    let start = |name| {
        let mut command = pipeline.command(Role::Producer.args());
        command.env("KAFKA_BOOTSTRAP_SERVERS", format!("127.0.0.1:{port}"));
        Process::start(pipeline.directory(), name, &mut command)
    };
    let mut first = start("first");
    first.says("Watching").await;
    files.drop_good("during.csv", 2, 50);
    first.says("new files wait").await;
    first.kill();

    let mut second = start("second");
    second.says("new files wait").await;
    second.signal(Signal::TERM);
    assert_eq!(second.ends().await.code(), Some(0), "{}", second.log());

    let _third = start("third");
    let _kafka = OpenProxy::start(port, pipeline.topic.server_port()).await;
    eventually("both are announced", PATIENCE, async || {
        (pipeline.topic.end().await == 2).then_some(())
    })
    .await;
    let _running = (pipeline.worker("worker").await, pipeline.consumer().await);
    pipeline.check(&files).await;
}
