//! Good files, duplicates, and what is in the tables.

use serde_json::Value;
use sha2::Digest as _;
use sqlx::Row;

use crate::world::{World, csv};

#[tokio::test(flavor = "multi_thread")]
async fn a_good_file_is_loaded_whole_and_stays_where_it_is() {
    let world = World::new().await;
    let path = world.drop_file("split_1.csv", csv(10_000, 1));
    let result = world.result(&path, "t1").await;
    assert_eq!(
        (&result["status"], &result["rows"]),
        (&"loaded".into(), &10_000.into()),
        "{result}"
    );
    assert_eq!(result["file_path"], path.as_str());
    assert_eq!(result["sha256"].as_str().map(str::len), Some(64));
    assert!(world.path("split_1.csv").exists());
    assert_eq!(
        world
            .number("select count(*) from raw_sensor_data where file_name = 'split_1.csv'")
            .await,
        10_000
    );
    assert_eq!(world.ledger().await, ["split_1.csv loaded"]);
    let lines = "select count(*) from raw_sensor_data where line_no - 2 = extract(epoch from date_trunc('second', ts)) - 1594512094";
    assert_eq!(
        world.number(lines).await,
        10_000,
        "every row keeps its line"
    );
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_are_what_sql_computes_over_the_raw_rows() {
    let world = World::new().await;
    for (index, rows) in [1, 2, 3, 501, 10_000].into_iter().enumerate() {
        let path = world.drop_file(
            &format!("{index}.csv"),
            csv(rows, u32::try_from(index).expect("few")),
        );
        world
            .run(&path, &index.to_string())
            .await
            .expect("a verdict");
    }
    let sql = "with v as (select content_id, device, metric, value from raw_sensor_data r, lateral (values \
        ('co', co), ('humidity', humidity), ('lpg', lpg), ('smoke', smoke), ('temp', temp)) as m (metric, value)), \
        e as (select content_id, device, metric, min(value), max(value), avg(value), stddev_samp(value) as dev, \
        percentile_cont(0.5) within group (order by value) as med, count(*) as n from v group by 1, 2, 3) \
        select (a.device is null or e.device is null) as is_lone, a.count = n as same_count, a.min_value = e.min and a.max_value = e.max as same_range, \
        greatest(abs(avg_value - e.avg), abs(coalesce(std_dev, 0) - coalesce(e.dev, 0)), abs(median_value - med)) as error, \
        (std_dev is null) = (dev is null) as same_null \
        from e full join aggregated_metrics a using (content_id, device, metric)";
    let rows = sqlx::query(sql)
        .fetch_all(&world.db)
        .await
        .expect("the query is right");
    assert_eq!(
        rows.len(),
        45,
        "five metrics of two devices in five files, one file has one row"
    );
    for row in rows {
        assert!(!row.get::<bool, _>("is_lone"));
        assert!(
            row.get::<bool, _>("same_count")
                && row.get::<bool, _>("same_range")
                && row.get::<bool, _>("same_null")
        );
        assert!(row.get::<f64, _>("error") < 1e-9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_arrive_as_they_were_written() {
    let world = World::new().await;
    let text = "temp,ts,device,co,humidity,light,lpg,motion,smoke\n\
        22.7,1.5945120943859746E9,\"a\tb\\N,\"\"温度\",0.004956,51.0,TRUE,1,0,1e-3\n";
    let path = world.drop_file("a.csv", text);
    world.run(&path, "t").await.expect("a verdict");
    let sql = "select count(*) from raw_sensor_data where ts = '2020-07-12 00:01:34.385975+00' and device = E'a\\tb\\\\N,\"温度' \
        and co = 0.004956 and humidity = 51 and light and lpg = 1 and not motion and smoke = 0.001 and temp = 22.7 \
        and line_no = 2 and file_name = 'a.csv'";
    assert_eq!(world.number(sql).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_is_loaded_once_under_whatever_name() {
    let world = World::new().await;
    let (a, b) = (
        world.drop_file("a.csv", csv(50, 1)),
        world.drop_file("b.csv", csv(50, 1)),
    );
    world.run(&a, "ta").await.expect("a verdict");
    let result = world.result(&b, "tb").await;
    assert_eq!(
        (&result["status"], &result["duplicate_of"]),
        (&"duplicate".into(), &"a.csv".into())
    );
    assert_eq!(world.ledger().await, ["a.csv loaded", "b.csv duplicate"]);
    assert!(world.path("b.csv").exists());
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_delivered_again_has_the_same_result_and_no_further_row() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", csv(50, 1));
    let first = world.result(&path, "t1").await;
    assert_eq!(world.result(&path, "t1").await, first);
    assert_eq!(world.result(&path, "another").await, first);
    std::fs::remove_file(world.path("a.csv")).expect("it is there");
    assert_eq!(
        world.result(&path, "t1").await,
        first,
        "the same task, after the file was cleared away"
    );
    assert_eq!(world.ledger().await, ["a.csv loaded"]);
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_contents_under_an_old_name_are_loaded_too() {
    let world = World::new().await;
    for (seed, status) in [(1, "loaded"), (2, "loaded"), (1, "duplicate")] {
        let path = world.path("a.csv");
        // Removed first, as rsync and mv do: another file under the name.
        let aside = world.path(&format!("old {}", world.ledger().await.len()));
        if path.exists() {
            std::fs::rename(&path, aside).expect("it is there");
        }
        let path = world.drop_file("a.csv", csv(20, seed));
        assert_eq!(
            world.result(&path, &format!("t{seed}{status}")).await["status"],
            status
        );
    }
    assert_eq!(
        world.ledger().await,
        ["a.csv loaded", "a.csv loaded", "a.csv duplicate"]
    );
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_deliveries_at_once_load_once() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", csv(20_000, 1));
    let copy = world.drop_file("b.csv", csv(20_000, 1));
    let runs = (0..6).map(|run| {
        let path = if run % 3 == 2 { &copy } else { &path };
        world.result(path, ["t1", "t1", "t2", "t3", "t1", "t2"][run])
    });
    let results = futures_util::future::join_all(runs).await;
    let mut ledger = world.ledger().await;
    ledger.sort();
    assert_eq!(ledger.len(), 2, "{ledger:?}");
    let loaded = results
        .iter()
        .filter(|result| result["status"] == "loaded")
        .count();
    assert!(
        loaded == 4 || loaded == 2,
        "all runs of the file that won, and only they: {results:?}"
    );
    assert_eq!(
        world.number("select count(*) from raw_sensor_data").await,
        20_000
    );
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_recorded_once() {
    let world = World::new().await;
    let path = world.text_path("gone.csv");
    for task in ["t1", "t1", "t2"] {
        assert_eq!(world.result(&path, task).await["status"], "missing");
    }
    assert_eq!(world.ledger().await, ["gone.csv missing"]);
    world.drop_file("gone.csv", csv(5, 1));
    assert_eq!(world.result(&path, "t1").await["status"], "loaded");
}

/// The task's result when `write` is called between its two readings: after it has judged the file, and before it loads.
async fn result_when_written_to(world: &World, path: &str, write: impl FnOnce()) -> Value {
    let lock = "lock table ingest_content in share mode";
    let statement = "insert into ingest_content";
    world
        .result_while_locked(path, lock, statement, async || write())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_written_to_while_it_is_loaded_is_read_again() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", csv(100, 1));
    let write = || drop(world.drop_file("a.csv", csv(200, 1)));
    let result = result_when_written_to(&world, &path, write).await;
    assert_eq!(
        (&result["status"], &result["rows"]),
        (&"loaded".into(), &200.into())
    );
    assert_eq!(world.ledger().await, ["a.csv loaded"]);
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_changed_without_a_trace_in_its_times_is_read_again() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", csv(100, 1));
    let time = std::fs::metadata(&path).expect("it is there").modified();
    let other = csv(100, 1).replace(".1,", ".2,");
    let write = || {
        // In place, of the same size, and with the time set back, as a restore from a backup may do it.
        let file = std::fs::File::options().write(true).open(&path);
        let mut file = file.expect("it is there");
        std::io::Write::write_all(&mut file, other.as_bytes()).expect("room");
        file.set_modified(time.expect("a time"))
            .expect("it is ours");
    };
    let result = result_when_written_to(&world, &path, write).await;
    assert_eq!(result["status"], "loaded");
    let of_the_other = "select count(*) from raw_sensor_data \
        where extract(epoch from ts) - floor(extract(epoch from ts)) = 0.2";
    assert_eq!(world.number(of_the_other).await, 100);
    let hash = sha2::Sha256::digest(&other);
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        result["sha256"],
        hash.as_str(),
        "what is loaded has this hash"
    );
    world.check_invariants().await;
}
