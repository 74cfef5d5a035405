//! The pipeline's two hops: a directory to Kafka, and Kafka to tasks in Redis.
//!
//! First hop, `celeriac produce`:
//! - [`watch`]: which files are complete
//! - [`announcer`]: watch → Kafka → journal
//! - [`journal`], `journal_writer`: what Kafka has acknowledged
//! - `unrecorded`: what has no row in the ledger yet, to be announced again
//!
//! Second hop, `celeriac consume`:
//! - [`relay`]: Kafka → forwarder → commit
//! - `forwarder`: a record becomes a task, or a dead letter (`dlq`)
//! - `offsets`: what may be committed
//!
//! Between them: [`file_event`], the record; `record_path`, which paths it may name; `record`, its raw form.
//! Below them: `kafka_client`, `kafka_producer` and `kafka_consumer`, the only files that know librdkafka, and
//! `outage`, one line at a time about a server that is away.

pub(crate) mod announcer;
mod dlq;
mod file_event;
mod forwarder;
mod journal;
mod journal_writer;
mod kafka_client;
mod kafka_consumer;
mod kafka_producer;
mod offsets;
mod outage;
mod record;
mod record_path;
pub(crate) mod relay;
mod unrecorded;
pub(crate) mod watch;
