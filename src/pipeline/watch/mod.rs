//! The watch on the directory: which `*.csv` files are complete, and when.
//!
//! - [`entry`]: what a directory entry is, and whether its name concerns us
//! - [`pending`]: when a file is complete (pure: no disk, no clock)
//! - [`notices`]: what the file system says, in our words
//! - [`watcher`]: the thread that puts these together and rescans
//!
//! Rules (corpus and docs follow them):
//! - renamed in → announced at once; that is the recommended way to deliver a file;
//! - written in place → when its writer closes it;
//! - closing not seen (there before the start, network mount, hard link) → when size and mtime have not changed for
//!   `settle_ms`, as seen by us, since a file's own clock may be another machine's;
//! - hidden, `*.tmp`, `*.part` and everything that is not `*.csv` in any case → none of our business;
//! - a directory, FIFO, socket, device or symbolic link named `*.csv` → ignored with one log line. Links are not
//!   followed even within the root: their target is announced under its own name, and a link can be turned around
//!   after any check;
//! - a name that is not UTF-8 → ignored with one log line: neither JSON nor a Celery message nor a PostgreSQL text
//!   can carry it, so no ledger could name the file. It stays where it is until it is renamed.

pub(crate) mod entry;
mod notices;
mod pending;
mod watcher;

pub(crate) use watcher::{Found, Item, Options, Until, WatchError, Watcher, check_directory};
