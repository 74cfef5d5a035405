//! One line of the journal: a checksum and a JSON object.

use serde::{Deserialize, Serialize};

use crate::pipeline::file_event::Version;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Kafka has acknowledged this version.
    Announced(String, Version),
    /// The file left the directory. Should it come back, it is announced again, even with the same inode and mtime:
    /// a quarantined file may be put back after a rule has changed.
    Gone(String),
}

/// The JSON of a line: `{"name": …, "size": …, "mtime_ns": …, "inode": …}` or `{"name": …, "gone": true}`.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime_ns: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<bool>,
}

pub(super) fn line(entry: &Entry) -> String {
    let stored = match entry {
        Entry::Announced(
            name,
            Version {
                size,
                mtime_ns,
                inode,
            },
        ) => Stored {
            name: name.clone(),
            size: Some(*size),
            mtime_ns: Some(*mtime_ns),
            inode: Some(*inode),
            gone: None,
        },
        Entry::Gone(name) => Stored {
            name: name.clone(),
            size: None,
            mtime_ns: None,
            inode: None,
            gone: Some(true),
        },
    };
    let json = serde_json::to_string(&stored).expect("strings and numbers always serialize");
    format!("{:016x} {json}\n", checksum(json.as_bytes()))
}

/// The entry of a whole line, newline included; `None` if it is damaged.
pub(super) fn entry(raw: &[u8]) -> Option<Entry> {
    let text = std::str::from_utf8(raw).ok()?.strip_suffix('\n')?;
    let (sum, json) = text.split_once(' ')?;
    if u64::from_str_radix(sum, 16).ok()? != checksum(json.as_bytes()) {
        return None;
    }
    let stored: Stored = serde_json::from_str(json).ok()?;
    if stored.gone == Some(true) {
        return Some(Entry::Gone(stored.name));
    }
    let version = Version {
        size: stored.size?,
        mtime_ns: stored.mtime_ns?,
        inode: stored.inode?,
    };
    Some(Entry::Announced(stored.name, version))
}

/// FNV-1a, 64 bits: tells a line that the disk has garbled, no more.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_was_garbled_is_not() {
        let version = Version {
            size: 1,
            mtime_ns: -2,
            inode: 3,
        };
        for original in [
            Entry::Announced("new\nline ü.csv".to_owned(), version),
            Entry::Gone("\0latin1_%E9.csv".to_owned()),
        ] {
            let text = line(&original);
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            assert_eq!(entry(text.as_bytes()), Some(original));
            for at in 0..text.len() {
                let mut garbled = text.clone().into_bytes();
                garbled[at] ^= 1;
                assert_eq!(entry(&garbled), None, "byte {at} of {text}");
            }
        }
    }
}
