//! Moves a bad file out of the watch directory, and writes its report beside it. Files only; the ledger is `refuse`'s.
//!
//! Keeps: nothing is ever overwritten; at every moment the file lies whole in one place or the other (for a moment in both,
//! across file systems), never in neither; what is moved is the very file that was judged.
//!
//! Python counterpart: `quarantine_file` of the seed.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use celeriac::failpoint;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::Error;
use super::open::{Identity, Place};
use super::whole_file::{Named, create_whole, rename};

/// Behind the name of the quarantined file.
const SIDECAR_SUFFIX: &str = ".error.json";

/// Longest name of a quarantined file, in bytes: with the suffix it still is a name (NAME_MAX).
const MAX_NAME_BYTES: usize = 255 - SIDECAR_SUFFIX.len();

/// Names tried before giving up.
const MAX_NAMES: u32 = 1000;

/// What became of the wish to move a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// It lies in quarantine.
    Done,
    /// Something came to have the name in the meantime.
    NameTaken,
    /// It does not lie at its path any more, or something else does, or it has been written to.
    Changed,
    /// It must stay: on another file system, and it cannot be read or has further names that unlinking would not undo.
    MustStay,
}

/// The quarantine directory, open.
#[derive(Debug)]
pub(crate) struct Quarantine {
    path: PathBuf,
    directory: OwnedFd,
}

impl Quarantine {
    /// Opens the directory, and makes it first if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let what = || format!("cannot open the quarantine directory {}", path.display());
        std::fs::create_dir_all(path).map_err(|error| Error::of_disk(what(), error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::of_disk(what(), errno))?;
        Ok(Self {
            path: path.to_owned(),
            directory,
        })
    }

    /// A name that nothing has yet, and its report's neither: the file's own, or with `~tag` before the extension.
    pub(crate) fn free_name(&self, file_name: &str, tag: &str) -> Result<String, Error> {
        for attempt in 0..MAX_NAMES {
            let name = candidate(file_name, tag, attempt);
            if name
                .as_ref()
                .is_some_and(|name| self.is_free(name) && self.is_free(&sidecar(name)))
            {
                return Ok(name.unwrap_or_default());
            }
        }
        Err(self.failed(io::Error::other(format!(
            "{MAX_NAMES} files named like {file_name:?} lie there already"
        ))))
    }

    /// Moves the file at `place` here. `open` is its content, if it could be opened.
    pub(crate) fn quarantine_file(
        &self,
        place: &Place,
        open: Option<&File>,
        name: &str,
    ) -> Result<Moved, Error> {
        if !self.is_still(place)? {
            return Ok(Moved::Changed);
        }
        match rename(
            &place.directory,
            place.name.as_os_str(),
            &self.directory,
            name,
        ) {
            Ok(Named::NameTaken) => Ok(Moved::NameTaken),
            Ok(Named::Done) => self.confirm(place, name),
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                Ok(Moved::Changed)
            }
            Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                self.copy(place, open, name)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Whether `name` here is a copy of `open`, made by a run that died before it could remove the original.
    pub(crate) fn holds_copy(&self, open: &File, name: &str) -> Result<bool, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(copy) => is_equal(&File::from(copy), open).map_err(|error| self.failed(error)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// Removes the original of a file that lies here whole.
    pub(crate) fn remove_original(&self, place: &Place) -> Result<Moved, Error> {
        if !self.is_still(place)? {
            return Ok(Moved::Changed);
        }
        rustix::fs::unlinkat(&place.directory, place.name.as_os_str(), AtFlags::empty())
            .map_err(|errno| self.failed(errno))?;
        Ok(Moved::Done)
    }

    /// Whether a file of this name lies here.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.is_free(name)
    }

    /// Writes the report beside the file, unless an earlier run has.
    pub(crate) fn write_sidecar(&self, name: &str, report: &[u8]) -> Result<(), Error> {
        let written = create_whole(&self.directory, &sidecar(name), |file| {
            file.write_all(report)
        });
        written.map(|_named| ()).map_err(|error| self.failed(error))
    }

    fn is_free(&self, name: &str) -> bool {
        rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).err()
            == Some(Errno::NOENT)
    }

    fn is_still(&self, place: &Place) -> Result<bool, Error> {
        Ok(place
            .identity_now()?
            .is_some_and(|now| place.identity.is_unchanged(&now)))
    }

    /// Another file may have come under the name between the look and the move: then that one goes back.
    fn confirm(&self, place: &Place, name: &str) -> Result<Moved, Error> {
        let look = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let inode = look.map_err(|errno| self.failed(errno))?.st_ino;
        if inode != place.identity.inode {
            if let Some(old_name) = place.name.to_str() {
                rename(&self.directory, name, &place.directory, old_name)
                    .map_err(|error| self.failed(error))?;
            }
            return Ok(Moved::Changed);
        }
        rustix::fs::fsync(&self.directory).map_err(|errno| self.failed(errno))?;
        Ok(Moved::Done)
    }

    /// Across file systems: a whole copy first, then the original goes.
    fn copy(&self, place: &Place, open: Option<&File>, name: &str) -> Result<Moved, Error> {
        let Some(open) = open.filter(|_| place.identity.links == 1) else {
            return Ok(Moved::MustStay);
        };
        let copied = create_whole(self.directory.as_fd(), name, |copy| {
            let mut source = open;
            source.rewind()?;
            io::copy(&mut source, copy).map(|_bytes| ())
        });
        if copied.map_err(|error| self.failed(error))? == Named::NameTaken {
            return Ok(Moved::NameTaken);
        }
        failpoint("after_quarantine_copy");
        // Written to while it was copied: the copy is not the file.
        if Identity::of_file(open)?.is_unchanged(&place.identity)
            && self.remove_original(place)? == Moved::Done
        {
            return Ok(Moved::Done);
        }
        rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())
            .map_err(|errno| self.failed(errno))?;
        Ok(Moved::Changed)
    }

    fn failed(&self, error: impl Into<io::Error>) -> Error {
        Error::of_disk(
            format!("cannot move a file to {}", self.path.display()),
            error,
        )
    }
}

fn sidecar(name: &str) -> String {
    format!("{name}{SIDECAR_SUFFIX}")
}

/// The `attempt`th name for a file: its own, then `stem~tag.csv`, `stem~tag~2.csv`, …; `None` if its own is too long.
fn candidate(file_name: &str, tag: &str, attempt: u32) -> Option<String> {
    if attempt == 0 {
        return (file_name.len() <= MAX_NAME_BYTES).then(|| file_name.to_owned());
    }
    let number = if attempt > 1 {
        format!("~{attempt}")
    } else {
        String::new()
    };
    let (stem, extension) = match file_name.rfind('.') {
        // A long tail behind a point is no extension.
        Some(point) if point > 0 && file_name.len() - point <= 16 => file_name.split_at(point),
        _ => (file_name, ""),
    };
    let room = MAX_NAME_BYTES.saturating_sub(extension.len() + number.len() + tag.len() + 1);
    let cut = stem.floor_char_boundary(room);
    Some(format!("{}~{tag}{number}{extension}", &stem[..cut]))
}

fn is_equal(a: &File, b: &File) -> io::Result<bool> {
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (a, b);
    a.rewind()?;
    b.rewind()?;
    let (mut a, mut b) = (
        io::BufReader::with_capacity(64 << 10, a),
        io::BufReader::with_capacity(64 << 10, b),
    );
    loop {
        let (left, right) = (
            io::BufRead::fill_buf(&mut a)?,
            io::BufRead::fill_buf(&mut b)?,
        );
        let count = left.len().min(right.len());
        if count == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
        io::BufRead::consume(&mut a, count);
        io::BufRead::consume(&mut b, count);
    }
}

#[cfg(test)]
mod tests {
    use super::super::open::{Found, open_below};
    use super::*;

    fn world() -> (tempfile::TempDir, Quarantine) {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(temporary.path().join("data")).expect("a directory");
        let quarantine =
            Quarantine::open(&temporary.path().join("made/on demand")).expect("a directory");
        (temporary, quarantine)
    }

    fn drop_file(root: &Path, name: &str, text: &str) -> (Place, File) {
        std::fs::write(root.join("data").join(name), text).expect("room on the disk");
        match open_below(&root.join("data"), Path::new(name)) {
            Ok(Found::File(place, file)) => (place, file),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_of_one_name_are_all_kept() {
        let (temporary, quarantine) = world();
        let mut names = Vec::new();
        for text in ["one", "two", "three"] {
            let (place, file) = drop_file(temporary.path(), "a.csv", text);
            let name = quarantine.free_name("a.csv", "cafe").expect("a name");
            assert_eq!(
                quarantine
                    .quarantine_file(&place, Some(&file), &name)
                    .expect("room"),
                Moved::Done
            );
            quarantine.write_sidecar(&name, b"{}").expect("room");
            assert_eq!(
                std::fs::read_to_string(quarantine.path.join(&name)).expect("it is there"),
                text
            );
            assert!(!temporary.path().join("data/a.csv").exists());
            names.push(name);
        }
        assert_eq!(names, ["a.csv", "a~cafe.csv", "a~cafe~2.csv"]);
    }

    #[test]
    fn a_name_taken_in_the_meantime_is_not_overwritten() {
        let (temporary, quarantine) = world();
        let (place, file) = drop_file(temporary.path(), "a.csv", "mine");
        std::fs::write(quarantine.path.join("a.csv"), "another's").expect("room");
        assert_eq!(
            quarantine
                .quarantine_file(&place, Some(&file), "a.csv")
                .expect("room"),
            Moved::NameTaken
        );
        assert_eq!(
            quarantine.copy(&place, Some(&file), "a.csv").expect("room"),
            Moved::NameTaken
        );
        assert_eq!(
            std::fs::read_to_string(quarantine.path.join("a.csv")).expect("it is there"),
            "another's"
        );
        assert!(temporary.path().join("data/a.csv").exists());
    }

    #[test]
    fn only_the_file_that_was_judged_is_moved() {
        let (temporary, quarantine) = world();
        let (place, file) = drop_file(temporary.path(), "a.csv", "judged");
        std::fs::remove_file(temporary.path().join("data/a.csv")).expect("it is there");
        assert_eq!(
            quarantine
                .quarantine_file(&place, Some(&file), "a.csv")
                .expect("room"),
            Moved::Changed
        );
        drop_file(temporary.path(), "a.csv", "another");
        assert_eq!(
            quarantine
                .quarantine_file(&place, Some(&file), "a.csv")
                .expect("room"),
            Moved::Changed
        );
        assert_eq!(
            quarantine.copy(&place, Some(&file), "a.csv").expect("room"),
            Moved::Changed
        );
        assert!(temporary.path().join("data/a.csv").exists() && !quarantine.has("a.csv"));
    }

    #[test]
    fn across_file_systems_a_whole_copy_comes_before_the_original_goes() {
        let (temporary, quarantine) = world();
        let (place, file) = drop_file(temporary.path(), "a.csv", "content");
        assert_eq!(
            quarantine.copy(&place, Some(&file), "a.csv").expect("room"),
            Moved::Done
        );
        assert_eq!(
            std::fs::read_to_string(quarantine.path.join("a.csv")).expect("it is there"),
            "content"
        );
        assert!(!temporary.path().join("data/a.csv").exists());
        assert!(
            quarantine
                .holds_copy(&file, "a.csv")
                .expect("both are there")
        );
        assert!(!quarantine.holds_copy(&file, "b.csv").expect("one is there"));
    }

    #[test]
    fn a_quarantine_on_another_file_system_is_noticed() {
        let (temporary, _) = world();
        // The same steps, by copying, where this machine has a second file system at hand.
        let elsewhere = ["/dev/shm", "/tmp"]
            .into_iter()
            .find_map(|dir| tempfile::tempdir_in(dir).ok());
        let elsewhere = elsewhere.expect("a temporary directory");
        let quarantine = Quarantine::open(elsewhere.path()).expect("a directory");
        let (place, file) = drop_file(temporary.path(), "a.csv", "content");
        let moved = quarantine.quarantine_file(&place, Some(&file), "a.csv");
        assert_eq!(moved.expect("room"), Moved::Done);
        let text = std::fs::read_to_string(elsewhere.path().join("a.csv"));
        assert_eq!(text.expect("it is there"), "content");
        assert!(!temporary.path().join("data/a.csv").exists());
        assert_eq!(
            std::fs::read_dir(elsewhere.path())
                .expect("it is there")
                .count(),
            1
        );
    }

    #[test]
    fn a_file_with_further_names_is_not_unlinked_across_file_systems() {
        let (temporary, quarantine) = world();
        drop_file(temporary.path(), "a.csv", "content");
        std::fs::hard_link(
            temporary.path().join("data/a.csv"),
            temporary.path().join("outside"),
        )
        .expect("a link");
        let Ok(Found::File(place, file)) =
            open_below(&temporary.path().join("data"), Path::new("a.csv"))
        else {
            panic!("gone")
        };
        assert_eq!(
            quarantine.copy(&place, Some(&file), "a.csv").expect("room"),
            Moved::MustStay
        );
        assert_eq!(
            quarantine
                .quarantine_file(&place, Some(&file), "a.csv")
                .expect("room"),
            Moved::Done
        );
        assert_eq!(
            std::fs::read_to_string(temporary.path().join("outside")).expect("it is there"),
            "content"
        );
    }

    #[test]
    fn names_and_their_reports_fit_the_file_system() {
        let long = format!("{}.csv", "温".repeat(83));
        assert_eq!(long.len(), 253);
        assert_eq!(candidate(&long, "cafe", 0), None);
        for attempt in 1..3 {
            let name = candidate(&long, "cafe", attempt).expect("only the first may fail");
            assert!(
                name.ends_with(".csv") && sidecar(&name).len() <= 255,
                "{name}"
            );
        }
        assert_eq!(
            candidate("no extension", "cafe", 1).as_deref(),
            Some("no extension~cafe")
        );
        assert_eq!(candidate(".csv", "cafe", 2).as_deref(), Some(".csv~cafe~2"));
    }
}
