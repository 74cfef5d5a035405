//! Celery's names of levels, and what they are in the `log` crate.
//!
//! Python has one level more, CRITICAL. A record says that it is critical by the key
//! `severity = "CRITICAL"` beside the level `Error`.

use log::kv::{Key, Value};
use log::{LevelFilter, Record};

/// The names that `-l` takes, in Celery's order.
const NAMES: [&str; 6] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL"];

/// From which level on records are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    /// Reads what `-l` says; the error is click's.
    pub(crate) fn parse(typed: &str) -> Result<Self, String> {
        let name = typed.to_ascii_uppercase();
        match name.as_str() {
            "DEBUG" => Ok(Self::Debug),
            "INFO" => Ok(Self::Info),
            "WARNING" => Ok(Self::Warning),
            "ERROR" => Ok(Self::Error),
            "CRITICAL" | "FATAL" => Ok(Self::Critical),
            _ => Err(format!("'{name}' is not one of '{}'.", NAMES.join("', '"))),
        }
    }

    /// The level of a record.
    pub(crate) fn of(record: &Record<'_>) -> Self {
        match record.level() {
            log::Level::Error if is_critical(record) => Self::Critical,
            log::Level::Error => Self::Error,
            log::Level::Warn => Self::Warning,
            log::Level::Info => Self::Info,
            log::Level::Debug | log::Level::Trace => Self::Debug,
        }
    }

    /// As it stands in a line.
    pub(crate) fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// What the `log` crate lets through for this level.
    pub(crate) fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::Debug,
            Self::Info => LevelFilter::Info,
            Self::Warning => LevelFilter::Warn,
            Self::Error | Self::Critical => LevelFilter::Error,
        }
    }
}

/// The key by which a record says that it is critical.
pub(crate) const SEVERITY: &str = "severity";

fn is_critical(record: &Record<'_>) -> bool {
    let severity = record.key_values().get(Key::from_str(SEVERITY));
    severity.as_ref().and_then(Value::to_borrowed_str) == Some("CRITICAL")
}
