//! What becomes of one record: a task in Redis, or a copy in the dead letter topic.
//!
//! Guarantee F3: [`Forwarder::forward`] returns `Ok` only when Redis has accepted the message or Kafka has the copy.
//! While Redis is away (or full, loading, read-only) the record waits here, its offset uncommitted. A send whose reply
//! was lost is repeated with the same task id; the ledger makes the second run harmless.
//!
//! Counterpart: the body of the loop in `worker/kafka_consumer.py`.

use std::time::Duration;

use celeriac::{App, Delay as _, SendOptions, failpoint};
use rand::Rng as _;
use sensor_tasks::process_file_task;
use tokio_util::sync::CancellationToken;

use super::dlq::DeadLetters;
use super::file_event::{self, FileEvent};
use super::kafka_producer::DeliveryError;
use super::outage::Outage;
use super::record::Record;
use super::record_path::Root;
use super::watch::entry::{Look, look};

/// First and longest pause between two attempts to send to Redis.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// Why a record is not where it belongs; its offset must not be committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    /// Told to stop while Redis was away.
    #[error("stopped")]
    Stopped,
    /// The dead letter topic's producer cannot go on.
    #[error("cannot keep a bad record in the dead letter topic")]
    DeadLetter(#[source] DeliveryError),
    /// The task cannot be sent, now or later.
    #[error(transparent)]
    Refused(celeriac::SendError),
}

/// Sends records on. One for all of them.
pub(crate) struct Forwarder {
    app: App,
    root: Root,
    dead_letters: DeadLetters,
    redis: Outage,
    /// Held by the one record that tries while Redis is away; all others wait for it.
    attempt: tokio::sync::Mutex<()>,
    stop: CancellationToken,
}

impl Forwarder {
    pub(crate) fn new(
        app: App,
        root: Root,
        dead_letters: DeadLetters,
        stop: CancellationToken,
    ) -> Self {
        let url = celeriac::settings::mask_url(&app.settings().broker_url);
        let redis = Outage::new(format!("The broker at {url}"));
        Self {
            app,
            root,
            dead_letters,
            redis,
            attempt: tokio::sync::Mutex::new(()),
            stop,
        }
    }

    /// Brings the record where it belongs.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub(crate) async fn forward(&self, record: &Record) -> Result<(), ForwardError> {
        match file_event::parse(record.value.as_deref(), &self.root) {
            Ok(event) => self.send_task(record, &event).await,
            Err(bad) => {
                log::error!(
                    "Bad record ({}) in topic {}, partition {}, offset {}: {bad}",
                    bad.class(),
                    record.partition.topic,
                    record.partition.number,
                    record.offset,
                );
                self.dead_letters
                    .keep(record, &bad)
                    .await
                    .map_err(ForwardError::DeadLetter)
            }
        }
    }

    /// Closes the dead letter topic's producer.
    pub(crate) async fn close(self) {
        self.dead_letters.close().await;
    }

    async fn send_task(&self, record: &Record, event: &FileEvent) -> Result<(), ForwardError> {
        let task_id = task_id(record, event).await;
        if self.try_once(event, &task_id).await? {
            return Ok(());
        }
        let mut pause = RETRY_FIRST;
        let _attempt = self.attempt.lock().await;
        loop {
            if self.try_once(event, &task_id).await? {
                self.redis.over();
                return Ok(());
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::select! {
                // cancel-safe, both: nothing is under way.
                () = self.stop.cancelled() => return Err(ForwardError::Stopped),
                () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
            }
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }

    /// True if Redis has the message; false if it has to be tried again.
    async fn try_once(&self, event: &FileEvent, task_id: &str) -> Result<bool, ForwardError> {
        if self.stop.is_cancelled() && self.redis.is_on() {
            return Err(ForwardError::Stopped);
        }
        let options = SendOptions {
            task_id: Some(task_id.to_owned()),
            ..SendOptions::default()
        };
        failpoint("before_enqueue");
        match process_file_task::new(event.file_path.clone())
            .apply_async(&self.app, options)
            .await
        {
            Ok(_) => {
                failpoint("after_enqueue");
                log::info!("Sent {:?} as task {task_id}", event.file_path);
                Ok(true)
            }
            // Also what is not transient by itself (a wrong type, a missing right): a person can mend it, and the
            // record is good.
            Err(error @ celeriac::SendError::Broker { .. }) => {
                let reason = anyhow::Error::new(error);
                let consequence = "tasks wait, and nothing is committed";
                self.redis.note(consequence, &format_args!("{reason:#}"));
                Ok(false)
            }
            Err(error) => Err(ForwardError::Refused(error)),
        }
    }
}

/// The id of the file's version: as announced; for a bare record, as it is now; else the record's own place.
async fn task_id(record: &Record, event: &FileEvent) -> String {
    let version = match event.version {
        Some(version) => Some(version),
        None => {
            let path = event.resolved.clone();
            let looked = tokio::task::spawn_blocking(move || look(&path)).await;
            match looked.expect("a look does not panic") {
                Ok(Look::File(version)) => Some(version),
                Ok(Look::Nothing | Look::Other(_)) | Err(_) => None,
            }
        }
    };
    let id = match version {
        Some(version) => file_event::task_id_of_version(&event.resolved, version),
        None => {
            let partition = &record.partition;
            file_event::task_id_of_record(&partition.topic, partition.number, record.offset)
        }
    };
    id.to_string()
}
