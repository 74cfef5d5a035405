//! How Python shows the objects that kombu has tags for: their `repr`.
//!
//! Counterpart: CPython's `datetime`, `decimal`, `uuid` and `bytes`.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _};

use super::PythonObject;

impl PythonObject<'_> {
    /// Python's `repr`: `datetime.date(2026, 11, 23)`. A text that is no such thing is shown as that.
    pub fn repr(&self) -> String {
        let shown = match self {
            Self::DateTime(text) => datetime(text),
            Self::Date(text) => text.parse().ok().map(date),
            Self::Time(text) => text
                .parse()
                .ok()
                .map(|time| format!("datetime.time({})", time_fields(time))),
            Self::Decimal(text) => Some(format!("Decimal('{text}')")),
            Self::Uuid(text) => uuid::Uuid::try_parse(text)
                .ok()
                .map(|uuid| format!("UUID('{uuid}')")),
            Self::Bytes(bytes) => Some(bytes_repr(bytes)),
        };
        shown.unwrap_or_else(|| crate::repr::repr_value(&self.text().unwrap_or_default().into()))
    }
}

fn datetime(text: &str) -> Option<String> {
    let text = text.replacen(' ', "T", 1);
    let (local, zone) = match DateTime::parse_from_rfc3339(&text) {
        Ok(time) => (time.naive_local(), zone(time.offset().local_minus_utc())),
        Err(_) => (text.parse::<NaiveDateTime>().ok()?, String::new()),
    };
    let date = local.date();
    Some(format!(
        "datetime.datetime({}, {}, {}, {}{zone})",
        date.year(),
        date.month(),
        date.day(),
        time_fields(local.time())
    ))
}

fn zone(offset_secs: i32) -> String {
    if offset_secs == 0 {
        return ", tzinfo=datetime.timezone.utc".to_owned();
    }
    let delta = if offset_secs < 0 {
        format!("days=-1, seconds={}", offset_secs + 24 * 3600)
    } else {
        format!("seconds={offset_secs}")
    };
    format!(", tzinfo=datetime.timezone(datetime.timedelta({delta}))")
}

fn date(date: NaiveDate) -> String {
    format!(
        "datetime.date({}, {}, {})",
        date.year(),
        date.month(),
        date.day()
    )
}

/// Hour and minute, and what follows up to the last that is not zero.
fn time_fields(time: NaiveTime) -> String {
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    match (second, time.nanosecond() / 1000) {
        (0, 0) => format!("{hour}, {minute}"),
        (second, 0) => format!("{hour}, {minute}, {second}"),
        (second, micro) => format!("{hour}, {minute}, {second}, {micro}"),
    }
}

fn bytes_repr(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    let mut out = format!("b{quote}");
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte if char::from(*byte) == quote => out.extend(['\\', quote]),
            b' '..=b'~' => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
    out
}
