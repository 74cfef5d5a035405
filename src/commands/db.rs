//! `celeriac db migrate` and `celeriac db status`: the tables.
//!
//! Migrating is a step of its own, so that workers need no right to create tables and several of them can start while
//! only one program changes anything. Neither command waits for PostgreSQL: whoever typed it wants to know.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use celeriac::settings::mask_url;
use celeriac_cli::{Command, CommandFuture, ExitError, ExitStatus, Loaded};
use clap::ArgMatches;
use sensor_tasks::process_file::connect_options;
use sqlx::migrate::Migrate as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use super::options;
use crate::settings::Settings;

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  celeriac db migrate
  DATABASE_URL=postgresql://loader@db/telemetry celeriac db status";

/// The command.
pub(super) struct Db;

impl Command for Db {
    fn clap(&self) -> clap::Command {
        clap::Command::new("db")
            .about("Create or check the tables in PostgreSQL")
            .after_help(EXAMPLES)
            .subcommand_required(true)
            .arg(options::database_url().global(true))
            .subcommand(
                clap::Command::new("migrate")
                    .about("Bring the tables to this program's version; what has been done is left alone"),
            )
            .subcommand(
                clap::Command::new("status")
                    .about("List the migrations and whether they have been applied; exit code 1 if one is missing"),
            )
    }

    fn run(&self, matches: &ArgMatches, loaded: Loaded) -> CommandFuture {
        let (name, own) = matches.subcommand().expect("clap insists on a subcommand");
        let settings = options::settings(own, &loaded);
        let is_migrate = name == "migrate";
        Box::pin(async move {
            let database = Database::of(&settings?)?;
            if is_migrate {
                database.migrate().await
            } else {
                database.status().await
            }
        })
    }
}

/// Whether PostgreSQL answers now.
///
/// # Errors
/// It does not: exit code 69.
pub(super) async fn check_reachable(settings: &Settings) -> anyhow::Result<()> {
    let connection = Database::of(settings)?.connect().await?;
    Ok(connection.close().await?)
}

struct Database {
    options: PgConnectOptions,
    /// For people: no password.
    address: String,
}

impl Database {
    fn of(settings: &Settings) -> anyhow::Result<Self> {
        let url = settings.database_url.as_ref().map(|url| url.reveal());
        let options = connect_options(url)?;
        let address = mask_url(options.to_url_lossy().as_str());
        Ok(Self { options, address })
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let connecting = PgConnection::connect_with(&self.options);
        let reason = match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => format!("no answer within {} s", CONNECT_LIMIT.as_secs()),
        };
        let address = &self.address;
        Err(ExitError::unavailable(format!(
            "cannot reach PostgreSQL at {address}: {reason}; is it up?"
        ))
        .into())
    }

    async fn migrate(&self) -> anyhow::Result<()> {
        // A pool would repeat a refused connection until its time is up, and not say why.
        self.connect().await?.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(self.options.clone())
            .await?;
        sensor_tasks::migrate(&pool)
            .await
            .with_context(|| format!("cannot migrate the tables at {}", self.address))?;
        pool.close().await;
        log::info!("The tables at {} are up to date", self.address);
        Ok(())
    }

    async fn status(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let table = &*sensor_tasks::MIGRATOR.table_name;
        let exists: bool = sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(table)
            .fetch_one(&mut connection)
            .await?;
        let applied = match exists {
            true => connection.list_applied_migrations(table).await?,
            false => Vec::new(),
        };
        let mut out = std::io::stdout().lock();
        let mut missing = 0;
        for migration in sensor_tasks::MIGRATOR.iter() {
            let is_applied = applied.iter().any(|one| one.version == migration.version);
            missing += usize::from(!is_applied);
            let state = if is_applied { "applied" } else { "missing" };
            writeln!(
                out,
                "{:<8} {:>6}  {}",
                state, migration.version, migration.description
            )?;
        }
        if missing > 0 {
            let message = format!("{missing} migrations are missing; run 'celeriac db migrate'");
            return Err(ExitError::new(ExitStatus::Failed, message).into());
        }
        Ok(())
    }
}
