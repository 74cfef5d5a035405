//! What does not fit together, said once when a worker starts: nothing of it keeps a worker from working, and each leads
//! to something that is hard to find out later.
//!
//! Counterpart: none; Celery's documentation warns of these ("Caveats" of Redis, `visibility_timeout`), and its monitors
//! of clocks (`celery/events/state.py`).

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::backoff::pause;
use crate::clock;
use crate::state::TaskLimits;
use crate::transport::ServerFacts;

/// Clocks that differ by more than this make ETAs and expiry times wrong enough to be noticed.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// How often the broker is asked until it answers.
const RETRY: Duration = Duration::from_secs(5);

/// Says what is wrong with the settings, and with the server as soon as it answers.
pub(crate) async fn run(app: App, of_worker: TaskLimits, end: CancellationToken) {
    for warning in of_settings(&app, of_worker) {
        log::warn!("{warning}");
    }
    loop {
        match app.transport().facts().await {
            Ok(facts) => {
                for warning in of_server(&facts, clock::now()) {
                    log::warn!("{warning}");
                }
                return;
            }
            // The consumer speaks of the outage. A right that is missing is no outage.
            Err(error) if !error.is_transient() => {
                return log::debug!("could not look at the broker's settings: {error}");
            }
            Err(_) => {}
        }
        if !pause(RETRY, &end).await {
            return;
        }
    }
}

fn of_settings(app: &App, of_worker: TaskLimits) -> Vec<String> {
    let visible = app.settings().broker_transport_options.visibility_timeout;
    let mut warnings = Vec::new();
    let mut check = |whose: &str, soft: Option<Duration>, hard: Option<Duration>| {
        if let Some(hard) = hard.filter(|hard| *hard > visible) {
            warnings.push(format!(
                "the time limit of {whose} ({} s) is longer than the visibility timeout ({} s): if a Python worker runs it \
                 for longer than that, it is delivered again meanwhile. Raise visibility_timeout in \
                 [broker_transport_options] of all workers.",
                hard.as_secs_f64(),
                visible.as_secs_f64(),
            ));
        }
        if let (Some(soft), Some(hard)) = (soft, hard)
            && soft > hard
        {
            warnings.push(format!(
                "the soft time limit of {whose} ({} s) is longer than its time limit ({} s), and never comes.",
                soft.as_secs_f64(),
                hard.as_secs_f64(),
            ));
        }
    };
    check("the command line", of_worker.soft, of_worker.hard);
    for name in app.task_names() {
        if let Some(task) = app.registered(&name) {
            let options = &task.effective;
            check(&name, options.soft_time_limit, options.time_limit);
        }
    }
    warnings
}

fn of_server(facts: &ServerFacts, now: DateTime<Utc>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(policy) = &facts.eviction_policy {
        warnings.push(format!(
            "the broker throws keys away when its memory is full (maxmemory-policy {policy}): messages can be lost. Set \
             maxmemory-policy noeviction in Redis.",
        ));
    }
    let skew = (now - facts.now).abs().to_std().unwrap_or_default();
    if skew > SKEW_MAX {
        let direction = if now > facts.now {
            "ahead of"
        } else {
            "behind"
        };
        warnings.push(format!(
            "the clock of this machine is {:.1} s {direction} the broker's: ETAs, expiry times and events are off by as \
             much. Synchronize the clocks (NTP).",
            skew.as_secs_f64(),
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::app::Settings;

    fn with(time_limit: u64, soft_time_limit: u64) -> Vec<String> {
        let app = App::builder("proj", Settings::default()).build();
        let limits = TaskLimits {
            soft: Some(Duration::from_secs(soft_time_limit)),
            hard: Some(Duration::from_secs(time_limit)),
        };
        of_settings(&app.expect("the URLs are right"), limits)
    }

    #[test]
    fn limits_that_do_not_fit_are_told() {
        assert!(with(3600, 60).is_empty());
        let too_long = with(3601, 60).concat();
        assert!(
            too_long.contains("(3601 s) is longer than the visibility timeout (3600 s)"),
            "{too_long}"
        );
        let never = with(60, 61).concat();
        assert!(never.contains("never comes"), "{never}");
    }

    #[test]
    fn a_server_that_forgets_and_clocks_that_differ_are_told() {
        let now = clock::now();
        let facts = |seconds: i64, policy: Option<&str>| ServerFacts {
            now: now - TimeDelta::seconds(seconds),
            eviction_policy: policy.map(ToOwned::to_owned),
        };
        assert!(of_server(&facts(4, None), now).is_empty());
        let ahead = of_server(&facts(60, None), now).concat();
        assert!(ahead.contains("60.0 s ahead of the broker's"), "{ahead}");
        let behind = of_server(&facts(-60, None), now).concat();
        assert!(behind.contains("60.0 s behind the broker's"), "{behind}");
        let forgets = of_server(&facts(0, Some("allkeys-lru")), now).concat();
        assert!(
            forgets.contains("maxmemory-policy allkeys-lru"),
            "{forgets}"
        );
    }
}
