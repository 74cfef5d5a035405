//! P: PostgreSQL dies, is away, is full, falls silent.
//!
//! Elsewhere: P2 itself is a row of `tests/whole/outages.rs`; a lost answer to COMMIT (P7), a terminated backend, a
//! read-only server (P4), missing tables (P5) and constraints (P6) are rows of `tasks/tests/services`.

use celeriac_tests::files::Files;
use celeriac_tests::pipeline::Pipeline;
use celeriac_tests::private::PrivateServer;
use rustix::process::Signal;
use sqlx::{Connection as _, PgConnection};

use crate::Row;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::long("p1::killed_in_mid_transaction", killed_in_mid_transaction),
        Row::long(
            "p2::a_stop_is_heard_while_it_is_away",
            a_stop_while_it_is_away,
        ),
        Row::long(
            "p3::a_silent_worker_holds_up_its_content_only",
            a_silent_worker,
        ),
        Row::long("p4::too_many_connections", too_many_connections),
    ]
}

/// The worker lives on, and needs no restart.
async fn killed_in_mid_transaction() {
    let server = PrivateServer::postgres();
    let pipeline = Pipeline::on(&server, "").await;
    let mut files = Files::new(pipeline.data());
    files.drop_good("large.csv", 1, 300_000);
    let _running = (
        pipeline.worker("worker").await,
        pipeline.consumer().await,
        pipeline.producer().await,
    );
    pipeline.has_copied_more_than(0).await;
    server.kill();
    files.drop_good("during.csv", 2, 50);
    files.drop_bad("bad.csv", 3);
    server.restart();
    pipeline.check(&files).await;
}

async fn a_stop_while_it_is_away() {
    let server = PrivateServer::postgres();
    let pipeline = Pipeline::on(&server, "").await;
    let mut files = Files::new(pipeline.data());
    let mut worker = pipeline.worker("worker").await;
    let _running = (pipeline.consumer().await, pipeline.producer().await);
    server.kill();
    for number in 0..50 {
        files.drop_good(&format!("{number}.csv"), number, 10);
    }
    worker.says("trying again in 4 s").await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends().await.code(), Some(0), "{}", worker.log());
    // Two slots have waited 1, 2 and 4 s each: no loop without a pause.
    let attempts = worker.log().matches("; trying again in").count();
    assert!((2..=20).contains(&attempts), "{}", worker.log());
    assert!(worker.log().len() < 1 << 20, "{}", worker.log().len());
    assert!(!pipeline.quarantine().exists());
    server.restart();
    let _next = pipeline.worker("next").await;
    pipeline.check(&files).await;
}

/// The worker is stopped, as on a machine that hangs, with a content's key in its hands. That content waits, the others
/// do not; and when it wakes after its message was given to another, the content is loaded once.
async fn a_silent_worker() {
    let settings =
        "[broker_transport_options]\nvisibility_timeout = 2\nunacked_restore_interval = 0.5\n";
    let pipeline = Pipeline::new(settings).await;
    let mut files = Files::new(pipeline.data());
    files.drop_good("large.csv", 1, 300_000);
    pipeline.send("large.csv", "large").await;
    let silent = pipeline.worker("silent").await;
    pipeline.has_copied_more_than(0).await;
    silent.signal(Signal::STOP);
    let mut next = pipeline.worker("next").await;
    next.says("process_file_task[large] received").await;
    files.drop_good("small.csv", 2, 50);
    files.drop_bad("bad.csv", 3);
    for name in ["small.csv", "bad.csv"] {
        pipeline.send(name, name).await;
    }
    pipeline.ledger_of(2).await;
    silent.signal(Signal::CONT);
    pipeline.check(&files).await;
}

async fn too_many_connections() {
    let server = PrivateServer::postgres();
    let pipeline = Pipeline::on(&server, "").await;
    let mut files = Files::new(pipeline.data());
    let limit = async |limit: i32| {
        let url = server.address().replacen("//celeriac@", "//postgres@", 1);
        let mut admin = PgConnection::connect(&url).await.expect("it runs");
        let sql = sqlx::AssertSqlSafe(format!("alter role celeriac connection limit {limit}"));
        let altered = sqlx::raw_sql(sql).execute(&mut admin).await;
        altered.expect("a superuser may");
    };
    limit(0).await;
    let mut worker = pipeline.worker("worker").await;
    files.drop_good("good.csv", 1, 50);
    files.drop_bad("bad.csv", 2);
    for name in ["good.csv", "bad.csv"] {
        pipeline.send(name, name).await;
    }
    worker.says("trying again in 2 s").await;
    assert!(
        !pipeline.quarantine().exists(),
        "no verdict before it is recorded"
    );
    limit(-1).await;
    pipeline.check(&files).await;
}
