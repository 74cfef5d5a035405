//! `ingest_files`: what became of every file seen.
//!
//! Keeps (F2, F3): one row for a file however often its message comes, and never a verdict without a row. The key is the
//! identity of the file that lies at the path; once it has been moved away the key is given up, so that a file brought
//! back is judged afresh.
//! SQL text stands only here, in `recorded` and in `store`.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::{PgConnection, PgRow};

use super::error::Error;
use super::fate::{Fate, hex};
use super::job::Job;
use super::open::Identity;
use super::path::printable;
use super::store::{Content, Query, column, count, execute_query, within};
use crate::sensor_csv::Report;

/// What lies at the path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Presence {
    /// A regular file.
    There(Identity),
    /// Something that is neither read nor moved, or a path that cannot be one.
    Refused,
    /// Nothing.
    Gone,
}

/// What is known of the file at hand.
#[derive(Debug, Clone)]
pub(crate) struct FileFacts {
    pub(crate) path: String,
    pub(crate) file_name: String,
    pub(crate) task_id: String,
    presence: Presence,
    pub(crate) sha256: Option<[u8; 32]>,
}

impl FileFacts {
    pub(crate) fn new(job: &Job<'_>, presence: Presence, sha256: Option<[u8; 32]>) -> Self {
        let file_name = job.path.rsplit('/').next().unwrap_or(&job.path);
        Self {
            path: job.path.clone(),
            file_name: file_name.to_owned(),
            task_id: printable(job.task_id.as_bytes()),
            presence,
            sha256,
        }
    }

    fn identity(&self) -> Option<Identity> {
        match self.presence {
            Presence::There(identity) => Some(identity),
            Presence::Refused | Presence::Gone => None,
        }
    }

    /// Identity of the file while it lies at its path. Of a file that is not there only the message is known: then the
    /// task id stands in.
    pub(crate) fn key(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.path.as_bytes());
        hash.update([0]);
        match self.presence {
            Presence::There(identity) => hash.update(identity.key()),
            Presence::Refused => hash.update(b"refused"),
            Presence::Gone => hash.update(self.task_id.as_bytes()),
        }
        hash.update(self.sha256.unwrap_or_default());
        hash.finalize().into()
    }

    /// Binds $1 to $8: what every row has.
    fn bind(&self, query: Query) -> Query {
        query
            .bind(self.path.clone())
            .bind(self.file_name.clone())
            .bind(self.identity().map(|identity| count(identity.size_bytes)))
            .bind(self.sha256.map(Vec::from))
            .bind(self.identity().map(|identity| identity.inode.cast_signed()))
            .bind(self.identity().and_then(|identity| identity.modified_at()))
            .bind(self.task_id.clone())
            .bind(self.key().to_vec())
    }
}

/// Content that has been loaded, and the file that brought it.
#[derive(Debug, Clone)]
pub(crate) struct LoadedContent {
    pub(crate) content_id: i64,
    pub(crate) rows: u64,
    pub(crate) file_name: String,
}

/// A quarantined file in the ledger.
#[derive(Debug, Clone)]
pub(crate) struct QuarantineRow {
    pub(crate) file_id: i64,
    pub(crate) recorded_at: DateTime<Utc>,
    pub(crate) quarantine_path: Option<String>,
    pub(crate) is_moved: bool,
    pub(crate) sha256: Option<Vec<u8>>,
    pub(crate) size_bytes: Option<i64>,
    pub(crate) reason: String,
    /// The report as JSON.
    pub(crate) reasons: Value,
}

impl QuarantineRow {
    pub(crate) fn fate(&self) -> Fate {
        Fate::Quarantined {
            sha256: self.sha256.as_deref().map(hex),
            reason: self.reason.clone(),
            reasons: self
                .reasons
                .get("by_reason")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_else(Map::new),
            quarantine_path: self.quarantine_path.clone(),
        }
    }
}

/// What the ledger knows about a path where nothing lies.
#[derive(Debug)]
pub(crate) enum LastSeen {
    /// Nothing, or nothing that answers this message.
    Unknown,
    /// This very task has dealt with it.
    Done(Fate),
    /// A bad file lay there last.
    Quarantined(QuarantineRow),
}

/// Records a loaded file, inside the transaction that loads it.
pub(crate) async fn record_loaded(
    connection: &mut PgConnection,
    file: &FileFacts,
    content_id: i64,
) -> Result<(), Error> {
    let sql = "insert into ingest_files \
        (path, file_name, size_bytes, sha256, inode, modified_at, task_id, file_key, state, content_id) \
        values ($1, $2, $3, $4, $5, $6, $7, $8, 'loaded', $9) \
        on conflict (file_key) do update set state = 'loaded', content_id = excluded.content_id, recorded_at = now(), \
        task_id = excluded.task_id, reason = null, reasons = null, quarantine_path = null";
    let query = file.bind(sqlx::query(sql)).bind(content_id);
    within(
        "cannot record the file as loaded",
        query.execute(connection),
    )
    .await
    .map(|_done| ())
}

/// The loaded content with this hash.
pub(crate) async fn find_content(
    job: &Job<'_>,
    sha256: [u8; 32],
) -> Result<Option<LoadedContent>, Error> {
    let sql = "select content_id, row_count, file_name from ingest_content where sha256 = $1";
    let rows = execute_query(job, "cannot look a content up", sql, |query| {
        query.bind(sha256.to_vec())
    })
    .await?;
    rows.first().map(loaded_content).transpose()
}

/// Records a file whose content was loaded before. The same file delivered again is no duplicate of itself: then the
/// row that says so stays as it is.
pub(crate) async fn record_known_content(
    job: &Job<'_>,
    file: &FileFacts,
    content: &Content,
    loaded: &LoadedContent,
) -> Result<Fate, Error> {
    let sql = "insert into ingest_files \
        (path, file_name, size_bytes, sha256, inode, modified_at, task_id, file_key, state, content_id) \
        values ($1, $2, $3, $4, $5, $6, $7, $8, 'duplicate', $9) \
        on conflict (file_key) do update set content_id = excluded.content_id, reason = null, reasons = null, \
        quarantine_path = null, state = case ingest_files.state when 'loaded' then 'loaded' else 'duplicate' end \
        returning state";
    let bind = |query| file.bind(query).bind(loaded.content_id);
    let rows = execute_query(job, "cannot record the file as a duplicate", sql, bind).await?;
    let state: String = column(only(&rows)?, "state")?;
    let (sha256, size_bytes) = (hex(&content.sha256), content.size_bytes);
    Ok(match state.as_str() {
        "loaded" => Fate::Loaded {
            sha256,
            size_bytes,
            rows: loaded.rows,
        },
        _ => Fate::Duplicate {
            sha256,
            size_bytes,
            duplicate_of: loaded.file_name.clone(),
        },
    })
}

/// Where an earlier run was about to move this very file, if it never came to say that it had.
pub(crate) async fn find_unmoved(job: &Job<'_>, file: &FileFacts) -> Result<Option<String>, Error> {
    let sql =
        "select quarantine_path from ingest_files where file_key = $1 and state = 'quarantined'";
    let rows = execute_query(job, "cannot look a file up", sql, |query| {
        query.bind(file.key().to_vec())
    })
    .await?;
    rows.first()
        .map_or(Ok(None), |row| column(row, "quarantine_path"))
}

/// Records a bad file and where it is about to go. Before the move, so that a crash in between loses neither.
pub(crate) async fn record_quarantined(
    job: &Job<'_>,
    file: &FileFacts,
    report: &Report,
    quarantine_path: Option<&str>,
) -> Result<QuarantineRow, Error> {
    let sql = "insert into ingest_files \
        (path, file_name, size_bytes, sha256, inode, modified_at, task_id, file_key, state, reason, reasons, quarantine_path) \
        values ($1, $2, $3, $4, $5, $6, $7, $8, 'quarantined', $9, $10::text::jsonb, $11) \
        on conflict (file_key) do update set state = 'quarantined', reason = excluded.reason, reasons = excluded.reasons, \
        quarantine_path = excluded.quarantine_path, content_id = null \
        returning file_id, recorded_at, quarantine_path, moved_at is not null as is_moved, sha256, size_bytes, reason, \
        reasons::text as reasons";
    let reasons = serde_json::to_string(report)
        .map_err(|error| Error::unexpected("cannot write the report", error.to_string()))?;
    let reason = report.summary();
    let bind = |query| {
        file.bind(query)
            .bind(reason.clone())
            .bind(reasons.clone())
            .bind(quarantine_path.map(str::to_owned))
    };
    let rows = execute_query(job, "cannot record the file as quarantined", sql, bind).await?;
    quarantine_row(only(&rows)?)
}

/// The file lies in quarantine with all that belongs to it. Its key is given up: it may be brought back.
pub(crate) async fn record_moved(
    job: &Job<'_>,
    file_id: i64,
    quarantine_path: Option<&str>,
) -> Result<(), Error> {
    let sql = "update ingest_files set file_key = null, quarantine_path = $2, \
        moved_at = case when $2 is not null then coalesce(moved_at, now()) end where file_id = $1";
    let bind = |query: Query| query.bind(file_id).bind(quarantine_path.map(str::to_owned));
    execute_query(job, "cannot record the move", sql, bind)
        .await
        .map(|_none| ())
}

/// The last thing that is known about the job's path.
pub(crate) async fn last_seen(job: &Job<'_>) -> Result<LastSeen, Error> {
    let sql = "select f.file_id, f.recorded_at, f.quarantine_path, f.moved_at is not null as is_moved, f.sha256, \
        f.size_bytes, f.reason, f.reasons::text as reasons, f.state, f.task_id, c.row_count, c.file_name \
        from ingest_files f left join ingest_content c using (content_id) where f.path = $1 order by f.file_id desc limit 1";
    let rows = execute_query(job, "cannot look a path up", sql, |query| {
        query.bind(job.path.clone())
    })
    .await?;
    let Some(row) = rows.first() else {
        return Ok(LastSeen::Unknown);
    };
    let state: String = column(row, "state")?;
    let task_id: Option<String> = column(row, "task_id")?;
    match state.as_str() {
        "quarantined" => Ok(LastSeen::Quarantined(quarantine_row(row)?)),
        "missing" => Ok(LastSeen::Done(Fate::Missing)),
        _ if task_id.as_deref() == Some(job.task_id) => {
            Ok(LastSeen::Done(content_fate(row, &state)?))
        }
        _ => Ok(LastSeen::Unknown),
    }
}

/// Records that there was no such file.
pub(crate) async fn record_missing(job: &Job<'_>, file: &FileFacts) -> Result<Fate, Error> {
    let sql = "insert into ingest_files \
        (path, file_name, size_bytes, sha256, inode, modified_at, task_id, file_key, state) \
        values ($1, $2, $3, $4, $5, $6, $7, $8, 'missing') on conflict (file_key) do nothing";
    execute_query(job, "cannot record the file as missing", sql, |query| {
        file.bind(query)
    })
    .await?;
    Ok(Fate::Missing)
}

fn loaded_content(row: &PgRow) -> Result<LoadedContent, Error> {
    let rows: i64 = column(row, "row_count")?;
    Ok(LoadedContent {
        content_id: column(row, "content_id")?,
        rows: rows.unsigned_abs(),
        file_name: column(row, "file_name")?,
    })
}

fn content_fate(row: &PgRow, state: &str) -> Result<Fate, Error> {
    let sha256: Vec<u8> = column(row, "sha256")?;
    let size_bytes: i64 = column(row, "size_bytes")?;
    let rows: i64 = column(row, "row_count")?;
    let (sha256, size_bytes) = (hex(&sha256), size_bytes.unsigned_abs());
    Ok(match state {
        "loaded" => Fate::Loaded {
            sha256,
            size_bytes,
            rows: rows.unsigned_abs(),
        },
        _ => Fate::Duplicate {
            sha256,
            size_bytes,
            duplicate_of: column(row, "file_name")?,
        },
    })
}

fn quarantine_row(row: &PgRow) -> Result<QuarantineRow, Error> {
    let reasons: String = column(row, "reasons")?;
    Ok(QuarantineRow {
        file_id: column(row, "file_id")?,
        recorded_at: column(row, "recorded_at")?,
        quarantine_path: column(row, "quarantine_path")?,
        is_moved: column(row, "is_moved")?,
        sha256: column(row, "sha256")?,
        size_bytes: column(row, "size_bytes")?,
        reason: column(row, "reason")?,
        reasons: serde_json::from_str(&reasons)
            .map_err(|error| Error::unexpected("cannot read a report", error.to_string()))?,
    })
}

fn only(rows: &[PgRow]) -> Result<&PgRow, Error> {
    rows.first()
        .ok_or_else(|| Error::unexpected("cannot read the ledger", "an INSERT returned no row"))
}
