//! Where settings come from: flag > environment > file > default.
//!
//! Duties: find the file, read it, set each key, and say in one line which file and key is wrong and
//! what is expected. Tables that belong to the program are handed on unparsed. No error shows a
//! password, and a line that TOML cannot read is named by its number, not quoted.
//!
//! Counterpart: `Settings.broker_url` and `result_backend` of `celery/app/utils.py` @ 5.7.0: the
//! environment wins over the file there too.

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml::{Table, Value};

use super::values::{Refused, Section, Settings};

/// The file that is read from the working directory when no other is named.
const DEFAULT_FILE: &str = "celeriac.toml";

/// The environment variable that names the file.
const FILE_VARIABLE: &str = "CELERIAC_CONFIG";

/// Variables that set a setting, the one that wins first. `BROKER_URL`, `CELERY_BROKER` and their like
/// are what Celery's command line reads before the app reads the last of them.
const VARIABLES: [(&str, &[&str]); 2] = [
    (
        "broker_url",
        &["BROKER_URL", "CELERY_BROKER", "CELERY_BROKER_URL"],
    ),
    (
        "result_backend",
        &["RESULT_BACKEND", "CELERY_RESULT_BACKEND"],
    ),
];

/// Longest file that is read, in bytes: a settings file is a page, not a data set.
const FILE_SIZE_MAX_BYTES: u64 = 1024 * 1024;

/// Names less alike than this (0 to 1) are not suggested.
const LIKENESS_MIN: f64 = 0.5;

/// What was given beside the file: flags and the names of the program's own tables.
#[derive(Clone, Default)]
pub struct Sources {
    /// `-b`, `--broker`.
    pub broker_url: Option<String>,
    /// `--result-backend`.
    pub result_backend: Option<String>,
    /// `--config`: the file to read; it has to exist. Else `CELERIAC_CONFIG`, else `celeriac.toml` in
    /// the working directory if it is there.
    pub config: Option<PathBuf>,
    /// Tables of the file that belong to the program and are returned as they are.
    pub program_tables: Vec<String>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = |url: &Option<String>| url.as_deref().map(super::mask_url);
        f.debug_struct("Sources")
            .field("broker_url", &masked(&self.broker_url))
            .field("result_backend", &masked(&self.result_backend))
            .field("config", &self.config)
            .field("program_tables", &self.program_tables)
            .finish()
    }
}

/// Settings, and what the program has to read itself.
#[derive(Debug)]
pub struct LoadedSettings {
    /// The settings.
    pub settings: Settings,
    /// The program's own tables, each under its name, unparsed.
    pub tables: Table,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

/// Why the settings could not be loaded. A person has to change something: trying again is of no use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file that was named, or that is in the working directory, cannot be read.
    #[error("cannot read the settings file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What TOML expects there.
        message: String,
    },
    /// There is no setting of that name.
    #[error("{origin}: unknown setting {key}{}", hint(nearest.as_deref()))]
    Unknown {
        /// The file.
        origin: String,
        /// The key, with its table before a dot.
        key: String,
        /// The setting whose name is most like it.
        nearest: Option<String>,
    },
    /// A setting cannot have that value.
    #[error("{origin}: {key} = {shown}: expected {expected}")]
    WrongValue {
        /// The file, the environment variable, or the option.
        origin: String,
        /// The key, with its table before a dot.
        key: String,
        /// The value, with passwords masked.
        shown: String,
        /// What it could be.
        expected: &'static str,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || " (celeriac.example.toml lists all that there are)".to_owned(),
        |name| format!("; did you mean {name}?"),
    )
}

impl Settings {
    /// Reads the settings: flag > environment > file > default.
    ///
    /// # Errors
    /// [`SettingsError`]: a file that cannot be read, a name that does not exist, a wrong value.
    pub fn load(sources: &Sources) -> Result<LoadedSettings, SettingsError> {
        Self::load_from(sources, |name| env::var(name).ok(), Path::new("."))
    }

    fn load_from(
        sources: &Sources,
        environment: impl Fn(&str) -> Option<String>,
        directory: &Path,
    ) -> Result<LoadedSettings, SettingsError> {
        // As in Celery and click, a variable that is empty is not set.
        let environment = |name: &str| environment(name).filter(|value| !value.is_empty());
        let file = find_file(sources, environment, directory);
        let mut settings = Self::default();
        let mut tables = Table::new();
        if let Some(path) = &file {
            let table = parse(path)?;
            tables =
                settings.take_file(table, &path.display().to_string(), &sources.program_tables)?;
        }
        settings.take_environment(environment)?;
        settings.take_flags(sources)?;
        Ok(LoadedSettings {
            settings,
            tables,
            file,
        })
    }

    fn take_environment(
        &mut self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<(), SettingsError> {
        for (setting, variables) in VARIABLES {
            let first = variables
                .iter()
                .find_map(|name| Some((name, environment(name)?)));
            if let Some((name, value)) = first {
                let origin = format!("environment variable {name}");
                set(self, &origin, "", setting, &Value::from(value))?;
            }
        }
        Ok(())
    }

    fn take_flags(&mut self, sources: &Sources) -> Result<(), SettingsError> {
        for (origin, setting, value) in [
            ("--broker", "broker_url", &sources.broker_url),
            (
                "--result-backend",
                "result_backend",
                &sources.result_backend,
            ),
        ] {
            if let Some(value) = value {
                set(self, origin, "", setting, &Value::from(value.as_str()))?;
            }
        }
        Ok(())
    }

    /// Sets what the file says and returns the program's own tables.
    fn take_file(
        &mut self,
        file: Table,
        origin: &str,
        program_tables: &[String],
    ) -> Result<Table, SettingsError> {
        let mut own = Table::new();
        for (key, value) in file {
            match (key.as_str(), &value) {
                ("broker_transport_options", Value::Table(table)) => {
                    set_all(&mut self.broker_transport_options, origin, &key, table)?;
                }
                ("result_backend_transport_options", Value::Table(table)) => {
                    set_all(
                        &mut self.result_backend_transport_options,
                        origin,
                        &key,
                        table,
                    )?;
                }
                (name, Value::Table(_)) if program_tables.iter().any(|own| own == name) => {
                    own.insert(key, value);
                }
                (name, other) if is_table_name(name, program_tables) => {
                    return Err(SettingsError::WrongValue {
                        origin: origin.to_owned(),
                        shown: super::kinds::shown(other),
                        key,
                        expected: "a table: a line with its name in [brackets], the options below it",
                    });
                }
                (name, _) => set_top(self, origin, name, &value, program_tables)?,
            }
        }
        Ok(own)
    }
}

fn is_table_name(name: &str, program_tables: &[String]) -> bool {
    Settings::TABLES.contains(&name) || program_tables.iter().any(|own| own == name)
}

fn find_file(
    sources: &Sources,
    environment: impl Fn(&str) -> Option<String>,
    directory: &Path,
) -> Option<PathBuf> {
    sources
        .config
        .clone()
        .or_else(|| environment(FILE_VARIABLE).map(PathBuf::from))
        .or_else(|| {
            let default = directory.join(DEFAULT_FILE);
            // A file that is there and cannot be looked at is an error later, not silently skipped.
            matches!(default.try_exists(), Ok(true) | Err(_)).then(|| {
                if directory == Path::new(".") {
                    PathBuf::from(DEFAULT_FILE)
                } else {
                    default
                }
            })
        })
}

fn parse(path: &Path) -> Result<Table, SettingsError> {
    let text = read(path).map_err(|source| SettingsError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    text.parse().map_err(|error: toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        let before = text.get(..offset).unwrap_or_default();
        SettingsError::Syntax {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            // Only TOML's message: its own display quotes the line, which may have a password in it.
            message: error.message().lines().collect::<Vec<_>>().join("; "),
        }
    })
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_SIZE_MAX_BYTES {
        return Err(io::Error::other(format!(
            "it is larger than {FILE_SIZE_MAX_BYTES} bytes"
        )));
    }
    fs::read_to_string(path)
}

fn set_all(
    section: &mut impl Section,
    origin: &str,
    table_name: &str,
    table: &Table,
) -> Result<(), SettingsError> {
    table
        .iter()
        .try_for_each(|(key, value)| set(section, origin, &format!("{table_name}."), key, value))
}

fn set_top(
    settings: &mut Settings,
    origin: &str,
    key: &str,
    value: &Value,
    program_tables: &[String],
) -> Result<(), SettingsError> {
    set(settings, origin, "", key, value).map_err(|error| match error {
        SettingsError::Unknown {
            origin,
            key,
            nearest,
        } => {
            let tables = Settings::TABLES
                .into_iter()
                .chain(program_tables.iter().map(String::as_str));
            let nearest = nearest_of(&key, tables.chain(nearest.as_deref()));
            SettingsError::Unknown {
                origin,
                key,
                nearest,
            }
        }
        other => other,
    })
}

fn set<S: Section>(
    section: &mut S,
    origin: &str,
    prefix: &str,
    key: &str,
    value: &Value,
) -> Result<(), SettingsError> {
    match section.set(key, value) {
        Some(Ok(())) => Ok(()),
        Some(Err(Refused { shown, expected })) => Err(SettingsError::WrongValue {
            origin: origin.to_owned(),
            key: format!("{prefix}{key}"),
            shown,
            expected,
        }),
        None => Err(SettingsError::Unknown {
            origin: origin.to_owned(),
            key: format!("{prefix}{key}"),
            nearest: nearest_of(key, S::catalogue().iter().map(|entry| entry.name)),
        }),
    }
}

fn nearest_of<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    // The old names were upper case and began with CELERY_; what follows is often today's name.
    let key = key.to_ascii_lowercase();
    let key = key.strip_prefix("celery_").unwrap_or(&key);
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(key, name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
