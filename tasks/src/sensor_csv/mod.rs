//! Sensor telemetry as CSV: reading, judging and aggregating it. Pure: no I/O beyond [`std::io::Read`], no database, no clock.
//!
//! - `schema`: the nine columns, their types and ranges, written once
//! - `scanner`: bytes to records: size limits, quotes, encoding, SHA-256
//! - `reader`: records to fields, columns found by name
//! - `reading`: one record to one typed [`Reading`], or what is wrong with it
//! - `timestamp`: decimal seconds to whole microseconds, exactly
//! - `violation`: what is wrong, where, and the bounded report of it
//! - `aggregate`: per device and metric min, max, mean, deviation, median
//! - `validate`: the whole file: a summary, or a report
//!
//! The rules stand in `docs/ingest-rules.md`; a Python twin is written from that page alone.

mod aggregate;
mod reader;
mod reading;
mod scanner;
mod schema;
mod timestamp;
mod validate;
mod violation;

pub use aggregate::{Aggregate, Aggregator};
pub use reader::{Item, SensorReader};
pub use reading::Reading;
pub use scanner::MAX_RECORD_BYTES;
pub use schema::{COLUMN_NAMES, METRICS, Metric};
pub use timestamp::parse_micros;
pub use validate::{Checked, Judgement, Summary, validate_and_transform_data};
pub use violation::{MAX_VIOLATIONS_IN_FULL, Reason, Report, Violation, describe};
