//! A pipeline of a test's own: a working directory with `data/`, a topic, a Redis, a database, and the programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use celeriac::protocol::result::TaskMeta;
use redis::AsyncCommands as _;
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::kafka::Topic;
use crate::postgres::{Database, PrivatePostgres};
use crate::process::{PATIENCE, Process};
use crate::programs::program;
use crate::redis::PrivateRedis;

/// How long files may take from the directory to their fate, on a machine that compiles something else meanwhile.
pub const FATE_PATIENCE: Duration = Duration::from_secs(120);

/// What the programs would otherwise find in the environment of whoever runs the tests.
const FOREIGN: [&str; 6] = [
    "WATCH_DIR",
    "QUARANTINE_DIR",
    "LOG_DIR",
    "CELERIAC_CONFIG",
    "CELERY_APP",
    "CELERY_LOG_LEVEL",
];

/// One file as the ledger has it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct LedgerRow {
    /// Its name without the directory; what is not UTF-8 is escaped.
    pub file_name: String,
    /// `loaded`, `duplicate`, `quarantined` or `missing`.
    pub state: String,
    /// What is wrong with it, in a sentence.
    pub reason: Option<String>,
    /// The report, as JSON.
    pub reasons: Option<String>,
    /// The rows of its content.
    pub row_count: Option<i64>,
    /// The task that gave the verdict.
    pub task_id: String,
}

/// Everything that a pipeline needs. The programs are started by each test.
#[derive(Debug)]
pub struct Pipeline {
    /// Broker in database 0, results in database 1.
    pub redis: PrivateRedis,
    /// With its tables.
    pub database: Database,
    /// The group has the same name.
    pub topic: Topic,
    directory: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Pipeline {
    /// With PostgreSQL's server of `make up`; `settings` is the text of `celeriac.toml`.
    ///
    /// # Panics
    /// A service is away.
    pub async fn new(settings: &str) -> Self {
        Self::with(Database::create().await, settings).await
    }

    /// With a PostgreSQL that the test may stop.
    ///
    /// # Panics
    /// A service is away.
    pub async fn on(server: &PrivatePostgres, settings: &str) -> Self {
        Self::with(Database::create_on(server.url()).await, settings).await
    }

    async fn with(database: Database, settings: &str) -> Self {
        let pipeline = Self {
            redis: PrivateRedis::start().await,
            database,
            topic: Topic::create().await,
            directory: TempDir::new().expect("a directory can be made"),
            environment: Vec::new(),
        };
        std::fs::create_dir(pipeline.data()).expect("a test's directory can be written");
        std::fs::write(pipeline.path("celeriac.toml"), settings).expect("it can be written");
        let migrated = pipeline.command(["db", "migrate"]).output();
        let migrated = migrated.expect("the program runs");
        assert!(migrated.status.success(), "{migrated:?}");
        pipeline
    }

    /// The working directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in the working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The watch directory, by default.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Sets a variable for all programs that are started from now on.
    pub fn set(&mut self, variable: &'static str, value: impl Into<String>) {
        self.environment.push((variable, value.into()));
    }

    /// The program in the working directory, with the addresses of the services. Every other setting has its default,
    /// but for what `celeriac.toml` and [`Self::set`] say.
    pub fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(program("celeriac"));
        command.args(args);
        self.prepare(&mut command);
        command
    }

    /// Gives a program the working directory and the environment of this pipeline.
    pub fn prepare(&self, command: &mut Command) {
        for name in FOREIGN {
            command.env_remove(name);
        }
        command
            .current_dir(self.directory())
            .env("KAFKA_TOPIC", self.topic.name())
            .env("KAFKA_GROUP", self.topic.name())
            .env("DATABASE_URL", self.database.url())
            .env("CELERY_BROKER_URL", self.redis.url(0))
            .env("CELERY_RESULT_BACKEND", self.redis.url(1))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    /// Starts what `celeriac produce` is, and waits until it watches.
    pub async fn producer(&self) -> Process {
        let command = self.command(["produce"]);
        self.started("producer", command, "Watching").await
    }

    /// Starts the consumer, and waits until it has its partition.
    pub async fn consumer(&self) -> Process {
        let command = self.command(["consume"]);
        self.started("consumer", command, "Consuming the partitions")
            .await
    }

    /// Starts a worker, and waits until it is ready.
    pub async fn worker(&self, name: &str) -> Process {
        let args = "-A worker.tasks worker --loglevel=info -c 2".split(' ');
        self.started(name, self.command(args), " ready.").await
    }

    /// Starts a program, and waits until it has said that it works.
    pub async fn started(&self, name: &str, mut command: Command, ready: &str) -> Process {
        let mut process = Process::start(self.directory(), name, &mut command);
        process.says(ready).await;
        process
    }

    /// The ledger, in the order in which the files came to their fate.
    pub async fn ledger(&self) -> Vec<LedgerRow> {
        let sql = "select f.file_name, f.state, f.reason, f.reasons::text, c.row_count, f.task_id \
            from ingest_files f left join ingest_content c using (content_id) \
            where f.state <> 'quarantined' or f.moved_at is not null or f.quarantine_path is null order by f.file_id";
        self.database.rows(sql).await
    }

    /// Waits until so many files have come to their fate.
    ///
    /// # Panics
    /// Not within [`FATE_PATIENCE`].
    pub async fn ledger_of(&self, files: usize) -> Vec<LedgerRow> {
        let what = format!("{files} files have come to their fate");
        eventually(&what, FATE_PATIENCE, async || {
            let ledger = self.ledger().await;
            (ledger.len() >= files).then_some(ledger)
        })
        .await
    }

    /// Waits until the group has committed every record of the topic.
    ///
    /// # Panics
    /// Not within [`PATIENCE`].
    pub async fn has_no_lag(&self, group: &str) {
        let end = self.topic.end().await;
        eventually("every record is committed", PATIENCE, async || {
            (self.topic.committed(group).await == Some(end)).then_some(())
        })
        .await;
    }

    /// Waits until no message waits in the queue or in a worker's hands.
    ///
    /// # Panics
    /// Not within [`FATE_PATIENCE`].
    pub async fn has_no_messages(&self) {
        let mut connection = self.redis.connect().await;
        eventually("every message is settled", FATE_PATIENCE, async || {
            let counts: (usize, usize) = redis::pipe()
                .llen("celery")
                .hlen("unacked")
                .query_async(&mut connection)
                .await
                .ok()?;
            (counts == (0, 0)).then_some(())
        })
        .await;
    }

    /// The stored result of a task.
    ///
    /// # Panics
    /// There is none within [`PATIENCE`].
    pub async fn result(&self, task_id: &str) -> TaskMeta {
        let mut connection = self.redis.connect_to(1).await;
        let key = format!("celery-task-meta-{task_id}");
        eventually("the result is stored", PATIENCE, async || {
            let stored: Option<Vec<u8>> = connection.get(&key).await.expect("redis runs");
            stored.map(|bytes| TaskMeta::parse(&bytes).expect("a result"))
        })
        .await
    }

    /// Checks what must hold of the tables whatever has happened: every loaded content has all its rows, once, and the
    /// aggregates that SQL computes from them.
    ///
    /// # Panics
    /// It does not hold.
    pub async fn check_tables(&self) {
        for (what, sql) in INVARIANTS {
            assert_eq!(self.database.number(sql).await, 0, "{what}");
        }
    }
}

/// What must not be found, and how to find it.
const INVARIANTS: [(&str, &str); 4] = [
    (
        "lines that are there twice",
        "select count(*) from (select 1 from raw_sensor_data group by content_id, line_no having count(*) > 1) d",
    ),
    (
        "contents that are not there whole",
        "select count(*) from ingest_content c \
         full join (select content_id, count(*) n from raw_sensor_data group by 1) r using (content_id) \
         where c.row_count is distinct from r.n",
    ),
    (
        "contents that no file has brought",
        "select count(*) from ingest_content c where not exists \
         (select 1 from ingest_files f where f.content_id = c.content_id and f.state = 'loaded')",
    ),
    // Exact where SQL is; its mean of two middle values is rounded differently in the last bit.
    (
        "aggregates that differ from what SQL computes",
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
