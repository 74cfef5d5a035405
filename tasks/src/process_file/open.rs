//! Opens a file below the watch directory, and nothing else.
//!
//! Keeps (F5): only regular files whose every path component is a real directory below the root. The components are
//! opened one by one with O_NOFOLLOW, and there is no `..` among them (see `path`): that is what
//! `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)` would give, on every kernel and under every seccomp filter, and a link
//! put in between two looks is not followed either.
//! A FIFO, socket or device is looked at but never opened, so none can block a slot.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::Error;
use crate::sensor_csv::{Reason, Violation};

/// Largest file a worker reads, in bytes. Exact medians hold some 40 bytes a row in memory.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// Which file it is, and in what state: another write, or another file under the name, shows here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) links: u64,
    pub(crate) size_bytes: u64,
    modified: (i64, u32),
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            links: stat.st_nlink,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (
                stat.st_mtime,
                u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
        }
    }

    /// As an open file says now.
    pub(crate) fn of_file(file: &File) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(file)
            .map_err(|errno| Error::of_disk("cannot look at an open file", errno))?;
        Ok(Self::of(&stat))
    }

    /// Whether it is the same file with the same contents, as far as its directory entry can say. Names added or removed
    /// elsewhere do not matter.
    pub(crate) fn is_unchanged(&self, other: &Self) -> bool {
        Self { links: 0, ..*self } == Self { links: 0, ..*other }
    }

    /// When it was last written.
    pub(crate) fn modified_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.modified.0, self.modified.1)
    }

    /// Bytes that differ whenever inode or modification time differ. Not the device: its number may be another one after
    /// a reboot.
    pub(crate) fn key(&self) -> [u8; 20] {
        let mut key = [0; 20];
        key[..8].copy_from_slice(&self.inode.to_be_bytes());
        key[8..16].copy_from_slice(&self.modified.0.to_be_bytes());
        key[16..].copy_from_slice(&self.modified.1.to_be_bytes());
        key
    }
}

/// A directory entry: the directory stays open, so that what is moved later is an entry of that very directory.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: OwnedFd,
    pub(crate) name: OsString,
    pub(crate) identity: Identity,
}

impl Place {
    /// What lies under the name now; `None` when nothing does.
    pub(crate) fn identity_now(&self) -> Result<Option<Identity>, Error> {
        match look(&self.directory, &self.name) {
            Ok(stat) => Ok(Some(Identity::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::of_disk(
                "cannot look into the watch directory",
                errno,
            )),
        }
    }
}

/// What lies at a path.
#[derive(Debug)]
pub(crate) enum Found {
    /// A regular file, open for reading.
    File(Place, File),
    /// A regular file that must not be read, for this reason.
    Unreadable(Place, Violation),
    /// Something that is neither read nor moved.
    Refused(Violation),
    /// Nothing.
    Gone,
}

/// Opens `relative` below `root`.
///
/// # Errors
/// Only what may pass: a root that is not there, a sick disk, too many open files.
pub(crate) fn open_below(root: &Path, relative: &Path) -> Result<Found, Error> {
    let Some(name) = relative.file_name() else {
        return Ok(Found::Refused(Violation::of_file(
            Reason::OutsideRoot,
            "a file below the watch directory",
        )));
    };
    // A root that is away would make every file look deleted.
    let root_directory = rustix::fs::open(root, DIRECTORY, Mode::empty()).map_err(|errno| {
        Error::of_disk(
            format!("cannot open the watch directory {}", root.display()),
            errno,
        )
    })?;
    let mut directory = root_directory;
    for component in relative.parent().into_iter().flat_map(Path::components) {
        directory = match rustix::fs::openat(
            &directory,
            component.as_os_str(),
            DIRECTORY | OFlags::NOFOLLOW,
            Mode::empty(),
        ) {
            Ok(next) => next,
            Err(errno) => return directory_error(&directory, component.as_os_str(), errno),
        };
    }
    open_entry(directory, name)
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

fn open_entry(directory: OwnedFd, name: &OsStr) -> Result<Found, Error> {
    let stat = match look(&directory, name) {
        Ok(stat) => stat,
        Err(errno) => return entry_error(name, errno),
    };
    if let Some(violation) = refuse_type(&stat, name) {
        return Ok(Found::Refused(violation));
    }
    let place = Place {
        directory,
        name: name.to_owned(),
        identity: Identity::of(&stat),
    };
    if std::str::from_utf8(name.as_bytes()).is_err() {
        let violation =
            Violation::of_file(Reason::BadName, "a file name in UTF-8").text(name.as_bytes());
        return Ok(Found::Unreadable(place, violation));
    }
    if place.identity.size_bytes > MAX_FILE_BYTES {
        let rule = format!(
            "at most {MAX_FILE_BYTES} bytes, not {}",
            place.identity.size_bytes
        );
        return Ok(Found::Unreadable(
            place,
            Violation::of_file(Reason::TooLarge, rule),
        ));
    }
    match rustix::fs::openat(&place.directory, name, READ, Mode::empty()) {
        Ok(file) => opened(place, File::from(file)),
        Err(Errno::ACCESS | Errno::PERM) => {
            let violation =
                Violation::of_file(Reason::Unreadable, "a file that this worker may read");
            Ok(Found::Unreadable(place, violation))
        }
        Err(errno) => entry_error(name, errno),
    }
}

/// What is open counts, not what was there a moment before.
fn opened(place: Place, file: File) -> Result<Found, Error> {
    let stat = rustix::fs::fstat(&file)
        .map_err(|errno| Error::of_disk("cannot look at an open file", errno))?;
    match refuse_type(&stat, &place.name) {
        Some(violation) => Ok(Found::Refused(violation)),
        None => Ok(Found::File(
            Place {
                identity: Identity::of(&stat),
                ..place
            },
            file,
        )),
    }
}

fn look(directory: &OwnedFd, name: &OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn refuse_type(stat: &Stat, name: &OsStr) -> Option<Violation> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Symlink => Some(link(name)),
        _ => Some(Violation::of_file(Reason::NotRegular, "a regular file").text(name.as_bytes())),
    }
}

fn link(name: &OsStr) -> Violation {
    Violation::of_file(Reason::OutsideRoot, "a file itself: links are not followed")
        .text(name.as_bytes())
}

fn entry_error(name: &OsStr, errno: Errno) -> Result<Found, Error> {
    match errno {
        Errno::NOENT => Ok(Found::Gone),
        Errno::LOOP => Ok(Found::Refused(link(name))),
        Errno::NXIO => Ok(Found::Refused(
            Violation::of_file(Reason::NotRegular, "a regular file").text(name.as_bytes()),
        )),
        Errno::NAMETOOLONG => Ok(Found::Refused(
            Violation::of_file(Reason::BadName, "a name that the file system can hold")
                .text(name.as_bytes()),
        )),
        errno => Err(Error::of_disk(
            "cannot open a file below the watch directory",
            errno,
        )),
    }
}

/// A component that is no directory: a link (refused), or something else (then nothing can lie below it).
fn directory_error(parent: &OwnedFd, name: &OsStr, errno: Errno) -> Result<Found, Error> {
    match errno {
        Errno::NOTDIR | Errno::LOOP => match look(parent, name) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                Ok(Found::Refused(link(name)))
            }
            _ => Ok(Found::Gone),
        },
        Errno::ACCESS => Ok(Found::Refused(
            Violation::of_file(Reason::Unreadable, "a directory that this worker may enter")
                .text(name.as_bytes()),
        )),
        errno => entry_error(name, errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn reason(found: Result<Found, Error>) -> &'static str {
        match found.expect("the disk is well") {
            Found::File(..) => "file",
            Found::Unreadable(_, violation) | Found::Refused(violation) => {
                violation.reason.as_str()
            }
            Found::Gone => "gone",
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir(path("dir.csv")).expect("a directory");
        std::fs::write(path("dir.csv/inner.csv"), "x").expect("a file");
        std::fs::write(path("file.csv"), "x").expect("a file");
        symlink("file.csv", path("link.csv")).expect("a link");
        symlink("/etc", path("etc")).expect("a link");
        symlink("loop.csv", path("loop.csv")).expect("a link");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("fifo.csv"),
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .expect("a FIFO");
        let cases = [
            ("file.csv", "file"),
            ("dir.csv/inner.csv", "file"),
            ("nowhere.csv", "gone"),
            ("nowhere/x.csv", "gone"),
            ("file.csv/x.csv", "gone"),
            ("dir.csv", "not_regular"),
            ("fifo.csv", "not_regular"),
            ("link.csv", "outside_root"),
            ("loop.csv", "outside_root"),
            ("etc/passwd", "outside_root"),
            (&"n".repeat(300), "bad_name"),
        ];
        for (name, expected) in cases {
            assert_eq!(
                reason(open_below(root.path(), Path::new(name))),
                expected,
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_file_too_large_is_not_read() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let file = File::create(root.path().join("sparse.csv")).expect("a file");
        file.set_len(MAX_FILE_BYTES + 1).expect("a sparse file");
        assert_eq!(
            reason(open_below(root.path(), Path::new("sparse.csv"))),
            "too_large"
        );
    }

    #[test]
    fn a_root_that_is_away_makes_no_file_look_deleted() {
        let error = open_below(Path::new("/nowhere/at/all"), Path::new("x.csv"))
            .map(|_| ())
            .expect_err("no root");
        assert!(error.is_transient());
    }

    #[test]
    fn a_write_shows_in_the_identity() {
        let root = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(root.path().join("a.csv"), "x").expect("a file");
        let Ok(Found::File(place, file)) = open_below(root.path(), Path::new("a.csv")) else {
            panic!("not found")
        };
        let now = Identity::of_file(&file).expect("it is open");
        assert!(place.identity.is_unchanged(&now));
        std::fs::write(root.path().join("a.csv"), "xy").expect("a file");
        let now = Identity::of_file(&file).expect("it is open");
        assert!(!place.identity.is_unchanged(&now));
        assert_eq!(
            place
                .identity_now()
                .expect("the disk is well")
                .map(|identity| identity.inode),
            Some(now.inode)
        );
    }
}
