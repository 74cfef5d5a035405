//! The Rust types that stand for Python's.
//!
//! Counterpart: the encoders and decoders at the end of `kombu/utils/json.py @ 5.7.0`.

use std::fmt;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _, Utc};
use uuid::Uuid;

use super::PythonObject;
use crate::timestamp;

/// A Rust type that kombu has a tag for.
pub trait Native: Sized {
    /// What to call it in an error.
    const EXPECTED: &'static str;

    /// As Python has it.
    fn to_python(&self) -> PythonObject<'static>;

    /// From Python's.
    ///
    /// # Errors
    /// What is there instead.
    fn from_python(object: &PythonObject<'_>) -> Result<Self, String>;

    /// From the text alone, without a tag.
    ///
    /// # Errors
    /// What is there instead.
    fn from_text(text: &str) -> Result<Self, String>;
}

macro_rules! native {
    ($type:ty, $expected:literal, $variant:ident, $write:expr, $read:expr) => {
        impl Native for $type {
            const EXPECTED: &'static str = $expected;

            fn to_python(&self) -> PythonObject<'static> {
                PythonObject::$variant($write(self).into())
            }

            fn from_python(object: &PythonObject<'_>) -> Result<Self, String> {
                match object {
                    PythonObject::$variant(text) => Self::from_text(text),
                    other => Err(other.repr()),
                }
            }

            fn from_text(text: &str) -> Result<Self, String> {
                $read(text).ok_or_else(|| format!("{text:?}"))
            }
        }
    };
}

native!(
    DateTime<Utc>,
    "a datetime",
    DateTime,
    |time: &Self| timestamp::isoformat(*time),
    // A naive one is UTC, Celery's default.
    |text: &str| timestamp::parse(text).ok()
);
native!(
    DateTime<FixedOffset>,
    "a datetime with an offset",
    DateTime,
    |time: &Self| format!("{}{}", naive(&time.naive_local()), time.offset()),
    |text: &str| DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)).ok()
);
native!(
    NaiveDateTime,
    "a datetime without an offset",
    DateTime,
    naive,
    |text: &str| text.replacen(' ', "T", 1).parse().ok()
);
native!(
    NaiveDate,
    "a date",
    Date,
    |date: &Self| date.format("%Y-%m-%d").to_string(),
    |text: &str| text.parse().ok()
);
native!(
    NaiveTime,
    "a time of day",
    Time,
    time_of_day,
    |text: &str| { text.parse().ok() }
);
native!(
    Decimal,
    "a decimal",
    Decimal,
    |decimal: &Self| decimal.0.clone(),
    |text: &str| Decimal::new(text)
);
native!(
    Uuid,
    "a UUID",
    Uuid,
    |uuid: &Self| uuid.simple().to_string(),
    |text: &str| Uuid::try_parse(text).ok()
);

impl Native for Vec<u8> {
    const EXPECTED: &'static str = "bytes";

    fn to_python(&self) -> PythonObject<'static> {
        PythonObject::Bytes(self.clone().into())
    }

    fn from_python(object: &PythonObject<'_>) -> Result<Self, String> {
        match object {
            PythonObject::Bytes(bytes) => Ok(bytes.to_vec()),
            other => Err(other.repr()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        // Text is no bytes in Python.
        Err(format!("{text:?}"))
    }
}

fn naive(time: &NaiveDateTime) -> String {
    format!(
        "{}T{}",
        time.date().format("%Y-%m-%d"),
        time_of_day(&time.time())
    )
}

/// As Python's `isoformat`: microseconds only where there are some.
fn time_of_day(time: &NaiveTime) -> String {
    let micros = time.nanosecond() % 1_000_000_000 / 1000;
    let seconds = time.format("%H:%M:%S");
    if micros == 0 {
        seconds.to_string()
    } else {
        format!("{seconds}.{micros:06}")
    }
}

/// A decimal number, digit for digit as Python's `Decimal` writes it. Compared as text: `1.50` is not `1.5`.
///
/// It does not calculate; any decimal crate reads [`Decimal::as_str`] and is made a `Decimal` by its `to_string`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(String);

impl Decimal {
    /// The number that this text says; `None` if Python's `Decimal` would not take it.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        is_decimal(&text).then_some(Self(text))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    if matches!(&*lower, "inf" | "infinity" | "nan" | "snan") {
        return true;
    }
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (number, exponent) = match lower.split_once('e') {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (&*lower, None),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let exponent_is_fine = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    whole.len() + fraction.len() > 0
        && all_digits(whole)
        && all_digits(fraction)
        && exponent_is_fine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_what_pythons_decimal_takes() {
        for text in [
            "0",
            "-1.50",
            "+.5",
            "5.",
            "1E+30",
            "1e-7",
            "NaN",
            "-Infinity",
            "sNaN",
        ] {
            assert_eq!(Decimal::new(text).expect(text).to_string(), text);
        }
        for text in ["", ".", "-", "1e", "1e+", "0x1", "1,5", "1.5.1", "--1", "١"] {
            assert_eq!(Decimal::new(text), None, "{text}");
        }
    }
}
