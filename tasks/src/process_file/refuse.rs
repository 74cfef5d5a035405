//! What is done with a bad file: recorded, moved to quarantine, its report beside it, a line in `errors.log`.
//!
//! Keeps (F3, F4): the ledger row comes first and says where the file is about to go; whatever a crash leaves undone the
//! next delivery completes. The verdict is not asked again; recording it is tried until it is done.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use celeriac::failpoint;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde_json::{Value, json};

use super::error::Error;
use super::error_log::log_error;
use super::fate::{Fate, hex};
use super::job::Job;
use super::ledger::{self, FileFacts, QuarantineRow};
use super::open::Place;
use super::quarantine::{Moved, Quarantine};
use crate::sensor_csv::Report;

/// A file that breaks the rules, at its place.
#[derive(Debug)]
pub(crate) struct BadFile {
    pub(crate) place: Arc<Place>,
    /// Its content, if it could be opened.
    pub(crate) file: Option<Arc<File>>,
    pub(crate) facts: FileFacts,
    pub(crate) report: Report,
}

/// Deals with a bad file that may be moved.
///
/// # Errors
/// See [`Error`]. [`Error::FileChanged`] if it was written to or replaced: then what lies there now is to be judged.
pub(crate) async fn refuse(job: &Job<'_>, bad: &BadFile) -> Result<Fate, Error> {
    let _lock = bad.file.as_deref().map(lock).transpose()?;
    if !bad
        .place
        .identity_now()?
        .is_some_and(|now| now.is_unchanged(&bad.place.identity))
    {
        return Err(Error::FileChanged {
            path: job.path.clone(),
        });
    }
    let row = job.persist(|| move_once(job, bad)).await?;
    match row {
        Some(row) => complete(job, row).await,
        None => Err(Error::FileChanged {
            path: job.path.clone(),
        }),
    }
}

/// Deals with what may not be moved: a link, a directory, a path elsewhere.
///
/// # Errors
/// See [`Error`].
pub(crate) async fn refuse_in_place(
    job: &Job<'_>,
    facts: &FileFacts,
    report: &Report,
) -> Result<Fate, Error> {
    let row = ledger::record_quarantined(job, facts, report, None).await?;
    complete(job, row).await
}

/// Completes what an earlier run left undone with a file that has gone to quarantine.
///
/// # Errors
/// See [`Error`].
pub(crate) async fn complete_earlier(job: &Job<'_>, mut row: QuarantineRow) -> Result<Fate, Error> {
    if row.is_moved || row.quarantine_path.is_none() {
        return Ok(row.fate());
    }
    let quarantine = Quarantine::open(&job.ingest.quarantine_dir)?;
    let lies_there = row
        .quarantine_path
        .as_deref()
        .and_then(name_of)
        .is_some_and(|name| quarantine.has(name));
    if !lies_there {
        // Somebody took the file away before it could be moved; the verdict stands.
        row.quarantine_path = None;
    }
    complete(job, row).await
}

/// Only one run at a time deals with a bad file; the lock ends with the process at the latest. Where a file system has
/// no locks, the steps below still lose nothing.
fn lock(file: &File) -> Result<(), Error> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Error::transient(
            "cannot quarantine the file",
            "another run is just doing so",
        )),
        _ => Ok(()),
    }
}

/// Records the verdict with a free name, and moves the file there. `None` if it has changed.
async fn move_once(job: &Job<'_>, bad: &BadFile) -> Result<Option<QuarantineRow>, Error> {
    let tag = hex(&bad.facts.sha256.unwrap_or_else(|| bad.facts.key())[..4]);
    let earlier = ledger::find_unmoved(job, &bad.facts).await?;
    loop {
        let (dir, file_name, tag) = (
            job.ingest.quarantine_dir.clone(),
            bad.facts.file_name.clone(),
            tag.clone(),
        );
        let (place, file, earlier) = (Arc::clone(&bad.place), bad.file.clone(), earlier.clone());
        let (quarantine, name, is_copied) = job
            .blocking(move |_cancelled| {
                let quarantine = Quarantine::open(&dir)?;
                let earlier = earlier.as_deref().and_then(name_of);
                if let (Some(name), Some(file)) = (earlier, &file)
                    && quarantine.holds_copy(file, name)?
                {
                    return Ok((quarantine, name.to_owned(), true));
                }
                let name = quarantine.free_name(&file_name, &tag)?;
                Ok((quarantine, name, false))
            })
            .await?;
        let target = job.ingest.quarantine_dir.join(&name);
        let row = ledger::record_quarantined(
            job,
            &bad.facts,
            &bad.report,
            Some(&target.to_string_lossy()),
        )
        .await?;
        failpoint("before_move");
        let file = bad.file.clone();
        let moved = job
            .blocking(move |_cancelled| match is_copied {
                true => quarantine.remove_original(&place),
                false => quarantine.quarantine_file(&place, file.as_deref(), &name),
            })
            .await?;
        match moved {
            Moved::Done => {
                failpoint("after_move");
                return Ok(Some(row));
            }
            Moved::NameTaken => {}
            Moved::MustStay => {
                return Ok(Some(QuarantineRow {
                    quarantine_path: None,
                    ..row
                }));
            }
            Moved::Changed => {
                ledger::record_moved(job, row.file_id, None).await?;
                return Ok(None);
            }
        }
    }
}

/// The report beside the file, the line in the log, and then the last word in the ledger.
async fn complete(job: &Job<'_>, row: QuarantineRow) -> Result<Fate, Error> {
    job.persist(|| async {
        if let Some(name) = row.quarantine_path.as_deref().and_then(name_of) {
            let report = serde_json::to_vec_pretty(&sidecar(job, &row))
                .map_err(|error| Error::unexpected("cannot write the report", error.to_string()))?;
            failpoint("before_sidecar");
            Quarantine::open(&job.ingest.quarantine_dir)?.write_sidecar(name, &report)?;
            failpoint("after_sidecar");
        }
        let message = format!("Quarantined {}: {}", job.shown(), row.reason);
        log_error(&job.ingest.log_dir, row.recorded_at, &message)
    })
    .await?;
    if row.quarantine_path.is_some() {
        ledger::record_moved(job, row.file_id, row.quarantine_path.as_deref()).await?;
    }
    log::error!("Data from {} quarantined: {}.", job.shown(), row.reason);
    Ok(row.fate())
}

/// `<name>.error.json`; its shape stands in `docs/ingest-rules.md`, "Report".
fn sidecar(job: &Job<'_>, row: &QuarantineRow) -> Value {
    let mut report = json!({
        "file_path": job.path,
        "sha256": row.sha256.as_deref().map(hex),
        "size_bytes": row.size_bytes,
        "task_id": job.task_id,
        "quarantined_at": row.recorded_at,
        "reason": row.reason,
    });
    if let (Some(report), Some(reasons)) = (report.as_object_mut(), row.reasons.as_object()) {
        report.extend(reasons.clone());
    }
    report
}

fn name_of(path: &str) -> Option<&str> {
    Path::new(path).file_name().and_then(|name| name.to_str())
}
