//! From a path to its fate: the one place that decides.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::fate::Fate;
use super::job::Job;
use super::ledger::{self, FileFacts, LastSeen, Presence};
use super::load::{GoodFile, load};
use super::open::{Found, Identity, Place, open_below};
use super::path::below_root;
use super::refuse::{BadFile, complete_earlier, refuse, refuse_in_place};
use super::rows::FromStart;
use super::settings::Ingest;
use super::store::Content;
use crate::sensor_csv::{
    Checked, Judgement, Reason, Report, Summary, Violation, validate_and_transform_data,
};

/// How often a file that changes while it is read is started again at once.
const MAX_RESTARTS: u32 = 3;

/// Deals with the file at `file_path`. May be called again for the same file at any time: what is done stays, what is
/// missing is completed.
///
/// # Errors
/// What keeps a verdict from being given or recorded; never what is wrong with the file.
pub async fn process_file(
    ingest: &Ingest,
    file_path: &str,
    task_id: &str,
    cancelled: &CancellationToken,
) -> Result<Fate, Error> {
    let job = Job::new(ingest, file_path, task_id, cancelled);
    let relative = match below_root(file_path, &ingest.working_dir, &ingest.watch_dir) {
        Ok(relative) => relative,
        Err(violation) => return refuse_as_is(&job, violation).await,
    };
    let mut restarts = 0;
    loop {
        match attempt(&job, &relative).await {
            Err(Error::FileChanged { .. }) if restarts < MAX_RESTARTS => restarts += 1,
            Err(error) => job.wait_out(error).await?,
            fate => return fate,
        }
    }
}

/// What a file would come to.
#[derive(Debug)]
pub enum Examination {
    /// It keeps the rules.
    Good(Summary),
    /// It does not, or may not be read.
    Bad(Report),
    /// There is no such file.
    Missing,
}

/// Judges the file at `file_path` without writing anything, in a database or elsewhere.
///
/// # Errors
/// The disk's, and [`Error::FileChanged`].
pub async fn examine(
    ingest: &Ingest,
    file_path: &str,
    cancelled: &CancellationToken,
) -> Result<Examination, Error> {
    let job = Job::new(ingest, file_path, "", cancelled);
    let relative = match below_root(file_path, &ingest.working_dir, &ingest.watch_dir) {
        Ok(relative) => relative,
        Err(violation) => return Ok(Examination::Bad(Report::of(violation))),
    };
    let root = ingest.root();
    let look = job.blocking(move |cancelled| look(&root, &relative, cancelled));
    Ok(match look.await? {
        Look::Judged(_, _, checked) => match checked.judgement {
            Judgement::Good(summary) => Examination::Good(summary),
            Judgement::Bad(report) => Examination::Bad(report),
        },
        Look::Unreadable(_, violation) | Look::Refused(violation) => {
            Examination::Bad(Report::of(violation))
        }
        Look::Gone => Examination::Missing,
    })
}

/// What one look at the file came to.
#[derive(Debug)]
enum Look {
    Judged(Arc<Place>, Arc<File>, Checked),
    Unreadable(Place, Violation),
    Refused(Violation),
    Gone,
}

async fn attempt(job: &Job<'_>, relative: &Path) -> Result<Fate, Error> {
    let (root, relative) = (job.ingest.root(), relative.to_owned());
    let look = job
        .blocking(move |cancelled| look(&root, &relative, cancelled))
        .await?;
    match look {
        Look::Gone => gone(job).await,
        Look::Refused(violation) => refuse_as_is(job, violation).await,
        Look::Unreadable(place, violation) => {
            let facts = FileFacts::new(job, Presence::There(place.identity), None);
            let report = Report::of(violation);
            refuse(
                job,
                &BadFile {
                    place: Arc::new(place),
                    file: None,
                    facts,
                    report,
                },
            )
            .await
        }
        Look::Judged(place, file, checked) => judged(job, place, file, checked).await,
    }
}

/// Opens, reads, hashes and judges the file; off the async threads.
fn look(root: &Path, relative: &Path, cancelled: CancellationToken) -> Result<Look, Error> {
    match open_below(root, relative)? {
        Found::Gone => Ok(Look::Gone),
        Found::Refused(violation) => Ok(Look::Refused(violation)),
        Found::Unreadable(place, violation) => Ok(Look::Unreadable(place, violation)),
        Found::File(place, file) => {
            let file = Arc::new(file);
            let input = FromStart::new(Arc::clone(&file), cancelled);
            let checked = validate_and_transform_data(input)
                .map_err(|error| Error::of_disk("cannot read the file", error))?;
            if !Identity::of_file(&file)?.is_unchanged(&place.identity)
                || checked.size_bytes != place.identity.size_bytes
            {
                return Err(Error::FileChanged {
                    path: relative.to_string_lossy().into_owned(),
                });
            }
            Ok(Look::Judged(Arc::new(place), file, checked))
        }
    }
}

async fn judged(
    job: &Job<'_>,
    place: Arc<Place>,
    file: Arc<File>,
    checked: Checked,
) -> Result<Fate, Error> {
    let facts = FileFacts::new(job, Presence::There(place.identity), Some(checked.sha256));
    let mut content = Content {
        sha256: checked.sha256,
        size_bytes: checked.size_bytes,
        rows: 0,
        file_name: facts.file_name.clone(),
    };
    match checked.judgement {
        Judgement::Good(summary) => {
            content.rows = summary.rows;
            let good = GoodFile {
                file: Arc::clone(&file),
                identity: place.identity,
                facts,
                content,
                summary,
            };
            match load(job, &good).await {
                Err(Error::RefusedRows(cause)) => {
                    let report = Report::of(Violation::of_file(Reason::RefusedByDatabase, cause));
                    refuse(
                        job,
                        &BadFile {
                            place,
                            file: Some(file),
                            facts: good.facts,
                            report,
                        },
                    )
                    .await
                }
                fate => fate,
            }
        }
        Judgement::Bad(report) => {
            // What is loaded is loaded, also when the rules have become stricter since.
            if let Some(known) = ledger::find_content(job, content.sha256).await? {
                return ledger::record_known_content(job, &facts, &content, &known).await;
            }
            refuse(
                job,
                &BadFile {
                    place,
                    file: Some(file),
                    facts,
                    report,
                },
            )
            .await
        }
    }
}

async fn gone(job: &Job<'_>) -> Result<Fate, Error> {
    match ledger::last_seen(job).await? {
        LastSeen::Done(fate) => Ok(fate),
        LastSeen::Quarantined(row) => complete_earlier(job, row).await,
        LastSeen::Unknown => {
            ledger::record_missing(job, &FileFacts::new(job, Presence::Gone, None)).await
        }
    }
}

async fn refuse_as_is(job: &Job<'_>, violation: Violation) -> Result<Fate, Error> {
    refuse_in_place(
        job,
        &FileFacts::new(job, Presence::Refused, None),
        &Report::of(violation),
    )
    .await
}
