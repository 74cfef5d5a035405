//! Wall time, in the one place that may read it.
//!
//! Durations are measured with `Instant`; only what goes over the wire or into a log needs the wall clock.

use chrono::{DateTime, Utc};

/// Now, in UTC.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
