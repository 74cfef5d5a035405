//! The whole program against real servers, in one test binary.

#![expect(
    non_local_definitions,
    reason = "the celery crate's macro writes its impl into a const"
)]

/// The ways to a Redis: TLS, sockets, sentinels, users.
mod addresses;
/// Messages that nobody can run, and what a person does with them.
mod bad_messages;
/// Chains, groups and chords.
mod canvas;
/// What is typed or set wrongly, and services that are away: what the person reads.
mod canvas_crashes;
mod command_errors;
/// Remote control.
mod control;
/// Every kind of file, from its drop to its fate.
mod corpus;
/// A program of the pipeline is killed, and started again.
mod crashes;
/// What the engine withstands: odd settings, odd messages, servers that are away.
mod engine;
/// What monitors are told.
mod events;
/// Files at hand, without Kafka and Redis.
mod ingest;
/// Our worker and Python's on the same Redis.
mod interop;
/// kombu's options: both languages use the same keys.
mod kombu_options;
/// Workers that die, sleep or are cut off.
mod liveness;
/// Workers of both languages on one queue, and both are killed.
mod mixed_fleet;
/// PostgreSQL or Redis is away while files come in.
mod outages;
/// Who owns a message when a worker dies or stops.
mod ownership;
/// Our worker and the Python twin come to the same, file by file.
mod parity;
/// The least that must be allowed in Redis.
mod permissions;
/// Files go in, rows come out.
mod pipeline;
/// What stands in the README.
mod readme;
/// What may stand in the topic besides our producer's records, and what is read twice.
mod records;
/// Results: what either language stores, either reads.
mod results;
/// Messages in every serializer, and values that JSON has no word for.
mod serializers;
/// Revoking by stamps.
mod stamps;
/// Every option of a task, against what Python does with it.
mod task_options;
/// The Python twin's own way from the directory to the rows.
mod twin;
