//! Revoking tasks by their stamps.
//!
//! A task with a revoked stamp is discarded right before its run, and REVOKED is stored then; which tasks
//! those are is not known before. `revoked` shows none of them, and neighbours and the state file get none.
//!
//! Counterpart: `revoke_by_stamped_headers` in `celery/worker/control.py` @ 5.7.0. Deliberate differences: a
//! stamp is limited in its size, and a request with one that is wrong revokes nothing; values that Python
//! cannot put into a set (lists, dicts) end runs too.

use std::collections::HashSet;

use celeriac_protocol::Map;
use celeriac_protocol::exception::TaskException;
use celeriac_protocol::repr;
use serde_json::Value;

use super::Control;
use super::arguments::Arguments;
use super::panel::ok;
use super::revoke::signal_number;
use crate::state::{MAX_STAMP_BYTES, Stamp};

impl Control {
    pub(super) fn revoke_by_stamped_headers(
        &self,
        arguments: &Arguments<'_>,
    ) -> Result<Value, TaskException> {
        arguments.require(&["headers"])?;
        let signal = signal_number(arguments.get("signal"))?;
        let headers = headers(arguments.get("headers"))?;
        let shown = || repr::repr_value(&Value::Object(headers.clone()));
        let stamps = stamps(&headers)?;
        match self.state.revoke_stamps(&stamps) {
            0 => {}
            forgotten => log::warn!(
                "Too many stamps are revoked: the oldest {forgotten} are forgotten, and no longer revoked"
            ),
        }
        if !arguments.is_true("terminate") {
            let shown = shown();
            return Ok(ok(&format!(
                "headers {shown} flagged as revoked, but not terminated"
            )));
        }
        let found = self.state.terminate_stamped(&stamps, signal);
        Ok(match found.is_empty() {
            true => ok(&format!("headers {} were not terminated", shown())),
            false => ok(&format!("headers {} revoked", repr_sets(&found))),
        })
    }
}

/// Names and values: as a dict, or as a list of `name=value`.
fn headers(given: &Value) -> Result<Map, TaskException> {
    let no_attribute = |of: &Value, name: &str| {
        let text = format!("'{}' object has no attribute '{name}'", type_name(of));
        TaskException::builtin("AttributeError", text)
    };
    match given {
        Value::Object(map) => Ok(map.clone()),
        Value::Array(items) => items
            .iter()
            .map(|item| {
                let text = item.as_str().ok_or_else(|| no_attribute(item, "split"))?;
                // What stands behind a second "=" is nothing to Celery.
                let mut parts = text.split('=');
                match (parts.next(), parts.next()) {
                    (Some(name), Some(value)) => Ok((name.to_owned(), Value::from(value))),
                    _ => Err(TaskException::builtin(
                        "IndexError",
                        "list index out of range",
                    )),
                }
            })
            .collect(),
        other => Err(no_attribute(other, "items")),
    }
}

/// Each stamp once.
fn stamps(headers: &Map) -> Result<Vec<Stamp<'_>>, TaskException> {
    if headers.values().any(Value::is_null) {
        return Err(TaskException::type_error(
            "'NoneType' object is not iterable",
        ));
    }
    let stamps = headers
        .iter()
        .flat_map(|(name, value)| Stamp::all(name, value));
    let mut stamps: Vec<Stamp<'_>> = stamps.collect();
    if stamps
        .iter()
        .any(|stamp| stamp.key().len() > MAX_STAMP_BYTES)
    {
        let text = format!("a stamp has at most {MAX_STAMP_BYTES} bytes");
        return Err(TaskException::builtin("ValueError", text));
    }
    let mut seen = HashSet::new();
    stamps.retain(|stamp| seen.insert(stamp.key().to_owned()));
    Ok(stamps)
}

/// Python's `repr` of a `defaultdict` of sets; those of a name are next to each other.
fn repr_sets(stamps: &[&Stamp<'_>]) -> String {
    let sets = stamps.chunk_by(|one, next| one.name == next.name);
    let sets = sets.map(|set| {
        let name = repr::repr_value(&Value::from(set[0].name));
        let values = set.iter().map(|stamp| repr::repr_value(stamp.value));
        format!("{name}: {{{}}}", values.collect::<Vec<_>>().join(", "))
    });
    let sets = sets.collect::<Vec<_>>().join(", ");
    format!("defaultdict(<class 'set'>, {{{sets}}})")
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}
