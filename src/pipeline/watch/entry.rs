//! What a directory entry is, and whether its name concerns us.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
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

/// A name as text, one to one: itself where it is UTF-8; else a NUL, which no name has, and the name with `%XX`.
pub(crate) fn key_of(name: &OsStr) -> String {
    match name.to_str() {
        Some(text) => text.to_owned(),
        None => format!("\0{}", percent_encoded(name.as_bytes())),
    }
}

/// The name of a key.
pub(super) fn name_of(key: &str) -> OsString {
    let Some(encoded) = key.strip_prefix('\0') else {
        return OsString::from(key);
    };
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let digits = others.get(..2).filter(|_| first == b'%');
        let code =
            digits.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &others[2..] } else { others };
    }
    OsString::from_vec(bytes)
}

/// How a record names a file of `directory` (as configured, and absolute): its path, `data/split_1.csv`, and its name.
/// A name that is not UTF-8 is written as a URL, `file:///srv/data/latin1_%E9.csv`, which the task understands: it
/// puts the file into quarantine for its name, so that this file too has a row in the ledger.
pub(crate) fn named_in_record(directory: &Path, absolute: &Path, key: &str) -> (String, String) {
    let name = name_of(key);
    match directory.join(&name).into_os_string().into_string() {
        Ok(path) => (path, key.to_owned()),
        Err(_not_utf8) => {
            let bytes = absolute.join(&name).into_os_string().into_vec();
            let shown = name.as_bytes().escape_ascii().to_string();
            (format!("file://{}", percent_encoded(&bytes)), shown)
        }
    }
}

fn percent_encoded(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(byte);
    let encode = |byte: &u8| {
        if plain(byte) {
            char::from(*byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    bytes.iter().map(encode).collect()
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
    fn every_name_has_a_key_of_its_own_that_leads_back() {
        for name in [
            &b"a.csv"[..],
            b"%41.csv",
            b"latin1_\xe9.csv",
            b"latin1_%E9\xff.csv",
            "ü\n.csv".as_bytes(),
        ] {
            let name = OsStr::from_bytes(name);
            assert_eq!(name_of(&key_of(name)), name);
        }
        assert_ne!(
            key_of(OsStr::from_bytes(b"\xe9.csv")),
            key_of(OsStr::from_bytes(b"%E9.csv"))
        );
    }

    #[test]
    fn a_name_that_is_not_utf8_goes_into_the_record_as_a_url() {
        let named = |name: &[u8]| {
            named_in_record(
                Path::new("data"),
                Path::new("/srv/d ü"),
                &key_of(OsStr::from_bytes(name)),
            )
        };
        assert_eq!(
            named("ü 1.csv".as_bytes()),
            ("data/ü 1.csv".to_owned(), "ü 1.csv".to_owned())
        );
        let url = "file:///srv/d%20%C3%BC/latin1_%E9%25.csv".to_owned();
        assert_eq!(
            named(b"latin1_\xe9%.csv"),
            (url, "latin1_\\xe9%.csv".to_owned())
        );
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
