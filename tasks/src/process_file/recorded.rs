//! Which files have come to their fate, for whoever has announced them.
//!
//! Keeps (F3): what was lost behind Kafka (a broker without its data, a flushed Redis) has no row here, and is announced
//! again by the producer.

use chrono::{DateTime, Utc};

use super::error::Error;
use super::settings::Ingest;
use super::store::{column, connect_to_db, within};

/// Most paths in one question.
pub const MAX_PATHS: usize = 1000;

/// A file with nothing left to do, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedFile {
    /// The path that the message had.
    pub path: String,
    /// Inode and time of change, in microseconds since 1970; `None` for what was refused unseen (a path elsewhere).
    pub version: Option<(u64, i64)>,
}

/// Those of the paths, at most [`MAX_PATHS`], that the ledger has with nothing left to do. A bad file that has not
/// been moved yet is not among them, nor one that was missing.
///
/// # Errors
/// PostgreSQL is away, or has not the tables.
pub async fn recorded_files(ingest: &Ingest, paths: &[String]) -> Result<Vec<RecordedFile>, Error> {
    let sql = "select path, inode, modified_at from ingest_files where path = any($1) and \
        (state in ('loaded', 'duplicate') or state = 'quarantined' and (quarantine_path is null or moved_at is not null))";
    let mut connection = connect_to_db(ingest).await?;
    let rows = sqlx::query(sql).bind(paths).fetch_all(&mut *connection);
    let rows = within("cannot ask for announced files", rows).await?;
    connection.give_back();
    rows.iter()
        .map(|row| {
            let inode: Option<i64> = column(row, "inode")?;
            let modified_at: Option<DateTime<Utc>> = column(row, "modified_at")?;
            Ok(RecordedFile {
                path: column(row, "path")?,
                version: inode
                    .zip(modified_at)
                    .map(|(inode, at)| (inode.cast_unsigned(), at.timestamp_micros())),
            })
        })
        .collect()
}
