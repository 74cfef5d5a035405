//! The stamps whose tasks must not run: values that a sender has handed on to the tasks of a workflow.
//!
//! They are in memory only, and neighbours are not told of them: a worker that starts anew knows none, as in
//! Celery.
//!
//! Counterpart: `celery/worker/state.py` (`revoked_stamps`) and `celery/worker/request.py::Request.revoked`
//! @ 5.7.0. Differences: a value is kept once, and of all values only the youngest, as many as of revoked ids
//! (Celery has no limit). They are not forgotten after a while, as in Celery.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use celeriac_protocol::Map;
use celeriac_protocol::headers::Headers;
use serde_json::Value;

use super::revoked::{LimitedSet, Limits};

/// Longest stamp that is remembered, in bytes of JSON.
pub(crate) const MAX_STAMP_BYTES: usize = 1024;

/// A name and one of its values.
#[derive(Debug, Clone)]
pub(crate) struct Stamp<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a Value,
    /// The same text for all stamps that are equal to Python.
    key: String,
}

impl<'a> Stamp<'a> {
    /// The stamps under a name: with one value, or with each of a list.
    pub(crate) fn all(name: &'a str, value: &'a Value) -> impl Iterator<Item = Self> {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        values.iter().map(move |value| {
            let mut key = Value::from(name).to_string();
            write_key(&mut key, value);
            Self { name, value, key }
        })
    }

    /// Those of a message. What its sender has not named as a stamp is none.
    fn of(headers: &'a Headers) -> impl Iterator<Item = Self> {
        let names = headers.stamped_headers.iter().flatten();
        let named = names.filter_map(|name| Some((name.as_str(), headers.stamps.get(name)?)));
        named
            .filter(|(_, value)| !value.is_null())
            .flat_map(|(name, value)| Self::all(name, value))
    }

    /// What tells it from others.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

/// To Python `True`, `1` and `1.0` are equal, and the order of a dict's keys says nothing.
fn write_key(out: &mut String, value: &Value) {
    match value {
        Value::Bool(flag) => out.push(if *flag { '1' } else { '0' }),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 => {
                // The sum makes 0.0 of -0.0.
                out.push_str(&format!("{:.0}", float + 0.0));
            }
            _ => out.push_str(&number.to_string()),
        },
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_key(out, item);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (key, value) in entries {
                out.push_str(&Value::from(key.as_str()).to_string());
                write_key(out, value);
                out.push(',');
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct RevokedStamps {
    keys: LimitedSet,
}

impl RevokedStamps {
    pub(super) fn new(limits: Limits) -> Self {
        let limits = Limits {
            expires: Duration::ZERO,
            ..limits
        };
        Self {
            keys: LimitedSet::new(limits),
        }
    }

    /// Returns how many others had to be forgotten.
    pub(super) fn add(&mut self, stamps: &[Stamp<'_>]) -> usize {
        let now = Instant::now();
        let forgotten = stamps.iter().map(|stamp| self.keys.add(&stamp.key, now));
        forgotten.sum()
    }

    /// The first stamp of a message that is revoked, as a map of its name and value.
    pub(super) fn of(&self, headers: &Headers) -> Option<Box<Map>> {
        let now = Instant::now();
        let stamp = Stamp::of(headers).find(|stamp| self.keys.contains(&stamp.key, now))?;
        let revoking = [(stamp.name.to_owned(), stamp.value.clone())];
        Some(Box::new(revoking.into_iter().collect()))
    }
}

/// The stamps of a request, to be compared with those of messages.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    keys: HashSet<&'a str>,
    /// Those that a message has had.
    found: HashSet<&'a str>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(stamps: &'a [Stamp<'_>]) -> Self {
        Self {
            keys: stamps.iter().map(Stamp::key).collect(),
            found: HashSet::new(),
        }
    }

    /// Whether a message has any of them; takes note of all that it has.
    pub(super) fn meets(&mut self, headers: &Headers) -> bool {
        let mut is_met = false;
        for stamp in Stamp::of(headers) {
            if let Some(key) = self.keys.get(stamp.key()) {
                self.found.insert(*key);
                is_met = true;
            }
        }
        is_met
    }

    pub(super) fn was_found(&self, stamp: &Stamp<'_>) -> bool {
        self.found.contains(stamp.key())
    }
}

#[cfg(test)]
mod tests {
    use celeriac_protocol::compose::TaskCall;
    use serde_json::json;

    use super::*;

    fn headers(names: &[&str], stamps: &Value) -> Headers {
        let mut headers = TaskCall::new("proj.add", "a", Vec::new())
            .into_message()
            .headers;
        headers.stamped_headers = Some(names.iter().map(|name| (*name).to_owned()).collect());
        headers.stamps = stamps.as_object().expect("an object").clone();
        headers
    }

    fn found(revoked: &RevokedStamps, names: &[&str], stamps: &Value) -> Value {
        let found = revoked.of(&headers(names, stamps));
        found.map_or(Value::Null, |map| Value::Object(*map))
    }

    fn revoke(revoked: &mut RevokedStamps, stamps: &Value) -> usize {
        let stamps = stamps.as_object().expect("an object").iter();
        let stamps: Vec<Stamp<'_>> = stamps
            .flat_map(|(name, value)| Stamp::all(name, value))
            .collect();
        revoked.add(&stamps)
    }

    #[test]
    fn any_value_of_a_named_stamp_is_enough() {
        let mut revoked = RevokedStamps::new(Limits::default());
        revoke(&mut revoked, &json!({"a": ["x", "y"], "b": 1}));
        let cases: [(&[&str], Value, Value); 10] = [
            (&["a"], json!({"a": "x"}), json!({"a": "x"})),
            (&["a"], json!({"a": ["w", "y", "x"]}), json!({"a": "y"})),
            (
                &["c", "b"],
                json!({"b": true, "c": "x"}),
                json!({"b": true}),
            ),
            (&["b", "a"], json!({"a": "x", "b": 2}), json!({"a": "x"})),
            (&["b"], json!({"a": "x"}), Value::Null),
            (&["a"], json!({"a": null}), Value::Null),
            (&["a"], json!({"a": []}), Value::Null),
            (&["b"], json!({"b": "1"}), Value::Null),
            (&["b"], json!({"b": "x"}), Value::Null),
            (&[], json!({"a": "x"}), Value::Null),
        ];
        for (names, stamps, expected) in cases {
            assert_eq!(
                found(&revoked, names, &stamps),
                expected,
                "{names:?} {stamps}"
            );
        }
    }

    #[test]
    fn values_are_compared_as_python_does() {
        let mut revoked = RevokedStamps::new(Limits::default());
        let values = json!({"a": [2, 0.5, 0, {"k": 1, "l": [true]}, null, "é"]});
        revoke(&mut revoked, &values);
        for equal in [
            json!(2.0),
            json!(0.5),
            json!(-0.0),
            json!(false),
            json!({"l": [1.0], "k": true}),
            json!([null]),
            json!("é"),
        ] {
            let found = found(&revoked, &["a"], &json!({"a": equal}));
            assert!(found.is_object(), "{equal}");
        }
        for other in [json!(2.5), json!("2"), json!({"k": 1}), json!([[2]])] {
            let found = found(&revoked, &["a"], &json!({"a": other}));
            assert_eq!(found, Value::Null, "{other}");
        }
    }

    #[test]
    fn of_too_many_the_oldest_are_forgotten() {
        let limits = Limits {
            max: 2,
            expires: Duration::from_nanos(1),
        };
        let mut revoked = RevokedStamps::new(limits);
        assert_eq!(revoke(&mut revoked, &json!({"a": ["x", "y", "x"]})), 0);
        assert_eq!(revoke(&mut revoked, &json!({"b": ["x", "z"], "a": "x"})), 3);
        assert_eq!(found(&revoked, &["b"], &json!({"b": "x"})), Value::Null);
        for (name, value) in [("b", "z"), ("a", "x")] {
            let stamp = json!({name: value});
            assert_eq!(
                found(&revoked, &[name], &stamp),
                stamp,
                "it is kept for ever"
            );
        }
    }
}
