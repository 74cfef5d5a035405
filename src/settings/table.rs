//! One table of the settings file: reading its keys, and saying what is wrong with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// The properties of librdkafka whose names have no dot.
const PLAIN_PROPERTIES: [&str; 4] = ["acks", "debug", "partitioner", "retries"];

/// Names less alike than this (0 to 1) are not suggested.
const LIKENESS_MIN: f64 = 0.5;

/// Why the settings cannot be used. A person has to change something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A key that means nothing.
    #[error("{}: unknown setting {key}{}", file.display(), hint(nearest.as_deref()))]
    Unknown {
        /// Where it stands.
        file: PathBuf,
        /// With its table.
        key: String,
        /// The most similar one that exists.
        nearest: Option<String>,
    },
    /// A value of the wrong kind. The value itself may be a secret and is not shown.
    #[error("{}: {key}: expected {expected}", file.display())]
    WrongKind {
        /// Where it stands.
        file: PathBuf,
        /// With its table.
        key: String,
        /// What it could be.
        expected: &'static str,
    },
    /// A property that the pipeline sets itself.
    #[error("{}: {key} cannot be set: {reason}", file.display())]
    Reserved {
        /// Where it stands.
        file: PathBuf,
        /// With its table.
        key: String,
        /// Why not, or what to use.
        reason: &'static str,
    },
    /// No address of Kafka's.
    #[error("{0:?} is no address of Kafka: expected host:port, several with commas")]
    Servers(String),
    /// Kafka would refuse this name.
    #[error(
        "{0:?} is no topic name: Kafka allows letters, digits, '.', '_' and '-', here 245 at most"
    )]
    Topic(String),
}

fn hint(nearest: Option<&str>) -> String {
    nearest
        .map(|name| format!("; did you mean {name}?"))
        .unwrap_or_default()
}

/// A table of the file; an absent one has no keys.
pub(super) struct Section<'a> {
    name: &'static str,
    table: Option<&'a Table>,
    file: PathBuf,
}

impl<'a> Section<'a> {
    pub(super) fn of(
        tables: &'a Table,
        name: &'static str,
        file: Option<&Path>,
    ) -> Result<Self, SettingsError> {
        let file = file.unwrap_or(Path::new("celeriac.toml")).to_owned();
        let table = match tables.get(name) {
            None => None,
            Some(Value::Table(table)) => Some(table),
            Some(_) => {
                return Err(SettingsError::WrongKind {
                    file,
                    key: name.to_owned(),
                    expected: "a table",
                });
            }
        };
        Ok(Self { name, table, file })
    }

    /// Refuses every key that is not among these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), SettingsError> {
        match self.keys().find(|key| !known.contains(key)) {
            Some(key) => Err(self.unknown(key, known)),
            None => Ok(()),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, SettingsError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong_kind(key, "text")),
        }
    }

    pub(super) fn count(&self, key: &str) -> Result<Option<u64>, SettingsError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let count = value
            .as_integer()
            .and_then(|number| u64::try_from(number).ok());
        count
            .map(Some)
            .ok_or_else(|| self.wrong_kind(key, "a number of 0 or more"))
    }

    /// Everything but the keys named: properties with dots in their names, which TOML reads as tables in tables where
    /// they are not quoted. A name without a dot must be one of those that librdkafka has.
    pub(super) fn properties(
        &self,
        known: &[&str],
    ) -> Result<BTreeMap<String, String>, SettingsError> {
        let mut properties = BTreeMap::new();
        for (key, value) in self
            .table
            .into_iter()
            .flatten()
            .filter(|(key, _)| !known.contains(&key.as_str()))
        {
            if !key.contains('.') && !value.is_table() && !PLAIN_PROPERTIES.contains(&key.as_str())
            {
                return Err(self.unknown(key, known));
            }
            self.flatten(key, value, &mut properties)?;
        }
        Ok(properties)
    }

    /// An error about a key that is known but not free.
    pub(super) fn refuse(&self, key: &str, reason: &'static str) -> SettingsError {
        let key = format!("{}.\"{key}\"", self.name);
        SettingsError::Reserved {
            file: self.file.clone(),
            key,
            reason,
        }
    }

    fn flatten(
        &self,
        key: &str,
        value: &Value,
        into: &mut BTreeMap<String, String>,
    ) -> Result<(), SettingsError> {
        let text = match value {
            Value::Table(table) => {
                return table.iter().try_for_each(|(part, value)| {
                    self.flatten(&format!("{key}.{part}"), value, into)
                });
            }
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Float(_) | Value::Datetime(_) | Value::Array(_) => {
                return Err(self.wrong_kind(key, "text, a number, true or false"));
            }
        };
        into.insert(key.to_owned(), text);
        Ok(())
    }

    fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.table
            .into_iter()
            .flat_map(|table| table.keys().map(String::as_str))
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.table.and_then(|table| table.get(key))
    }

    fn unknown(&self, key: &str, known: &[&str]) -> SettingsError {
        let nearest = known
            .iter()
            .map(|name| (strsim::jaro_winkler(key, name), name))
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| format!("{}.{name}", self.name));
        SettingsError::Unknown {
            file: self.file.clone(),
            key: format!("{}.{key}", self.name),
            nearest,
        }
    }

    fn wrong_kind(&self, key: &str, expected: &'static str) -> SettingsError {
        SettingsError::WrongKind {
            file: self.file.clone(),
            key: format!("{}.{key}", self.name),
            expected,
        }
    }
}
