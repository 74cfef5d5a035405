//! The journal off the async threads: a write waits for the disk.
//!
//! A disk that is full must not stop the pipeline: what could not be written is kept and tried again with the next
//! write. Until then the price is that a restart announces those files a second time, which does no harm.

use super::journal::{Entry, Journal, JournalError};
use super::outage::Outage;

/// Entries kept while the disk refuses; the oldest go first. Some 10 MB.
const BACKLOG: usize = 100_000;

/// The one who writes the journal.
pub(crate) struct JournalWriter {
    /// `None` only while a write is under way, or after one that was cut off by the end of the process.
    journal: Option<Journal>,
    backlog: Vec<Entry>,
    disk: Outage,
}

impl JournalWriter {
    pub(crate) fn new(journal: Journal) -> Self {
        Self {
            journal: Some(journal),
            backlog: Vec::new(),
            disk: Outage::new("The journal's disk".to_owned()),
        }
    }

    /// Writes the entries, and first those that could not be written before. Returns when the disk has them, or when
    /// it has refused (which is logged).
    pub(crate) async fn save(&mut self, entries: Vec<Entry>) {
        self.backlog.extend(entries);
        let surplus = self.backlog.len().saturating_sub(BACKLOG);
        self.backlog.drain(..surplus);
        if self.backlog.is_empty() {
            return;
        }
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        let batch = std::mem::take(&mut self.backlog);
        let writing = tokio::task::spawn_blocking(move || {
            let result = journal.append(&batch);
            (journal, batch, result)
        });
        let (journal, batch, result) = writing.await.expect("writing the journal does not panic");
        self.journal = Some(journal);
        match result {
            Ok(()) => self.disk.over(),
            Err(error) => self.refused(batch, &error),
        }
    }

    fn refused(&mut self, batch: Vec<Entry>, error: &JournalError) {
        self.backlog = batch;
        let cause = std::error::Error::source(error)
            .map(ToString::to_string)
            .unwrap_or_default();
        let consequence = "announced files are not written down and may be announced again";
        self.disk
            .note(consequence, &format_args!("{error}: {cause}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::file_event::Version;

    fn announced(name: &str) -> Entry {
        Entry::Announced(
            name.to_owned(),
            Version {
                size: 1,
                mtime_ns: 2,
                inode: 3,
            },
        )
    }

    #[tokio::test]
    async fn entries_are_on_disk_when_save_returns_also_after_saving_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".journal");
        let mut writer = JournalWriter::new(Journal::open(&path).unwrap().0);
        writer.save(Vec::new()).await;
        writer.save(vec![announced("a.csv")]).await;
        assert!(std::fs::read_to_string(&path).unwrap().contains("a.csv"));
        assert!(
            Journal::open(&path).is_err(),
            "the lock is held as long as the writer lives"
        );
    }

    #[tokio::test]
    async fn entries_that_the_disk_refused_are_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".journal");
        let mut writer = JournalWriter::new(Journal::open(&path).unwrap().0);
        let refused = JournalError::Foreign(path.clone());
        writer.refused(vec![announced("a.csv")], &refused);
        writer.save(vec![announced("b.csv")]).await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("a.csv") && text.contains("b.csv"), "{text}");
    }
}
