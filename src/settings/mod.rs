//! The pipeline's settings: flag > environment > `celeriac.toml` > default.
//!
//! Celery's own settings (broker, results, worker) are the engine's; here are the tables `[pipeline]`, `[kafka]` and
//! `[postgresql]`:
//!
//! ```toml
//! [pipeline]
//! watch_dir = "data"             # WATCH_DIR; the root below which every path must lie
//! quarantine_dir = "quarantine"  # QUARANTINE_DIR
//! log_dir = "logs"               # LOG_DIR
//! settle_ms = 2000               # a file whose closing cannot be seen is complete after this long without a change
//! rescan_ms = 5000               # the whole directory is looked at this often, beneath notification
//! announce_again_ms = 600000     # a file without a row in ingest_files is announced again after so long; 0: never
//! journal = "data/.celeriac-journal"
//!
//! [kafka]
//! bootstrap_servers = "localhost:9092"  # KAFKA_BOOTSTRAP_SERVERS
//! topic = "file_events"                 # KAFKA_TOPIC; bad records go to <topic>.dlq
//! group = "file-processing-group"       # KAFKA_GROUP
//! "compression.type" = "lz4"            # any property of librdkafka, by its own name
//!
//! [postgresql]
//! url = "postgresql://localhost/celeriac"  # DATABASE_URL, or libpq's PG* variables
//! ```
//!
//! Unknown names are refused with the nearest one. Values of properties and the database's URL may be secrets: neither
//! errors nor `Debug` show them, and no flag carries them.

mod kafka;
mod table;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use celeriac_cli::Loaded;
pub(crate) use kafka::Kafka;
use table::Section;
pub(crate) use table::SettingsError;

/// What flags have said; `None` where there was no flag.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    pub(crate) watch_dir: Option<String>,
    pub(crate) quarantine_dir: Option<String>,
    pub(crate) log_dir: Option<String>,
    pub(crate) settle_ms: Option<u64>,
    pub(crate) rescan_ms: Option<u64>,
    pub(crate) announce_again_ms: Option<u64>,
    pub(crate) journal: Option<String>,
    pub(crate) bootstrap_servers: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) database_url: Option<String>,
}

/// All tables.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) pipeline: Pipeline,
    pub(crate) kafka: Kafka,
    /// `None`: libpq's `PG*` variables and their defaults.
    pub(crate) database_url: Option<Secret>,
    /// Whether anything says where PostgreSQL is, be it only a `PG*` variable.
    pub(crate) names_database: bool,
}

/// `[pipeline]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pipeline {
    /// Watched, and the root below which every path must lie.
    pub(crate) watch_dir: PathBuf,
    /// Where bad files go.
    pub(crate) quarantine_dir: PathBuf,
    /// Where `errors.log` is.
    pub(crate) log_dir: PathBuf,
    /// How long a file must look the same where its closing cannot be seen. Default 2 s.
    pub(crate) settle: Duration,
    /// Time between two looks at the whole directory. Default 5 s.
    pub(crate) rescan: Duration,
    /// How long after its announcement a file without a row in the ledger is announced again; zero: never. Default
    /// 10 min.
    pub(crate) announce_again: Duration,
    /// Default: `.celeriac-journal` in the watch directory.
    pub(crate) journal: PathBuf,
}

/// Text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text itself, for the one who needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(**)")
    }
}

/// Where values come from, the first that has one winning.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) flags: &'a Flags,
    /// Variables that are empty count as unset.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    /// The program's tables of the settings file.
    pub(crate) tables: &'a toml::Table,
    /// For errors.
    pub(crate) file: Option<&'a Path>,
}

/// The tables of the settings file that are read here.
pub(crate) const TABLES: [&str; 3] = ["pipeline", "kafka", "postgresql"];

impl Settings {
    /// Reads and checks what this process was given.
    ///
    /// # Errors
    /// See [`Settings::load`].
    pub(crate) fn of_process(flags: &Flags, loaded: &Loaded) -> Result<Self, SettingsError> {
        Self::load(Sources {
            flags,
            environment: &|name| std::env::var(name).ok(),
            tables: &loaded.tables,
            file: loaded.file.as_deref(),
        })
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// The first value that is wrong: where it stands and what is expected.
    pub(crate) fn load(sources: Sources<'_>) -> Result<Self, SettingsError> {
        let variable = |name: &str| (sources.environment)(name).filter(|value| !value.is_empty());
        let section = |name| Section::of(sources.tables, name, sources.file);
        let pipeline = Pipeline::load(sources.flags, &variable, &section("pipeline")?)?;
        let kafka = Kafka::load(sources.flags, &variable, &section("kafka")?)?;
        let postgresql = section("postgresql")?;
        postgresql.only(&["url"])?;
        // PG* variables win over the file, as every variable does; without a URL they are what is used.
        let by_variables = ["PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE"]
            .iter()
            .any(|name| variable(name).is_some());
        let url = sources.flags.database_url.clone();
        let url = match url.or_else(|| variable("DATABASE_URL")) {
            None if by_variables => None,
            None => postgresql.text("url")?.filter(|url| !url.is_empty()),
            url => url,
        };
        Ok(Self {
            pipeline,
            kafka,
            names_database: by_variables || url.is_some(),
            database_url: url.map(Secret),
        })
    }
}

impl Pipeline {
    fn load(
        flags: &Flags,
        variable: &dyn Fn(&str) -> Option<String>,
        section: &Section<'_>,
    ) -> Result<Self, SettingsError> {
        section.only(&[
            "watch_dir",
            "quarantine_dir",
            "log_dir",
            "settle_ms",
            "rescan_ms",
            "announce_again_ms",
            "journal",
        ])?;
        let directory = |flag: &Option<String>, name: &'static str, key, default: &str| {
            let file = section.text(key)?;
            let value = flag.clone().or_else(|| variable(name)).or(file);
            Ok(PathBuf::from(value.unwrap_or_else(|| default.to_owned())))
        };
        let millis = |flag: Option<u64>, key, default| {
            let value = flag.or(section.count(key)?).unwrap_or(default);
            Ok::<_, SettingsError>(Duration::from_millis(value))
        };
        let watch_dir = directory(&flags.watch_dir, "WATCH_DIR", "watch_dir", "data")?;
        let journal = match flags.journal.clone().or(section.text("journal")?) {
            Some(path) => PathBuf::from(path),
            None => watch_dir.join(".celeriac-journal"),
        };
        Ok(Self {
            quarantine_dir: directory(
                &flags.quarantine_dir,
                "QUARANTINE_DIR",
                "quarantine_dir",
                "quarantine",
            )?,
            log_dir: directory(&flags.log_dir, "LOG_DIR", "log_dir", "logs")?,
            settle: millis(flags.settle_ms, "settle_ms", 2000)?,
            // Zero would be a loop without a pause.
            rescan: millis(flags.rescan_ms, "rescan_ms", 5000)?.max(Duration::from_millis(100)),
            announce_again: millis(flags.announce_again_ms, "announce_again_ms", 600_000)?,
            watch_dir,
            journal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(
        flags: &Flags,
        environment: &[(&str, &str)],
        file: &str,
    ) -> Result<Settings, SettingsError> {
        let lookup = |name: &str| {
            environment
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let tables = file.parse().unwrap();
        Settings::load(Sources {
            flags,
            environment: &lookup,
            tables: &tables,
            file: Some(Path::new("celeriac.toml")),
        })
    }

    #[test]
    fn defaults_are_those_of_the_python_pipeline() {
        let settings = load(&Flags::default(), &[], "").unwrap();
        assert_eq!(settings.kafka.bootstrap_servers, "localhost:9092");
        assert_eq!(settings.kafka.topic, "file_events");
        assert_eq!(settings.kafka.dlq_topic(), "file_events.dlq");
        assert_eq!(settings.kafka.group, "file-processing-group");
        assert_eq!(settings.pipeline.watch_dir, Path::new("data"));
        assert_eq!(
            settings.pipeline.journal,
            Path::new("data/.celeriac-journal")
        );
        assert_eq!(settings.pipeline.quarantine_dir, Path::new("quarantine"));
        assert_eq!(settings.pipeline.log_dir, Path::new("logs"));
        assert_eq!(settings.pipeline.settle, Duration::from_secs(2));
        assert_eq!(settings.database_url, None);
    }

    #[test]
    fn the_example_file_shows_every_setting_with_its_default() {
        let example = include_str!("../../celeriac.example.toml");
        let (_, ours) = example
            .split_once("# ---- tables of the program ----")
            .unwrap();
        let settings: Vec<&str> = ours
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|setting| !setting.starts_with(' '))
                    .unwrap_or(line)
            })
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert_eq!(
            settings.iter().filter(|line| line.contains(" = ")).count(),
            11
        );
        let shown = load(&Flags::default(), &[], &settings.join("\n")).unwrap();
        let defaults = load(&Flags::default(), &[], "").unwrap();
        assert_eq!(format!("{shown:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn flag_wins_over_environment_over_file() {
        let file = "[kafka]\ntopic = 'file'\ngroup = 'file'\nbootstrap_servers = 'file:1'";
        let environment = [
            ("KAFKA_TOPIC", "env"),
            ("KAFKA_GROUP", "env"),
            ("KAFKA_BOOTSTRAP_SERVERS", ""),
        ];
        let flags = Flags {
            topic: Some("flag".to_owned()),
            ..Flags::default()
        };
        let kafka = load(&flags, &environment, file).unwrap().kafka;
        assert_eq!(
            (&*kafka.topic, &*kafka.group, &*kafka.bootstrap_servers),
            ("flag", "env", "file:1")
        );
    }

    #[test]
    fn properties_of_librdkafka_pass_through_quoted_or_not() {
        let file = "[kafka]\n\"compression.type\" = 'lz4'\nqueue.buffering.max.ms = 7\nsocket.keepalive.enable = true";
        let properties = load(&Flags::default(), &[], file).unwrap().kafka.properties;
        let expected = [
            ("compression.type", "lz4"),
            ("queue.buffering.max.ms", "7"),
            ("socket.keepalive.enable", "true"),
        ];
        assert_eq!(
            properties,
            expected
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        );
    }

    #[test]
    fn wrong_settings_are_refused_with_what_to_do() {
        for (file, expected) in [
            (
                "[pipeline]\nwatchdir = 'x'",
                "celeriac.toml: unknown setting pipeline.watchdir; did you mean pipeline.watch_dir?",
            ),
            (
                "[kafka]\ntopics = 'x'",
                "celeriac.toml: unknown setting kafka.topics; did you mean kafka.topic?",
            ),
            (
                "[pipeline]\nsettle_ms = 'soon'",
                "celeriac.toml: pipeline.settle_ms: expected a number of 0 or more",
            ),
            (
                "[pipeline]\nsettle_ms = -1",
                "celeriac.toml: pipeline.settle_ms: expected a number of 0 or more",
            ),
            ("pipeline = 3", "celeriac.toml: pipeline: expected a table"),
            (
                "[kafka]\n\"enable.auto.commit\" = true",
                "celeriac.toml: kafka.\"enable.auto.commit\" cannot be set: offsets are committed when Redis has the task",
            ),
            (
                "[kafka]\n\"sasl.password\" = ['s3cret']",
                "celeriac.toml: kafka.sasl.password: expected text, a number, true or false",
            ),
            (
                "[kafka]\ntopic = 'a b'",
                "\"a b\" is no topic name: Kafka allows letters, digits, '.', '_' and '-', here 245 at most",
            ),
        ] {
            assert_eq!(
                load(&Flags::default(), &[], file).unwrap_err().to_string(),
                expected
            );
        }
    }

    #[test]
    fn the_database_comes_from_its_url_or_from_libpqs_variables() {
        let file = "[postgresql]\nurl = 'postgresql://file/x'";
        let url = |environment: &[(&str, &str)]| {
            load(&Flags::default(), environment, file)
                .unwrap()
                .database_url
                .map(|url| url.reveal().to_owned())
        };
        assert_eq!(url(&[]).as_deref(), Some("postgresql://file/x"));
        assert_eq!(url(&[("PGHOST", "h")]), None);
        assert_eq!(
            url(&[("PGHOST", "h"), ("DATABASE_URL", "postgresql://env/x")]).as_deref(),
            Some("postgresql://env/x")
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let file = "[kafka]\n\"sasl.password\" = 's3cret'\n[postgresql]\nurl = 'postgresql://u:s3cret@h/d'";
        let shown = format!("{:?}", load(&Flags::default(), &[], file).unwrap());
        assert!(
            shown.contains("sasl.password") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}
