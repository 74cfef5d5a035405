//! The watch on a real directory with real notification.
//!
//! "At once" is told from "after settling" by settling for an hour, and "not yet" by a later file that comes first.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::pipeline::journal::Announced;

const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(50);

struct Trial {
    home: tempfile::TempDir,
    watcher: Watcher,
}

impl Trial {
    /// A watched directory with these files in it.
    fn new(settle: Duration, rescan: Duration, until: Until, before: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("data");
        std::fs::create_dir(&directory).unwrap();
        for name in before {
            std::fs::write(directory.join(name), "old").unwrap();
        }
        let options = Options {
            directory,
            settle,
            rescan,
            until,
        };
        let watcher = Watcher::start(options, Announced::new()).unwrap();
        Self { home, watcher }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("data").join(name)
    }

    /// A file that is complete from its first moment.
    fn rename_in(&self, name: &str) {
        let outside = self.home.path().join("outside");
        std::fs::write(&outside, name).unwrap();
        std::fs::rename(outside, self.path(name)).unwrap();
    }

    async fn next(&mut self) -> Item {
        let next = tokio::time::timeout(Duration::from_secs(20), self.watcher.next());
        next.await
            .expect("an item within 20 s")
            .expect("the watch goes on")
    }

    async fn next_found(&mut self) -> Found {
        match self.next().await {
            Item::Found(found) => found,
            gone @ Item::Gone(_) => panic!("expected a file: {gone:?}"),
        }
    }
}

#[tokio::test]
async fn a_file_renamed_in_is_announced_at_once() {
    let mut trial = Trial::new(HOUR, HOUR, Until::Stopped, &[]);
    trial.rename_in("a.csv");
    let found = trial.next_found().await;
    assert_eq!(found.path, trial.path("a.csv").to_str().unwrap());
    assert_eq!((found.name.as_str(), found.version.size), ("a.csv", 5));
}

#[tokio::test]
async fn a_file_written_in_place_is_announced_when_its_writer_closes_it() {
    let mut trial = Trial::new(SHORT, SHORT, Until::Stopped, &[]);
    let mut slow = std::fs::File::create(trial.path("slow.csv")).unwrap();
    slow.write_all(b"half").unwrap();
    // Longer than the settle time, seen by several rescans.
    for other in ["1.csv", "2.csv", "3.csv"] {
        tokio::time::sleep(SHORT).await;
        trial.rename_in(other);
        assert_eq!(trial.next_found().await.name, other);
    }
    slow.write_all(b"whole").unwrap();
    drop(slow);
    let found = trial.next_found().await;
    assert_eq!((found.name.as_str(), found.version.size), ("slow.csv", 9));
}

#[tokio::test]
async fn a_file_that_was_there_and_a_hard_link_settle() {
    let mut trial = Trial::new(SHORT, HOUR, Until::Stopped, &["before.csv"]);
    assert_eq!(trial.next_found().await.name, "before.csv");
    let outside = trial.home.path().join("outside");
    std::fs::write(&outside, "linked").unwrap();
    std::fs::hard_link(outside, trial.path("link.csv")).unwrap();
    assert_eq!(trial.next_found().await.name, "link.csv");
}

#[tokio::test]
async fn a_new_version_is_announced_again_and_the_same_one_is_not() {
    let mut trial = Trial::new(SHORT, SHORT, Until::Stopped, &[]);
    trial.rename_in("a.csv");
    let first = trial.next_found().await;
    // Opened for writing and closed unchanged.
    drop(
        std::fs::OpenOptions::new()
            .append(true)
            .open(trial.path("a.csv"))
            .unwrap(),
    );
    std::fs::write(trial.path("a.csv"), "other content").unwrap();
    let mut second = trial.next_found().await;
    if second.version.size == 0 {
        // Truncating and writing are two steps; a look may fall between them.
        second = trial.next_found().await;
    }
    assert_eq!(second.name, "a.csv");
    assert_ne!(second.version, first.version);
}

#[tokio::test]
async fn a_file_that_leaves_is_reported_and_announced_again_when_it_comes_back() {
    let mut trial = Trial::new(HOUR, HOUR, Until::Stopped, &[]);
    trial.rename_in("a.csv");
    let first = trial.next_found().await;
    let away = trial.home.path().join("away");
    std::fs::rename(trial.path("a.csv"), &away).unwrap();
    assert_eq!(trial.next().await, Item::Gone("a.csv".to_owned()));
    std::fs::rename(away, trial.path("a.csv")).unwrap();
    assert_eq!(trial.next_found().await, first);
}

#[tokio::test]
async fn what_is_no_regular_csv_file_is_left_alone_and_the_watch_goes_on() {
    let mut trial = Trial::new(SHORT, SHORT, Until::Stopped, &[]);
    std::fs::create_dir(trial.path("dir.csv")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(trial.path("socket.csv")).unwrap();
    for (link, target) in [
        ("out.csv", "/etc/passwd"),
        ("dangling.csv", "nowhere"),
        ("loop.csv", "loop.csv"),
    ] {
        std::os::unix::fs::symlink(target, trial.path(link)).unwrap();
    }
    for name in [
        ".hidden.csv",
        "a.csv.tmp",
        "a.csv.part",
        "README.txt",
        "csv",
    ] {
        std::fs::write(trial.path(name), "x").unwrap();
    }
    for name in ["1.csv", "2.csv", "3.CSV"] {
        tokio::time::sleep(SHORT * 2).await;
        trial.rename_in(name);
        assert_eq!(trial.next_found().await.name, name);
    }
}

#[tokio::test]
async fn once_everything_is_handed_out_the_watch_ends() {
    let mut trial = Trial::new(SHORT, HOUR, Until::NothingWaits, &["a.csv", "b.csv"]);
    let names = HashSet::from([trial.next_found().await.name, trial.next_found().await.name]);
    assert_eq!(
        names,
        HashSet::from(["a.csv".to_owned(), "b.csv".to_owned()])
    );
    assert!(trial.watcher.next().await.is_none());
    trial.watcher.outcome().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_replaced_ends_the_watch_with_an_error() {
    let mut trial = Trial::new(SHORT, HOUR, Until::Stopped, &[]);
    let directory = trial.home.path().join("data");
    std::fs::rename(&directory, trial.home.path().join("data.old")).unwrap();
    std::fs::create_dir(&directory).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), trial.watcher.next()).await;
    assert_eq!(ended, Ok(None));
    assert!(matches!(
        trial.watcher.outcome().await,
        Err(WatchError::Replaced(_))
    ));
}

#[test]
fn a_directory_that_is_missing_or_none_is_refused_at_the_start() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("file"), "").unwrap();
    let check = |name: &str| check_directory(Path::new(&home.path().join(name)));
    assert!(matches!(check("none"), Err(WatchError::Missing(_))));
    assert!(matches!(check("file"), Err(WatchError::NotADirectory(_))));
    assert!(check("").is_ok());
}
