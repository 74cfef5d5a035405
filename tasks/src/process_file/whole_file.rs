//! A file that appears under its name whole or not at all, and never in place of another.
//!
//! Written without a name (O_TMPFILE) and synced, then linked: a crash at any moment leaves nothing behind. Where the file
//! system knows no O_TMPFILE, a hidden temporary name takes its place.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// What became of a wish for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// It has the name.
    Done,
    /// Something else has it.
    NameTaken,
}

/// Rights of what is written here: the worker's own, and its group may read.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP);

/// Creates `name` in `directory` with what `write` writes; durable when it returns.
///
/// # Errors
/// Of the disk, or of `write`. Then there is nothing under the name.
pub(crate) fn create_whole(
    directory: impl AsFd,
    name: &str,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<Named> {
    let directory = directory.as_fd();
    let named = match rustix::fs::openat(
        directory,
        ".",
        OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC,
        MODE,
    ) {
        Ok(unnamed) => {
            let mut file = File::from(unnamed);
            write(&mut file)?;
            file.sync_all()?;
            link(&file, directory, name)?
        }
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
            create_by_name(directory, name, write)?
        }
        Err(errno) => return Err(errno.into()),
    };
    if named == Named::Done {
        rustix::fs::fsync(directory)?;
    }
    Ok(named)
}

fn link(file: &File, directory: BorrowedFd<'_>, name: &str) -> io::Result<Named> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    named(rustix::fs::linkat(
        CWD,
        unnamed,
        directory,
        name,
        AtFlags::SYMLINK_FOLLOW,
    ))
}

fn create_by_name(
    directory: BorrowedFd<'_>,
    name: &str,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<Named> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let temporary = format!(
        ".celeriac-{}-{}.tmp",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let flags =
        OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, &temporary, flags, MODE)?);
    let written = write(&mut file)
        .and_then(|()| file.sync_all())
        .and_then(|()| rename(directory, &temporary, directory, name));
    if !matches!(written, Ok(Named::Done)) {
        rustix::fs::unlinkat(directory, &temporary, AtFlags::empty())?;
    }
    written
}

/// Gives an entry another name, or another directory of the same file system, never in place of something else.
///
/// # Errors
/// Of the disk; `EXDEV` for another file system.
pub(crate) fn rename(
    from: impl AsFd,
    old: impl rustix::path::Arg + Copy,
    to: impl AsFd,
    new: &str,
) -> io::Result<Named> {
    let (from, to) = (from.as_fd(), to.as_fd());
    match rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // A file system without the flag: two names for a moment, then one.
        Err(Errno::INVAL | Errno::NOSYS) => {
            let linked = named(rustix::fs::linkat(from, old, to, new, AtFlags::empty()))?;
            if linked == Named::Done {
                rustix::fs::unlinkat(from, old, AtFlags::empty())?;
            }
            Ok(linked)
        }
        result => named(result),
    }
}

fn named(result: Result<(), Errno>) -> io::Result<Named> {
    match result {
        Ok(()) => Ok(Named::Done),
        Err(Errno::EXIST) => Ok(Named::NameTaken),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(directory: &std::path::Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).expect("it is there");
        let mut names: Vec<_> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_left_behind() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let directory = File::open(temporary.path()).expect("it is there");
        type Create = fn(BorrowedFd<'_>, &str, &[u8]) -> io::Result<Named>;
        let ways: [Create; 2] = [
            |directory, name, text| create_whole(directory, name, |file| file.write_all(text)),
            |directory, name, text| create_by_name(directory, name, |file| file.write_all(text)),
        ];
        for (index, create) in ways.into_iter().enumerate() {
            let name = format!("{index}.csv");
            assert_eq!(
                create(directory.as_fd(), &name, b"first").expect("room on the disk"),
                Named::Done
            );
            assert_eq!(
                create(directory.as_fd(), &name, b"second").expect("room on the disk"),
                Named::NameTaken
            );
            assert_eq!(
                std::fs::read(temporary.path().join(&name)).expect("it is there"),
                b"first"
            );
        }
        assert_eq!(
            rename(&directory, "0.csv", &directory, "1.csv").expect("both are there"),
            Named::NameTaken
        );
        assert_eq!(names(temporary.path()), ["0.csv", "1.csv"]);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let directory = File::open(temporary.path()).expect("it is there");
        let full = |file: &mut File| {
            file.write_all(b"half")
                .and(Err(io::Error::from_raw_os_error(28)))
        };
        assert!(create_whole(&directory, "a.csv", full).is_err());
        assert!(create_by_name(directory.as_fd(), "a.csv", full).is_err());
        assert!(names(temporary.path()).is_empty());
    }
}
