//! The files that a test drops, and what must become of each.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::sensor_file::{bad, drop_by_rename, good};

/// What must become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Loaded, or found to be a duplicate of a file with the same content.
    Good,
    /// Moved to quarantine.
    Bad,
    /// Recorded as bad, and left where it is.
    Refused,
    /// Recorded as missing.
    Missing,
}

/// One file.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// Its name in the watch directory.
    pub name: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// What must become of it.
    pub fate: Fate,
    /// Another file has been put in its place since.
    pub is_replaced: bool,
}

impl Dropped {
    /// The hash that the ledger must have for it, in hex; `None` where it was never read.
    pub fn sha256(&self) -> Option<String> {
        let is_read = matches!(self.fate, Fate::Good | Fate::Bad);
        is_read.then(|| {
            let hash = Sha256::digest(&self.content);
            hash.iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }
}

/// All files of a test.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    dropped: Vec<Dropped>,
}

impl Files {
    /// None yet; they will be dropped in this directory.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            dropped: Vec::new(),
        }
    }

    /// Drops a good file, complete from its first moment.
    pub fn drop_good(&mut self, name: &str, seed: u32, rows: u32) {
        self.drop(name, good(seed, rows), Fate::Good);
    }

    /// Drops a bad file.
    pub fn drop_bad(&mut self, name: &str, seed: u32) {
        self.drop(name, bad(seed), Fate::Bad);
    }

    /// Drops a file by rename; one of the same name, if there is any, is replaced.
    pub fn drop(&mut self, name: &str, content: impl Into<Vec<u8>>, fate: Fate) {
        let content = content.into();
        drop_by_rename(&self.directory, name, &content);
        self.expect(name, content, fate);
    }

    /// Writes a good file in its place, in two steps.
    ///
    /// # Panics
    /// The directory cannot be written.
    pub fn write_in_place(&mut self, name: &str, content: Vec<u8>) {
        let mut file = File::create(self.directory.join(name)).expect("a file");
        let (half, rest) = content.split_at(content.len() / 2);
        file.write_all(half).expect("room");
        file.write_all(rest).expect("room");
        drop(file);
        self.expect(name, content, Fate::Good);
    }

    /// Takes note of a file that is brought in another way.
    pub fn expect(&mut self, name: &str, content: impl Into<Vec<u8>>, fate: Fate) {
        for earlier in &mut self.dropped {
            earlier.is_replaced |= earlier.name == name;
        }
        self.dropped.push(Dropped {
            name: name.to_owned(),
            content: content.into(),
            fate,
            is_replaced: false,
        });
    }

    /// A file whose fate is known now: it was removed before anybody looked.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn remove(&mut self, name: &str) {
        std::fs::remove_file(self.directory.join(name)).expect("it is there");
        let file = self.dropped.iter_mut().find(|file| file.name == name);
        file.expect("it was dropped").fate = Fate::Missing;
    }

    /// All of them, in order.
    pub fn all(&self) -> &[Dropped] {
        &self.dropped
    }
}
