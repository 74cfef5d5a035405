//! What a directory entry is, and whether its name concerns us.

use std::ffi::OsStr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::pipeline::file_event::Version;

/// What a look at a name has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// A regular file.
    File(Version),
    /// Nothing there (any more).
    Nothing,
    /// Something that is not a regular file.
    Other(&'static str),
}

/// Whether a name may be announced: `*.csv` in any case, not hidden. (`*.csv.tmp` and `*.csv.part` end otherwise.)
pub(crate) fn concerns_us(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let (Some(stem), false) = (bytes.len().checked_sub(4), bytes.starts_with(b".")) else {
        return false;
    };
    bytes[stem..].eq_ignore_ascii_case(b".csv")
}

/// Looks at an entry without opening it and without following a link.
///
/// # Errors
/// What `lstat` says, apart from "not there".
pub(crate) fn look(path: &Path) -> std::io::Result<Look> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Look::Nothing),
        Err(error) => return Err(error),
    };
    let kind = metadata.file_type();
    if kind.is_file() {
        let mtime_ns = metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec());
        return Ok(Look::File(Version {
            size: metadata.len(),
            mtime_ns,
            inode: metadata.ino(),
        }));
    }
    Ok(Look::Other(match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn only_visible_names_that_end_in_csv_concern_us() {
        for name in [
            "a.csv",
            "UPPER.CSV",
            "a.CsV",
            "-rf.csv",
            "new\nline.csv",
            "a.tmp.csv",
            "n.csv.csv",
        ] {
            assert!(concerns_us(OsStr::new(name)), "{name:?}");
        }
        for name in [
            "",
            "csv",
            ".csv",
            ".hidden.csv",
            "a.csv.tmp",
            "a.csv.part",
            "a.csv.gz",
            "README.txt",
            "acsv",
        ] {
            assert!(!concerns_us(OsStr::new(name)), "{name:?}");
        }
        assert!(concerns_us(OsStr::from_bytes(b"latin1_\xe9.csv")));
    }

    #[test]
    fn links_are_seen_as_links_whatever_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.csv");
        std::fs::write(&file, "12345").unwrap();
        assert!(matches!(look(&file).unwrap(), Look::File(version) if version.size == 5));
        for (link, target) in [
            ("ok.csv", "a.csv"),
            ("dangling.csv", "nowhere"),
            ("loop.csv", "loop.csv"),
        ] {
            let link = dir.path().join(link);
            std::os::unix::fs::symlink(target, &link).unwrap();
            assert_eq!(look(&link).unwrap(), Look::Other("a symbolic link"));
        }
        assert_eq!(look(dir.path()).unwrap(), Look::Other("a directory"));
        assert_eq!(look(&dir.path().join("none.csv")).unwrap(), Look::Nothing);
    }
}
