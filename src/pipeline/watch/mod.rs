//! The watch on the directory: which `*.csv` files are complete, and when.
//!
//! - [`entry`]: what a directory entry is, and whether its name concerns us
//! - [`pending`]: when a file is complete (pure: no disk, no clock)
//! - [`notices`]: what the file system says, in our words
//! - [`watch_loop`]: the thread that puts these together and rescans
//! - [`watcher`]: all of it from outside
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
//! - a name that is not UTF-8 → announced as a `file://` URL, with one log line. The task puts the file into quarantine
//!   (`bad_name`): neither JSON nor PostgreSQL's text can carry the name, and so it has a row in the ledger all the
//!   same. (A Python worker knows no such URL and finds no file.)

pub(crate) mod entry;
mod notices;
mod pending;
#[cfg(test)]
mod tests;
mod watch_loop;
mod watcher;

pub(crate) use watcher::{
    Found, Item, Options, Until, WatchError, Watcher, check_directory, remembered,
};
