//! A path as a message names it, to a place below the watch directory. Text only: nothing is looked up on disk.
//!
//! Keeps (F5): `..`, an absolute path elsewhere, a NUL never get past here. Links are the business of `open`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use crate::sensor_csv::{Reason, Violation};

/// Longest path accepted, in bytes: Linux' PATH_MAX without its NUL.
const MAX_PATH_BYTES: usize = 4095;

/// Prefix of a path written as a URL: the way to name a file whose name is not UTF-8 in JSON.
const FILE_URL: &str = "file://";

/// Finds `text` below `root`: relative ones against `working_dir`, a `file://` URL with its `%XX` decoded.
/// The result is relative to `root`, without `.` and `..`.
///
/// # Errors
/// What is wrong with the path: [`Reason::BadName`] or [`Reason::OutsideRoot`].
pub fn below_root(text: &str, working_dir: &Path, root: &Path) -> Result<PathBuf, Violation> {
    let path = match text.strip_prefix(FILE_URL) {
        Some(encoded) => percent_decode(encoded),
        None => OsString::from(text),
    };
    let bytes = path.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_PATH_BYTES || bytes.contains(&0) {
        let rule = format!("a path of 1 to {MAX_PATH_BYTES} bytes without NUL");
        return Err(Violation::of_file(Reason::BadName, rule).text(bytes));
    }
    let outside =
        || Violation::of_file(Reason::OutsideRoot, "a path below the watch directory").text(bytes);
    let path = normalize(&working_dir.join(&path)).ok_or_else(outside)?;
    let root = normalize(&working_dir.join(root)).ok_or_else(outside)?;
    match path.strip_prefix(&root) {
        Ok(relative) if relative.file_name().is_some() => Ok(relative.to_owned()),
        _ => Err(outside()),
    }
}

/// Resolves `.` and `..` as text; `None` when `..` leads above `/`.
fn normalize(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
            other => normal.push(other),
        }
    }
    Some(normal)
}

/// `%XX` to bytes; a percent sign without two hex digits behind it stands for itself.
fn percent_decode(text: &str) -> OsString {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = bytes
            .get(at + 1..at + 3)
            .filter(|_| byte == b'%')
            .and_then(hex_byte);
        decoded.push(code.unwrap_or(byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    OsString::from_vec(decoded)
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let code = value(*digits.first()?)? * 16 + value(*digits.get(1)?)?;
    u8::try_from(code).ok()
}

/// Any bytes as text that PostgreSQL, JSON and a log line can hold: NUL and what is not UTF-8 become `\xHH`.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\0', "\\x00"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, root: &str, expected: Result<&str, Reason>) {
        let found = below_root(text, Path::new("/srv"), Path::new(root));
        let found = found.map_err(|violation| violation.reason);
        assert_eq!(
            found,
            expected.map(PathBuf::from),
            "{text:?} below {root:?}"
        );
    }

    #[test]
    fn a_path_below_the_root_becomes_relative_to_it() {
        check("data/split_1.csv", "data", Ok("split_1.csv"));
        check("/srv/data/a/b.csv", "data", Ok("a/b.csv"));
        check("data/./a/../b.csv", "/srv/data/", Ok("b.csv"));
        check("-rf.csv", ".", Ok("-rf.csv"));
        check(
            "data/$(touch pwned);`x`.csv",
            "data",
            Ok("$(touch pwned);`x`.csv"),
        );
        check("data/new\nline.csv", "data", Ok("new\nline.csv"));
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for text in [
            "../../etc/passwd",
            "/etc/passwd",
            "data",
            "data/",
            "data/..",
            "data/../x.csv",
            "../../../../..",
            "database/x",
        ] {
            check(text, "data", Err(Reason::OutsideRoot));
        }
        for text in ["", "data/a\0.csv", &format!("data/{}", "x/".repeat(3000))] {
            check(text, "data", Err(Reason::BadName));
        }
    }

    #[test]
    fn a_url_names_what_utf8_cannot() {
        let path = below_root(
            "file:///srv/data/latin1_%E9%zz.csv",
            Path::new("/srv"),
            Path::new("data"),
        );
        let path = path.expect("it lies below");
        assert_eq!(path.as_os_str().as_bytes(), b"latin1_\xe9%zz.csv");
        check("file:///etc/%70asswd", "data", Err(Reason::OutsideRoot));
        check(
            "file:///srv/data/%2e%2e/x",
            "data",
            Err(Reason::OutsideRoot),
        );
    }

    #[test]
    fn printable_text_holds_neither_nul_nor_broken_bytes() {
        assert_eq!(printable(b"latin1_\xe9\0\n.csv"), "latin1_\\xE9\\x00\n.csv");
    }
}
