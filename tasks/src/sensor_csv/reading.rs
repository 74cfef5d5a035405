//! One record to one typed reading: every field is judged, so that one look names all that is wrong with a row.
//!
//! Rules: `docs/ingest-rules.md`, "Values".

use csv::ByteRecord;

use super::reader::Columns;
use super::schema::{
    COLUMN_NAMES, DEVICE, LIGHT, MAX_DEVICE_CHARS, METRIC_PLACES, METRICS, MOTION, TS,
};
use super::timestamp::{Decimal, TimestampError, parse_micros};
use super::violation::{Reason, Report, Violation};

/// One row of a sensor file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading<'r> {
    /// Microseconds since 1970 (UTC).
    pub ts_micros: i64,
    /// The device's name as written.
    pub device: &'r str,
    /// The light was on.
    pub light: bool,
    /// Motion was seen.
    pub motion: bool,
    /// The values in the order of [`METRICS`](super::METRICS).
    pub metrics: [f64; METRICS.len()],
}

/// Judges one record; `None` when it breaks a rule, and then the report names each of them.
pub(crate) fn judge<'r>(
    record: &'r ByteRecord,
    columns: &Columns,
    line: u64,
    report: &mut Report,
) -> Option<Reading<'r>> {
    if record.len() != columns.count {
        report.add_with(Reason::FieldCount, || {
            field_count(record, columns.count, line)
        });
        return None;
    }
    let mut fields = Fields {
        record,
        columns,
        line,
        report,
    };
    // All of them first, and only then `?`: a row may break several rules.
    let ts_micros = fields.timestamp();
    let device = fields.device();
    let light = fields.boolean(LIGHT);
    let motion = fields.boolean(MOTION);
    let metrics = std::array::from_fn::<_, { METRICS.len() }, _>(|index| fields.number(index));
    let mut values = [0.0; METRICS.len()];
    for (value, metric) in values.iter_mut().zip(metrics) {
        *value = metric?;
    }
    Some(Reading {
        ts_micros: ts_micros?,
        device: device?,
        light: light?,
        motion: motion?,
        metrics: values,
    })
}

/// A field without the blanks and tabs around it.
pub(crate) fn trim(field: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = field
        .iter()
        .position(|byte| !is_blank(byte))
        .unwrap_or(field.len());
    let end = field
        .iter()
        .rposition(|byte| !is_blank(byte))
        .map_or(start, |last| last + 1);
    &field[start..end]
}

/// The fields of one record by their columns, and where to report what is wrong.
struct Fields<'r, 'a> {
    record: &'r ByteRecord,
    columns: &'a Columns,
    line: u64,
    report: &'a mut Report,
}

impl<'r> Fields<'r, '_> {
    fn timestamp(&mut self) -> Option<i64> {
        let text = self.field(TS);
        parse_micros(text)
            .map_err(|error| self.refuse(TS, Reason::BadTs, text, || timestamp_rule(error)))
            .ok()
    }

    fn device(&mut self) -> Option<&'r str> {
        let text = self.field(DEVICE);
        // The scanner has checked the whole record; a field of it is text too.
        match std::str::from_utf8(text) {
            Ok(device) if is_device(device) => Some(device),
            _ => {
                let rule = || format!("1 to {MAX_DEVICE_CHARS} characters, no line break");
                self.refuse(DEVICE, Reason::BadDevice, text, rule);
                None
            }
        }
    }

    fn boolean(&mut self, place: usize) -> Option<bool> {
        let text = self.field(place);
        let value = parse_bool(text);
        if value.is_none() {
            self.refuse(place, Reason::BadBool, text, || {
                "true, false, 1 or 0".to_owned()
            });
        }
        value
    }

    fn number(&mut self, index: usize) -> Option<f64> {
        let (metric, place) = (METRICS[index], METRIC_PLACES[index]);
        let text = self.field(place);
        let Some(value) = parse_number(text) else {
            self.refuse(place, Reason::BadNumber, text, || {
                "a finite decimal number".to_owned()
            });
            return None;
        };
        if !metric.contains(value) {
            let rule = || format!("{} <= {} <= {}", metric.min, metric.name, metric.max);
            self.refuse(place, Reason::OutOfRange, text, rule);
            return None;
        }
        Some(value)
    }

    fn field(&self, place: usize) -> &'r [u8] {
        trim(
            self.record
                .get(self.columns.position[place])
                .unwrap_or_default(),
        )
    }

    fn refuse(&mut self, place: usize, reason: Reason, text: &[u8], rule: impl FnOnce() -> String) {
        let (line, column) = (self.line, COLUMN_NAMES[place]);
        self.report.add_with(reason, || {
            Violation::of_line(line, reason, rule())
                .column(column)
                .text(text)
        });
    }
}

fn timestamp_rule(error: TimestampError) -> String {
    match error {
        TimestampError::NotANumber => "unix seconds as a decimal number".to_owned(),
        TimestampError::OutOfBounds => "2000-01-01 <= ts < 2100-01-01, in unix seconds".to_owned(),
    }
}

fn is_device(device: &str) -> bool {
    !device.is_empty()
        && !device.contains(['\n', '\r'])
        && device.chars().count() <= MAX_DEVICE_CHARS
}

fn parse_bool(text: &[u8]) -> Option<bool> {
    match text {
        b"1" => Some(true),
        b"0" => Some(false),
        _ if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// A finite double. The grammar is ours: `f64::from_str` also takes `nan`, `inf` and `infinity`.
fn parse_number(text: &[u8]) -> Option<f64> {
    Decimal::parse(text)?;
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

fn field_count(record: &ByteRecord, expected: usize, line: u64) -> Violation {
    let rule = format!("{expected} fields, as in the header, not {}", record.len());
    Violation::of_line(line, Reason::FieldCount, rule).text(record.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = Columns {
        position: [0, 1, 2, 3, 4, 5, 6, 7, 8],
        count: 9,
    };

    fn reasons(fields: &[&str]) -> Vec<(String, &'static str)> {
        let mut report = Report::default();
        let record = ByteRecord::from(fields.to_vec());
        let reading = judge(&record, &COLUMNS, 7, &mut report);
        assert_eq!(reading.is_some(), report.is_empty());
        assert!(
            report
                .first
                .iter()
                .all(|violation| violation.line == Some(7))
        );
        report
            .first
            .into_iter()
            .map(|v| (v.column.unwrap_or_default(), v.reason.as_str()))
            .collect()
    }

    #[test]
    fn every_field_of_a_row_is_judged() {
        let found = reasons(&[
            "yesterday",
            "",
            "-0.1",
            "NaN",
            "maybe",
            "1e999",
            "2",
            "",
            "50.000001",
        ]);
        let want = [
            ("ts", "bad_ts"),
            ("device", "bad_device"),
            ("light", "bad_bool"),
            ("motion", "bad_bool"),
            ("co", "out_of_range"),
            ("humidity", "bad_number"),
            ("lpg", "bad_number"),
            ("smoke", "bad_number"),
            ("temp", "out_of_range"),
        ];
        assert_eq!(
            found,
            want.map(|(column, reason)| (column.to_owned(), reason))
        );
    }

    #[test]
    fn blanks_around_a_value_do_not_count() {
        assert!(
            reasons(&[
                " 1594512094",
                "\tb8 27 ",
                " 1 ",
                "0",
                " TRUE",
                "1e-3",
                "False ",
                ".5",
                "-0.0"
            ])
            .is_empty()
        );
    }

    #[test]
    fn numbers_are_decimal_and_finite() {
        for text in ["5", "+5", "5.", ".5", "5e0", "5E+1", "0005", "1e-400"] {
            assert!(parse_number(text.as_bytes()).is_some(), "{text:?}");
        }
        for text in [
            "",
            "nan",
            "inf",
            "-Infinity",
            "1e999",
            "5_1",
            "0x5",
            "5,1",
            "22.7C",
            "1e",
            "٣",
            "NULL",
            "+",
            "1 2",
        ] {
            assert_eq!(parse_number(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_device_is_one_line_of_text() {
        for device in ["b8:27", "a\tb\\N", "温度 🌡", &"x".repeat(128)] {
            assert!(is_device(device), "{device:?}");
        }
        for device in ["", "b8:27\neb", "a\rb", &"x".repeat(129)] {
            assert!(!is_device(device), "{device:?}");
        }
    }

    #[test]
    fn a_row_of_another_length_is_one_violation() {
        assert_eq!(reasons(&["1594512094"]), [(String::new(), "field_count")]);
    }
}
