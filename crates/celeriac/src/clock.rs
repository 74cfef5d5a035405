//! Wall time, in the one place that may read it.
//!
//! Durations are measured with `Instant`; only what goes over the wire or into a log needs the wall clock.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Now, in UTC.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// So long from now; a time that no calendar of the other side has is as far away as one can say: the end of 9999.
pub(crate) fn after(wait: Duration) -> DateTime<Utc> {
    const LAST_SECOND: i64 = 253_402_300_799;
    let last = DateTime::from_timestamp(LAST_SECOND, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let at = TimeDelta::from_std(wait)
        .ok()
        .and_then(|wait| now().checked_add_signed(wait));
    at.map_or(last, |at| at.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_beyond_all_calendars_ends_with_them() {
        for wait in [Duration::MAX, Duration::from_secs(1 << 50)] {
            assert!(after(wait).to_rfc3339().starts_with("9999-12-31T23:59:59"));
        }
        assert!(after(Duration::from_secs(60)) > now());
    }
}
