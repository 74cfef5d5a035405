//! Bad files, what may not be touched, and names.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::world::{HEADER, World, csv};

fn bad(seed: u32) -> String {
    csv(10, seed).replace("0.02,", "abc,")
}

fn sidecar(world: &World, name: &str) -> Value {
    let text =
        fs::read(world.quarantine(&format!("{name}.error.json"))).expect("the report is there");
    serde_json::from_slice(&text).expect("it is JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_recorded_moved_reported_and_logged() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", bad(1));
    let result = world.result(&path, "t1").await;
    assert_eq!(result["status"], "quarantined");
    assert_eq!(result["reasons"], serde_json::json!({"bad_number": 10}));
    assert_eq!(
        result["quarantine_path"],
        world.quarantine("a.csv").to_str().expect("UTF-8")
    );
    assert!(!world.path("a.csv").exists());
    assert_eq!(
        fs::read_to_string(world.quarantine("a.csv")).expect("it was moved"),
        bad(1)
    );
    let report = sidecar(&world, "a.csv");
    assert_eq!(
        (
            &report["violations"],
            &report["task_id"],
            &report["file_path"]
        ),
        (&10.into(), &"t1".into(), &path.as_str().into())
    );
    assert_eq!(report["first"][0]["line"], 2);
    assert_eq!(report["first"][0]["column"], "smoke");
    assert_eq!(report["sha256"], result["sha256"]);
    let log = fs::read_to_string(world.dir.path().join("logs/errors.log")).expect("there is a log");
    assert_eq!(log.lines().count(), 1);
    assert!(
        log.contains(&path) && log.contains("bad_number 10") && log.contains("line 2"),
        "{log}"
    );
    assert_eq!(world.ledger().await, ["a.csv quarantined"]);
    let sql = "select count(*) from ingest_files where (reasons->>'violations')::int = 10 and moved_at is not null and task_id = 't1'";
    assert_eq!(world.number(sql).await, 1);
    assert_eq!(
        world.number("select count(*) from raw_sensor_data").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_stays_where_it_is_until_its_row_is_written() {
    let world = World::new().await;
    let path = world.drop_file("bad.csv", bad(1));
    // It lets read.
    let lock = "lock table ingest_files in share mode";
    let look = async || assert!(world.path("bad.csv").exists(), "moved without a row");
    let result = world
        .result_while_locked(&path, lock, "insert into ingest_files", look)
        .await;
    assert_eq!(result["status"], "quarantined");
    assert!(!world.path("bad.csv").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_delivered_again_has_the_same_result() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", bad(1));
    let first = world.result(&path, "t1").await;
    for task in ["t1", "t2"] {
        assert_eq!(world.result(&path, task).await, first);
    }
    assert_eq!(world.ledger().await, ["a.csv quarantined"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_brought_back_from_quarantine_is_judged_afresh() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", bad(1));
    world.run(&path, "t1").await.expect("a verdict");
    fs::rename(world.quarantine("a.csv"), world.path("a.csv")).expect("it is there");
    let second = world.result(&path, "t1").await;
    assert_eq!(second["status"], "quarantined");
    assert!(!world.path("a.csv").exists());
    assert_eq!(
        world.ledger().await,
        ["a.csv quarantined", "a.csv quarantined"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_files_of_one_name_are_all_kept() {
    let world = World::new().await;
    let mut places = Vec::new();
    for seed in [1, 2, 3] {
        let path = world.drop_file("a.csv", bad(seed));
        let result = world.result(&path, &seed.to_string()).await;
        let place = result["quarantine_path"]
            .as_str()
            .expect("it was moved")
            .to_owned();
        assert_eq!(fs::read_to_string(&place).expect("it is there"), bad(seed));
        assert!(fs::metadata(format!("{place}.error.json")).is_ok());
        places.push(place);
    }
    places.dedup();
    assert_eq!(places.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_deliveries_of_a_bad_file_at_once_quarantine_it_once() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", bad(1));
    let results = futures_util::future::join_all(
        ["t1", "t2", "t1", "t3"].map(|task| world.result(&path, task)),
    )
    .await;
    assert!(
        results.iter().all(|result| *result == results[0]),
        "{results:?}"
    );
    assert_eq!(world.ledger().await, ["a.csv quarantined"]);
    assert_eq!(
        fs::read_dir(world.quarantine(""))
            .expect("it is there")
            .count(),
        2,
        "the file and its report"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_below_the_root_is_left_alone() {
    let world = World::new().await;
    let outside = world.dir.path().join("outside.csv");
    fs::write(&outside, csv(5, 1)).expect("room");
    symlink(&outside, world.path("link.csv")).expect("a link");
    symlink(world.dir.path(), world.path("up")).expect("a link");
    fs::create_dir(world.path("dir.csv")).expect("a directory");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.path("fifo.csv"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a FIFO");
    let cases = [
        (world.text_path("link.csv"), "outside_root"),
        (world.text_path("up/outside.csv"), "outside_root"),
        (world.text_path("../outside.csv"), "outside_root"),
        (outside.to_str().expect("UTF-8").to_owned(), "outside_root"),
        ("../../../../etc/passwd".to_owned(), "outside_root"),
        ("/etc/passwd".to_owned(), "outside_root"),
        (world.text_path("dir.csv"), "not_regular"),
        (world.text_path("fifo.csv"), "not_regular"),
        (world.text_path("nul\0.csv"), "bad_name"),
        (String::new(), "bad_name"),
        ("x/".repeat(3000), "bad_name"),
    ];
    for (path, reason) in &cases {
        for _ in 0..2 {
            let result = world.result(path, "t").await;
            assert_eq!(result["status"], "quarantined", "{path:?}");
            assert_eq!(result["quarantine_path"], Value::Null);
            assert_eq!(
                result["reasons"]
                    .as_object()
                    .map(|all| all.keys().cloned().collect()),
                Some(vec![(*reason).to_owned()]),
                "{path:?}"
            );
        }
    }
    assert_eq!(
        world.ledger().await.len(),
        cases.len(),
        "twice delivered, once recorded"
    );
    assert_eq!(fs::read_to_string(&outside).expect("untouched"), csv(5, 1));
    assert!(fs::symlink_metadata(world.path("link.csv")).is_ok() && world.path("dir.csv").is_dir());
    assert_eq!(
        world.number("select count(*) from raw_sensor_data").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_names_are_loaded_and_quarantined() {
    let world = World::new().await;
    let long = format!("{}.csv", "n".repeat(251));
    let names = [
        "new\nline.csv",
        "quote'\"$(touch pwned);`x`.csv",
        "-rf.csv",
        "back\\slash\ttab.csv",
        "%s ünïcödé 🌡.csv",
        &long,
    ];
    for (seed, name) in (10_u32..).zip(names) {
        let path = world.drop_file(name, csv(3, seed));
        assert_eq!(
            world.result(&path, name).await["status"],
            "loaded",
            "{name:?}"
        );
        fs::remove_file(world.path(name)).expect("it is there");
        let path = world.drop_file(name, bad(seed));
        let result = world.result(&path, "again").await;
        let place = result["quarantine_path"].as_str().expect("it was moved");
        assert!(
            fs::metadata(place).is_ok() && fs::metadata(format!("{place}.error.json")).is_ok(),
            "{place}"
        );
    }
    let log = fs::read_to_string(world.dir.path().join("logs/errors.log")).expect("there is a log");
    assert_eq!(log.lines().count(), names.len());
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_utf8_is_quarantined_under_one_that_is() {
    let world = World::new().await;
    let raw = std::ffi::OsStr::from_bytes(b"latin1_\xe9.csv");
    let file = world.dir.path().join("data").join(raw);
    fs::write(&file, csv(3, 1)).expect("room");
    let url = format!("file://{}", world.text_path("latin1_%E9.csv"));
    let result = world.result(&url, "t").await;
    assert_eq!(result["reasons"], serde_json::json!({"bad_name": 1}));
    assert!(!file.exists());
    assert!(fs::metadata(result["quarantine_path"].as_str().expect("it was moved")).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nul_characters_are_reported_and_not_retried_for_ever() {
    let world = World::new().await;
    let path = world.drop_file("a.csv", csv(3, 1).replace("b8:", "b8\0"));
    let result = world.result(&path, "t").await;
    assert_eq!(result["reasons"], serde_json::json!({"nul": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_line_ends_as_a_violation_with_its_line() {
    let world = World::new().await;
    let file = fs::File::create(world.path("a.csv")).expect("room");
    std::io::Write::write_all(&mut &file, format!("{HEADER}\"").as_bytes()).expect("room");
    file.set_len(300 << 20).expect("a sparse file");
    let path = world.text_path("a.csv");
    world.run(&path, "t").await.expect("a verdict");
    let report = sidecar(&world, "a.csv");
    assert_eq!(
        (&report["first"][0]["reason"], &report["first"][0]["line"]),
        (&"malformed".into(), &2.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_the_rules_do_not_know_quarantines_with_what_postgresql_said() {
    let world = World::new().await;
    world
        .execute("alter table raw_sensor_data add constraint no_frost check (temp > 0)")
        .await;
    let path = world.drop_file("a.csv", csv(3, 1).replace(",0.02,", ",0.02,-"));
    let result = world.result(&path, "t").await;
    assert_eq!(
        result["reasons"],
        serde_json::json!({"refused_by_database": 1})
    );
    assert!(
        result["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("no_frost")),
        "{result}"
    );
    world.check_invariants().await;
}
