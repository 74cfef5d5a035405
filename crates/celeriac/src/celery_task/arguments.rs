//! Binding a message's arguments to a task's parameters, with CPython's words when they do not fit.
//!
//! The `celery` crate's own binding accepts missing, surplus, unknown and doubled arguments; Python
//! raises TypeError, and people search for its text.
//!
//! Counterpart: CPython's call of a function with plain parameters.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The arguments of one call, by name.
#[derive(Debug)]
pub(super) struct Bound<'a> {
    function: &'a str,
    given: Map<String, Value>,
    /// Parameters without an argument; whether they may be left out, their types know.
    absent: Vec<&'static str>,
}

/// Names every argument.
///
/// # Errors
/// Python's TypeError text.
pub(super) fn bind<'a>(
    task: &'a str,
    parameters: &[&'static str],
    args: Vec<Value>,
    kwargs: Map<String, Value>,
) -> Result<Bound<'a>, String> {
    // `worker.tasks.add` is the function `add`.
    let function = task.rsplit('.').next().unwrap_or(task);
    let count = args.len();
    let names = parameters.iter().map(|parameter| (*parameter).to_owned());
    let mut given: Map<String, Value> = names.zip(args).collect();
    for (name, value) in kwargs {
        if !parameters.contains(&name.as_str()) {
            return Err(format!(
                "{function}() got an unexpected keyword argument '{name}'"
            ));
        }
        if given.contains_key(&name) {
            return Err(format!(
                "{function}() got multiple values for argument '{name}'"
            ));
        }
        given.insert(name, value);
    }
    if count > parameters.len() {
        let takes = parameters.len();
        let were = if count == 1 { "was" } else { "were" };
        return Err(format!(
            "{function}() takes {takes} positional argument{} but {count} {were} given",
            plural(takes)
        ));
    }
    let absent = parameters.iter().copied();
    let absent = absent.filter(|name| !given.contains_key(*name)).collect();
    Ok(Bound {
        function,
        given,
        absent,
    })
}

impl Bound<'_> {
    /// Makes the task's parameters of the arguments. A missing one is no error where the parameter is an
    /// `Option`.
    ///
    /// # Errors
    /// The text of a TypeError.
    pub(super) fn convert<P: DeserializeOwned>(self) -> Result<P, String> {
        let function = self.function;
        celeriac_protocol::from_value(Value::Object(self.given.clone())).map_err(|error| {
            let error = error.to_string();
            if error.starts_with("missing field") {
                let count = self.absent.len();
                return format!(
                    "{function}() missing {count} required positional argument{}: {}",
                    plural(count),
                    listed(&self.absent)
                );
            }
            match culprit::<P>(&self.given, &error) {
                Some(name) => format!("{function}() argument '{name}': {error}"),
                None => format!("{function}(): {error}"),
            }
        })
    }
}

/// The argument whose type is wrong. Arguments are read in order, up to the wrong one: so it is the last
/// one whose replacement leads to another error.
fn culprit<P: DeserializeOwned>(given: &Map<String, Value>, error: &str) -> Option<String> {
    let changes_the_error = |name: &&String| {
        let mut other = given.clone();
        other.insert((*name).clone(), Value::Null);
        let read = celeriac_protocol::from_value::<P>(Value::Object(other));
        read.map_or_else(|changed| changed.to_string() != error, |_| true)
    };
    given.keys().rev().find(changes_the_error).cloned()
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// `'a'`, `'a' and 'b'`, `'a', 'b', and 'c'`.
fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first, second] => format!("{first} and {second}"),
        [head @ .., last] => format!("{}, and {last}", head.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Params {
        a: i64,
        b: String,
        c: Option<i64>,
    }

    fn call(args: Value, kwargs: Value) -> Result<Params, String> {
        let (Value::Array(args), Value::Object(kwargs)) = (args, kwargs) else {
            panic!("args is a list, kwargs an object");
        };
        bind("proj.f", &["a", "b", "c"], args, kwargs)?.convert()
    }

    #[test]
    fn positional_and_keyword_arguments_are_bound_by_name() {
        let expected = Params {
            a: 1,
            b: "x".to_owned(),
            c: None,
        };
        assert_eq!(call(json!([1, "x"]), json!({})), Ok(expected));
        let expected = Params {
            a: 1,
            b: "x".to_owned(),
            c: Some(3),
        };
        assert_eq!(call(json!([1]), json!({"c": 3, "b": "x"})), Ok(expected));
    }

    #[test]
    fn arguments_that_do_not_fit_have_pythons_words() {
        let cases = [
            (
                json!([]),
                json!({"b": "x", "c": 1}),
                "f() missing 1 required positional argument: 'a'",
            ),
            (
                json!([]),
                json!({"z": 1}),
                "f() got an unexpected keyword argument 'z'",
            ),
            (
                json!([1]),
                json!({"a": 1}),
                "f() got multiple values for argument 'a'",
            ),
            (
                json!([1, "x", 2, 3]),
                json!({}),
                "f() takes 3 positional arguments but 4 were given",
            ),
        ];
        for (args, kwargs, text) in cases {
            assert_eq!(call(args, kwargs), Err(text.to_owned()));
        }
        let none: Result<(), String> = bind("g", &[], vec![json!(1)], Map::new()).map(drop);
        let text = "g() takes 0 positional arguments but 1 was given";
        assert_eq!(none, Err(text.to_owned()));
    }

    #[test]
    fn an_argument_of_another_type_is_named() {
        let error = call(json!([1, 2]), json!({})).expect_err("b is no string");
        assert!(
            error.starts_with("f() argument 'b': invalid type: integer `2`"),
            "{error}"
        );
    }
}
