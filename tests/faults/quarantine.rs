//! Q: the disk of the quarantine is full, or another one.
//!
//! Elsewhere: names that are taken (Q2) are rows of `tasks/tests/services/refusing.rs`, and a quarantine that cannot be
//! written (Q4) of `outages.rs` beside it; a worker that is killed between copy and removal (Q3) is a failpoint.

use std::path::{Path, PathBuf};
use std::process::Command;

use celeriac_tests::files::{Fate, Files};
use celeriac_tests::pipeline::{Pipeline, Role};
use celeriac_tests::process::Process;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;

use crate::Row;

/// What the disk still takes of one file, in bytes. The worker's own log must fit in.
const ROOM: u64 = 1 << 20;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row::short("q1::disk_full", disk_full)]
}

/// The limit on the size of files makes writing fail as a full disk does, for this process alone.
async fn disk_full() {
    let elsewhere = other_file_system();
    let mut pipeline = Pipeline::new("").await;
    pipeline.move_quarantine(elsewhere.path().to_owned());
    let mut files = Files::new(pipeline.data());
    let large = "no header\n".repeat(300_000);
    assert!(large.len() as u64 > 2 * ROOM);
    files.drop("bad.csv", large, Fate::Bad);
    files.drop_good("good.csv", 1, 50);

    let mut worker = without_signal(&pipeline);
    worker.says(Role::Worker.ready()).await;
    limit(&worker, Some(ROOM));
    for name in ["bad.csv", "good.csv"] {
        pipeline.send(name, name).await;
    }
    worker.says("trying again in 2 s").await;
    assert!(
        worker.log().contains("cannot move a file to"),
        "{}",
        worker.log()
    );
    assert!(pipeline.data().join("bad.csv").exists());
    let entries = std::fs::read_dir(elsewhere.path()).expect("it is there");
    assert_eq!(entries.count(), 0, "no half copy");
    let pending =
        "select count(*) from ingest_files where state = 'quarantined' and moved_at is null";
    assert_eq!(pipeline.database.number(pending).await, 1);
    limit(&worker, None);
    pipeline.check(&files).await;
}

/// A worker to which the system says EFBIG, instead of killing it with SIGXFSZ.
fn without_signal(pipeline: &Pipeline) -> Process {
    let worker = pipeline.command(Role::Worker.args());
    let mut shell = Command::new("bash");
    shell
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "-"])
        .arg(worker.get_program())
        .args(worker.get_args());
    pipeline.prepare(&mut shell);
    Process::start(pipeline.directory(), Role::Worker.name(), &mut shell)
}

fn limit(process: &Process, size_bytes: Option<u64>) {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: size_bytes,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).expect("a soft limit may be changed");
}

/// A directory on another file system than that of the tests' directories.
pub(crate) fn other_file_system() -> TempDir {
    let device = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(std::os::unix::fs::MetadataExt::dev(&metadata))
    };
    let here = device(&std::env::temp_dir());
    let mut places = ["/dev/shm", "/tmp", "/var/tmp"]
        .map(PathBuf::from)
        .into_iter();
    let place = places.find(|place| device(place).is_some_and(|there| Some(there) != here));
    let place = place.expect("a second file system is at hand: /dev/shm, /tmp or /var/tmp");
    TempDir::new_in(place).expect("a directory can be made")
}
