//! From Kafka to Redis: what `celeriac consume` does.
//!
//! Duties: take records, have several of them forwarded side by side, and tell the consumer which are done, so that it
//! commits. At a stop: take no more, finish what is in hand (but do not wait for a Redis that is away), commit, leave.
//!
//! Counterpart: the loop of `worker/kafka_consumer.py`.

use std::time::Duration;

use celeriac::App;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::dlq::DeadLetters;
use super::forwarder::{ForwardError, Forwarder};
use super::kafka_client::{ClientError, Listener};
use super::kafka_consumer::{Consumer, ConsumerError};
use super::kafka_producer::Producer;
use super::offsets::Ticket;
use super::record::Record;
use super::record_path::Root;
use crate::settings::Settings;

/// Records forwarded at a time; each one is a round trip to Redis, and they share a connection.
const SIDE_BY_SIDE: usize = 64;

/// At a stop, how long what is in hand may take.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Why relaying ended without being told to. Nothing is committed that is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// The settings are wrong.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The Kafka consumer ended.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// A record cannot be brought anywhere.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// There is no working directory, against which paths are resolved.
    #[error("cannot find the working directory")]
    WorkingDirectory(#[source] std::io::Error),
}

/// Relays records until told to stop.
///
/// # Errors
/// See [`RelayError`].
pub(crate) async fn relay(
    settings: &Settings,
    app: App,
    stop: &CancellationToken,
) -> Result<(), RelayError> {
    let kafka = &settings.kafka;
    let working_dir = std::env::current_dir().map_err(RelayError::WorkingDirectory)?;
    let root = Root::new(&working_dir, &settings.pipeline.watch_dir);
    let listener = Listener::new(
        kafka,
        "no records come in, no offsets are committed, and bad records wait",
    );
    let producer = Producer::new(kafka, listener.clone())?;
    let dead_letters = DeadLetters::new(producer, kafka.dlq_topic());
    let forwarder = Forwarder::new(app, root, dead_letters, stop.clone());
    let mut consumer = Consumer::start(kafka, listener)?;
    log::info!(
        "Consuming topic {} at {} as group {}; paths must be below {:?}",
        kafka.topic,
        kafka.bootstrap_servers,
        kafka.group,
        settings.pipeline.watch_dir,
    );
    let forwarded = take_and_forward(&forwarder, &mut consumer, stop).await;
    let closed = consumer.close().await;
    forwarder.close().await;
    forwarded?;
    Ok(closed?)
}

async fn take_and_forward(
    forwarder: &Forwarder,
    consumer: &mut Consumer,
    stop: &CancellationToken,
) -> Result<(), ForwardError> {
    let forward =
        async |(record, ticket): (Record, Ticket)| (ticket, forwarder.forward(&record).await);
    let mut in_hand = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            // cancel-safe: the token stays cancelled.
            () = stop.cancelled() => break,
            // cancel-safe: what is not returned stays in the set.
            Some((ticket, result)) = in_hand.next(), if !in_hand.is_empty() => match result {
                Ok(()) => consumer.done(&ticket),
                Err(ForwardError::Stopped) => break,
                Err(error) => return Err(error),
            },
            // cancel-safe: a record that is not returned stays in the channel.
            next = consumer.next(), if in_hand.len() < SIDE_BY_SIDE => match next {
                Some(next) => in_hand.push(forward(next)),
                // The thread has ended; closing says why.
                None => return Ok(()),
            },
        }
    }
    consumer.drain();
    let deadline = tokio::time::Instant::now() + STOP_GRACE;
    while let Ok(Some((ticket, result))) = tokio::time::timeout_at(deadline, in_hand.next()).await {
        if result.is_ok() {
            consumer.done(&ticket);
        }
    }
    if !in_hand.is_empty() {
        log::warn!(
            "Stopped with {} records in hand; they are handled again",
            in_hand.len()
        );
    }
    Ok(())
}
