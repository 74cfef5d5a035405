//! Keeping what is ours, and giving back what nobody keeps.
//!
//! Counterpart: `kombu/transport/redis.py` (`maybe_restore_messages`) @ 5.7.0; the renewing is ours.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::held::Held;
use crate::app::App;

/// A claim is renewed this many times within a visibility timeout.
const RENEWALS: u32 = 4;

/// The longest time between two renewals.
const LONGEST_RENEWAL: Duration = Duration::from_secs(60);

/// Renews everything that is held until told to end, which is after the last message was settled.
pub(crate) async fn renew(app: App, held: Held, end: CancellationToken) {
    let timeout = app.settings().broker_transport_options.visibility_timeout;
    let interval = (timeout / RENEWALS).min(LONGEST_RENEWAL);
    while pause(interval, &end).await {
        let tags = held.list();
        if tags.is_empty() {
            continue;
        }
        match app.transport().renew(&tags).await {
            Ok(lost) => {
                for tag in &lost {
                    held.lose(tag);
                }
            }
            // The consumer speaks of the outage.
            Err(error) => log::debug!("could not renew {} claim(s): {error}", tags.len()),
        }
    }
}

/// Puts back, every now and then, what any worker of either language has left behind.
pub(crate) async fn restore(app: App, end: CancellationToken) {
    let interval = app
        .settings()
        .broker_transport_options
        .unacked_restore_interval;
    loop {
        match app.transport().restore_expired().await {
            Ok(0) => {}
            Ok(count) => log::info!("Restored {count} message(s) that no worker had renewed"),
            Err(error) => log::debug!("could not look for messages to restore: {error}"),
        }
        if !pause(interval, &end).await {
            return;
        }
    }
}

/// Waits; `false` when told to end.
async fn pause(wait: Duration, end: &CancellationToken) -> bool {
    tokio::select! {
        // cancel-safe: both only wait
        () = end.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    }
}
