//! A tree beside the watch directory that nothing may touch: read, loaded, changed or moved.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::sensor_file::{bad, good};

/// Mode, inode, modification time in ns, and content of everything in the tree.
type Look = BTreeMap<PathBuf, (u32, u64, i128, Vec<u8>)>;

/// The tree, and how it looked at first.
#[derive(Debug)]
pub struct Canary {
    directory: PathBuf,
    first: Look,
}

impl Canary {
    /// Makes it: a good file and a bad one, so that loading one or quarantining the other would show.
    ///
    /// # Panics
    /// The directory cannot be written.
    pub fn new(directory: PathBuf) -> Self {
        fs::create_dir_all(directory.join("below")).expect("a test's directory can be written");
        fs::write(directory.join("good.csv"), good(99_001, 5)).expect("room");
        fs::write(directory.join("below/bad.csv"), bad(99_002)).expect("room");
        let first = look(&directory);
        Self { directory, first }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// # Panics
    /// Something has changed.
    pub fn check(&self) {
        assert_eq!(look(&self.directory), self.first, "the canary tree");
    }
}

fn look(directory: &Path) -> Look {
    let mut found = Look::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            let metadata = path.symlink_metadata().expect("it is there");
            let mtime_ns =
                i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
            let content = if metadata.is_dir() {
                directories.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).expect("it can be read")
            };
            found.insert(path, (metadata.mode(), metadata.ino(), mtime_ns, content));
        }
    }
    found
}
