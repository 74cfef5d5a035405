//! A pipeline of a test's own: a working directory with `data/`, a topic, a Redis, a database, and the programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use celeriac::protocol::result::TaskMeta;
use celeriac::{App, SendOptions, Settings};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde_json::{Map, json};
use tempfile::TempDir;

use crate::canary::Canary;
use crate::eventually::eventually;
use crate::kafka::Topic;
use crate::postgres::Database;
use crate::private::PrivateServer;
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

/// One of the three programs of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `celeriac produce`.
    Producer,
    /// `celeriac consume`.
    Consumer,
    /// `celeriac worker`.
    Worker,
}

impl Role {
    /// What is typed behind `celeriac`.
    pub fn args(self) -> impl Iterator<Item = &'static str> {
        let args = match self {
            Self::Producer => "produce",
            Self::Consumer => "consume",
            Self::Worker => "-A worker.tasks worker --loglevel=info -c 2",
        };
        args.split(' ')
    }

    /// What it says when it works.
    pub fn ready(self) -> &'static str {
        match self {
            Self::Producer => "Watching",
            Self::Consumer => "Consuming the partitions",
            Self::Worker => " ready.",
        }
    }

    /// The name of its log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Worker => "worker",
        }
    }
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
    /// Beside the watch directory; nothing may touch it.
    pub canary: Canary,
    directory: TempDir,
    quarantine: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Pipeline {
    /// With PostgreSQL's server of `make up`; `settings` is the text of `celeriac.toml`.
    ///
    /// # Panics
    /// A service is away.
    pub async fn new(settings: &str) -> Self {
        Self::with(Database::create().await, Topic::create().await, settings).await
    }

    /// With a PostgreSQL that the test may stop.
    ///
    /// # Panics
    /// A service is away.
    pub async fn on(server: &PrivateServer, settings: &str) -> Self {
        let database = Database::create_on(server.address()).await;
        Self::with(database, Topic::create().await, settings).await
    }

    /// With this database and this topic.
    ///
    /// # Panics
    /// A service is away.
    pub async fn with(database: Database, topic: Topic, settings: &str) -> Self {
        let directory = TempDir::new().expect("a directory can be made");
        let pipeline = Self {
            redis: PrivateRedis::start().await,
            database,
            topic,
            canary: Canary::new(directory.path().join("canary")),
            quarantine: directory.path().join("quarantine"),
            directory,
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

    /// Where bad files go.
    pub fn quarantine(&self) -> PathBuf {
        self.quarantine.clone()
    }

    /// Lets bad files go elsewhere, for all programs that are started from now on.
    pub fn move_quarantine(&mut self, directory: PathBuf) {
        self.set("QUARANTINE_DIR", directory.to_str().expect("UTF-8"));
        self.quarantine = directory;
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
            .env("KAFKA_BOOTSTRAP_SERVERS", self.topic.servers())
            .env("KAFKA_TOPIC", self.topic.name())
            .env("KAFKA_GROUP", self.topic.name())
            .env("DATABASE_URL", self.database.url())
            .env("CELERY_BROKER_URL", self.redis.url(0))
            .env("CELERY_RESULT_BACKEND", self.redis.url(1))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    /// Starts what `celeriac produce` is, and waits until it watches.
    pub async fn producer(&self) -> Process {
        self.role(Role::Producer).await
    }

    /// Starts the consumer, and waits until it has its partition.
    pub async fn consumer(&self) -> Process {
        self.role(Role::Consumer).await
    }

    /// Starts a worker, and waits until it is ready.
    pub async fn worker(&self, name: &str) -> Process {
        let role = Role::Worker;
        self.started(name, self.command(role.args()), role.ready())
            .await
    }

    /// Starts one of the three programs, and waits until it works.
    pub async fn role(&self, role: Role) -> Process {
        self.started(role.name(), self.command(role.args()), role.ready())
            .await
    }

    /// Starts a program, and waits until it has said that it works.
    pub async fn started(&self, name: &str, mut command: Command, ready: &str) -> Process {
        let mut process = Process::start(self.directory(), name, &mut command);
        process.says(ready).await;
        process
    }

    /// Sends the task for a file of the watch directory, without Kafka.
    ///
    /// # Panics
    /// Redis is away.
    pub async fn send(&self, name: &str, task_id: &str) {
        let settings = Settings {
            broker_url: self.redis.url(0),
            ..Settings::default()
        };
        let app = App::builder("worker.tasks", settings).build();
        let app = app.expect("the URL is right");
        let options = SendOptions {
            task_id: Some(task_id.to_owned()),
            ..SendOptions::default()
        };
        let args = vec![json!(format!("data/{name}"))];
        let task = "worker.tasks.process_file_task";
        let sent = app.send_task(task, args, Map::new(), options);
        sent.await.expect("redis runs");
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
        let mut redis = self.redis.connect().await;
        eventually("every message is settled", FATE_PATIENCE, async || {
            (messages(&mut redis).await? == (0, 0)).then_some(())
        })
        .await;
    }

    /// How many messages wait in the queue, and how many workers hold.
    ///
    /// # Panics
    /// Redis is away.
    pub async fn messages(&self) -> (usize, usize) {
        let mut redis = self.redis.connect().await;
        messages(&mut redis).await.expect("redis runs")
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
}

async fn messages(redis: &mut MultiplexedConnection) -> Option<(usize, usize)> {
    let mut counts = redis::pipe();
    counts.llen("celery").hlen("unacked");
    counts.query_async(redis).await.ok()
}
