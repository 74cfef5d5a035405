//! Kinds of values: how a setting is written in TOML, and what is expected when it is not.
//!
//! Each kind turns one TOML value into the Rust value and back; the way back writes the example file.
//! Where Python would say `None`, TOML has no word, so every optional kind takes the text `"none"`.

use std::time::Duration;

use toml::{Table, Value};

use super::mask::mask_url;
use crate::handler::RateLimit;

/// How one setting is read from TOML and written back.
pub(crate) trait Kind {
    /// The type of the field.
    type Value;

    /// What an error says is expected: completes "expected …".
    const EXPECTED: &'static str;

    /// The value, or `None` when the TOML value is not of this kind.
    fn read(toml: &Value) -> Option<Self::Value>;

    /// The value as TOML; what [`Kind::read`] would read.
    fn write(value: &Self::Value) -> Value;
}

/// A TOML value as it may be shown in an error or a log: passwords of URLs are masked.
pub(crate) fn shown(toml: &Value) -> String {
    match toml {
        Value::String(text) => Value::from(mask_url(text)).to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(_) => "a table".to_owned(),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            toml.to_string()
        }
    }
}

pub(super) fn is_none(toml: &Value) -> bool {
    toml.as_str()
        .is_some_and(|text| text.eq_ignore_ascii_case("none"))
}

pub(super) fn none() -> Value {
    Value::from("none")
}

/// `true` or `false`.
pub(crate) struct Flag;

impl Kind for Flag {
    type Value = bool;
    const EXPECTED: &'static str = "true or false";

    fn read(toml: &Value) -> Option<bool> {
        toml.as_bool()
    }

    fn write(value: &bool) -> Value {
        Value::from(*value)
    }
}

/// `true`, `false`, or `"none"` for what another setting says.
pub(crate) struct FlagOrNone;

impl Kind for FlagOrNone {
    type Value = Option<bool>;
    const EXPECTED: &'static str = "true, false or \"none\"";

    fn read(toml: &Value) -> Option<Option<bool>> {
        match toml.as_bool() {
            Some(flag) => Some(Some(flag)),
            None => is_none(toml).then_some(None),
        }
    }

    fn write(value: &Option<bool>) -> Value {
        value.map_or_else(none, Value::from)
    }
}

/// A rate like `"10/s"`; a number is one a second.
pub(crate) struct RateLimitOrNone;

impl Kind for RateLimitOrNone {
    type Value = Option<RateLimit>;
    const EXPECTED: &'static str = "a rate like \"10/s\", \"100/m\" or \"1000/h\", or \"none\"";

    fn read(toml: &Value) -> Option<Option<RateLimit>> {
        if is_none(toml) {
            return Some(None);
        }
        let text = match toml {
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Float(_) => toml.to_string(),
            _ => return None,
        };
        text.parse().ok().map(Some)
    }

    fn write(value: &Option<RateLimit>) -> Value {
        value.map_or_else(none, |rate| Value::from(rate.to_string()))
    }
}

/// A whole number from 0.
pub(crate) struct Count;

impl Kind for Count {
    type Value = usize;
    const EXPECTED: &'static str = "a whole number, 0 or more";

    fn read(toml: &Value) -> Option<usize> {
        toml.as_integer()
            .and_then(|number| usize::try_from(number).ok())
    }

    fn write(value: &usize) -> Value {
        Value::from(i64::try_from(*value).unwrap_or(i64::MAX))
    }
}

/// A whole number, or `"none"` for no limit.
pub(crate) struct CountOrNone;

impl Kind for CountOrNone {
    type Value = Option<usize>;
    const EXPECTED: &'static str = "a whole number, 0 or more, or \"none\"";

    fn read(toml: &Value) -> Option<Option<usize>> {
        match is_none(toml) {
            true => Some(None),
            false => Count::read(toml).map(Some),
        }
    }

    fn write(value: &Option<usize>) -> Value {
        value.map_or_else(none, |number| Count::write(&number))
    }
}

/// A number of workers: a whole number; 0 and `"auto"` leave the choice to the machine.
pub(crate) struct Concurrency;

impl Kind for Concurrency {
    type Value = Option<usize>;
    const EXPECTED: &'static str = "a whole number, 0 or more, or \"auto\"";

    fn read(toml: &Value) -> Option<Option<usize>> {
        let is_auto = toml
            .as_str()
            .is_some_and(|text| text.eq_ignore_ascii_case("auto"));
        if is_auto || is_none(toml) {
            return Some(None);
        }
        Count::read(toml).map(|number| (number > 0).then_some(number))
    }

    fn write(value: &Option<usize>) -> Value {
        value.map_or_else(|| Value::from("auto"), |number| Count::write(&number))
    }
}

/// The tables of what may be one of them, or a list of some; an empty one is none.
pub(super) fn tables_of(toml: &Value) -> Option<Vec<&Table>> {
    match toml {
        Value::Table(table) if table.is_empty() => Some(Vec::new()),
        Value::Table(table) => Some(vec![table]),
        Value::Array(tables) => tables.iter().map(Value::as_table).collect(),
        _ => None,
    }
}

/// The other way.
pub(super) fn of_tables(mut tables: Vec<Table>) -> Value {
    match tables.len() {
        0 => Value::Table(Table::new()),
        1 => Value::Table(tables.remove(0)),
        _ => Value::Array(tables.into_iter().map(Value::Table).collect()),
    }
}

/// How often: a whole number; 0 and `"none"` mean without end.
pub(crate) struct Tries;

impl Kind for Tries {
    type Value = Option<u32>;
    const EXPECTED: &'static str =
        "a whole number, 0 or more, or \"none\" (both 0 and none: for ever)";

    fn read(toml: &Value) -> Option<Option<u32>> {
        if is_none(toml) {
            return Some(None);
        }
        let number = u32::try_from(toml.as_integer()?).ok()?;
        Some((number > 0).then_some(number))
    }

    fn write(value: &Option<u32>) -> Value {
        value.map_or_else(none, |number| Value::from(i64::from(number)))
    }
}

/// A priority of a message, 0 to 255.
pub(crate) struct Priority;

impl Kind for Priority {
    type Value = Option<u8>;
    const EXPECTED: &'static str = "a whole number from 0 to 255, or \"none\"";

    fn read(toml: &Value) -> Option<Option<u8>> {
        if is_none(toml) {
            return Some(None);
        }
        u8::try_from(toml.as_integer()?).ok().map(Some)
    }

    fn write(value: &Option<u8>) -> Value {
        value.map_or_else(none, |number| Value::from(i64::from(number)))
    }
}

/// Steps of priority, ascending from 0.
pub(crate) struct PrioritySteps;

impl Kind for PrioritySteps {
    type Value = Vec<u8>;
    const EXPECTED: &'static str =
        "a list of ascending whole numbers from 0 to 255 that starts with 0";

    fn read(toml: &Value) -> Option<Vec<u8>> {
        let steps = toml
            .as_array()?
            .iter()
            .map(|step| u8::try_from(step.as_integer()?).ok())
            .collect::<Option<Vec<u8>>>()?;
        // The step 0 is the queue's own name: a list without it would leave that queue unread.
        let is_ascending = steps.windows(2).all(|pair| pair[0] < pair[1]);
        (steps.first() == Some(&0) && is_ascending).then_some(steps)
    }

    fn write(value: &Vec<u8>) -> Value {
        Value::Array(
            value
                .iter()
                .map(|step| Value::from(i64::from(*step)))
                .collect(),
        )
    }
}

/// Text, also empty.
pub(crate) struct Text;

impl Kind for Text {
    type Value = String;
    const EXPECTED: &'static str = "text in quotes";

    fn read(toml: &Value) -> Option<String> {
        toml.as_str().map(str::to_owned)
    }

    fn write(value: &String) -> Value {
        Value::from(value.as_str())
    }
}

/// A name: text that is not empty.
pub(crate) struct Name;

impl Kind for Name {
    type Value = String;
    const EXPECTED: &'static str = "a name in quotes, not empty";

    fn read(toml: &Value) -> Option<String> {
        Text::read(toml).filter(|name| !name.trim().is_empty())
    }

    fn write(value: &String) -> Value {
        Text::write(value)
    }
}

/// The prefix of channels: text, or Python's `true` for the usual one and `false` for none.
pub(crate) struct FanoutPrefix;

impl Kind for FanoutPrefix {
    type Value = String;
    const EXPECTED: &'static str = "text in quotes, true or false";

    fn read(toml: &Value) -> Option<String> {
        match toml.as_bool() {
            Some(true) => Some("/{db}.".to_owned()),
            Some(false) => Some(String::new()),
            None => Text::read(toml),
        }
    }

    fn write(value: &String) -> Value {
        Text::write(value)
    }
}

/// A path, or `"none"`.
pub(crate) struct FileOrNone;

impl Kind for FileOrNone {
    type Value = Option<String>;
    const EXPECTED: &'static str = "a path in quotes, or \"none\"";

    fn read(toml: &Value) -> Option<Option<String>> {
        OptionalName::read(toml)
    }

    fn write(value: &Option<String>) -> Value {
        OptionalName::write(value)
    }
}

/// A name, or `"none"`.
pub(crate) struct OptionalName;

impl Kind for OptionalName {
    type Value = Option<String>;
    const EXPECTED: &'static str = "a name in quotes, or \"none\"";

    fn read(toml: &Value) -> Option<Option<String>> {
        if is_none(toml) {
            return Some(None);
        }
        Name::read(toml).map(Some)
    }

    fn write(value: &Option<String>) -> Value {
        value.as_ref().map_or_else(none, Name::write)
    }
}

/// How to log in to the sentinels, which have users of their own.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SentinelLogin {
    /// The user; `None`: the default one.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
}

impl std::fmt::Debug for SentinelLogin {
    /// Shows no password: what `Debug` shows may end in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentinelLogin")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Kind for SentinelLogin {
    type Value = Self;
    const EXPECTED: &'static str = "a table like { username = \"…\", password = \"…\" }";

    fn read(toml: &Value) -> Option<Self> {
        let mut login = Self::default();
        for (key, value) in toml.as_table()? {
            let text = Some(value.as_str()?.to_owned());
            match key.as_str() {
                "username" => login.username = text,
                "password" => login.password = text,
                _ => return None,
            }
        }
        Some(login)
    }

    fn write(value: &Self) -> Value {
        let Self { username, password } = value;
        let fields = [("username", username), ("password", password)];
        let table = fields.into_iter().filter_map(|(name, field)| {
            let text = field.as_deref()?;
            Some((name.to_owned(), Value::from(text)))
        });
        Value::Table(table.collect())
    }
}

/// The order in which queues are looked at, within a priority step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOrder {
    /// Each is the first in its turn.
    RoundRobin,
    /// By name: one that sorts before others is emptied before them.
    Sorted,
    /// As they were given: the first one is emptied before the others.
    Priority,
}

impl Kind for QueueOrder {
    type Value = Self;
    const EXPECTED: &'static str = "\"round_robin\", \"sorted\" or \"priority\"";

    fn read(toml: &Value) -> Option<Self> {
        match toml.as_str()? {
            "round_robin" => Some(Self::RoundRobin),
            "sorted" => Some(Self::Sorted),
            "priority" => Some(Self::Priority),
            _ => None,
        }
    }

    fn write(value: &Self) -> Value {
        Value::from(match value {
            Self::RoundRobin => "round_robin",
            Self::Sorted => "sorted",
            Self::Priority => "priority",
        })
    }
}

/// The URL of a message broker.
pub(crate) struct BrokerUrl;

impl Kind for BrokerUrl {
    type Value = String;
    const EXPECTED: &'static str = "a URL like \"redis://host:6379/0\"";

    fn read(toml: &Value) -> Option<String> {
        toml.as_str()
            .map(str::trim)
            .filter(|url| has_scheme(url))
            .map(str::to_owned)
    }

    fn write(value: &String) -> Value {
        Value::from(value.as_str())
    }
}

/// The URL of a result backend; `disabled://` (or Celery's `disabled`, or nothing) for none.
pub(crate) struct BackendUrl;

impl Kind for BackendUrl {
    type Value = Option<String>;
    const EXPECTED: &'static str =
        "a URL like \"redis://host:6379/1\", or \"disabled://\" for no results";

    fn read(toml: &Value) -> Option<Option<String>> {
        match toml.as_str().map(str::trim)? {
            "" | "disabled" | "disabled://" => Some(None),
            url => has_scheme(url).then(|| Some(url.to_owned())),
        }
    }

    fn write(value: &Option<String>) -> Value {
        Value::from(value.as_deref().unwrap_or("disabled://"))
    }
}

/// Only the form; which schemes there are is known to the transports and backends.
fn has_scheme(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    })
}

/// A length of time in seconds, whole or with a fraction, more than 0.
pub(crate) struct Seconds;

impl Kind for Seconds {
    type Value = Duration;
    const EXPECTED: &'static str = "a number of seconds, more than 0";

    fn read(toml: &Value) -> Option<Duration> {
        seconds(toml).filter(|duration| !duration.is_zero())
    }

    fn write(value: &Duration) -> Value {
        if value.subsec_nanos() == 0 {
            Value::from(i64::try_from(value.as_secs()).unwrap_or(i64::MAX))
        } else {
            Value::from(value.as_secs_f64())
        }
    }
}

/// A length of time in seconds, also none.
pub(crate) struct SecondsOrZero;

impl Kind for SecondsOrZero {
    type Value = Duration;
    const EXPECTED: &'static str = "a number of seconds, 0 or more";

    fn read(toml: &Value) -> Option<Duration> {
        seconds(toml)
    }

    fn write(value: &Duration) -> Value {
        Seconds::write(value)
    }
}

/// A length of time in seconds; 0 and `"none"` mean that it never ends.
pub(crate) struct SecondsOrNever;

impl Kind for SecondsOrNever {
    type Value = Option<Duration>;
    const EXPECTED: &'static str = "a number of seconds, or 0 or \"none\" for never";

    fn read(toml: &Value) -> Option<Option<Duration>> {
        if is_none(toml) {
            return Some(None);
        }
        seconds(toml).map(|duration| (!duration.is_zero()).then_some(duration))
    }

    fn write(value: &Option<Duration>) -> Value {
        value.as_ref().map_or_else(none, Seconds::write)
    }
}

/// A length of time in seconds, also none; `"none"` leaves it to another setting.
pub(crate) struct SecondsOrUnset;

impl Kind for SecondsOrUnset {
    type Value = Option<Duration>;
    const EXPECTED: &'static str = "a number of seconds, 0 or more, or \"none\"";

    fn read(toml: &Value) -> Option<Option<Duration>> {
        if is_none(toml) {
            return Some(None);
        }
        seconds(toml).map(Some)
    }

    fn write(value: &Option<Duration>) -> Value {
        value.as_ref().map_or_else(none, Seconds::write)
    }
}

fn seconds(toml: &Value) -> Option<Duration> {
    match toml {
        Value::Integer(whole) => u64::try_from(*whole).ok().map(Duration::from_secs),
        Value::Float(fraction) => Duration::try_from_secs_f64(*fraction).ok(),
        _ => None,
    }
}
