//! A call that travels inside another message, as a callback, in the rest of a chain or as the body of a chord.
//!
//! ```json
//! {"task": "proj.add", "args": [1], "kwargs": {}, "options": {"task_id": "…"}, "subtask_type": null, "immutable": false}
//! ```
//! Guarantee M4: a signature that is handed on keeps every key, known or not.
//! Counterpart: `celery/canvas.py @ 5.7.0` (`Signature`), `celery/app/trace.py` (what is sent after a success).

use serde_json::{Value, json};

use crate::{
    DecodeError, Map,
    fields::Fields,
    key_order::{KeyOrder, Layout},
};

/// A call that is sent later: the task's name, its own arguments and options.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signature {
    /// The task's name; for a canvas `celery.chain`, `celery.group`, `celery.chord`, …
    pub task: String,
    /// Its own positional arguments.
    pub args: Vec<Value>,
    /// Its own keyword arguments; a canvas keeps its parts here (`tasks`, `header`, `body`).
    pub kwargs: Map,
    /// Options of `apply_async`: `task_id`, `queue`, `link`, `chord`, …
    pub options: Map,
    /// Which canvas it is: `chain`, `group`, `chord`, …; null for a plain task.
    pub subtask_type: Option<String>,
    /// It does not take the result of what went before.
    pub immutable: bool,
    /// The number of tasks in the header, on the body of a chord.
    pub chord_size: Option<i64>,
    /// Further keys.
    pub extra: Map,
    /// The order of the keys, as received.
    pub key_order: KeyOrder,
}

const SIGNATURE: Layout = Layout {
    keys: &[
        "task",
        "args",
        "kwargs",
        "options",
        "subtask_type",
        "immutable",
        "chord_size",
    ],
    optional: &["chord_size"],
    ..Layout::named("signature")
};

impl Signature {
    /// A plain call.
    pub fn new(task: impl Into<String>, args: Vec<Value>, kwargs: Map) -> Self {
        Self {
            task: task.into(),
            args,
            kwargs,
            ..Self::default()
        }
    }

    /// Reads a signature.
    ///
    /// # Errors
    /// It is no object, names no task, or its arguments have another type.
    pub fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::from_value(&SIGNATURE, value)?;
        let task = fields.required("task")?;
        let args = fields.or_default("args")?;
        let kwargs = fields.or_default("kwargs")?;
        let options = fields.or_default("options")?;
        let subtask_type = fields.optional("subtask_type")?;
        let immutable = fields.or_default("immutable")?;
        let chord_size = fields.lenient("chord_size");
        let (extra, key_order) = fields.finish();
        Ok(Self {
            task,
            args,
            kwargs,
            options,
            subtask_type,
            immutable,
            chord_size,
            extra,
            key_order,
        })
    }

    /// The signature as it is written.
    pub fn to_value(&self) -> Value {
        self.clone().into_value()
    }

    /// As [`Signature::to_value`], of one that is not needed any more.
    pub fn into_value(self) -> Value {
        let known = [
            ("task", Value::String(self.task)),
            ("args", Value::Array(self.args)),
            ("kwargs", Value::Object(self.kwargs)),
            ("options", Value::Object(self.options)),
            ("subtask_type", json!(self.subtask_type)),
            ("immutable", Value::Bool(self.immutable)),
            ("chord_size", json!(self.chord_size)),
        ];
        let known = known.map(|(key, value)| (key.to_owned(), value));
        let known = known.into_iter().collect();
        Value::Object(self.key_order.arrange(&SIGNATURE, known, &self.extra))
    }

    /// The arguments of the call when it is made with `partial` ones, such as the result of the task before: they come
    /// first, unless the signature is immutable.
    pub fn merged_args(&self, partial: &[Value]) -> Vec<Value> {
        if self.immutable {
            return self.args.clone();
        }
        partial.iter().chain(&self.args).cloned().collect()
    }

    /// As [`Signature::merged_args`], the keyword arguments: those given win.
    pub fn merged_kwargs(&self, partial: &Map) -> Map {
        let mut merged = self.kwargs.clone();
        if !self.immutable {
            merged.extend(partial.clone());
        }
        merged
    }

    /// The id that was fixed for the task, if one was.
    pub fn task_id(&self) -> Option<&str> {
        self.options.get("task_id").and_then(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_immutable_signature_keeps_its_own_arguments() {
        let mut signature = Signature::new("t", vec![json!(2)], Map::new());
        assert_eq!(signature.merged_args(&[json!(1)]), [1, 2]);
        signature.immutable = true;
        assert_eq!(signature.merged_args(&[json!(1)]), [2]);
    }

    #[test]
    fn a_signature_is_passed_on_with_what_is_not_known_of_it() {
        for value in [
            json!({"task": "t", "args": [1], "kwargs": {}, "options": {"z": 1, "a": 2}, "subtask_type": null,
                   "immutable": false, "chord_size": 2}),
            json!({"task": "t", "args": null, "kwargs": null, "options": null, "subtask_type": null, "immutable": null}),
            json!({"immutable": true, "task": "t", "new": {"k": [null]}}),
        ] {
            let signature = Signature::from_value(value.clone()).unwrap();
            assert_eq!(signature.to_value().to_string(), value.to_string());
        }
    }
}
