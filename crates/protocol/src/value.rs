//! Rust types from values and back, knowing what Python has and JSON has not: what `serde_json::from_value` and
//! `to_value` are for, without losing a `NaN`, a large number or one of kombu's tagged objects.
//!
//! | the message has | a parameter that takes it |
//! | --- | --- |
//! | `NaN`, `Infinity` | `f64`, `f32` |
//! | a whole number beyond 64 bits | `i128`, `u128` if it fits, `f64` (rounded, as Python's `float()`), [`WholeNumber`] |
//! | kombu's datetime, date, time | chrono's types, `String`; see [`crate::tagged`] |
//! | kombu's uuid, decimal | `Uuid`, `String`; [`crate::tagged::Decimal`] in a `Tagged` |
//! | kombu's bytes | `Vec<u8>`, `serde_bytes`, `String` if they are UTF-8 |
//! | half a surrogate pair | none but `serde_json::Value` |
//!
//! A `serde_json::Value` takes everything, and is written as it came. Through `#[serde(flatten)]` and untagged enums
//! serde hands on such a value as a map: the types above do not take it there.

mod de;
mod ser;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Error, Value};

use crate::special::{self, Special};

/// Reads a type from a value.
///
/// # Errors
/// The value does not fit it; the text is serde's, as `serde_json::from_value` gives it.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(de::PythonValue(value))
}

/// Makes a value of a type. Floats that are not finite, whole numbers beyond 64 bits and bytes keep what they are.
///
/// A `serde_json::Value` from elsewhere than a message may hold what looks like a [`Special`]: it becomes one.
///
/// # Errors
/// The type refuses to be serialized, or has a map with keys that are not strings.
pub fn to_value(value: &(impl Serialize + ?Sized)) -> Result<Value, Error> {
    value.serialize(ser::ToValue)
}

/// A whole number of any length, as its decimal digits: what Python's `int` is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WholeNumber(String);

impl WholeNumber {
    /// The number that these digits, with an optional minus, say.
    pub fn new(digits: impl Into<String>) -> Option<Self> {
        let digits = digits.into();
        special::is_integer(&digits).then_some(Self(digits))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WholeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for WholeNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        special::integer(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let digits = match (&value, Special::of(&value)) {
            (_, Some(Special::Integer(digits))) => Some(digits),
            (Value::Number(number), _) if !number.is_f64() => Some(number.to_string()),
            _ => None,
        };
        digits.map(Self).ok_or_else(|| {
            let found = crate::repr::saferepr(&value);
            serde::de::Error::custom(format_args!(
                "invalid value: {found}, expected a whole number"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::json;

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        let value = json::parse("body", text.as_bytes()).unwrap();
        from_value(value).map_err(|err| err.to_string())
    }

    fn written(value: &impl Serialize) -> String {
        json::to_python_string(&to_value(value).unwrap())
    }

    const HUGE: &str = "170141183460469231731687303715884105727";

    #[test]
    fn a_rust_type_takes_what_it_can_hold() {
        assert!(read::<f64>("NaN").unwrap().is_nan());
        assert_eq!(
            read::<Vec<f32>>("[-Infinity, 1, 1.5]"),
            Ok(vec![f32::NEG_INFINITY, 1.0, 1.5])
        );
        assert_eq!(read::<f64>("100000000000000000000000"), Ok(1e23));
        assert_eq!(read::<i128>(HUGE), Ok(i128::MAX));
        assert_eq!(read::<u128>("5"), Ok(5));
        assert_eq!(
            read::<Option<i128>>("-99999999999999999999"),
            Ok(Some(-99_999_999_999_999_999_999))
        );
        assert_eq!(
            read::<WholeNumber>(&format!("{HUGE}0")).unwrap().as_str(),
            format!("{HUGE}0")
        );
        assert_eq!(read::<WholeNumber>("-7").unwrap().to_string(), "-7");
        assert_eq!(
            read::<HashMap<u8, f64>>(r#"{"7": Infinity}"#),
            Ok(HashMap::from([(7, f64::INFINITY)]))
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let cases = [
            (
                read::<i64>("NaN").map(drop),
                "invalid type: NaN, expected i64",
            ),
            (
                read::<i64>(HUGE).map(drop),
                "invalid value: 170141183460469231731687303715884105727, expected i64",
            ),
            (
                read::<u128>("-99999999999999999999").map(drop),
                "invalid value: -99999999999999999999, expected u128",
            ),
            (
                read::<f64>(r#""\ud83d""#).map(drop),
                "invalid type: '\\ud83d', expected f64",
            ),
            (
                read::<String>(r#""\ud83d""#).map(drop),
                "invalid type: '\\ud83d', expected a string",
            ),
            (
                read::<String>(HUGE).map(drop),
                "invalid type: 170141183460469231731687303715884105727, expected a string",
            ),
            (
                read::<bool>("NaN").map(drop),
                "invalid type: NaN, expected a boolean",
            ),
            (
                read::<WholeNumber>("1.5").map(drop),
                "invalid value: 1.5, expected a whole number",
            ),
            (
                read::<f64>(r#"{"__type__": "decimal", "__value__": "1.5"}"#).map(drop),
                "invalid type: Decimal('1.5'), expected f64",
            ),
            (
                read::<String>(r#"{"__type__": "base64", "__value__": "/w=="}"#).map(drop),
                "invalid type: b'\\xff', expected a string",
            ),
            (
                read::<String>("5").map(drop),
                "invalid type: integer `5`, expected a string",
            ),
        ];
        for (refused, words) in cases {
            assert_eq!(refused, Err(words.to_owned()));
        }
    }

    #[test]
    fn chronos_types_and_texts_take_kombus_tags() {
        let tag =
            |tag: &str, value: &str| format!(r#"{{"__type__": "{tag}", "__value__": "{value}"}}"#);
        let text = "2026-11-23T17:43:36.694319+00:00";
        let time: DateTime<Utc> = read(&tag("datetime", text)).unwrap();
        assert_eq!(crate::timestamp::isoformat(time), text);
        assert_eq!(read::<String>(&tag("datetime", text)).unwrap(), text);
        assert!(read::<NaiveDateTime>(&tag("datetime", "2026-11-23T17:43:36")).is_ok());
        assert!(
            read::<Option<NaiveDate>>(&tag("date", "2026-11-23"))
                .unwrap()
                .is_some()
        );
        assert!(read::<NaiveTime>(&tag("time", "17:43:36")).is_ok());
        assert_eq!(read::<String>(&tag("decimal", "1.50")).unwrap(), "1.50");
        assert_eq!(read::<Vec<u8>>(&tag("base64", "/wA=")).unwrap(), [255, 0]);
        assert_eq!(read::<String>(&tag("bytes", "text")).unwrap(), "text");
        // A user's own map stays one.
        let map: BTreeMap<String, String> = read(&tag("date", "2026-11-23")).unwrap();
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn a_value_hands_on_what_it_cannot_say() {
        for text in [
            "[NaN, {\"a\": -Infinity}]",
            HUGE,
            r#"{"\ud83d": "\udc00"}"#,
            r#"{"\u0000celeriac": "NaN"}"#,
            r#"{"a": {"__type__": "date", "__value__": "2026-11-23"}}"#,
        ] {
            assert_eq!(written(&read::<Value>(text).unwrap()), text);
            let by_key: Result<HashMap<String, Value>, _> = read(text);
            if let Ok(map) = by_key {
                assert_eq!(written(&map), text);
            }
        }
        let raw: Box<serde_json::value::RawValue> = read("[NaN, 1.50]").unwrap();
        assert_eq!(
            (raw.get(), written(&raw)),
            ("[NaN, 1.5]", "[NaN, 1.5]".to_owned())
        );
    }

    #[derive(Serialize, Deserialize)]
    struct Anything {
        #[serde(flatten)]
        rest: Value,
    }

    #[test]
    fn what_serde_json_takes_for_a_raw_value_is_data_like_any_other() {
        // Spelled in two ways.
        for mark in [
            "$serde_json::private::RawValue",
            r"\u0024serde_json::priv\u0061te::RawValue",
        ] {
            for inside in ["1", "[0, 0, 0]", "no JSON", "{"] {
                let sent = format!(r#"{{"{mark}": "{inside}"}}"#);
                let text = format!(r#"{{"$serde_json::private::RawValue": "{inside}"}}"#);
                let by_key = HashMap::from([("$serde_json::private::RawValue", inside)]);
                assert_eq!(written(&by_key), text);
                assert_eq!(written(&read::<Value>(&sent).unwrap()), text);
                assert_eq!(written(&read::<Anything>(&sent).unwrap()), text);
                let map: HashMap<String, Value> = read(&sent).unwrap();
                assert_eq!(written(&map), text);
                let list = read::<Vec<Value>>(&format!("[{sent}, 1]")).unwrap();
                assert_eq!(written(&list), format!("[{text}, 1]"));
            }
        }
        let key = r#"{"{\"$serde_json::private::RawValue\": \"5\"}": 1}"#;
        assert!(read::<HashMap<u8, u8>>(key).is_err());
    }

    /// The mark is no public part of serde_json: if it becomes another one, this tells.
    #[test]
    fn serde_jsons_mark_is_the_one_that_is_guarded_against() {
        let text = format!(r#"{{"{}": "[1]"}}"#, special::RAW_VALUE);
        let replaced: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(replaced, json!([1]));
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        One(f64),
        Two(i128, String),
        Named { a: Option<u8>, b: () },
    }

    #[test]
    fn all_shapes_of_types_are_read_as_they_were_written() {
        let shapes = vec![
            Shape::Unit,
            Shape::One(f64::INFINITY),
            Shape::Two(i128::MIN, "é".to_owned()),
            Shape::Named { a: None, b: () },
        ];
        let text = concat!(
            r#"["Unit", {"One": Infinity}, {"Two": [-170141183460469231731687303715884105728, "\u00e9"]}, "#,
            r#"{"Named": {"a": null, "b": null}}]"#
        );
        assert_eq!(written(&shapes), text);
        assert_eq!(read::<Vec<Shape>>(text), Ok(shapes));
        assert_eq!(
            written(&(1_u8, 'c', Some(true), f32::NAN, BTreeMap::from([(1, 2.5)]))),
            r#"[1, "c", true, NaN, {"1": 2.5}]"#
        );
        assert!(to_value(&BTreeMap::from([((1, 2), 3)])).is_err());
        assert_eq!(
            to_value(&WholeNumber::new("12").unwrap()).unwrap(),
            json!(12)
        );
        for wrong in ["", "+1", "1.5", "01", "NaN", "-", "\"1\""] {
            assert_eq!(WholeNumber::new(wrong), None, "{wrong}");
        }
    }

    /// Every type that serde_json reads from a plain value is read from it here, with the same errors.
    #[test]
    fn plain_values_are_read_as_serde_json_reads_them() {
        fn same<T: DeserializeOwned + Serialize>(value: &Value) {
            let ours =
                from_value::<T>(value.clone()).map(|read| serde_json::to_value(read).unwrap());
            let theirs = serde_json::from_value::<T>(value.clone())
                .map(|read| serde_json::to_value(read).unwrap());
            assert_eq!(
                ours.map_err(|err| err.to_string()),
                theirs.map_err(|err| err.to_string()),
                "{value} as {}",
                std::any::type_name::<T>()
            );
        }
        for value in [
            json!(null),
            json!(true),
            json!(5),
            json!(-5),
            json!(u64::MAX),
            json!(1.5),
            json!("text"),
            json!("5"),
            json!("c"),
            json!([]),
            json!([1, 2]),
            json!([1, "x"]),
            json!({}),
            json!({"5": 1}),
            json!({"a": 1, "b": null}),
            json!({"One": 1.5}),
            json!({"Two": [1]}),
            json!({"Two": [1, "x", 2]}),
            json!("Unit"),
            json!({"Unit": null}),
            json!({"Named": {"a": 1, "b": null}}),
            json!({"One": 1, "Unit": null}),
            json!({"true": 1}),
        ] {
            same::<Value>(&value);
            same::<()>(&value);
            same::<bool>(&value);
            same::<u8>(&value);
            same::<i64>(&value);
            same::<i128>(&value);
            same::<f64>(&value);
            same::<char>(&value);
            same::<String>(&value);
            same::<Option<i32>>(&value);
            same::<Vec<i64>>(&value);
            same::<(i64, String)>(&value);
            same::<BTreeMap<String, Value>>(&value);
            same::<BTreeMap<u8, Value>>(&value);
            same::<BTreeMap<bool, Value>>(&value);
            same::<Shape>(&value);
        }
    }
}
