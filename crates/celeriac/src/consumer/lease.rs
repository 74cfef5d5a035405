//! Keeping what is ours, and giving back what nobody keeps.
//!
//! Counterpart: `kombu/transport/redis.py` (`maybe_restore_messages`) @ 5.7.0; the renewing is ours.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::held::Held;
use crate::app::App;
use crate::backoff::pause;

/// A claim is renewed this many times within a visibility timeout.
const RENEWALS: u32 = 4;

/// The longest time between two renewals.
const LONGEST_RENEWAL: Duration = Duration::from_secs(60);

/// How soon to renew again what could not be renewed: an outage ends when it ends, and what is held may
/// have become old meanwhile.
const RETRY: Duration = Duration::from_secs(1);

/// How long after an outage nothing is restored: every living worker has renewed what it holds by then.
const GRACE: Duration = Duration::from_secs(5);

/// Renews everything that is held until told to end, which is after the last message was settled.
pub(crate) async fn renew(app: App, held: Held, end: CancellationToken) {
    let timeout = app.settings().broker_transport_options.visibility_timeout;
    let interval = (timeout / RENEWALS).min(LONGEST_RENEWAL);
    let mut wait = interval;
    while pause(wait, &end).await {
        wait = match held.renew().await {
            Ok(()) => interval,
            Err(error) => {
                // The consumer speaks of the outage.
                log::debug!("could not renew what is held: {error}");
                interval.min(RETRY)
            }
        };
    }
}

/// Puts back, every now and then, what any worker of either language has left behind. While the broker
/// was away nobody could renew: after an outage the living get time to do so before anybody is dead.
pub(crate) async fn restore(app: App, end: CancellationToken) {
    let options = &app.settings().broker_transport_options;
    let interval = options.unacked_restore_interval;
    loop {
        let wait = match app.transport().restore_expired().await {
            Ok(0) => interval,
            Ok(count) => {
                log::info!("Restored {count} message(s) that no worker had renewed");
                interval
            }
            Err(error) => {
                log::debug!("could not look for messages to restore: {error}");
                if !is_back(&app, &end).await {
                    return;
                }
                GRACE
            }
        };
        if !pause(wait, &end).await {
            return;
        }
    }
}

/// Waits until the broker answers; `false` when told to end.
async fn is_back(app: &App, end: &CancellationToken) -> bool {
    while app.transport().connect().await.is_err() {
        if !pause(RETRY, end).await {
            return false;
        }
    }
    true
}
