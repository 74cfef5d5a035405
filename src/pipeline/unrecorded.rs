//! What has been announced and has no row in the ledger yet.
//!
//! Duties:
//! 1. remember every announced file until PostgreSQL has its row, so that what is lost behind Kafka (a topic without
//!    its data, a flushed Redis, a Python worker that was killed with a message in hand) is announced again
//!    (Guarantee F3);
//! 2. ask in batches, one question at a time, and only for files whose time has come;
//! 3. wait twice as long each time: a long queue is no loss, and the ledger makes a second announcement harmless.
//!
//! The Python pipeline has no counterpart: there a lost message is a lost file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt as _};
use sensor_tasks::Ingest;
use sensor_tasks::process_file::{Error, MAX_PATHS, RecordedFile, recorded_files};

use super::outage::Outage;
use super::watch::Found;

/// Wait before the next question while PostgreSQL is away.
const RETRY: Duration = Duration::from_secs(5);

/// A file is announced again after at most so many times the age limit.
const LONGEST_WAIT: u32 = 16;

/// An answer to one question: the files asked for, and what the ledger says.
type Answer = (Vec<String>, Result<Vec<RecordedFile>, Error>);

/// The files without a row, and the question under way.
pub(super) struct Unrecorded {
    ingest: Arc<Ingest>,
    waiting: Waiting,
    question: Option<BoxFuture<'static, Answer>>,
    database: Outage,
}

impl Unrecorded {
    /// `age`: how long after its announcement a file without a row is announced again. `announced`: what earlier runs
    /// have announced; how long ago is not known, so that the time begins now.
    pub(super) fn new(
        ingest: Arc<Ingest>,
        age: Duration,
        announced: impl IntoIterator<Item = Found>,
    ) -> Self {
        let now = Instant::now();
        let mut waiting = Waiting::new(age);
        for found in announced {
            waiting.announced(found, now);
        }
        // Most of them have their rows: finding that out at once spares keeping them.
        waiting.look_now(now);
        Self {
            ingest,
            waiting,
            question: None,
            database: Outage::new("PostgreSQL".to_owned()),
        }
    }

    /// Kafka has acknowledged the file's record.
    pub(super) fn announced(&mut self, found: Found) {
        self.waiting.announced(found, Instant::now());
    }

    /// The file is not there any more.
    pub(super) fn gone(&mut self, key: &str) {
        self.waiting.files.remove(key);
    }

    /// Asks for the files whose time has come, unless a question is under way.
    pub(super) fn ask(&mut self) {
        if self.question.is_some() {
            return;
        }
        let (keys, paths) = self.waiting.due(Instant::now());
        if keys.is_empty() {
            return;
        }
        let ingest = Arc::clone(&self.ingest);
        let question = async move { (keys, recorded_files(&ingest, &paths).await) };
        self.question = Some(question.boxed());
    }

    /// The files to announce again, once a question is answered; for ever silent while none is under way.
    ///
    /// # Cancel safety
    /// A question that was not answered stays under way.
    pub(super) async fn overdue(&mut self) -> Vec<Found> {
        let Some(question) = &mut self.question else {
            return std::future::pending().await;
        };
        let (keys, answer) = question.await;
        self.question = None;
        let now = Instant::now();
        match answer {
            Ok(recorded) => {
                self.database.over();
                self.waiting.answered(&keys, &recorded, now)
            }
            Err(error) => {
                let consequence = "files that were lost on their way are not announced again";
                self.database.note(consequence, &error);
                self.waiting.postpone(&keys, now);
                Vec::new()
            }
        }
    }
}

/// The files and their times. Pure: the ledger's answers and the time come in.
#[derive(Debug)]
struct Waiting {
    age: Duration,
    files: HashMap<String, Announced>,
}

#[derive(Debug)]
struct Announced {
    found: Found,
    /// When it was announced last, and how long after that it is announced again.
    at: Instant,
    wait: Duration,
    /// When to ask.
    due: Instant,
}

impl Waiting {
    fn new(age: Duration) -> Self {
        Self {
            age,
            files: HashMap::new(),
        }
    }

    fn announced(&mut self, found: Found, now: Instant) {
        if let Some(known) = self.files.get_mut(&found.key)
            && known.found.version == found.version
        {
            (known.at, known.due) = (now, now + known.wait);
            return;
        }
        let announced = Announced {
            at: now,
            wait: self.age,
            due: now + self.age,
            found,
        };
        self.files.insert(announced.found.key.clone(), announced);
    }

    fn look_now(&mut self, now: Instant) {
        for announced in self.files.values_mut() {
            announced.due = now;
        }
    }

    /// Keys and paths of those to ask for now.
    fn due(&self, now: Instant) -> (Vec<String>, Vec<String>) {
        let due = self.files.values().filter(|announced| announced.due <= now);
        due.take(MAX_PATHS)
            .map(|announced| (announced.found.key.clone(), announced.found.path.clone()))
            .unzip()
    }

    /// Forgets what is recorded, and returns what was announced too long ago.
    fn answered(&mut self, keys: &[String], recorded: &[RecordedFile], now: Instant) -> Vec<Found> {
        let longest = self.age * LONGEST_WAIT;
        let mut by_path: HashMap<&str, Vec<&RecordedFile>> = HashMap::new();
        for file in recorded {
            by_path.entry(&file.path).or_default().push(file);
        }
        let mut again = Vec::new();
        for key in keys {
            let Some(announced) = self.files.get_mut(key) else {
                continue;
            };
            let rows = by_path.get(announced.found.path.as_str());
            if rows.is_some_and(|rows| rows.iter().any(|row| is_of(row, &announced.found))) {
                self.files.remove(key);
                continue;
            }
            if now >= announced.at + announced.wait {
                announced.wait = (announced.wait * 2).min(longest);
                announced.at = now;
                again.push(announced.found.clone());
            }
            announced.due = announced.at + announced.wait;
        }
        again
    }

    fn postpone(&mut self, keys: &[String], now: Instant) {
        for key in keys {
            if let Some(announced) = self.files.get_mut(key) {
                announced.due = now + RETRY;
            }
        }
    }
}

/// Whether the row speaks of this version of the file. PostgreSQL keeps microseconds; how it was rounded is its affair.
fn is_of(row: &RecordedFile, found: &Found) -> bool {
    row.version.is_none_or(|(inode, modified_us)| {
        let announced_us = found.version.mtime_ns.div_euclid(1000);
        inode == found.version.inode && (announced_us - modified_us).abs() <= 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::file_event::Version;

    const AGE: Duration = Duration::from_secs(60);

    fn found(name: &str, inode: u64) -> Found {
        Found {
            key: name.to_owned(),
            path: format!("data/{name}"),
            name: name.to_owned(),
            version: Version {
                size: 1,
                mtime_ns: 1_500_999,
                inode,
            },
        }
    }

    fn row(name: &str, version: Option<(u64, i64)>) -> RecordedFile {
        RecordedFile {
            path: format!("data/{name}"),
            version,
        }
    }

    fn names(found: &[Found]) -> Vec<&str> {
        let mut names: Vec<&str> = found.iter().map(|found| &*found.name).collect();
        names.sort_unstable();
        names
    }

    /// Asks for what is due, and answers with these rows.
    fn ask(waiting: &mut Waiting, now: Instant, rows: &[RecordedFile]) -> Vec<Found> {
        let (keys, _paths) = waiting.due(now);
        waiting.answered(&keys, rows, now)
    }

    #[test]
    fn only_the_row_of_this_very_version_counts() {
        for (version, is_recorded) in [
            (Some((7, 1500)), true),
            (Some((7, 1501)), true),
            (Some((8, 1500)), false),
            (Some((7, 99)), false),
            (None, true),
        ] {
            let start = Instant::now();
            let mut waiting = Waiting::new(AGE);
            waiting.announced(found("a.csv", 7), start);
            let again = ask(&mut waiting, start + AGE, &[row("a.csv", version)]);
            assert_eq!(again.is_empty(), is_recorded, "{version:?}");
            assert_eq!(waiting.files.is_empty(), is_recorded, "{version:?}");
        }
    }

    #[test]
    fn a_file_is_announced_again_after_ever_longer_waits() {
        let start = Instant::now();
        let mut waiting = Waiting::new(AGE);
        waiting.announced(found("a.csv", 1), start);
        let mut seconds = Vec::new();
        for second in 0..1000 {
            let now = start + Duration::from_secs(second);
            if !ask(&mut waiting, now, &[]).is_empty() {
                seconds.push(second);
                waiting.announced(found("a.csv", 1), now);
            }
        }
        assert_eq!(seconds, [60, 180, 420, 900]);
    }

    #[test]
    fn what_an_earlier_run_has_announced_is_looked_up_at_once_and_announced_again_later() {
        let start = Instant::now();
        let mut waiting = Waiting::new(AGE);
        waiting.announced(found("a.csv", 1), start);
        waiting.announced(found("b.csv", 2), start);
        waiting.look_now(start);
        assert!(ask(&mut waiting, start, &[row("a.csv", Some((1, 1500)))]).is_empty());
        assert!(waiting.due(start).0.is_empty());
        assert_eq!(names(&ask(&mut waiting, start + AGE, &[])), ["b.csv"]);
    }

    #[test]
    fn a_new_version_begins_anew_and_an_outage_postpones() {
        let start = Instant::now();
        let mut waiting = Waiting::new(AGE);
        waiting.announced(found("a.csv", 1), start);
        waiting.announced(found("a.csv", 2), start + AGE / 2);
        assert!(waiting.due(start + AGE).0.is_empty());
        let (keys, _paths) = waiting.due(start + AGE * 2);
        waiting.postpone(&keys, start + AGE * 2);
        assert!(waiting.due(start + AGE * 2).0.is_empty());
        assert_eq!(
            names(&ask(&mut waiting, start + AGE * 2 + RETRY, &[])),
            ["a.csv"]
        );
    }
}
