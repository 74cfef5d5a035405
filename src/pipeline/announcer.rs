//! From the watch to Kafka to the journal: what `celeriac produce` does.
//!
//! Duties:
//! 1. announce what the watch hands out, many records under way at a time, and write down each one that Kafka has
//!    acknowledged, in that order (Guarantee F3);
//! 2. say so while Kafka is away, and wait;
//! 3. announce again what has no row in the ledger after a while, if there is a ledger to ask ([`super::unrecorded`]);
//! 4. begin anew, journal and all, when the watch directory was replaced;
//! 5. stop at once when told to: what is not acknowledged by then is announced by the next start.
//!
//! Counterpart: the main loop of `kafka_producer.py`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use sensor_tasks::Ingest;
use tokio_util::sync::CancellationToken;

use super::file_event::compose;
use super::journal::{Announced, Entry, Journal, JournalError};
use super::journal_writer::JournalWriter;
use super::kafka_client::{ClientError, Listener};
use super::kafka_producer::{Delivered, DeliveryError, Outgoing, Producer};
use super::unrecorded::Unrecorded;
use super::watch::{Found, Item, Options, Until, WatchError, Watcher, check_directory, remembered};
use crate::settings::Settings;

/// Records sent and not acknowledged.
const IN_FLIGHT: usize = 1000;

/// How often to look whether Kafka keeps us waiting, and from when on that is said.
const TICK: Duration = Duration::from_secs(1);
const WAITING_IS_LONG: Duration = Duration::from_secs(3);

/// At a stop, how long to wait for acknowledgements that are already under way: it spares a second announcement.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// How long a watch directory that went away may take to come back (someone replaces it: two renames).
const DIRECTORY_RETURNS: Duration = Duration::from_secs(10);

/// What to announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything, until stopped.
    All,
    /// What is there. Gives up when nothing moves for this long.
    WhatIsThere(Duration),
}

/// Why announcing ended without being told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnounceError {
    /// About the watch directory.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// About the journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The settings are wrong.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Kafka would never take the record.
    #[error("cannot announce {path:?}")]
    Refused {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: DeliveryError,
    },
    /// `--once`: Kafka is away. What it has acknowledged is in the journal.
    #[error(
        "Kafka at {servers} has acknowledged nothing for {seconds} s; {waiting} files are not announced; is it up?"
    )]
    Unreachable {
        /// Where it should be.
        servers: String,
        /// The limit.
        seconds: u64,
        /// In flight.
        waiting: usize,
    },
    /// `--once`: files keep changing. Everything else was announced.
    #[error(
        "some files in {directory} kept changing for {seconds} s and were not announced; start again when they are complete"
    )]
    StillWritten {
        /// The watch directory.
        directory: String,
        /// The limit.
        seconds: u64,
    },
}

/// Announces files until told to stop, or until everything in `scope` is announced. `ledger`: where to look for what
/// has become of them.
///
/// # Errors
/// See [`AnnounceError`].
pub(crate) async fn announce(
    settings: &Settings,
    scope: Scope,
    ledger: Option<Arc<Ingest>>,
    stop: &CancellationToken,
) -> Result<(), AnnounceError> {
    loop {
        let mut session = Session::begin(settings, scope, ledger.clone())?;
        let end = session.run(stop).await;
        session.close().await;
        match end {
            Err(AnnounceError::Watch(WatchError::Replaced(directory))) => {
                log::warn!(
                    "The watch directory {directory:?} was moved, removed or replaced; looking for the new one"
                );
                directory_returns(settings, stop).await?;
            }
            // A new producer begins with what is not in the journal.
            Err(AnnounceError::Refused {
                source: DeliveryError::Fatal(reason),
                ..
            }) => {
                log::error!("The Kafka producer is made anew: {reason}");
                tokio::time::sleep(TICK).await;
            }
            other => return other,
        }
        if stop.is_cancelled() {
            return Ok(());
        }
    }
}

async fn directory_returns(
    settings: &Settings,
    stop: &CancellationToken,
) -> Result<(), WatchError> {
    let deadline = Instant::now() + DIRECTORY_RETURNS;
    loop {
        match check_directory(&settings.pipeline.watch_dir) {
            Err(WatchError::Missing(_)) if Instant::now() < deadline && !stop.is_cancelled() => {}
            other => return other,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A record that Kafka has, or never will.
type Sent = (Found, Result<Delivered, DeliveryError>);

/// One watch, one journal, one producer.
struct Session<'a> {
    settings: &'a Settings,
    scope: Scope,
    producer: Producer,
    journal: JournalWriter,
    watcher: Option<Watcher>,
    in_flight: FuturesUnordered<BoxFuture<'static, Sent>>,
    under_way: UnderWay,
    unrecorded: Option<Unrecorded>,
    /// When something last went forward.
    progress: Instant,
}

impl<'a> Session<'a> {
    fn begin(
        settings: &'a Settings,
        scope: Scope,
        ledger: Option<Arc<Ingest>>,
    ) -> Result<Self, AnnounceError> {
        let pipeline = &settings.pipeline;
        // First, since the journal usually lies in it.
        check_directory(&pipeline.watch_dir)?;
        let (journal, announced): (Journal, Announced) = Journal::open(&pipeline.journal)?;
        let producer = Producer::new(
            &settings.kafka,
            Listener::new(&settings.kafka, "new files wait"),
        )?;
        let options = Options {
            directory: pipeline.watch_dir.clone(),
            settle: pipeline.settle,
            rescan: pipeline.rescan,
            until: match scope {
                Scope::All => Until::Stopped,
                Scope::WhatIsThere(_) => Until::NothingWaits,
            },
        };
        let known = announced.len();
        let unrecorded = match ledger {
            Some(ledger) => {
                let directory = &pipeline.watch_dir;
                let earlier =
                    remembered(directory, &announced).map_err(|source| WatchError::Unreadable {
                        directory: directory.clone(),
                        source,
                    })?;
                Some(Unrecorded::new(ledger, pipeline.announce_again, earlier))
            }
            None => None,
        };
        let watcher = Watcher::start(options, announced)?;
        // From here on nothing is missed, so that who reads this may begin to write.
        log::info!(
            "Watching {:?}, announcing to topic {} at {} ({known} files were announced before)",
            pipeline.watch_dir,
            settings.kafka.topic,
            settings.kafka.bootstrap_servers,
        );
        Ok(Self {
            settings,
            scope,
            producer,
            journal: JournalWriter::new(journal),
            watcher: Some(watcher),
            in_flight: FuturesUnordered::new(),
            under_way: UnderWay::default(),
            unrecorded,
            progress: Instant::now(),
        })
    }

    async fn run(&mut self, stop: &CancellationToken) -> Result<(), AnnounceError> {
        let mut tick = tokio::time::interval(TICK);
        while self.watcher.is_some() || !self.in_flight.is_empty() {
            tokio::select! {
                biased;
                // cancel-safe: the token stays cancelled.
                () = stop.cancelled() => return self.finish_what_is_under_way().await,
                // cancel-safe: a record that is not returned stays in the set.
                Some(sent) = self.in_flight.next(), if !self.in_flight.is_empty() => self.acknowledged(sent).await?,
                // cancel-safe: an item that is not returned stays in the channel.
                item = next(&mut self.watcher), if self.in_flight.len() < IN_FLIGHT => self.item(item).await?,
                // cancel-safe: a question that was not answered stays under way.
                again = overdue(&mut self.unrecorded) => self.again(again),
                // cancel-safe: a tick that is not seen comes again.
                _ = tick.tick() => self.tick().await?,
            }
        }
        Ok(())
    }

    async fn item(&mut self, item: Option<Item>) -> Result<(), AnnounceError> {
        match item {
            Some(Item::Found(found)) => {
                self.send(found);
            }
            Some(Item::Gone(name)) => {
                if let Some(unrecorded) = &mut self.unrecorded {
                    unrecorded.gone(&name);
                }
                if self.under_way.leave(&name) {
                    self.journal.save(vec![Entry::Gone(name)]).await;
                }
            }
            None => {
                if let Some(watcher) = self.watcher.take() {
                    watcher.outcome().await?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, found: Found) {
        if self.in_flight.is_empty() {
            self.progress = Instant::now();
        }
        self.under_way.begin(&found.key);
        let (producer, topic) = (self.producer.clone(), self.settings.kafka.topic.clone());
        self.in_flight.push(send(producer, topic, found).boxed());
    }

    fn again(&mut self, files: Vec<Found>) {
        let Some(first) = files.first() else {
            return;
        };
        log::warn!(
            "{} announced files have no row in ingest_files yet, the first is {:?}; announcing them again",
            files.len(),
            first.path
        );
        for found in files {
            self.send(found);
        }
    }

    /// Writes down this record and all others that are ready: one `fdatasync` for all.
    async fn acknowledged(&mut self, first: Sent) -> Result<(), AnnounceError> {
        self.progress = Instant::now();
        let mut entries = Vec::new();
        let mut next = Some(first);
        let mut refused = None;
        while let Some((found, result)) = next {
            match result {
                Ok(Delivered { partition, offset }) => {
                    log::info!(
                        "Announced {:?} (partition {partition}, offset {offset})",
                        found.path
                    );
                    let has_left = self.under_way.end(&found.key);
                    entries.push(Entry::Announced(found.key.clone(), found.version));
                    if has_left {
                        entries.push(Entry::Gone(found.key));
                    } else if let Some(unrecorded) = &mut self.unrecorded {
                        unrecorded.announced(found);
                    }
                }
                Err(source) => {
                    refused = Some(AnnounceError::Refused {
                        path: found.path,
                        source,
                    })
                }
            }
            next = self.in_flight.next().now_or_never().flatten();
        }
        self.journal.save(entries).await;
        refused.map_or(Ok(()), Err)
    }

    async fn tick(&mut self) -> Result<(), AnnounceError> {
        self.journal.save(Vec::new()).await;
        if let Some(unrecorded) = &mut self.unrecorded
            && self.in_flight.len() < IN_FLIGHT
        {
            unrecorded.ask();
        }
        self.check_progress()
    }

    fn check_progress(&self) -> Result<(), AnnounceError> {
        let idle = self.progress.elapsed();
        let waiting = self.in_flight.len();
        if waiting > 0 && idle >= WAITING_IS_LONG {
            self.producer.note_waiting(waiting);
        }
        let Scope::WhatIsThere(limit) = self.scope else {
            return Ok(());
        };
        // A file that is still settling has not kept anybody waiting yet.
        let limit = limit.max(self.settings.pipeline.settle * 2);
        if idle < limit {
            return Ok(());
        }
        let seconds = limit.as_secs();
        Err(if waiting > 0 {
            AnnounceError::Unreachable {
                servers: self.settings.kafka.bootstrap_servers.clone(),
                seconds,
                waiting,
            }
        } else {
            AnnounceError::StillWritten {
                directory: self.settings.pipeline.watch_dir.display().to_string(),
                seconds,
            }
        })
    }

    async fn finish_what_is_under_way(&mut self) -> Result<(), AnnounceError> {
        let deadline = tokio::time::Instant::now() + STOP_GRACE;
        while let Ok(Some(sent)) = tokio::time::timeout_at(deadline, self.in_flight.next()).await {
            self.acknowledged(sent).await?;
        }
        if !self.in_flight.is_empty() {
            log::info!(
                "Stopped with {} records that Kafka has not acknowledged; the next start announces their files, and all others",
                self.in_flight.len()
            );
        }
        Ok(())
    }

    async fn close(self) {
        if let Some(watcher) = self.watcher {
            watcher.stop();
        }
        drop(self.in_flight);
        self.producer.close().await;
    }
}

/// The next item; for ever silent when the watch has ended.
async fn next(watcher: &mut Option<Watcher>) -> Option<Item> {
    match watcher {
        Some(watcher) => watcher.next().await,
        None => std::future::pending().await,
    }
}

/// Files to announce again; for ever silent where there is no ledger.
async fn overdue(unrecorded: &mut Option<Unrecorded>) -> Vec<Found> {
    match unrecorded {
        Some(unrecorded) => unrecorded.overdue().await,
        None => std::future::pending().await,
    }
}

async fn send(producer: Producer, topic: String, found: Found) -> Sent {
    let record = compose(&found.path, &found.name, found.version);
    let outgoing = Outgoing {
        topic: &topic,
        key: Some(found.path.as_bytes()),
        value: Some(record.as_bytes()),
        headers: &[],
    };
    let result = producer.deliver(outgoing).await;
    (found, result)
}

/// Names whose records are under way, so that a file which leaves meanwhile is forgotten *after* it is written down.
#[derive(Debug, Default)]
struct UnderWay {
    records: HashMap<String, usize>,
    left: HashSet<String>,
}

impl UnderWay {
    fn begin(&mut self, name: &str) {
        *self.records.entry(name.to_owned()).or_default() += 1;
        self.left.remove(name);
    }

    /// The file left. True if this can be written down now.
    fn leave(&mut self, name: &str) -> bool {
        let can_now = !self.records.contains_key(name);
        if !can_now {
            self.left.insert(name.to_owned());
        }
        can_now
    }

    /// A record was acknowledged. True if the file has left meanwhile.
    fn end(&mut self, name: &str) -> bool {
        let Some(records) = self.records.get_mut(name) else {
            return false;
        };
        *records -= 1;
        if *records > 0 {
            return false;
        }
        self.records.remove(name);
        self.left.remove(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_leaves_while_its_record_is_under_way_is_forgotten_afterwards() {
        let mut under_way = UnderWay::default();
        assert!(under_way.leave("a.csv"), "nothing under way");
        under_way.begin("a.csv");
        under_way.begin("a.csv");
        assert!(!under_way.leave("a.csv"));
        assert!(!under_way.end("a.csv"), "one is still under way");
        assert!(under_way.end("a.csv"));
    }

    #[test]
    fn a_file_that_came_back_is_not_forgotten() {
        let mut under_way = UnderWay::default();
        under_way.begin("a.csv");
        under_way.leave("a.csv");
        under_way.begin("a.csv");
        assert!(!under_way.end("a.csv"));
        assert!(!under_way.end("a.csv"));
    }
}
