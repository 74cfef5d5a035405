//! PostgreSQL away, restarted, changed: files are delayed, never judged by it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sensor_tasks::process_file::{Error, process_file};
use tokio_util::sync::CancellationToken;

use crate::proxy::Proxy;
use crate::world::{World, csv};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_waited_out_and_the_wait_ends_at_once_when_the_engine_says_so() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", csv(5, 1));
    let nowhere = world.worker_at("postgres://postgres@127.0.0.1:1/nowhere");
    let token = CancellationToken::new();
    let start = Instant::now();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(3_300)).await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(process_file(&nowhere, &path, "t", &token), stop);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(
        start.elapsed() < Duration::from_secs(7),
        "{:?}",
        start.elapsed()
    );
    assert!(world.path("a.csv").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_lasts_is_handed_back_as_transient() {
    let world = World::new().await;
    let path = world.drop_file("bad.csv", "no header");
    let nowhere = world.worker_at("postgres://postgres@127.0.0.1:1/nowhere");
    let result = process_file(&nowhere, &path, "t", &CancellationToken::new()).await;
    assert!(
        result.as_ref().is_err_and(Error::is_transient),
        "{result:?}"
    );
    assert!(
        world.path("bad.csv").exists(),
        "no verdict is carried out before it is recorded"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_killed_in_mid_copy_loads_nothing_and_then_everything() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", csv(50_000, 1));
    let kill = async || {
        world.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'copy raw%'").await;
    };
    let result = world
        .result_while_locked(&path, "lock table raw_sensor_data", "copy raw", kill)
        .await;
    assert_eq!(result["rows"], 50_000);
    world.check_invariants().await;
}

/// A proxy in front of the world's database, and the URL that leads through it.
async fn proxy_of(world: &World) -> (Proxy, String) {
    let mut url = url::Url::parse(&world.url).expect("a URL");
    let target = format!(
        "{}:{}",
        url.host_str().expect("a host"),
        url.port().unwrap_or(5432)
    );
    let proxy = Proxy::to(target).await;
    url.set_host(Some("127.0.0.1")).expect("it has a host");
    url.set_port(Some(proxy.port)).expect("it has a port");
    (proxy, url.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_is_given_up_and_another_loads_the_file() {
    let world = World::new().await;
    let (proxy, url) = proxy_of(&world).await;
    let worker = world.worker_at(&url);
    let path = world.drop_file("a.csv", csv(500, 1));
    proxy.faults.freeze_in_copy.store(true, Ordering::SeqCst);
    let start = Instant::now();
    let fate = process_file(&worker, &path, "t", &CancellationToken::new())
        .await
        .expect("a verdict");
    assert!(
        proxy.faults.was_frozen.load(Ordering::SeqCst),
        "the connection fell silent"
    );
    assert!(
        start.elapsed() < Duration::from_secs(50),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(fate.status(), "loaded");
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_not_done_twice() {
    let world = World::new().await;
    let (proxy, url) = proxy_of(&world).await;
    let worker = world.worker_at(&url);
    let path = world.drop_file("a.csv", csv(500, 1));
    proxy.faults.cut_after_commit.store(true, Ordering::SeqCst);
    let fate = process_file(&worker, &path, "t", &CancellationToken::new())
        .await
        .expect("a verdict");
    assert!(
        proxy.faults.was_cut.load(Ordering::SeqCst),
        "the answer was cut off"
    );
    assert_eq!(fate.status(), "loaded");
    assert_eq!(world.ledger().await, ["a.csv loaded"]);
    assert_eq!(
        world.number("select count(*) from raw_sensor_data").await,
        500
    );
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_tables_are_an_operators_business_and_no_verdict() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", csv(5, 1));
    world
        .execute("alter table raw_sensor_data rename to elsewhere")
        .await;
    let repairing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        world
            .execute("alter table elsewhere rename to raw_sensor_data")
            .await;
    };
    let (result, ()) = tokio::join!(world.result(&path, "t"), repairing);
    assert_eq!(result["status"], "loaded");
    assert_eq!(world.ledger().await, ["a.csv loaded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_the_migrations_is_named_with_what_to_do() {
    let world = World::new().await;
    world
        .execute("update _sqlx_migrations set success = false")
        .await;
    let path = world.drop_file("a.csv", csv(5, 1));
    let token = CancellationToken::new();
    let error = world
        .run(&path, "t")
        .await
        .expect_err("the tables are too old");
    assert!(
        error.is_transient() && error.to_string().contains("celeriac db migrate"),
        "{error}"
    );
    drop(token);
    world
        .execute("update _sqlx_migrations set success = true")
        .await;
    assert_eq!(world.result(&path, "t").await["status"], "loaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_delays() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", csv(5, 1));
    let name = url::Url::parse(&world.url).expect("a URL").path()[1..].to_owned();
    let set = |value: &str| {
        sqlx::AssertSqlSafe(format!(
            "alter database {name} set default_transaction_read_only = {value}"
        ))
    };
    sqlx::raw_sql(set("on"))
        .execute(&world.admin)
        .await
        .expect("it may be altered");
    let repairing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        sqlx::raw_sql(set("off"))
            .execute(&world.admin)
            .await
            .expect("it may be altered");
        let sql = "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity \
            where datname = current_database() and application_name = 'celeriac') t";
        world.number(sql).await;
    };
    let (result, _) = tokio::join!(world.result(&path, "t"), repairing);
    assert_eq!(result["status"], "loaded");
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_cannot_be_written_leaves_the_file_where_it_is() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", "no header");
    std::fs::write(world.quarantine(""), "").expect_err("a directory's path cannot be written");
    std::fs::write(world.dir.path().join("quarantine"), "in the way").expect("room");
    let repairing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(world.path("a.csv").exists());
        std::fs::remove_file(world.dir.path().join("quarantine")).expect("it is there");
    };
    let (result, ()) = tokio::join!(world.result(&path, "t"), repairing);
    assert_eq!(result["status"], "quarantined");
    assert!(world.quarantine("a.csv").exists() && !world.path("a.csv").exists());
    assert_eq!(world.ledger().await, ["a.csv quarantined"]);
}
