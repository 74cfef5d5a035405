//! What must hold when everything has come to rest, whatever has happened before. The numbers C1 to C11 are those of
//! the table of faults in `tests/faults/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use celeriac::protocol::state::State;

use crate::eventually::eventually;
use crate::files::{Dropped, Fate, Files};
use crate::pipeline::{FATE_PATIENCE, Pipeline};

/// The journal of the producer and its lock lie in the watch directory.
const JOURNAL: [&str; 2] = [".celeriac-journal", ".celeriac-journal.lock"];

/// How long PostgreSQL may take to notice that a client has gone.
const SESSION_PATIENCE: Duration = Duration::from_secs(10);

/// Nothing under way for so long: what is missing is lost.
const REST: Duration = Duration::from_secs(5);

/// A row of the ledger, as far as it is checked.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Row {
    file_name: String,
    sha256: Option<String>,
    state: String,
    quarantine_path: Option<String>,
    task_id: String,
}

/// A row of `raw_sensor_data`.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
struct Values {
    line_no: i64,
    ts_us: i64,
    device: String,
    numbers: Vec<f64>,
    light: bool,
    motion: bool,
}

impl Pipeline {
    /// Waits until all files have come to their fate and nothing is under way; then checks everything.
    ///
    /// # Panics
    /// It does not come to rest, or something does not hold.
    pub async fn check(&self, files: &Files) {
        self.comes_to_rest(files.all().len()).await;
        let ledger = self.checked_ledger(files).await;
        self.check_tables().await;
        self.check_values(files).await;
        self.check_places(files, &ledger);
        self.check_sessions().await;
        self.check_results(&ledger).await;
        self.check_logs();
    }

    /// C1, C8 and C9: every file has its row, every record is committed, and no message is left.
    async fn comes_to_rest(&self, files: usize) {
        let mut resting = 0;
        let mut next_look = Instant::now();
        eventually("C1: every file has its row", FATE_PATIENCE, async || {
            let ledger = self.ledger().await;
            if ledger.len() >= files {
                return Some(());
            }
            if Instant::now() >= next_look {
                next_look = Instant::now() + REST / 5;
                resting = if self.is_at_rest(files).await {
                    resting + 1
                } else {
                    0
                };
                // Nobody will bring the missing ones any more.
                assert!(
                    resting <= 5,
                    "C1: of {files} files some are lost: {ledger:#?}"
                );
            }
            None
        })
        .await;
        if self.topic.end().await > 0 {
            self.has_no_lag(self.topic.name()).await;
        }
        self.has_no_messages().await;
        let mut redis = self.redis.connect().await;
        let left: (usize, usize) = redis::pipe()
            .zcard("unacked_index")
            .llen("celery.dead")
            .query_async(&mut redis)
            .await
            .expect("redis runs");
        assert_eq!(left, (0, 0), "C9: claims or dead letters are left");
    }

    /// So many files have been announced, all records are committed, and no message is under way.
    async fn is_at_rest(&self, files: usize) -> bool {
        let end = self.topic.end().await;
        let is_announced = usize::try_from(end).is_ok_and(|records| records >= files);
        is_announced
            && self.topic.committed(self.topic.name()).await == Some(end)
            && self.messages().await == (0, 0)
    }

    /// C1 and C5: each file has one row, and it says what it must.
    async fn checked_ledger(&self, files: &Files) -> Vec<Row> {
        let sql = "select file_name, encode(sha256, 'hex') sha256, state, quarantine_path, task_id \
            from ingest_files \
            where state <> 'quarantined' or moved_at is not null or quarantine_path is null order by file_id";
        let ledger: Vec<Row> = self.database.rows(sql).await;
        let mut left = ledger.clone();
        for file in files.all() {
            let at = left.iter().position(|row| is_right(row, file));
            let at = at.unwrap_or_else(|| {
                panic!(
                    "C1, C5: no row says that {} is {:?}: {ledger:#?}",
                    file.name, file.fate
                )
            });
            left.swap_remove(at);
        }
        assert_eq!(left, [], "C1: rows that no file accounts for");
        let mut loaded = BTreeSet::new();
        for row in ledger.iter().filter(|row| row.state == "loaded") {
            assert!(loaded.insert(&row.sha256), "C2: loaded twice: {ledger:#?}");
        }
        ledger
    }

    /// C2, C3 and C4: every loaded content has all its rows, once, and the aggregates that SQL computes from them.
    ///
    /// # Panics
    /// It does not hold.
    pub async fn check_tables(&self) {
        for (what, sql) in INVARIANTS {
            assert_eq!(self.database.number(sql).await, 0, "{what}");
        }
    }

    /// C6: the rows in the table are those in the files, value by value.
    async fn check_values(&self, files: &Files) {
        let good = files.all().iter().filter(|file| file.fate == Fate::Good);
        let contents: BTreeMap<_, _> = good.map(|file| (file.sha256(), file)).collect();
        for (sha256, file) in &contents {
            let sha256 = sha256.as_deref().unwrap_or_default();
            let sql = format!(
                "select line_no, (extract(epoch from ts) * 1000000)::int8 ts_us, device, \
                array[co, humidity, lpg, smoke, temp] numbers, light, motion from raw_sensor_data \
                where content_id = (select content_id from ingest_content where encode(sha256, 'hex') = '{sha256}') \
                order by line_no"
            );
            let found: Vec<Values> = self.database.rows(&sql).await;
            let expected = values(&file.content);
            let differing = expected
                .iter()
                .zip(&found)
                .find(|(one, other)| one != other);
            assert_eq!(differing, None, "C6: {}: written and loaded", file.name);
            assert_eq!(expected.len(), found.len(), "C6: {}", file.name);
        }
    }

    /// C7 and C11: each file lies in one place with its own bytes, and nothing else lies anywhere.
    fn check_places(&self, files: &Files, ledger: &[Row]) {
        let mut in_data: BTreeSet<String> = JOURNAL.map(str::to_owned).into();
        let mut in_quarantine = BTreeSet::new();
        for file in files.all() {
            match file.fate {
                Fate::Bad => {
                    let row = ledger.iter().find(|row| is_right(row, file));
                    let path = row.and_then(|row| row.quarantine_path.clone());
                    let path = self.path(&path.expect("a bad file has gone to quarantine"));
                    has_bytes(&path, file);
                    let name = name(&path);
                    check_report(&path.with_file_name(format!("{name}.error.json")), file);
                    in_quarantine.insert(format!("{name}.error.json"));
                    assert!(in_quarantine.insert(name), "C7: two files in one place");
                }
                Fate::Good | Fate::Refused if !file.is_replaced => {
                    if file.fate == Fate::Good {
                        has_bytes(&self.data().join(&file.name), file);
                    }
                    in_data.insert(file.name.clone());
                }
                Fate::Good | Fate::Refused | Fate::Missing => {}
            }
        }
        let found = names(&self.data());
        let unexpected: Vec<_> = found.difference(&in_data).collect();
        assert!(
            unexpected.is_empty(),
            "C7, C11: in the watch directory: {unexpected:?}"
        );
        assert_eq!(
            names(&self.quarantine()),
            in_quarantine,
            "C7, C11: in quarantine"
        );
        let in_logs = names(&self.path("logs"));
        assert!(
            in_logs.is_subset(&["errors.log".to_owned()].into()),
            "C11: {in_logs:?}"
        );
        self.canary.check();
    }

    /// C10: no transaction is left open.
    async fn check_sessions(&self) {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() \
            and state like 'idle in transaction%' and state_change < now() - interval '5 s'";
        eventually(
            "C10: no transaction is left open",
            SESSION_PATIENCE,
            async || (self.database.number(sql).await == 0).then_some(()),
        )
        .await;
    }

    /// Whoever waits for a task hears of its end.
    async fn check_results(&self, ledger: &[Row]) {
        for row in ledger {
            let meta = self.result(&row.task_id).await;
            assert_eq!(meta.status, State::Success, "the result of {row:?}");
        }
    }

    /// Whatever happens to a program, it is not a panic of its own.
    fn check_logs(&self) {
        for name in names(self.directory()) {
            if name.ends_with(".log") {
                let log = fs::read(self.path(&name)).expect("it is there");
                let log = String::from_utf8_lossy(&log);
                assert!(!log.contains("panicked at"), "{name}:\n{log}");
            }
        }
    }

    /// Waits until so many tasks have been taken by workers.
    ///
    /// # Panics
    /// Not within [`FATE_PATIENCE`].
    pub async fn are_held(&self, count: usize) {
        let mut redis = self.redis.connect().await;
        eventually("workers hold the messages", FATE_PATIENCE, async || {
            let held: usize = redis::cmd("HLEN")
                .arg("unacked")
                .query_async(&mut redis)
                .await
                .ok()?;
            (held >= count).then_some(())
        })
        .await;
    }
}

fn is_right(row: &Row, file: &Dropped) -> bool {
    let states: &[&str] = match file.fate {
        Fate::Good => &["loaded", "duplicate"],
        Fate::Bad | Fate::Refused => &["quarantined"],
        Fate::Missing => &["missing"],
    };
    row.file_name == file.name
        && row.sha256 == file.sha256()
        && states.contains(&row.state.as_str())
        && row.quarantine_path.is_some() == (file.fate == Fate::Bad)
}

/// The values of a file made by `sensor_file`, read without the help of what is tested.
fn values(content: &[u8]) -> Vec<Values> {
    let text = std::str::from_utf8(content).expect("a good file is UTF-8");
    let lines = (1..).zip(text.lines()).skip(1);
    let row = |(line_no, line): (i64, &str)| {
        let fields: Vec<&str> = line.split(',').collect();
        let [ts, device, co, humidity, light, lpg, motion, smoke, temp] = fields[..] else {
            panic!("{line:?}")
        };
        let (seconds, micros) = ts.split_once('.').expect("a time with microseconds");
        let numbers = [co, humidity, lpg, smoke, temp];
        Values {
            line_no,
            ts_us: format!("{seconds}{micros:0<6}").parse().expect("digits"),
            device: device.to_owned(),
            numbers: numbers.map(|text| text.parse().expect("a number")).into(),
            light: light.parse().expect("a bool"),
            motion: motion.parse().expect("a bool"),
        }
    };
    lines.map(row).collect()
}

fn has_bytes(path: &Path, file: &Dropped) {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("C7: {}: {error}", path.display()));
    assert!(bytes == file.content, "C7: {} has changed", path.display());
}

fn check_report(path: &Path, file: &Dropped) {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("C7: {}: {error}", path.display()));
    let report: serde_json::Value = serde_json::from_slice(&bytes).expect("a report is JSON");
    assert_eq!(
        report["sha256"].as_str(),
        file.sha256().as_deref(),
        "{report}"
    );
}

fn name(path: &Path) -> String {
    let name = path.file_name().expect("a file has a name");
    name.to_string_lossy().into_owned()
}

/// What lies there; a directory that is not there has nothing in it.
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .map(|entry| name(&entry.expect("it can be read").path()))
        .collect()
}

/// What must not be found, and how to find it.
const INVARIANTS: [(&str, &str); 4] = [
    (
        "C2: lines that are there twice",
        "select count(*) from (select 1 from raw_sensor_data group by content_id, line_no having count(*) > 1) d",
    ),
    (
        "C3: contents that are not there whole",
        "select count(*) from ingest_content c \
         full join (select content_id, count(*) n from raw_sensor_data group by 1) r using (content_id) \
         where c.row_count is distinct from r.n",
    ),
    (
        "C4: contents that no file has brought",
        "select count(*) from ingest_content c where not exists \
         (select 1 from ingest_files f where f.content_id = c.content_id and f.state = 'loaded')",
    ),
    // Exact where SQL is; its mean of two middle values is rounded differently in the last bit.
    (
        "C3: aggregates that differ from what SQL computes",
        "with expected as ( \
           select content_id, file_name, device, metric, min(value) min_value, max(value) max_value, \
             avg(value) avg_value, stddev_samp(value) std_dev, \
             percentile_cont(0.5) within group (order by value) median_value, count(*) count \
           from raw_sensor_data cross join lateral (values \
             ('co', co), ('humidity', humidity), ('lpg', lpg), ('smoke', smoke), ('temp', temp)) m (metric, value) \
           group by content_id, file_name, device, metric) \
         select count(*) from expected e full join aggregated_metrics a using (content_id, file_name, device, metric) \
         where e.min_value is distinct from a.min_value or e.max_value is distinct from a.max_value \
           or e.count is distinct from a.count or (e.std_dev is null) <> (a.std_dev is null) \
           or abs(e.avg_value - a.avg_value) > 1e-9 or abs(e.std_dev - a.std_dev) > 1e-9 \
           or abs(e.median_value - a.median_value) > 1e-12",
    ),
];
