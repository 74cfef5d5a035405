//! Which paths a record may name: checked as text, before anything is opened.
//!
//! The rules are the task's own ([`below_root`]), so that a record which passes here is not refused there for its text.
//! Links are not followed: what the path leads to is found out by the task with the file open, since anything found
//! out now may be untrue by then.
//!
//! One rule is added. Hidden names are refused: no producer of ours announces one, and the producer's own journal lies
//! below the root under such a name. A record must not be able to have it quarantined.

use std::path::{Path, PathBuf};

use sensor_tasks::process_file::below_root;
use sensor_tasks::sensor_csv::Violation;

/// Why a path is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    /// Not below the root, or no path at all.
    #[error("\"file_path\" is {:?}, expected {}", .0.text.as_deref().unwrap_or_default(), .0.rule)]
    Rule(Violation),
    /// A component below the root begins with a dot.
    #[error("the path {0:?} is hidden (a name that begins with a dot)")]
    Hidden(String),
}

impl PathError {
    /// One word for the kind of fault.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Rule(violation) => violation.reason.as_str(),
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
        let joined = working_dir.join(root);
        Self {
            working_dir: working_dir.to_owned(),
            // Without `.`, so that the same file has the same path however the root is written.
            root: std::path::absolute(&joined).unwrap_or(joined),
        }
    }

    /// The absolute form of a record's path.
    ///
    /// # Errors
    /// The rule that the path breaks.
    pub(crate) fn resolve(&self, path: &str) -> Result<PathBuf, PathError> {
        let below = below_root(path, &self.working_dir, &self.root).map_err(PathError::Rule)?;
        let is_hidden =
            |part: std::path::Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
        if below.components().any(is_hidden) {
            return Err(PathError::Hidden(path.to_owned()));
        }
        Ok(self.root.join(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Result<&str, &str>) {
        let root = Root::new(Path::new("/srv/in"), Path::new("data"));
        let got = root.resolve(path).map_err(|error| error.class());
        assert_eq!(got, expected.map(PathBuf::from), "{path:?}");
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
            "database/x.csv",
            "data",
            "data/x/..",
        ] {
            check(path, Err("outside_root"));
        }
    }

    #[test]
    fn paths_that_cannot_be_files_of_ours_are_refused() {
        let too_long = format!("data/{}.csv", "n".repeat(4096));
        for path in ["", "data/a\0b.csv", &too_long] {
            check(path, Err("bad_name"));
        }
        check("data/.celeriac-journal", Err("hidden_name"));
        check("data/.git/x.csv", Err("hidden_name"));
    }
}
