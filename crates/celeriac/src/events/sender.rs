//! Sends what the buffer has, and says every few seconds that the worker lives.
//!
//! The first event goes at once; those that follow within some milliseconds share a message. While the broker is away
//! they wait, as many as the buffer holds.
//!
//! Counterpart: `EventDispatcher.flush` in `celery/events/dispatcher.py`, and `celery/worker/heartbeat.py` @ 5.7.0.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use celeriac_protocol::event::{EVENT_EXCHANGE, Event, Load, Sign, TASK_MULTI, Worker, envelope};
use serde_json::Number;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Events;
use crate::app::App;
use crate::backoff::{Backoff, Patience, pause};
use crate::transport::Error;

/// How long events gather while there are many.
const FLUSH_INTERVAL: Duration = Duration::from_millis(5);

/// How long a stop may take to send the last ones.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// What was dropped is mentioned at most this often.
const MENTION_INTERVAL: Duration = Duration::from_secs(10);

/// `freq` in a heartbeat that remote control has asked for.
const ASKED_FREQ: u64 = 5;

/// The system's name, which never changes.
static SYSTEM: LazyLock<String> = LazyLock::new(|| {
    std::fs::read_to_string("/proc/sys/kernel/ostype").map_or_else(
        |_| std::env::consts::OS.to_owned(),
        |name| name.trim().to_owned(),
    )
});

impl Events {
    /// Sends until told to end. `heartbeat`: how often to say that the worker lives; `None`: never.
    pub(crate) async fn run(self, app: App, heartbeat: Option<Duration>, end: CancellationToken) {
        if app.transport().fanout().is_none() {
            // Nobody takes them.
            self.switch(false);
            return;
        }
        let beating = async {
            if let Some(interval) = heartbeat {
                self.beat(&app, interval, &end).await;
            }
        };
        tokio::join!(self.send(&app, &end), beating);
        let farewell = async {
            while let Some(batch) = self.inner.buffer.take() {
                self.publish(&app, TASK_MULTI, &batch.list).await?;
            }
            match heartbeat {
                Some(interval) => self.publish_sign(&app, Sign::Offline, interval).await,
                None => Ok(()),
            }
        };
        match timeout(FAREWELL_MAX, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("events: {error}"),
            Err(_) => log::debug!("events: the broker does not answer"),
        }
    }

    /// A heartbeat out of turn.
    pub(crate) async fn beat_now(&self, app: &App) -> Result<(), Error> {
        let event = worker(Sign::Heartbeat, Number::from(ASKED_FREQ), None);
        self.publish(app, &event.routing_key(), &self.text(&event))
            .await
    }

    async fn send(&self, app: &App, end: &CancellationToken) {
        let patience = Patience::new(end.clone());
        let mut dropped = Dropped::default();
        loop {
            tokio::select! {
                biased;
                // cancel-safe: both only wait
                () = end.cancelled() => return,
                () = self.inner.buffer.filled() => {}
            }
            while let Some(batch) = self.inner.buffer.take() {
                let mut backoff = Backoff::new();
                while let Err(error) = self.publish(app, TASK_MULTI, &batch.list).await {
                    log::debug!("events: {} are not sent yet: {error}", batch.count);
                    self.mention(&mut dropped);
                    if !backoff.wait(&patience).await {
                        return;
                    }
                }
                self.mention(&mut dropped);
                if !batch.has_more && !pause(FLUSH_INTERVAL, end).await {
                    return;
                }
            }
        }
    }

    fn mention(&self, dropped: &mut Dropped) {
        if let Some(count) =
            dropped.worth_mentioning(self.inner.buffer.take_dropped(), Instant::now())
        {
            log::warn!(
                "{count} event(s) of tasks were dropped: the broker does not take them as fast as they come"
            );
        }
    }

    async fn beat(&self, app: &App, every: Duration, end: &CancellationToken) {
        let patience = Patience::new(end.clone());
        let mut backoff = Backoff::new();
        while !end.is_cancelled()
            && let Err(error) = self.publish_sign(app, Sign::Online, every).await
        {
            log::debug!("events: {error}");
            if !backoff.wait(&patience).await {
                return;
            }
        }
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                biased;
                // cancel-safe, both: they only wait
                () = end.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // One that is late says nothing: it is not tried again.
            if let Err(error) = self.publish_sign(app, Sign::Heartbeat, every).await {
                log::debug!("events: {error}");
            }
        }
    }

    async fn publish_sign(&self, app: &App, sign: Sign, every: Duration) -> Result<(), Error> {
        let (active, processed) = self.inner.state.activity();
        let load = Load {
            active,
            processed,
            loadavg: load_average(),
        };
        let freq = Number::from_f64(every.as_secs_f64()).unwrap_or_else(|| Number::from(0));
        let event = worker(sign, freq, Some(load));
        self.publish(app, &event.routing_key(), &self.text(&event))
            .await
    }

    async fn publish(&self, app: &App, routing_key: &str, body: &str) -> Result<(), Error> {
        publish(app, &self.inner.hostname, routing_key, body).await
    }
}

/// What was dropped and not yet mentioned, and when that was done last.
#[derive(Debug, Default)]
struct Dropped {
    count: u64,
    mentioned: Option<Instant>,
}

impl Dropped {
    /// Counts further ones; how many to mention now, if it is time for that.
    fn worth_mentioning(&mut self, further: u64, now: Instant) -> Option<u64> {
        self.count += further;
        let is_early = |mentioned: Instant| now.duration_since(mentioned) < MENTION_INTERVAL;
        if self.count == 0 || self.mentioned.is_some_and(is_early) {
            return None;
        }
        self.mentioned = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// Publishes one event, or a list of them, in the name of this node.
pub(super) async fn publish(
    app: &App,
    hostname: &str,
    routing_key: &str,
    body: &str,
) -> Result<(), Error> {
    let Some(fanout) = app.transport().fanout() else {
        return Ok(());
    };
    let tag = Uuid::new_v4().to_string();
    let message = envelope(body, hostname, routing_key, &tag);
    fanout.publish(EVENT_EXCHANGE, routing_key, &message).await
}

fn worker(sign: Sign, freq: Number, load: Option<Load>) -> Event<'static> {
    Event::Worker(Worker {
        sign,
        freq,
        load,
        sw_ident: "celeriac",
        sw_ver: crate::VERSION,
        sw_sys: &SYSTEM,
    })
}

/// Counterpart: `celery/utils/sysinfo.py::load_average`; zeros where there is no `/proc`.
fn load_average() -> [f64; 3] {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text
        .split_whitespace()
        .map(|word| word.parse::<f64>().unwrap_or_default());
    [(); 3].map(|()| (numbers.next().unwrap_or_default() * 1e2).ceil() / 1e2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_mentioned_every_ten_seconds_and_none_is_forgotten() {
        let mut dropped = Dropped::default();
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(dropped.worth_mentioning(0, begin), None);
        assert_eq!(dropped.worth_mentioning(3, begin), Some(3));
        assert_eq!(dropped.worth_mentioning(4, after(5)), None);
        assert_eq!(dropped.worth_mentioning(0, after(11)), Some(4));
        assert_eq!(dropped.worth_mentioning(0, after(30)), None);
    }
}
