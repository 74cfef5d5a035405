//! Objects of Python's that kombu's JSON has tags for: `{"__type__": T, "__value__": v}`.
//!
//! ```json
//! {"__type__": "datetime", "__value__": "2026-11-23T17:43:36.694319+00:00"}
//! {"__type__": "date", "__value__": "2026-11-23"}     {"__type__": "time", "__value__": "17:43:36"}
//! {"__type__": "decimal", "__value__": "1.50"}        {"__type__": "uuid", "__value__": {"hex": "801d…"}}
//! {"__type__": "bytes", "__value__": "text"}          {"__type__": "base64", "__value__": "/w=="}
//! ```
//! In a message they stay such objects, so that what is passed on is the same bytes. A task takes and returns them as
//! [`Tagged<T>`], or in a field with `#[serde(with = "celeriac_protocol::tagged")]`; a plain `DateTime<Utc>`, `String`,
//! `Uuid` or `NaiveDate` parameter takes one, too ([`crate::value::from_value`]).
//!
//! Counterpart: `kombu/utils/json.py @ 5.7.0`. Difference: a tag that is not known, or one whose value does not follow
//! it, stays an object, where Python cannot decode the message.

mod native;
mod shown;

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

pub use native::{Decimal, Native};

/// An object of Python's, by what kombu writes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PythonObject<'a> {
    /// `datetime.datetime`, ISO 8601; without an offset it is a naive one.
    DateTime(Cow<'a, str>),
    /// `datetime.date`, ISO 8601.
    Date(Cow<'a, str>),
    /// `datetime.time`, ISO 8601.
    Time(Cow<'a, str>),
    /// `decimal.Decimal`, its digits.
    Decimal(Cow<'a, str>),
    /// `uuid.UUID`, 32 hexadecimal digits.
    Uuid(Cow<'a, str>),
    /// `bytes`.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> PythonObject<'a> {
    /// The object that a value stands for, if it is one of kombu's tags.
    pub fn of(value: &'a Value) -> Option<Self> {
        let Value::Object(map) = value else {
            return None;
        };
        if map.len() != 2 {
            return None;
        }
        let tag = map.get("__type__")?.as_str()?;
        let value = map.get("__value__")?;
        if tag == "uuid" {
            let hex = value.as_object().filter(|map| map.len() == 1)?.get("hex")?;
            return hex.as_str().map(|hex| Self::Uuid(hex.into()));
        }
        let text = value.as_str()?;
        Some(match tag {
            "datetime" => Self::DateTime(text.into()),
            "date" => Self::Date(text.into()),
            "time" => Self::Time(text.into()),
            "decimal" => Self::Decimal(text.into()),
            "bytes" => Self::Bytes(text.as_bytes().into()),
            "base64" => Self::Bytes(BASE64.decode(text).ok()?.into()),
            _ => return None,
        })
    }

    /// As kombu writes it.
    pub fn to_value(&self) -> Value {
        let (tag, value) = match self {
            Self::DateTime(text) => ("datetime", json!(text)),
            Self::Date(text) => ("date", json!(text)),
            Self::Time(text) => ("time", json!(text)),
            Self::Decimal(text) => ("decimal", json!(text)),
            Self::Uuid(hex) => ("uuid", json!({ "hex": hex })),
            Self::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => ("bytes", json!(text)),
                Err(_) => ("base64", json!(BASE64.encode(bytes))),
            },
        };
        json!({ "__type__": tag, "__value__": value })
    }

    /// The text that a Rust type is read from; `None` for bytes that are no text.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::DateTime(text)
            | Self::Date(text)
            | Self::Time(text)
            | Self::Decimal(text)
            | Self::Uuid(text) => Some(text),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        }
    }

    /// What Python calls its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::DateTime(_) => "datetime.datetime",
            Self::Date(_) => "datetime.date",
            Self::Time(_) => "datetime.time",
            Self::Decimal(_) => "decimal.Decimal",
            Self::Uuid(_) => "uuid.UUID",
            Self::Bytes(_) => "bytes",
        }
    }
}

/// A value that is written with kombu's tag, so that Python's `.get()` and Python's tasks have the same type.
///
/// `async fn rename(at: Tagged<DateTime<Utc>>) -> TaskResult<Tagged<Decimal>>`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tagged<T>(pub T);

impl<T: Native> Serialize for Tagged<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de, T: Native> Deserialize<'de> for Tagged<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

/// Writes kombu's tag: the first half of `#[serde(with = "celeriac_protocol::tagged")]`.
///
/// # Errors
/// Those of `serializer`.
pub fn serialize<T: Native, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.to_python().to_value().serialize(serializer)
}

/// Reads kombu's tag, or the plain text: the other half.
///
/// # Errors
/// It is neither, or of another type.
pub fn deserialize<'de, T: Native, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let read = match (PythonObject::of(&value), &value) {
        (Some(object), _) => T::from_python(&object),
        (None, Value::String(text)) => T::from_text(text),
        (None, other) => Err(crate::repr::saferepr(other)),
    };
    read.map_err(|found| {
        serde::de::Error::custom(format_args!(
            "invalid value: {found}, expected {}",
            T::EXPECTED
        ))
    })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc};
    use uuid::Uuid;

    use super::*;
    use crate::value;

    /// Shown as Python shows it, read, and written as it was.
    fn check<T: Native + PartialEq + std::fmt::Debug>(tagged: &Value, repr: &str) -> T {
        assert_eq!(crate::repr::repr_value(tagged), repr);
        let Tagged(read) = value::from_value::<Tagged<T>>(tagged.clone()).unwrap();
        let object = PythonObject::of(tagged).unwrap();
        assert_eq!(T::from_python(&object).as_ref(), Ok(&read));
        let again = Tagged(read);
        assert_eq!(&value::to_value(&again).unwrap(), tagged);
        assert_eq!(&serde_json::to_value(&again).unwrap(), tagged);
        again.0
    }

    fn tag(tag: &str, value: impl Into<Value>) -> Value {
        json!({ "__type__": tag, "__value__": value.into() })
    }

    #[test]
    fn every_tag_of_kombus_is_taken_and_given() {
        let text = "2026-11-23T17:43:36.694319+00:00";
        let shown =
            "datetime.datetime(2026, 11, 23, 17, 43, 36, 694319, tzinfo=datetime.timezone.utc)";
        let time = check::<DateTime<Utc>>(&tag("datetime", text), shown);
        assert_eq!(time.timestamp_subsec_micros(), 694_319);
        check::<DateTime<FixedOffset>>(
            &tag("datetime", "2026-11-23T17:43:00-05:30"),
            "datetime.datetime(2026, 11, 23, 17, 43, \
             tzinfo=datetime.timezone(datetime.timedelta(days=-1, seconds=66600)))",
        );
        check::<NaiveDateTime>(
            &tag("datetime", "2026-11-23T00:00:00"),
            "datetime.datetime(2026, 11, 23, 0, 0)",
        );
        check::<NaiveDate>(&tag("date", "2026-01-02"), "datetime.date(2026, 1, 2)");
        check::<NaiveTime>(
            &tag("time", "17:43:36.000001"),
            "datetime.time(17, 43, 36, 1)",
        );
        let number = check::<Decimal>(&tag("decimal", "1.50"), "Decimal('1.50')");
        assert_eq!(number.as_str(), "1.50");
        check::<Uuid>(
            &tag("uuid", json!({"hex": "801db094f8974d89822adba7fac8ae2e"})),
            "UUID('801db094-f897-4d89-822a-dba7fac8ae2e')",
        );
        check::<Vec<u8>>(&tag("bytes", "a'é"), "b\"a'\\xc3\\xa9\"");
        check::<Vec<u8>>(&tag("base64", "/wA="), "b'\\xff\\x00'");
    }

    #[test]
    fn what_is_of_another_type_is_refused_by_its_name() {
        let err = |value| {
            value::from_value::<Tagged<DateTime<Utc>>>(value)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            err(tag("decimal", "1.50")),
            "invalid value: Decimal('1.50'), expected a datetime"
        );
        assert_eq!(
            err(tag("weird", "1")),
            "invalid value: {'__type__': 'weird', '__value__': '1'}, expected a datetime"
        );
        assert_eq!(err(json!(5)), "invalid value: 5, expected a datetime");
    }

    #[test]
    fn what_only_looks_like_a_tag_is_an_object() {
        for value in [
            tag("weird", "x"),
            tag("datetime", 5),
            tag("uuid", "801d"),
            tag("uuid", json!({"hex": "80", "is_safe": 1})),
            tag("base64", "#"),
            json!({"__type__": "date"}),
            json!({"__type__": "date", "__value__": "2026-01-02", "more": 1}),
        ] {
            assert_eq!(PythonObject::of(&value), None, "{value}");
        }
    }
}
