//! What the pipeline's tasks need from the program: where PostgreSQL is, and three directories.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::LevelFilter;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

/// Longest wait for a connection. Short: whoever waits in a slot goes on waiting with back-off.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// A statement that takes longer is mentioned at DEBUG.
const SLOW_STATEMENT: Duration = Duration::from_secs(1);

/// A connection unused for this long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Session settings of every connection, so that a worker that vanished without a word (its machine lost power, a cable was cut) holds
/// nothing for long on the server. 20 s of waiting for a key is less than the 30 s after which the worker itself gives up.
const SESSION: &str = "set lock_timeout = '20s'; set idle_in_transaction_session_timeout = '60s'; \
    set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3; set tcp_user_timeout = 30000";

/// Settings of the tasks, as plain fields.
#[derive(Clone, PartialEq, Eq)]
pub struct IngestSettings {
    /// `DATABASE_URL`; `None`: the `PG*` variables and `~/.pgpass`, as psql does it.
    pub database_url: Option<String>,
    /// `WATCH_DIR`: the root below which every file must lie. Relative ones count from the working directory.
    pub watch_dir: PathBuf,
    /// `QUARANTINE_DIR`: where bad files go. Made when the first one comes.
    pub quarantine_dir: PathBuf,
    /// `LOG_DIR`: where `errors.log` is. Made when the first line comes.
    pub log_dir: PathBuf,
    /// Most connections to PostgreSQL: one for each slot of the worker.
    pub max_connections: u32,
}

/// Without the URL, which may hold a password.
impl fmt::Debug for IngestSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestSettings")
            .field("watch_dir", &self.watch_dir)
            .field("quarantine_dir", &self.quarantine_dir)
            .field("log_dir", &self.log_dir)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The text is no URL of PostgreSQL. It is not shown: it may hold a password.
    #[error(
        "DATABASE_URL is not a PostgreSQL URL such as postgres://user:password@host:5432/database"
    )]
    DatabaseUrl,
    /// The process has no working directory to count relative paths from.
    #[error("the working directory cannot be found: {0}")]
    WorkingDirectory(#[from] std::io::Error),
}

/// How to connect: `DATABASE_URL`, or the `PG*` variables when there is none.
///
/// # Errors
/// [`SettingsError::DatabaseUrl`].
pub fn connect_options(database_url: Option<&str>) -> Result<PgConnectOptions, SettingsError> {
    let options = match database_url {
        Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            // The cause would show the text.
            PgConnectOptions::from_str(url).map_err(|_error| SettingsError::DatabaseUrl)?
        }
        Some(_) => return Err(SettingsError::DatabaseUrl),
        None => PgConnectOptions::new(),
    };
    // A long COPY is no cause for a warning: what takes too long here has a limit of its own.
    let options = options.log_slow_statements(LevelFilter::Debug, SLOW_STATEMENT);
    Ok(options.application_name("celeriac"))
}

/// What the tasks share: `App::manage` gives it to them.
#[derive(Debug)]
pub struct Ingest {
    pub(crate) pool: PgPool,
    pub(crate) watch_dir: PathBuf,
    pub(crate) quarantine_dir: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) working_dir: PathBuf,
    /// Whether a run waits a while for what is away, before it says so.
    pub(crate) is_patient: bool,
    /// The tables were found to be new enough; asked once a process.
    pub(crate) has_schema: AtomicBool,
}

impl Ingest {
    /// Makes the shared state. Nothing is connected yet: a worker starts while PostgreSQL is away. Must be called within
    /// a Tokio runtime.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub fn new(settings: IngestSettings) -> Result<Self, SettingsError> {
        let options = connect_options(settings.database_url.as_deref())?;
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections.max(1))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .acquire_slow_level(LevelFilter::Debug)
            .idle_timeout(IDLE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(SESSION).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            working_dir: std::env::current_dir()?,
            watch_dir: settings.watch_dir,
            quarantine_dir: settings.quarantine_dir,
            log_dir: settings.log_dir,
            is_patient: true,
            has_schema: AtomicBool::new(false),
        })
    }

    /// The same, for somebody who waits for an answer: what is away is an error at once.
    #[must_use]
    pub fn impatient(self) -> Self {
        Self {
            is_patient: false,
            ..self
        }
    }

    /// The same, for files below another directory.
    #[must_use]
    pub fn rooted(&self, root: PathBuf) -> Self {
        Self {
            pool: self.pool.clone(),
            watch_dir: root,
            quarantine_dir: self.quarantine_dir.clone(),
            log_dir: self.log_dir.clone(),
            working_dir: self.working_dir.clone(),
            is_patient: self.is_patient,
            has_schema: AtomicBool::new(self.has_schema.load(Ordering::Relaxed)),
        }
    }

    /// The watch directory, absolute.
    pub(crate) fn root(&self) -> PathBuf {
        self.working_dir.join(&self.watch_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_shows_in_errors_or_debug() {
        for url in [
            "postgres://u:geheim@host:notaport/db",
            "mysql://u:geheim@host/db",
            "geheim",
        ] {
            let error = connect_options(Some(url)).expect_err("it is no URL of PostgreSQL");
            assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
        }
        let settings = IngestSettings {
            database_url: Some("postgres://u:geheim@h/db".to_owned()),
            watch_dir: "data".into(),
            quarantine_dir: "quarantine".into(),
            log_dir: "logs".into(),
            max_connections: 2,
        };
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
