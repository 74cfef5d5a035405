//! What became of a file: the result of the task.

use serde_json::{Map, Value, json};

/// What became of a file. Each of them is a SUCCESS of the task: the file has been dealt with.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Its rows are in the tables.
    Loaded {
        /// SHA-256 of the content, in hex.
        sha256: String,
        /// Bytes of the file.
        size_bytes: u64,
        /// Rows in `raw_sensor_data`.
        rows: u64,
    },
    /// The same content had been loaded before.
    Duplicate {
        /// SHA-256 of the content, in hex.
        sha256: String,
        /// Bytes of the file.
        size_bytes: u64,
        /// Name of the file that had brought it.
        duplicate_of: String,
    },
    /// It breaks the rules.
    Quarantined {
        /// SHA-256 of the content, in hex; `None` if it was not read.
        sha256: Option<String>,
        /// Why, in one sentence.
        reason: String,
        /// How many violations of each reason class.
        reasons: Map<String, Value>,
        /// Where it lies now; `None` if it was left where it is (a link, a directory).
        quarantine_path: Option<String>,
    },
    /// There was no such file.
    Missing,
}

impl Fate {
    /// The word in `ingest_files.state` and in the result.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Loaded { .. } => "loaded",
            Self::Duplicate { .. } => "duplicate",
            Self::Quarantined { .. } => "quarantined",
            Self::Missing => "missing",
        }
    }

    /// The result as JSON; its shapes stand in `docs/ingest-rules.md`, "Result".
    pub fn to_json(&self, file_path: &str) -> Value {
        let status = self.status();
        match self {
            Self::Loaded {
                sha256,
                size_bytes,
                rows,
            } => {
                json!({"status": status, "file_path": file_path, "sha256": sha256, "size_bytes": size_bytes, "rows": rows})
            }
            Self::Duplicate {
                sha256,
                size_bytes,
                duplicate_of,
            } => {
                json!({"status": status, "file_path": file_path, "sha256": sha256, "size_bytes": size_bytes,
                    "duplicate_of": duplicate_of})
            }
            Self::Quarantined {
                sha256,
                reason,
                reasons,
                quarantine_path,
            } => {
                json!({"status": status, "file_path": file_path, "sha256": sha256, "reason": reason, "reasons": reasons,
                    "quarantine_path": quarantine_path})
            }
            Self::Missing => json!({"status": status, "file_path": file_path}),
        }
    }
}

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
