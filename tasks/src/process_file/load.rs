//! Puts a good file in: content, rows, statistics and ledger row in one transaction.
//!
//! Keeps (F1, F2): all of it or nothing, and once. The content's key is taken first; whoever comes second waits for it and
//! then finds it taken. What was judged is what is loaded: the second reading must have the hash of the first, and the
//! file must not have been written to in between.

use std::fs::File;
use std::sync::Arc;

use celeriac::failpoint;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc;

use super::error::Error;
use super::fate::{Fate, hex};
use super::job::Job;
use super::ledger::{self, FileFacts};
use super::open::Identity;
use super::rows::{FromStart, Origin, PIECES_IN_FLIGHT, encode_rows};
use super::store::{self, Content};
use crate::sensor_csv::Summary;

/// A file that keeps the rules.
#[derive(Debug)]
pub(crate) struct GoodFile {
    pub(crate) file: Arc<File>,
    pub(crate) identity: Identity,
    pub(crate) facts: FileFacts,
    pub(crate) content: Content,
    pub(crate) summary: Summary,
}

/// Loads the file, or finds that its content has been loaded before.
///
/// # Errors
/// See [`Error`]; nothing of the file is in the tables then, or (a lost answer to COMMIT) all of it.
pub(crate) async fn load(job: &Job<'_>, good: &GoodFile) -> Result<Fate, Error> {
    let fate = match job.persist(|| load_once(job, good)).await? {
        Some(fate) => fate,
        None => {
            let known = ledger::find_content(job, good.content.sha256).await?;
            let known = known.ok_or_else(|| {
                Error::transient("cannot load the file", "its content was just being removed")
            })?;
            ledger::record_known_content(job, &good.facts, &good.content, &known).await?
        }
    };
    if matches!(fate, Fate::Loaded { .. }) {
        // Level and words are the seed's; people search their logs for them.
        log::warn!(
            "Data from {} validated and transformed successfully.",
            job.shown()
        );
    }
    Ok(fate)
}

/// One transaction; `None` if the content has been loaded before.
async fn load_once(job: &Job<'_>, good: &GoodFile) -> Result<Option<Fate>, Error> {
    let mut connection = store::connect_to_db(job.ingest).await?;
    store::begin(&mut connection, good.content.size_bytes).await?;
    let Some(content_id) = store::claim_content(&mut connection, &good.content).await? else {
        store::rollback(&mut connection).await?;
        connection.give_back();
        return Ok(None);
    };
    failpoint("before_copy");
    copy_file(job, good, content_id, &mut connection).await?;
    failpoint("after_copy");
    store::insert_aggregates(
        &mut connection,
        content_id,
        &good.content.file_name,
        &good.summary.aggregates,
    )
    .await?;
    ledger::record_loaded(&mut connection, &good.facts, content_id).await?;
    failpoint("before_commit");
    store::commit(&mut connection).await?;
    failpoint("after_commit");
    connection.give_back();
    Ok(Some(Fate::Loaded {
        sha256: hex(&good.content.sha256),
        size_bytes: good.content.size_bytes,
        rows: good.content.rows,
    }))
}

/// Copies all rows, and makes sure that they are those which were judged.
async fn copy_file(
    job: &Job<'_>,
    good: &GoodFile,
    content_id: i64,
    connection: &mut PgConnection,
) -> Result<(), Error> {
    let (tx, rx) = mpsc::channel(PIECES_IN_FLIGHT);
    let origin = Origin {
        file_name: good.content.file_name.clone(),
        content_id,
    };
    let file = Arc::clone(&good.file);
    let encoding =
        job.blocking(move |cancelled| encode_rows(FromStart::new(file, cancelled), &origin, &tx));
    // Either side ends the other: without a sender the COPY has no more pieces, without a receiver the reading ends.
    let (sha256, copy) = tokio::join!(encoding, store::copy_rows(connection, rx));
    let copy = copy?;
    let is_same = sha256? == Some(good.content.sha256)
        && Identity::of_file(&good.file)?.is_unchanged(&good.identity);
    if !is_same {
        return Err(Error::FileChanged {
            path: job.path.clone(),
        });
    }
    let copied = store::finish_copy(copy).await?;
    if copied != good.content.rows {
        return Err(Error::unexpected(
            "cannot copy the rows",
            format!("{copied} taken of {}", good.content.rows),
        ));
    }
    Ok(())
}
