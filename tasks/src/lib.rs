//! The tasks of this worker: `worker.tasks.process_file_task`.

pub mod process_file;
pub mod sensor_csv;

use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};

pub use process_file::{Ingest, IngestSettings, process_file_task, register};

/// The tables that this worker needs, embedded: `migrations/` in the order of their numbers.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Brings the tables to the version of this program; what has been done is left alone. A step of its own
/// (`celeriac db migrate`): the worker itself needs no right to create tables.
///
/// # Errors
/// PostgreSQL is away, the user may not create tables, or the database is newer than this program or was changed by hand.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    MIGRATOR.run(pool).await
}
