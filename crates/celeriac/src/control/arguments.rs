//! A method's arguments, with the errors that Python's call would raise.

use celeriac_protocol::Map;
use celeriac_protocol::exception::TaskException;
use serde_json::Value;

/// The keyword arguments of one call.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    method: &'a str,
    map: &'a Map,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(method: &'a str, map: &'a Map) -> Self {
        Self { method, map }
    }

    /// For the methods of Celery that take no others.
    pub(super) fn only(&self, allowed: &[&str]) -> Result<(), TaskException> {
        let unknown = self.map.keys().find(|key| !allowed.contains(&key.as_str()));
        match unknown {
            Some(key) => {
                Err(self.type_error(format_args!("got an unexpected keyword argument '{key}'")))
            }
            None => Ok(()),
        }
    }

    /// All of these have to be there.
    pub(super) fn require(&self, names: &[&str]) -> Result<(), TaskException> {
        let quoted = |name: &&str| format!("'{name}'");
        let missing = names.iter().filter(|name| !self.map.contains_key(**name));
        let missing: Vec<String> = missing.map(quoted).collect();
        let listed = match missing.as_slice() {
            [] => return Ok(()),
            [one] => format!("1 required positional argument: {one}"),
            [first, last] => format!("2 required positional arguments: {first} and {last}"),
            [first @ .., last] => format!(
                "{} required positional arguments: {}, and {last}",
                missing.len(),
                first.join(", ")
            ),
        };
        Err(self.type_error(format_args!("missing {listed}")))
    }

    /// The value; null where it is missing.
    pub(super) fn get(&self, name: &str) -> &'a Value {
        self.map.get(name).unwrap_or(&Value::Null)
    }

    /// The value's truth, as Python sees it.
    pub(super) fn is_true(&self, name: &str) -> bool {
        match self.get(name) {
            Value::Null => false,
            Value::Bool(flag) => *flag,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
        }
    }

    /// Texts, or one text (Python's `maybe_list`); what is null or missing is none.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, TaskException> {
        let items = match self.get(name) {
            Value::Null => return Ok(Vec::new()),
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let text = |item: &Value| match item {
            Value::String(text) => Ok(text.clone()),
            Value::Object(_) => Err(TaskException::type_error("unhashable type: 'dict'")),
            Value::Array(_) => Err(TaskException::type_error("unhashable type: 'list'")),
            _ => Err(TaskException::type_error(format!("{name} has to be text"))),
        };
        items.iter().map(text).collect()
    }

    fn type_error(&self, what: std::fmt::Arguments<'_>) -> TaskException {
        TaskException::type_error(format!("{}() {what}", self.method))
    }
}
