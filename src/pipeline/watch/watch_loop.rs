//! What the watcher's thread does: notices and rescans in, complete files out.
//!
//! Duties:
//! 1. listen first, then scan: what comes in between is seen by either;
//! 2. rescan regularly, and at once when notifications were lost;
//! 3. hand out each version of a file once, and each disappearance of one that was handed out;
//! 4. notice when the directory itself is removed, replaced or mounted over, and end with an error: never silence.
//!
//! While Kafka is away the output is full and the thread waits; the system's queue then overflows, and a rescan
//! follows.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::entry::{Look, concerns_us, key_of, look, name_of};
use super::notices::{Happening, Notice, Notices};
use super::pending::Pending;
use super::watcher::{Found, Item, Options, Until, WatchError, identity};
use crate::pipeline::file_event::Version;
use crate::pipeline::journal::Announced;

/// A rescan may take up at most one part in so many of the time, however large the directory.
const RESCAN_SHARE: u32 = 20;

/// Shortest time between two looks at the files that settle.
const SHORTEST_TICK: Duration = Duration::from_millis(20);

/// Why the thread's loop ends.
enum End {
    /// Nobody wants the items any more.
    Stopped,
    Failed(WatchError),
}

pub(super) struct Watch {
    options: Options,
    directory: PathBuf,
    /// Device and inode of the directory that we listen to.
    identity: (u64, u64),
    pub(super) notices: Notices,
    pending: Pending,
    /// Names that were spoken of in the log.
    complained: HashSet<String>,
    items: mpsc::Sender<Item>,
    next_rescan: Instant,
    next_tick: Instant,
}

impl Watch {
    pub(super) fn begin(
        options: Options,
        announced: Announced,
        items: mpsc::Sender<Item>,
    ) -> Result<Self, WatchError> {
        let unreadable = |source| WatchError::Unreadable {
            directory: options.directory.clone(),
            source,
        };
        let directory = std::path::absolute(&options.directory).map_err(unreadable)?;
        let identity = identity(&options.directory)?;
        std::fs::read_dir(&directory).map_err(unreadable)?;
        let notices = Notices::listen(&directory);
        let pending = Pending::new(options.settle, announced);
        let now = Instant::now();
        let complained = HashSet::new();
        Ok(Self {
            options,
            directory,
            identity,
            notices,
            pending,
            complained,
            items,
            next_rescan: now,
            next_tick: now,
        })
    }

    pub(super) fn run(mut self) -> Result<(), WatchError> {
        match self.watch() {
            Ok(()) | Err(End::Stopped) => Ok(()),
            Err(End::Failed(error)) => Err(error),
        }
    }

    fn watch(&mut self) -> Result<(), End> {
        loop {
            let now = Instant::now();
            if now >= self.next_rescan {
                self.rescan()?;
            }
            if now >= self.next_tick {
                self.settle()?;
            }
            if self.options.until == Until::NothingWaits && self.pending.waiting() == 0 {
                return Ok(());
            }
            let wake = if self.pending.waiting() == 0 {
                self.next_rescan
            } else {
                self.next_rescan.min(self.next_tick)
            };
            match self
                .notices
                .receiver
                .recv_timeout(wake.saturating_duration_since(Instant::now()))
            {
                Ok(notice) => self.notice(notice)?,
                Err(RecvTimeoutError::Timeout) => {}
                // Our own sender lives as long as the receiver.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn notice(&mut self, notice: Notice) -> Result<(), End> {
        match notice {
            Notice::Entry(happening, name) => self.happened(happening, key_of(&name)),
            Notice::DirectoryGone => Err(End::Failed(WatchError::Replaced(
                self.options.directory.clone(),
            ))),
            Notice::Lost(reason) => {
                log::warn!("Notifications were lost ({reason}); looking at the whole directory");
                self.pending.forget_writers();
                self.next_rescan = Instant::now();
                Ok(())
            }
            Notice::Stop => Err(End::Stopped),
        }
    }

    fn happened(&mut self, happening: Happening, key: String) -> Result<(), End> {
        let now = Instant::now();
        match happening {
            Happening::Left => return self.gone(&key),
            Happening::Opened => self.pending.opened(&key),
            Happening::Written if self.pending.is_being_written(&key) => {}
            Happening::Created | Happening::Written | Happening::Closed | Happening::MovedIn => {
                let Some(version) = self.look_at(&key)? else {
                    return Ok(());
                };
                match happening {
                    Happening::Created => self.pending.created(&key, version, now),
                    Happening::Written => self.pending.written(&key, version, now),
                    _ => return self.complete(key, version),
                }
            }
        }
        Ok(())
    }

    /// Looks at everything in the directory.
    fn rescan(&mut self) -> Result<(), End> {
        let begun = Instant::now();
        if identity(&self.options.directory).ok() != Some(self.identity) {
            return Err(End::Failed(WatchError::Replaced(
                self.options.directory.clone(),
            )));
        }
        match self.names_present() {
            Ok(present) => self.compare(&present)?,
            // Nothing is forgotten because of a listing that failed.
            Err(error) => log::warn!(
                "Cannot list the watch directory {:?}: {error}",
                self.options.directory
            ),
        }
        let now = Instant::now();
        self.next_rescan = now + self.options.rescan.max((now - begun) * RESCAN_SHARE);
        Ok(())
    }

    fn names_present(&self) -> std::io::Result<HashSet<String>> {
        let mut names = HashSet::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            if concerns_us(&name) {
                names.insert(key_of(&name));
            }
        }
        Ok(names)
    }

    fn compare(&mut self, present: &HashSet<String>) -> Result<(), End> {
        self.complained.retain(|key| present.contains(key));
        // Looking also at the absent ones tells those that came in during the listing.
        let absent = self.pending.names().filter(|key| !present.contains(*key));
        let absent: Vec<String> = absent.cloned().collect();
        for key in present.iter().chain(&absent) {
            if let Some(version) = self.look_at(key)? {
                self.pending.seen(key, version, Instant::now());
            }
        }
        Ok(())
    }

    /// Hands out what has settled.
    fn settle(&mut self) -> Result<(), End> {
        for (name, version) in self.pending.due(Instant::now()) {
            match self.look_at(&name)? {
                Some(same) if same == version => self.complete(name, version)?,
                Some(other) => self.pending.seen(&name, other, Instant::now()),
                None => {}
            }
        }
        let earliest = self.pending.next_due().map_or(self.options.settle, |due| {
            due.saturating_duration_since(Instant::now())
        });
        self.next_tick = Instant::now() + earliest.min(self.options.settle / 4).max(SHORTEST_TICK);
        Ok(())
    }

    /// The version of a regular file; everything else is dealt with here.
    fn look_at(&mut self, key: &str) -> Result<Option<Version>, End> {
        match look(&self.directory.join(name_of(key))) {
            Ok(Look::File(version)) => return Ok(Some(version)),
            Ok(Look::Nothing) => self.gone(key)?,
            Ok(Look::Other(what)) => {
                self.gone(key)?;
                self.say_once(key, &format!("ignored: it is {what}, not a regular file"));
            }
            Err(error) => self.say_once(key, &format!("cannot be looked at now: {error}")),
        }
        Ok(None)
    }

    fn complete(&mut self, key: String, version: Version) -> Result<(), End> {
        if !self.pending.complete(&key, version) {
            return Ok(());
        }
        let found = Found::new(&self.options.directory, &self.directory, key, version);
        if found.name != found.key {
            self.say_once(
                &found.key,
                "its name is not UTF-8 (bad_name): announced as a URL, to be quarantined",
            );
        }
        self.hand_out(Item::Found(found))
    }

    fn gone(&mut self, key: &str) -> Result<(), End> {
        if self.pending.gone(key) {
            self.hand_out(Item::Gone(key.to_owned()))
        } else {
            Ok(())
        }
    }

    fn hand_out(&self, item: Item) -> Result<(), End> {
        self.items
            .blocking_send(item)
            .map_err(|_nobody_listens| End::Stopped)
    }

    fn say_once(&mut self, key: &str, what: &str) {
        if self.complained.insert(key.to_owned()) {
            log::warn!("{:?}: {what}", self.options.directory.join(name_of(key)));
        }
    }
}
