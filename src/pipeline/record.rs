//! A record as it came from Kafka, in memory of our own.

use super::offsets::Partition;

/// One record, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: Partition,
    pub(crate) offset: i64,
    /// Milliseconds since 1970, if the record has a time.
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}
