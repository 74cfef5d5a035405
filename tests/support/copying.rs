//! A file that is being copied: a worker held there, and what must be left when it was killed.

use std::time::Duration;

use crate::eventually::eventually;
use crate::pipeline::Pipeline;
use crate::process::PATIENCE;

/// Aggregates are written behind the rows: while this lock is held nothing can be committed, however slow a test is.
pub const NO_COMMIT: &str = "begin; lock table aggregated_metrics";

/// Rows that have been sent to PostgreSQL, and are not committed.
const COPIED: &str = "select coalesce(max(tuples_processed), 0) from pg_stat_progress_copy \
    where datname = current_database()";

const CONNECTIONS: &str = "select count(*) from pg_stat_activity where datname = current_database() \
    and application_name = 'celeriac'";

const VISIBLE: &str =
    "select (select count(*) from raw_sensor_data) + (select count(*) from ingest_content)";

impl Pipeline {
    /// Waits until a worker has copied more rows than this.
    ///
    /// # Panics
    /// Not within [`PATIENCE`].
    pub async fn has_copied_more_than(&self, rows: i64) {
        eventually("rows are copied", PATIENCE, async || {
            (self.database.number(COPIED).await > rows).then_some(())
        })
        .await;
    }

    /// Waits until PostgreSQL has noticed that the worker is gone; nothing of its file is there then.
    ///
    /// # Panics
    /// Something is, or the worker's connections live on for longer than `notices`.
    pub async fn has_nothing_of_it(&self, notices: Duration) {
        eventually("PostgreSQL has noticed", notices, async || {
            (self.database.number(CONNECTIONS).await == 0).then_some(())
        })
        .await;
        assert_eq!(self.database.number(VISIBLE).await, 0, "nothing is visible");
    }
}
