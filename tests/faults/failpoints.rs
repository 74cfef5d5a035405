//! W2, Q3, K5, K6: a program ends at one of its steps as by `kill -9`, and is started again. Each step is one row.

use std::os::unix::process::ExitStatusExt as _;

use celeriac::FAILPOINTS;
use celeriac_tests::files::Files;
use celeriac_tests::pipeline::{Pipeline, Role};
use celeriac_tests::process::Process;

use crate::Row;
use crate::quarantine::other_file_system;

/// A worker's message comes back soon, and Kafka soon misses a member that has vanished (6000 is its least).
const SETTINGS: &str = "\
[broker_transport_options]
visibility_timeout = 2
unacked_restore_interval = 0.5
[kafka]
\"session.timeout.ms\" = 6000
[pipeline]
settle_ms = 100
rescan_ms = 500
";

/// SIGABRT: see `celeriac::failpoint`.
const ABORT: i32 = 6;

pub(crate) fn rows() -> Vec<Row> {
    let row = |name: &&'static str| {
        let name = *name;
        Row::short(format!("failpoint::{name}"), move || ends_at(name))
    };
    let unknown = Row::short("failpoint::unknown", an_unknown_one_is_refused);
    FAILPOINTS.iter().map(row).chain([unknown]).collect()
}

/// Whose step it is.
fn role(failpoint: &str) -> Role {
    match failpoint.split_once('_').expect("before_ or after_").1 {
        "journal" => Role::Producer,
        "enqueue" | "offset_commit" => Role::Consumer,
        _ => Role::Worker,
    }
}

async fn ends_at(failpoint: &str) {
    let mut pipeline = Pipeline::new(SETTINGS).await;
    let elsewhere = (failpoint == "after_quarantine_copy").then(other_file_system);
    if let Some(elsewhere) = &elsewhere {
        pipeline.move_quarantine(elsewhere.path().to_owned());
    }
    let mut files = Files::new(pipeline.data());
    files.drop_good("good.csv", 1, 500);
    files.drop_good("copy.csv", 1, 500);
    files.drop_bad("bad.csv", 2);

    let dying = role(failpoint);
    let once = pipeline.path("reached");
    let mut others = Vec::new();
    for role in [Role::Worker, Role::Consumer, Role::Producer] {
        if role != dying {
            others.push(pipeline.role(role).await);
        }
    }
    let mut command = pipeline.command(dying.args());
    command
        .env("CELERIAC_FAILPOINT", failpoint)
        .env("CELERIAC_FAILPOINT_ONCE", &once);
    let mut first = Process::start(pipeline.directory(), dying.name(), &mut command);
    let status = first.ends().await;
    assert_eq!(status.signal(), Some(ABORT), "{status:?}\n{}", first.log());
    assert!(once.exists(), "it ended at its step");
    // The step is passed from now on.
    let _second = Process::start(pipeline.directory(), dying.name(), &mut command);
    pipeline.check(&files).await;
}

async fn an_unknown_one_is_refused() {
    let pipeline = Pipeline::new("").await;
    let mut command = pipeline.command(Role::Consumer.args());
    let output = command.env("CELERIAC_FAILPOINT", "after_comit").output();
    let output = output.expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("after_comit") && said.contains("after_commit"),
        "{said}"
    );
}
