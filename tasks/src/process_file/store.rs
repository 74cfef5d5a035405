//! PostgreSQL: connections, single queries, and the statements that put a file's content in.
//!
//! Keeps: every wait on the server has a limit; a connection in an unknown state is closed, never reused; every value is
//! bound. SQL text stands only here, in `ledger` and in `recorded`.
//!
//! Python counterparts: `connect_to_db` and `execute_query` of the seed.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgCopyIn, PgRow};
use sqlx::{Postgres, Row};
use tokio::sync::mpsc::Receiver;

use super::error::Error;
use super::job::Job;
use super::settings::Ingest;
use crate::MIGRATOR;
use crate::sensor_csv::Aggregate;

/// Longest wait for one answer, or for room to send the next piece of a COPY. Half-open connections end by it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Rows of `aggregated_metrics` in one statement.
const AGGREGATES_PER_INSERT: usize = 10_000;

/// Columns of `raw_sensor_data` in the order in which `rows` writes them.
const COPY_ROWS: &str = "copy raw_sensor_data (ts, device, light, motion, co, humidity, lpg, smoke, temp, \
    file_name, content_id, line_no) from stdin (format binary)";

/// A query with its bound values.
pub(crate) type Query = sqlx::query::Query<'static, Postgres, PgArguments>;

/// A pooled connection. It goes back to the pool only by [`give_back`](Self::give_back); dropped anywhere else (an
/// error, a cancelled task) it is closed, which rolls back whatever it was in the middle of.
#[derive(Debug)]
pub(crate) struct Connection {
    pooled: PoolConnection<Postgres>,
    is_idle: bool,
}

impl Connection {
    /// Back to the pool: outside of any transaction, nothing in flight.
    pub(crate) fn give_back(mut self) {
        self.is_idle = true;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.is_idle {
            self.pooled.close_on_drop();
        }
    }
}

impl Deref for Connection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.pooled
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.pooled
    }
}

/// Takes a connection from the pool, and makes sure once that the tables fit this worker.
///
/// # Errors
/// PostgreSQL is away, or the migrations have not been run.
pub(crate) async fn connect_to_db(ingest: &Ingest) -> Result<Connection, Error> {
    let what = "cannot connect to PostgreSQL";
    let pooled = within(what, ingest.pool.acquire()).await?;
    let mut connection = Connection {
        pooled,
        is_idle: false,
    };
    if !ingest.has_schema.load(Ordering::Relaxed) {
        check_schema(&mut connection).await?;
        ingest.has_schema.store(true, Ordering::Relaxed);
    }
    Ok(connection)
}

/// Runs one statement by itself; waits out what is transient within the run's budget.
///
/// # Errors
/// What remains: see [`Error`].
pub(crate) async fn execute_query(
    job: &Job<'_>,
    what: &'static str,
    sql: &'static str,
    bind: impl Fn(Query) -> Query,
) -> Result<Vec<PgRow>, Error> {
    job.persist(|| async {
        let mut connection = connect_to_db(job.ingest).await?;
        let rows = within(what, bind(sqlx::query(sql)).fetch_all(&mut *connection)).await?;
        connection.give_back();
        Ok(rows)
    })
    .await
}

/// An answer of PostgreSQL within [`ANSWER_TIMEOUT`].
pub(crate) async fn within<T>(
    what: &str,
    answer: impl Future<Output = sqlx::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| Error::of_database(what, error)),
        Err(_elapsed) => Err(Error::transient(
            what,
            format!("no answer for {} s", ANSWER_TIMEOUT.as_secs()),
        )),
    }
}

/// A column of a row; a wrong name or type is a defect of ours.
pub(crate) fn column<'r, T>(row: &'r PgRow, name: &str) -> Result<T, Error>
where
    T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
{
    row.try_get(name)
        .map_err(|error| Error::unexpected("cannot read the ledger", error.to_string()))
}

async fn check_schema(connection: &mut Connection) -> Result<(), Error> {
    let needed = MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    let sql = "select coalesce(max(version), 0) as version from _sqlx_migrations where success";
    let row = within(
        "cannot read the version of the tables",
        sqlx::query(sql).fetch_one(&mut **connection),
    )
    .await?;
    let found: i64 = column(&row, "version")?;
    if found < needed {
        return Err(Error::Deployment(format!(
            "the tables are at version {found}, this worker needs {needed}; run 'celeriac db migrate'"
        )));
    }
    Ok(())
}

/// A content about to be loaded.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) sha256: [u8; 32],
    pub(crate) size_bytes: u64,
    pub(crate) rows: u64,
    pub(crate) file_name: String,
}

/// Begins the transaction that loads a content. Its statements may take as long as a MB a second needs and a minute: no
/// worker may hold the key for ever. (PostgreSQL does not look at this limit while a COPY waits for its client; of a
/// client whose network has died it is told by the keepalives, see `settings`.)
pub(crate) async fn begin(connection: &mut PgConnection, size_bytes: u64) -> Result<(), Error> {
    let limit_ms = 60_000 + size_bytes / 1000;
    let sql = sqlx::AssertSqlSafe(format!("begin; set local statement_timeout = {limit_ms}"));
    within(
        "cannot begin a transaction",
        sqlx::raw_sql(sql).execute(connection),
    )
    .await
    .map(|_done| ())
}

/// Takes the content's key: its new id, or `None` when it has been loaded. Waits for a worker that is loading it.
pub(crate) async fn claim_content(
    connection: &mut PgConnection,
    content: &Content,
) -> Result<Option<i64>, Error> {
    // Guarantee F2: this key lets each content in once.
    let sql = "insert into ingest_content (sha256, size_bytes, row_count, file_name) values ($1, $2, $3, $4) \
        on conflict (sha256) do nothing returning content_id";
    let query = sqlx::query(sql)
        .bind(content.sha256.to_vec())
        .bind(count(content.size_bytes))
        .bind(count(content.rows))
        .bind(content.file_name.clone());
    let row = within("cannot enter the content", query.fetch_optional(connection)).await?;
    row.map(|row| column(&row, "content_id")).transpose()
}

/// Sends the pieces of a binary COPY as they come. The COPY is open until [`finish_copy`].
pub(crate) async fn copy_rows(
    connection: &mut PgConnection,
    mut pieces: Receiver<Vec<u8>>,
) -> Result<PgCopyIn<&mut PgConnection>, Error> {
    let what = "cannot copy the rows";
    let mut copy = within(what, connection.copy_in_raw(COPY_ROWS)).await?;
    while let Some(piece) = pieces.recv().await {
        within(what, copy.send(piece)).await?;
    }
    Ok(copy)
}

/// Ends a COPY: how many rows PostgreSQL has taken.
pub(crate) async fn finish_copy(copy: PgCopyIn<&mut PgConnection>) -> Result<u64, Error> {
    within("cannot copy the rows", copy.finish()).await
}

/// Writes the statistics of a content.
pub(crate) async fn insert_aggregates(
    connection: &mut PgConnection,
    content_id: i64,
    file_name: &str,
    aggregates: &[Aggregate],
) -> Result<(), Error> {
    let sql = "insert into aggregated_metrics (device, metric, min_value, max_value, avg_value, std_dev, median_value, \
        count, file_name, content_id) \
        select *, $9, $10 from unnest($1::text[], $2::text[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], \
        $7::float8[], $8::int8[])";
    for chunk in aggregates.chunks(AGGREGATES_PER_INSERT) {
        let query = sqlx::query(sql)
            .bind(collect(chunk, |row| row.device.clone()))
            .bind(collect(chunk, |row| row.metric.to_owned()))
            .bind(collect(chunk, |row| row.min))
            .bind(collect(chunk, |row| row.max))
            .bind(collect(chunk, |row| row.mean))
            .bind(collect(chunk, |row| row.std_dev))
            .bind(collect(chunk, |row| row.median))
            .bind(collect(chunk, |row| count(row.count)))
            .bind(file_name.to_owned())
            .bind(content_id);
        within(
            "cannot write the statistics",
            query.execute(&mut *connection),
        )
        .await?;
    }
    Ok(())
}

/// Commits. When the answer is lost the outcome is unknown: trying the whole transaction again finds the key taken if it
/// was committed, and waits for it if it still is being committed.
pub(crate) async fn commit(connection: &mut PgConnection) -> Result<(), Error> {
    within("cannot commit", sqlx::raw_sql("commit").execute(connection))
        .await
        .map(|_done| ())
}

/// Ends the transaction without effect.
pub(crate) async fn rollback(connection: &mut PgConnection) -> Result<(), Error> {
    within(
        "cannot roll back",
        sqlx::raw_sql("rollback").execute(connection),
    )
    .await
    .map(|_done| ())
}

fn collect<T, V>(rows: &[T], value: impl Fn(&T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

/// A count as PostgreSQL's bigint. Ours come from files of 4 GiB at most.
pub(crate) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
