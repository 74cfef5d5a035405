//! Which files the arguments of `celeriac ingest` mean, and below which directory each of them has to stay.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sensor_tasks::process_file::below_root;

use crate::pipeline::watch::entry::{Look, concerns_us, key_of, look, named_in_record};

/// A file to deal with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The path under which the ledger knows it.
    pub(super) path: String,
    /// The directory that contains it; `None`: the watch directory does.
    pub(super) root: Option<PathBuf>,
    /// For the progress bar.
    pub(super) size_bytes: u64,
}

/// The files that these arguments mean, in their order; those of a directory in the order of their names.
///
/// # Errors
/// An argument that does not exist, or is neither a file nor a directory: nothing is done then.
pub(super) fn find(arguments: &[PathBuf], watch_dir: &Path) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for argument in arguments {
        match look(argument).with_context(|| format!("cannot look at {argument:?}"))? {
            Look::File(version) => targets.push(target(argument, version.size, watch_dir)?),
            Look::Other("a directory") => below(argument, watch_dir, &mut targets)?,
            Look::Other(what) => bail!("{argument:?} is {what}, neither a file nor a directory"),
            Look::Nothing => bail!("there is no {argument:?}"),
        }
    }
    Ok(targets)
}

fn below(directory: &Path, watch_dir: &Path, targets: &mut Vec<Target>) -> anyhow::Result<()> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name();
            if concerns_us(&name) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names.into_iter().map(|name| directory.join(name)).collect())
    };
    for path in list().with_context(|| format!("cannot list {directory:?}"))? {
        match look(&path).with_context(|| format!("cannot look at {path:?}"))? {
            Look::File(version) => targets.push(target(&path, version.size, watch_dir)?),
            Look::Other(what) => log::error!("{path:?}: ignored: it is {what}, not a regular file"),
            Look::Nothing => {}
        }
    }
    Ok(())
}

/// Spelled as the producer does it where the file lies below the watch directory, however it was typed: the ledger
/// knows a file by its path.
fn target(path: &Path, size_bytes: u64, watch_dir: &Path) -> anyhow::Result<Target> {
    let absolute = std::path::absolute(path).with_context(|| format!("cannot resolve {path:?}"))?;
    let working_dir = std::env::current_dir().context("cannot find the working directory")?;
    let typed = named(&absolute)?;
    Ok(match below_root(&typed, &working_dir, watch_dir) {
        Ok(relative) => Target {
            path: named(&watch_dir.join(relative))?,
            root: None,
            size_bytes,
        },
        Err(_elsewhere) => Target {
            path: typed,
            root: absolute.parent().map(Path::to_owned),
            size_bytes,
        },
    })
}

/// The path as text, as a record of the producer has it.
fn named(path: &Path) -> anyhow::Result<String> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{path:?} is no file");
    };
    let absolute =
        std::path::absolute(directory).with_context(|| format!("cannot resolve {path:?}"))?;
    Ok(named_in_record(directory, &absolute, &key_of(name)).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_the_producer_names_them_and_others_stay_in_their_directory() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["in", "in/sub", "elsewhere"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        for name in [
            "in/b.csv",
            "in/a.CSV",
            "in/.hidden.csv",
            "in/note.txt",
            "in/sub/c.csv",
            "elsewhere/d.txt",
        ] {
            std::fs::write(at(name), "12345").unwrap();
        }
        std::os::unix::fs::symlink("a.CSV", at("in/link.csv")).unwrap();
        let watch_dir = at("in");
        let find = |paths: &[PathBuf]| {
            let found = find(paths, &watch_dir).unwrap();
            found
                .into_iter()
                .map(|target| (PathBuf::from(target.path), target.root))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            find(&[at("in")]),
            [(at("in/a.CSV"), None), (at("in/b.csv"), None)]
        );
        assert_eq!(
            find(&[at("elsewhere/../in/./sub/c.csv")]),
            [(at("in/sub/c.csv"), None)]
        );
        assert_eq!(
            find(&[at("elsewhere/d.txt")]),
            [(at("elsewhere/d.txt"), Some(at("elsewhere")))]
        );
    }

    #[test]
    fn what_is_not_there_or_no_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join("link.csv")).unwrap();
        for (name, text) in [("none.csv", "there is no"), ("link.csv", "a symbolic link")] {
            let error = find(&[directory.path().join(name)], Path::new("data")).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
