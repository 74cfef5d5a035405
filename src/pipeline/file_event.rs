//! The record on topic `file_events`: "this file is complete, load it".
//!
//! Duties:
//! 1. compose the record that the producer sends: `{"file_path": …, "file_name": …}` first and in this order, as
//!    Python's `json.dumps` writes it, then the file's identity; the Kafka key is the path;
//! 2. read a record of ours or of the Python producer (which has only the first two keys) and say what is wrong with
//!    a bad one, with one class word for each kind;
//! 3. make the task's id from the file's identity, so that the same file announced twice has the same id.
//!
//! Guarantee F5 begins here: a path is checked as text ([`super::record_path`]) before anything else sees it. What the
//! path leads to is checked by the task, with the file open.
//!
//! Counterpart: `kafka_producer.py` and `worker/kafka_consumer.py` of the Python pipeline. Deliberate differences: the
//! record says which version of the file was meant (size, mtime, inode), and a bad record is kept, not only logged.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use celeriac::protocol::json::to_python_string;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::record_path::{PathError, Root};

/// Longest record that is looked at, in bytes. Two paths of `PATH_MAX`, each byte written as a
/// six-byte escape, fit in; no honest record is longer.
pub(crate) const MAX_RECORD_BYTES: usize = 64 * 1024;

/// The namespace of all task ids made here. It may never change: ids of records sent earlier would not match.
const TASK_ID_NAMESPACE: Uuid = Uuid::from_u128(0x5d1f_6f0a_93c2_5b7e_a0c4_2c6b_8e37_d914);

/// Which content of a path is meant: what changes when a file is written again or replaced.
///
/// In the record: `"size": 1024, "mtime_ns": 1795455816694319000, "inode": 1311}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    /// Bytes.
    pub(crate) size: u64,
    /// Last modification, nanoseconds since 1970-01-01T00:00:00Z.
    pub(crate) mtime_ns: i64,
    /// The file's number in its file system.
    pub(crate) inode: u64,
}

/// A record that passed all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileEvent {
    /// The path as the record has it (`data/split_1.csv`); this string is the task's argument.
    pub(crate) file_path: String,
    /// The same path, absolute and without `.` and `..`.
    pub(crate) resolved: PathBuf,
    /// The version that was announced; the Python producer's records have none.
    pub(crate) version: Option<Version>,
}

/// Why a record cannot become a task. No retry helps: the record is kept in the dead letter topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRecord {
    /// A record without a value, as Kafka's compaction uses it to delete a key.
    #[error("the record has no value (a tombstone)")]
    Tombstone,
    /// More than [`MAX_RECORD_BYTES`].
    #[error("the record has {0} bytes, more than {MAX_RECORD_BYTES}")]
    TooLarge(usize),
    /// The value is not UTF-8.
    #[error("the record is not UTF-8 (first bad byte at {0})")]
    NotUtf8(usize),
    /// The value is not JSON, or has an unpaired surrogate, which no string of Rust or PostgreSQL can hold.
    #[error("the record is not JSON: {0}")]
    NotJson(String),
    /// JSON, but not an object.
    #[error("the record is {0}, not a JSON object")]
    NotAnObject(&'static str),
    /// `file_path` is missing.
    #[error("the record has no \"file_path\"")]
    NoFilePath,
    /// `file_path` is there, but no string.
    #[error("\"file_path\" is {0}, not a string")]
    FilePathNotText(&'static str),
    /// The path is not acceptable as text.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl BadRecord {
    /// One word for the kind of fault: the `reason` header of the dead letter topic.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::TooLarge(_) => "too_large",
            Self::NotUtf8(_) => "not_utf8",
            Self::NotJson(_) => "not_json",
            Self::NotAnObject(_) => "not_an_object",
            Self::NoFilePath => "no_file_path",
            Self::FilePathNotText(_) => "file_path_not_text",
            Self::Path(error) => error.class(),
        }
    }
}

/// The record for one file, as the bytes that Python's `json.dumps` would write.
///
/// ```json
/// {"file_path": "data/split_1.csv", "file_name": "split_1.csv", "size": 1024, "mtime_ns": 1795455816694319000, "inode": 1311}
/// ```
pub(crate) fn compose(file_path: &str, file_name: &str, version: Version) -> String {
    to_python_string(&json!({
        "file_path": file_path,
        "file_name": file_name,
        "size": version.size,
        "mtime_ns": version.mtime_ns,
        "inode": version.inode,
    }))
}

/// Reads and checks a record's value.
///
/// # Errors
/// The first fault found; see [`BadRecord`].
pub(crate) fn parse(value: Option<&[u8]>, root: &Root) -> Result<FileEvent, BadRecord> {
    let bytes = value.ok_or(BadRecord::Tombstone)?;
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(BadRecord::TooLarge(bytes.len()));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| BadRecord::NotUtf8(error.valid_up_to()))?;
    let value: Value =
        serde_json::from_str(text).map_err(|error| BadRecord::NotJson(error.to_string()))?;
    let Value::Object(record) = value else {
        return Err(BadRecord::NotAnObject(kind(&value)));
    };
    let file_path = match record.get("file_path") {
        Some(Value::String(path)) => path.clone(),
        Some(other) => return Err(BadRecord::FilePathNotText(kind(other))),
        None => return Err(BadRecord::NoFilePath),
    };
    let resolved = root.resolve(&file_path)?;
    Ok(FileEvent {
        file_path,
        resolved,
        version: version_of(&record),
    })
}

/// The task id of a file's version: the same file announced, delivered or replayed again has the same id.
pub(crate) fn task_id_of_version(resolved: &Path, version: Version) -> Uuid {
    let Version {
        size,
        mtime_ns,
        inode,
    } = version;
    let mut identity = b"file\0".to_vec();
    identity.extend_from_slice(resolved.as_os_str().as_bytes());
    identity.extend_from_slice(format!("\0{size}\0{mtime_ns}\0{inode}").as_bytes());
    Uuid::new_v5(&TASK_ID_NAMESPACE, &identity)
}

/// The task id where no version is known (a bare record of a file that is gone): the record's place in Kafka.
pub(crate) fn task_id_of_record(topic: &str, partition: i32, offset: i64) -> Uuid {
    Uuid::new_v5(
        &TASK_ID_NAMESPACE,
        format!("record\0{topic}\0{partition}\0{offset}").as_bytes(),
    )
}

/// The announced version; the keys are optional, and what is not a number of the right kind counts as absent.
fn version_of(record: &Map<String, Value>) -> Option<Version> {
    Some(Version {
        size: record.get("size")?.as_u64()?,
        mtime_ns: record.get("mtime_ns")?.as_i64()?,
        inode: record.get("inode")?.as_u64()?,
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root::new(Path::new("/srv/in"), Path::new("data"))
    }

    const VERSION: Version = Version {
        size: 7,
        mtime_ns: 1_795_455_816_694_319_000,
        inode: 42,
    };

    #[test]
    fn record_begins_with_the_two_keys_of_the_python_producer_as_json_dumps_writes_them() {
        // python3 -c 'import json; print(json.dumps({"file_path": "data/ü\n🌡.csv", …}))'
        assert_eq!(
            compose(
                "data/ü\n\u{1f321}\u{7f}.csv",
                "ü\n\u{1f321}\u{7f}.csv",
                VERSION
            ),
            "{\"file_path\": \"data/\\u00fc\\n\\ud83c\\udf21\\u007f.csv\", \"file_name\": \
             \"\\u00fc\\n\\ud83c\\udf21\\u007f.csv\", \"size\": 7, \"mtime_ns\": 1795455816694319000, \"inode\": 42}"
        );
    }

    #[test]
    fn composed_record_is_read_back_unchanged() {
        let path = "data/quote'\"$(touch x);`\\\t.csv";
        let event = parse(Some(compose(path, "x", VERSION).as_bytes()), &root()).unwrap();
        assert_eq!(event.file_path, path);
        assert_eq!(event.resolved, Path::new("/srv/in").join(path));
        assert_eq!(event.version, Some(VERSION));
    }

    #[test]
    fn bare_record_of_the_python_producer_is_accepted() {
        let event = parse(
            Some(br#"{"file_path": "data/split_1.csv", "file_name": "split_1.csv"}"#),
            &root(),
        )
        .unwrap();
        assert_eq!(event.file_path, "data/split_1.csv");
        assert_eq!(event.resolved, Path::new("/srv/in/data/split_1.csv"));
        assert_eq!(event.version, None);
    }

    #[test]
    fn unknown_keys_and_unusable_hints_do_no_harm() {
        let event =
            parse(Some(br#"{"size": "big", "schema": 9, "mtime_ns": 1, "inode": 1, "file_path": "data/a.csv"}"#), &root());
        assert_eq!(event.unwrap().version, None);
    }

    #[test]
    fn every_kind_of_bad_record_has_its_class() {
        let large = vec![b' '; MAX_RECORD_BYTES + 1];
        let deep = "[".repeat(5000);
        let cases: Vec<(Option<&[u8]>, &str)> = vec![
            (None, "tombstone"),
            (Some(&large), "too_large"),
            (Some(b"\xff\xfe"), "not_utf8"),
            (Some(b""), "not_json"),
            (Some(b"not json"), "not_json"),
            (Some(deep.as_bytes()), "not_json"),
            (
                Some(br#"{"file_path": "data/latin1_\udce9.csv"}"#),
                "not_json",
            ),
            (Some(b"[]"), "not_an_object"),
            (Some(b"{}"), "no_file_path"),
            (Some(br#"{"file_path": 7}"#), "file_path_not_text"),
            (Some(br#"{"file_path": null}"#), "file_path_not_text"),
            (
                Some(br#"{"file_path": "../../etc/passwd"}"#),
                "outside_root",
            ),
        ];
        for (value, class) in cases {
            assert_eq!(
                parse(value, &root()).unwrap_err().class(),
                class,
                "{value:?}"
            );
        }
    }

    #[test]
    fn task_id_depends_on_every_part_of_the_identity() {
        let id = task_id_of_version(Path::new("/srv/in/data/a.csv"), VERSION);
        assert_eq!(
            id,
            task_id_of_version(Path::new("/srv/in/data/a.csv"), VERSION)
        );
        let others = [
            task_id_of_version(Path::new("/srv/in/data/b.csv"), VERSION),
            task_id_of_version(
                Path::new("/srv/in/data/a.csv"),
                Version { size: 8, ..VERSION },
            ),
            task_id_of_version(
                Path::new("/srv/in/data/a.csv"),
                Version {
                    mtime_ns: 1,
                    ..VERSION
                },
            ),
            task_id_of_version(
                Path::new("/srv/in/data/a.csv"),
                Version {
                    inode: 1,
                    ..VERSION
                },
            ),
            task_id_of_record("file_events", 0, 1),
        ];
        assert!(others.iter().all(|other| *other != id));
        assert_ne!(
            task_id_of_record("file_events", 0, 1),
            task_id_of_record("file_events", 1, 0)
        );
    }
}
