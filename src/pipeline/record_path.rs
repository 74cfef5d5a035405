//! Which paths a record may name: checked as text, before anything is opened.
//!
//! A relative path is taken against the working directory (as Python's `open` would), `.` and `..` are resolved as
//! text, and the result must lie below the root, `WATCH_DIR`. Links are not followed here: what the path leads to is
//! checked by the task with the file open, since anything found out now may be untrue by then.
//!
//! Hidden names are refused too. No producer of ours announces one, and the producer's own journal lies below the
//! root under such a name: a record must not be able to have it quarantined.

use std::path::{Component, Path, PathBuf};

/// Longest path, in bytes: Linux's `PATH_MAX`.
pub(crate) const MAX_PATH_BYTES: usize = 4096;

/// Why a path is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    /// `""`.
    #[error("the path is empty")]
    Empty,
    /// No file name can hold a NUL.
    #[error("the path has a NUL byte")]
    Nul,
    /// More than [`MAX_PATH_BYTES`].
    #[error("the path has {0} bytes, more than {MAX_PATH_BYTES}")]
    TooLong(usize),
    /// Elsewhere, or the root itself.
    #[error("the path {path:?} is not below {root:?}")]
    OutsideRoot {
        /// As the record has it.
        path: String,
        /// Absolute.
        root: PathBuf,
    },
    /// A component below the root begins with a dot.
    #[error("the path {0:?} is hidden (a name that begins with a dot)")]
    Hidden(String),
}

impl PathError {
    /// One word for the kind of fault.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Empty => "empty_path",
            Self::Nul => "path_has_nul",
            Self::TooLong(_) => "path_too_long",
            Self::OutsideRoot { .. } => "outside_root",
            Self::Hidden(_) => "hidden_name",
        }
    }
}

/// The directory below which every path must lie.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    working_dir: PathBuf,
    root: PathBuf,
}

impl Root {
    /// `working_dir` must be absolute; `root` may be relative to it.
    pub(crate) fn new(working_dir: &Path, root: &Path) -> Self {
        Self {
            working_dir: working_dir.to_owned(),
            root: normalise(&working_dir.join(root)),
        }
    }

    /// The absolute, normalised form of a record's path.
    ///
    /// # Errors
    /// The rule that the path breaks.
    pub(crate) fn resolve(&self, path: &str) -> Result<String, PathError> {
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong(path.len()));
        }
        if path.contains('\0') {
            return Err(PathError::Nul);
        }
        let outside = || PathError::OutsideRoot {
            path: path.to_owned(),
            root: self.root.clone(),
        };
        let resolved = normalise(&self.working_dir.join(path));
        let below = resolved
            .strip_prefix(&self.root)
            .map_err(|_elsewhere| outside())?;
        if below.as_os_str().is_empty() {
            return Err(outside());
        }
        if below
            .components()
            .any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
        {
            return Err(PathError::Hidden(path.to_owned()));
        }
        // Only a working directory that is not UTF-8 can fail here: the path itself came in as text.
        resolved
            .into_os_string()
            .into_string()
            .map_err(|_not_utf8| outside())
    }
}

/// Resolves `.` and `..` as text; `..` at the top stays at the top, as the kernel has it.
fn normalise(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Result<&str, &str>) {
        let root = Root::new(Path::new("/srv/in"), Path::new("data"));
        let got = root.resolve(path);
        assert_eq!(
            got.as_deref().map_err(PathError::class),
            expected,
            "{path:?}"
        );
    }

    #[test]
    fn paths_below_the_root_are_resolved_against_the_working_directory() {
        check("data/split_1.csv", Ok("/srv/in/data/split_1.csv"));
        check("./data//x/../split_1.csv", Ok("/srv/in/data/split_1.csv"));
        check("/srv/in/data/deep/a.csv", Ok("/srv/in/data/deep/a.csv"));
        check("data/-rf", Ok("/srv/in/data/-rf"));
        check("data/new\nline.csv", Ok("/srv/in/data/new\nline.csv"));
        check(
            "data/$(touch x);'; drop table y.csv",
            Ok("/srv/in/data/$(touch x);'; drop table y.csv"),
        );
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in [
            "../../etc/passwd",
            "/etc/passwd",
            "data/../secret.csv",
            "data/../../../../etc/passwd",
            "split_1.csv",
        ] {
            check(path, Err("outside_root"));
        }
        check("database/x.csv", Err("outside_root"));
        for root_itself in ["data", "data/", "data/x/..", "/srv/in/data"] {
            check(root_itself, Err("outside_root"));
        }
    }

    #[test]
    fn paths_that_cannot_be_files_of_ours_are_refused() {
        check("", Err("empty_path"));
        check("data/a\0b.csv", Err("path_has_nul"));
        check(
            &format!("data/{}.csv", "n".repeat(4096)),
            Err("path_too_long"),
        );
        check("data/.celeriac-journal", Err("hidden_name"));
        check("data/.git/x.csv", Err("hidden_name"));
    }

    #[test]
    fn a_root_above_everything_still_refuses_itself() {
        let root = Root::new(Path::new("/"), Path::new("/"));
        assert_eq!(root.resolve("etc/x.csv").unwrap(), "/etc/x.csv");
        assert_eq!(root.resolve("..").unwrap_err().class(), "outside_root");
    }
}
