//! Waiting for something to become true, with a deadline.

use std::time::{Duration, Instant};

/// How often to look.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Looks until `look` finds something.
///
/// # Panics
/// Nothing was found within `patience`.
pub async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
