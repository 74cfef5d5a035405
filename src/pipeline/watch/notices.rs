//! What the file system says, in our words: inotify through `notify`, cut down to names that concern us.
//!
//! Notification makes things fast, never complete: it says nothing on network mounts, loses events when its queue
//! overflows, and may be refused altogether (`fs.inotify.max_user_instances`). The rescan covers all of that.

use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::entry::concerns_us;

/// Notices held in memory. When they are full the system's own queue fills, overflows, and tells us to rescan.
const NOTICES: usize = 8192;

/// Something that the watcher's thread should know.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// About one name in the directory.
    Entry(Happening, OsString),
    /// The directory itself was moved or removed.
    DirectoryGone,
    /// Notifications were lost, for this reason.
    Lost(String),
    /// From ourselves: end.
    Stop,
}

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    Created,
    Opened,
    Written,
    /// Closed by a writer.
    Closed,
    MovedIn,
    /// Moved away or removed.
    Left,
}

/// A running notification, with both ends of its channel (the sender is for [`Notice::Stop`]).
pub(super) struct Notices {
    pub(super) receiver: Receiver<Notice>,
    pub(super) sender: SyncSender<Notice>,
    /// Ends the notification when dropped; `None` where it was refused.
    pub(super) _notification: Option<RecommendedWatcher>,
}

impl Notices {
    /// Begins to listen to an absolute directory; without notification the rescan does all the work, and says so.
    pub(super) fn listen(directory: &Path) -> Self {
        let (sender, receiver) = sync_channel(NOTICES);
        let notification = notification(directory, sender.clone())
            .inspect_err(|error| {
                log::warn!("File system notification is not available ({error}); new files are found by rescan only");
            })
            .ok();
        Self {
            receiver,
            sender,
            _notification: notification,
        }
    }
}

fn notification(
    directory: &Path,
    sender: SyncSender<Notice>,
) -> notify::Result<RecommendedWatcher> {
    let watched = directory.to_owned();
    let handler = move |event: notify::Result<Event>| {
        let notice = match event {
            Ok(event) => translate(&event, &watched),
            Err(error) => Some(Notice::Lost(error.to_string())),
        };
        if let Some(notice) = notice {
            // The other end is gone only when the watcher has ended; nobody wants the notice then.
            sender.send(notice).unwrap_or_default();
        }
    };
    let mut watcher = notify::recommended_watcher(handler)?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn translate(event: &Event, directory: &Path) -> Option<Notice> {
    if event.need_rescan() {
        return Some(Notice::Lost(
            "the system's queue of events has overflowed".to_owned(),
        ));
    }
    let happening = match event.kind {
        EventKind::Create(_) => Happening::Created,
        EventKind::Access(AccessKind::Open(_)) => Happening::Opened,
        EventKind::Modify(ModifyKind::Data(_)) => Happening::Written,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Happening::Closed,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Happening::MovedIn,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
            Happening::Left
        }
        _ => return None,
    };
    let path = event.paths.first()?;
    if path == directory {
        return (happening == Happening::Left).then_some(Notice::DirectoryGone);
    }
    let name = path.file_name().filter(|name| concerns_us(name))?;
    Some(Notice::Entry(happening, name.to_owned()))
}
