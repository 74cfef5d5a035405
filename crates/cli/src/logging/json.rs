//! A record as a JSON object in one line:
//!
//! ```json
//! {"timestamp":"2026-11-23T17:43:36.694Z","level":"INFO","process":"MainProcess","message":"…","target":"celeriac::worker","fields":{"queue":"celery"}}
//! ```
//!
//! `fields` has the record's keys and is left out where there are none.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use log::Record;
use log::kv::{Error, Key, Value, VisitSource};
use serde_json::{Map, Value as Json, json};

use super::level::{Level, SEVERITY};

/// Writes one line.
pub(super) fn write(
    out: &mut impl Write,
    record: &Record<'_>,
    at: DateTime<Utc>,
    process: &str,
) -> io::Result<()> {
    let mut object = json!({
        "timestamp": at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "level": Level::of(record).name(),
        "process": process,
        "message": record.args().to_string(),
        "target": record.target(),
    });
    let mut fields = Fields(Map::new());
    // Fields never refuses a pair.
    drop(record.key_values().visit(&mut fields));
    if !fields.0.is_empty() {
        object["fields"] = Json::Object(fields.0);
    }
    writeln!(out, "{object}")
}

struct Fields(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        if key.as_str() != SEVERITY {
            self.0.insert(key.as_str().to_owned(), json(&value));
        }
        Ok(())
    }
}

/// Numbers and truth values as such; all else as text.
fn json(value: &Value<'_>) -> Json {
    if let Some(flag) = value.to_bool() {
        Json::from(flag)
    } else if let Some(number) = value.to_i64() {
        Json::from(number)
    } else if let Some(number) = value.to_u64() {
        Json::from(number)
    } else if let Some(number) = value.to_f64() {
        Json::from(number)
    } else {
        Json::from(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_object_a_line_with_its_keys_typed() {
        let pairs = [
            ("rows", Value::from(12)),
            ("file", Value::from("a\nb.csv")),
            ("late", Value::from(true)),
        ];
        let record = Record::builder()
            .level(log::Level::Warn)
            .target("pipeline")
            .key_values(&pairs)
            .args(format_args!("line one\nline two"))
            .build();
        let at = DateTime::<Utc>::from_timestamp_millis(1_795_000_000_007).unwrap();
        let mut out = Vec::new();
        write(&mut out, &record, at, "MainProcess").unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let object: Json = serde_json::from_str(&line).unwrap();
        let expected = json!({
            "timestamp": "2026-11-18T11:06:40.007Z",
            "level": "WARNING",
            "process": "MainProcess",
            "message": "line one\nline two",
            "target": "pipeline",
            "fields": {"rows": 12, "file": "a\nb.csv", "late": true},
        });
        assert_eq!(object, expected);
    }
}
