//! When a file is complete. Pure: what was seen and at what time comes in, what to do goes out.
//!
//! A file waits here from the first sight until it is complete. Three ways lead out: it was renamed in, its writer has
//! closed it, or nobody is known to write and it has looked the same for the settle time.
//!
//! "Known to write": notification has shown a write, or an opening right after the creation (a hard link into the
//! directory is created without being opened, and would otherwise wait for a closing that never comes).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::pipeline::file_event::Version;
use crate::pipeline::journal::Announced;

/// How long a file that is known to be written may look the same before it counts as complete after all: its closing
/// was missed, or was never one (a hard link that a passing reader has opened). Longer than any honest pause.
const WRITER_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// All files that are on their way, and what was announced of the others.
#[derive(Debug)]
pub(crate) struct Pending {
    settle: Duration,
    announced: Announced,
    waiting: HashMap<String, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    version: Version,
    /// Since when it looks like this.
    since: Instant,
    writer: Writer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Unknown,
    /// Notification showed the creation; if an opening follows, it is the creator's.
    JustCreated,
    AtWork,
}

impl Pending {
    /// `announced`: what the journal remembers.
    pub(crate) fn new(settle: Duration, announced: Announced) -> Self {
        Self {
            settle,
            announced,
            waiting: HashMap::new(),
        }
    }

    /// A rescan, or a creation without more, shows the file. It settles from the first sight of this version.
    pub(crate) fn seen(&mut self, name: &str, version: Version, now: Instant) {
        if self.announced.get(name) == Some(&version) {
            self.waiting.remove(name);
            return;
        }
        let waiting = self.waiting.entry(name.to_owned()).or_insert(Waiting {
            version,
            since: now,
            writer: Writer::Unknown,
        });
        if waiting.version != version {
            (waiting.version, waiting.since) = (version, now);
        }
    }

    /// Notification: the name was created.
    pub(crate) fn created(&mut self, name: &str, version: Version, now: Instant) {
        self.waiting.insert(
            name.to_owned(),
            Waiting {
                version,
                since: now,
                writer: Writer::JustCreated,
            },
        );
    }

    /// Notification: someone opened the file; only the creator's opening tells of a writer.
    pub(crate) fn opened(&mut self, name: &str) {
        if let Some(waiting) = self.waiting.get_mut(name)
            && waiting.writer == Writer::JustCreated
        {
            waiting.writer = Writer::AtWork;
        }
    }

    /// Notification: someone wrote to the file.
    pub(crate) fn written(&mut self, name: &str, version: Version, now: Instant) {
        self.waiting.insert(
            name.to_owned(),
            Waiting {
                version,
                since: now,
                writer: Writer::AtWork,
            },
        );
    }

    /// Whether a further write changes nothing: it spares a look at the file for every single one.
    pub(crate) fn is_being_written(&self, name: &str) -> bool {
        self.waiting
            .get(name)
            .is_some_and(|waiting| waiting.writer == Writer::AtWork)
    }

    /// The file is complete: renamed in, or closed by its writer. True if it must be announced.
    pub(crate) fn complete(&mut self, name: &str, version: Version) -> bool {
        self.waiting.remove(name);
        self.announced.insert(name.to_owned(), version) != Some(version)
    }

    /// The file is not there any more. True if it had been announced.
    pub(crate) fn gone(&mut self, name: &str) -> bool {
        self.waiting.remove(name);
        self.announced.remove(name).is_some()
    }

    /// Notifications were lost: whoever was writing may have closed unseen.
    pub(crate) fn forget_writers(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.writer = Writer::Unknown;
        }
    }

    /// Names whose time is up, to be looked at once more: `complete` if unchanged, `seen` otherwise.
    pub(crate) fn due(&self, now: Instant) -> Vec<(String, Version)> {
        self.waiting
            .iter()
            .filter(|(_, waiting)| self.deadline(waiting) <= now)
            .map(|(name, waiting)| (name.clone(), waiting.version))
            .collect()
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting
            .values()
            .map(|waiting| self.deadline(waiting))
            .min()
    }

    /// Files on their way.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Every name known here; a rescan finds out which of them are gone.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.announced.keys().chain(self.waiting.keys())
    }

    fn deadline(&self, waiting: &Waiting) -> Instant {
        let patience = match waiting.writer {
            Writer::AtWork => WRITER_PATIENCE.max(self.settle),
            Writer::Unknown | Writer::JustCreated => self.settle,
        };
        waiting.since + patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(2);

    fn version(size: u64) -> Version {
        Version {
            size,
            mtime_ns: 1,
            inode: 1,
        }
    }

    fn pending() -> Pending {
        Pending::new(SETTLE, Announced::new())
    }

    fn due(pending: &Pending, now: Instant) -> Vec<String> {
        pending.due(now).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_file_that_was_there_settles_after_looking_the_same_for_the_settle_time() {
        let (mut pending, start) = (pending(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        pending.seen("a.csv", version(1), start);
        assert!(due(&pending, after(1900)).is_empty());
        pending.seen("a.csv", version(2), after(1900));
        assert!(
            due(&pending, after(3800)).is_empty(),
            "it has grown: the time begins anew"
        );
        pending.seen("a.csv", version(2), after(3800));
        assert_eq!(due(&pending, after(3900)), ["a.csv"]);
    }

    #[test]
    fn a_file_that_is_being_written_waits_for_its_writer_however_slow() {
        let (mut pending, start) = (pending(), Instant::now());
        pending.created("a.csv", version(0), start);
        pending.opened("a.csv");
        pending.seen("a.csv", version(0), start + Duration::from_secs(60));
        assert!(
            due(&pending, start + Duration::from_secs(60)).is_empty(),
            "created, opened, nothing written yet"
        );
        pending.written("a.csv", version(5), start + Duration::from_secs(61));
        assert!(due(&pending, start + Duration::from_secs(300)).is_empty());
        assert!(pending.complete("a.csv", version(9)));
        assert_eq!(pending.waiting(), 0);
    }

    #[test]
    fn a_hard_link_is_created_without_a_writer_and_settles() {
        let (mut pending, start) = (pending(), Instant::now());
        pending.created("a.csv", version(5), start);
        assert_eq!(due(&pending, start + SETTLE), ["a.csv"]);
    }

    #[test]
    fn a_closing_that_was_missed_does_not_lose_the_file() {
        let (mut pending, start) = (pending(), Instant::now());
        pending.written("a.csv", version(5), start);
        assert_eq!(due(&pending, start + WRITER_PATIENCE), ["a.csv"]);
        pending.forget_writers();
        assert_eq!(
            due(&pending, start + SETTLE),
            ["a.csv"],
            "after an overflow it only has to settle"
        );
    }

    #[test]
    fn the_same_version_is_announced_once_and_a_new_one_again() {
        let mut pending = pending();
        assert!(pending.complete("a.csv", version(1)));
        assert!(!pending.complete("a.csv", version(1)));
        pending.seen("a.csv", version(1), Instant::now());
        assert_eq!(pending.waiting(), 0);
        assert!(pending.complete("a.csv", version(2)));
    }

    #[test]
    fn what_the_journal_remembers_is_not_announced_again() {
        let mut pending = Pending::new(SETTLE, Announced::from([("a.csv".to_owned(), version(1))]));
        pending.seen("a.csv", version(1), Instant::now());
        assert_eq!(pending.waiting(), 0);
        assert!(!pending.complete("a.csv", version(1)));
    }

    #[test]
    fn a_file_that_left_and_came_back_is_announced_again() {
        let mut pending = pending();
        assert!(pending.complete("a.csv", version(1)));
        assert!(pending.gone("a.csv"));
        assert!(!pending.gone("a.csv"));
        assert!(pending.complete("a.csv", version(1)));
    }
}
