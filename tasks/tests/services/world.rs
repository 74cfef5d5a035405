//! A database, three directories and a worker of its own for each test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sensor_tasks::process_file::{Error, Fate, connect_options, process_file};
use sensor_tasks::{Ingest, IngestSettings, migrate};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Row};
use tokio_util::sync::CancellationToken;

pub(crate) const HEADER: &str = "ts,device,co,humidity,light,lpg,motion,smoke,temp\n";

/// Longest wait of any test for something to become true.
const DEADLINE: Duration = Duration::from_secs(60);

/// `rows` good rows of two devices, different for each `seed`.
pub(crate) fn csv(rows: u32, seed: u32) -> String {
    let mut text = HEADER.to_owned();
    for row in 0..rows {
        let (humidity, temp) = (
            (row * 7 + seed) % 101,
            f64::from((row * 13 + seed) % 400) / 8.0,
        );
        let device = ["b8:27:eb:bf:9d:51", "00:0f:00:70:91:0a"][(row % 2) as usize];
        text.push_str(&format!(
            "{}.{seed},{device},0.005,{humidity},{},0.0077,0,0.02,{temp}\n",
            1_594_512_094 + row,
            row % 3 == 0
        ));
    }
    text
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) url: String,
    database: String,
    pub(crate) admin: PgPool,
    pub(crate) db: PgPool,
    pub(crate) ingest: Ingest,
}

fn server() -> String {
    std::env::var("DATABASE_URL").expect("DATABASE_URL names no PostgreSQL; 'make up' starts one")
}

fn with_database(url: &str, database: &str) -> String {
    let mut url = url::Url::parse(url).expect("DATABASE_URL is a URL");
    url.set_path(database);
    url.into()
}

impl World {
    pub(crate) async fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let admin = PgPool::connect(&server())
            .await
            .expect("PostgreSQL at DATABASE_URL answers");
        let name = format!(
            "tasks_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        for sql in [
            format!("drop database if exists {name}"),
            format!("create database {name}"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&admin)
                .await
                .expect("databases may be created");
        }
        let url = with_database(&server(), &name);
        let db = PgPool::connect(&url)
            .await
            .expect("the new database answers");
        migrate(&db).await.expect("the migrations run");
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("data")).expect("a directory");
        let ingest = worker(&dir, &url);
        Self {
            dir,
            url,
            database: name,
            admin,
            db,
            ingest,
        }
    }

    /// A worker on the same directories that finds PostgreSQL at `url`.
    pub(crate) fn worker_at(&self, url: &str) -> Ingest {
        worker(&self.dir, url)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    pub(crate) fn text_path(&self, name: &str) -> String {
        self.path(name)
            .to_str()
            .expect("a name in UTF-8")
            .to_owned()
    }

    pub(crate) fn quarantine(&self, name: &str) -> PathBuf {
        self.dir.path().join("quarantine").join(name)
    }

    pub(crate) fn drop_file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), text).expect("room on the disk");
        self.text_path(name)
    }

    pub(crate) async fn run(&self, path: &str, task_id: &str) -> Result<Fate, Error> {
        process_file(&self.ingest, path, task_id, &CancellationToken::new()).await
    }

    /// Runs the task to its end and gives its result.
    pub(crate) async fn result(&self, path: &str, task_id: &str) -> Value {
        self.run(path, task_id)
            .await
            .expect("a verdict")
            .to_json(path)
    }

    /// The task's result where a lock holds up its `statement`, given by its beginning, until `meanwhile` is over.
    pub(crate) async fn result_while_locked(
        &self,
        path: &str,
        lock: &'static str,
        statement: &'static str,
        meanwhile: impl AsyncFnOnce(),
    ) -> Value {
        let mut blocker = self.db.begin().await.expect("a transaction");
        sqlx::raw_sql(lock)
            .execute(&mut *blocker)
            .await
            .expect("a lock");
        let held_up = async {
            let sql = "select count(*) from pg_stat_activity where datname = current_database() \
                and wait_event_type = 'Lock' and query like $1 || '%'";
            eventually(statement, async || {
                let count: i64 = sqlx::query_scalar(sql)
                    .bind(statement)
                    .fetch_one(&self.db)
                    .await
                    .expect("the query is right");
                count == 1
            })
            .await;
            meanwhile().await;
            blocker.commit().await.expect("it is open");
        };
        let (result, ()) = tokio::join!(self.result(path, "t"), held_up);
        result
    }

    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query(sql)
            .fetch_one(&self.db)
            .await
            .expect("the query is right")
            .get(0)
    }

    pub(crate) async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql)
            .execute(&self.db)
            .await
            .expect("the statement is right");
    }

    /// `path state` of all rows of the ledger, oldest first, paths without the directory.
    pub(crate) async fn ledger(&self) -> Vec<String> {
        let sql = "select file_name || ' ' || state from ingest_files order by file_id";
        sqlx::query_scalar(sql)
            .fetch_all(&self.db)
            .await
            .expect("the query is right")
    }

    /// What must hold after everything: no row double, lost or without its file, no partial content.
    pub(crate) async fn check_invariants(&self) {
        let double = "select count(*) from (select 1 from raw_sensor_data group by content_id, line_no having count(*) > 1) d";
        assert_eq!(self.number(double).await, 0, "rows are double");
        let partial = "select count(*) from ingest_content c full join \
            (select content_id, count(*) n from raw_sensor_data group by 1) r using (content_id) \
            where c.row_count is distinct from r.n";
        assert_eq!(
            self.number(partial).await,
            0,
            "the ledger and the rows disagree"
        );
        let orphans = "select count(*) from ingest_content c where not exists \
            (select 1 from ingest_files f where f.content_id = c.content_id and f.state = 'loaded')";
        assert_eq!(
            self.number(orphans).await,
            0,
            "a content without a loaded file"
        );
        let aggregates = "select count(*) from ingest_content c where (select coalesce(sum(count), 0) \
            from aggregated_metrics a where a.content_id = c.content_id) <> 5 * row_count";
        assert_eq!(
            self.number(aggregates).await,
            0,
            "statistics do not cover the rows"
        );
        let idle = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'";
        eventually("no transaction is left open", async || {
            self.number(idle).await == 0
        })
        .await;
    }
}

/// The database goes with the test; a failed one leaves it for whoever looks into it.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let sql = format!("drop database {} with (force)", self.database);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&server()).await?;
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await
            })
        });
        let dropped: sqlx::Result<_> = dropping.join().expect("it does not panic");
        dropped.expect("the database may be dropped");
    }
}

fn worker(dir: &tempfile::TempDir, url: &str) -> Ingest {
    connect_options(Some(url)).expect("a URL of PostgreSQL");
    Ingest::new(IngestSettings {
        database_url: Some(url.to_owned()),
        watch_dir: dir.path().join("data"),
        quarantine_dir: dir.path().join("quarantine"),
        log_dir: dir.path().join("logs"),
        max_connections: 8,
    })
    .expect("the settings are right")
}

/// Waits until `is_so` holds.
pub(crate) async fn eventually(reason: &str, is_so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < DEADLINE, "never came to pass: {reason}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
