//! The whole program against real servers, in one test binary.

#![expect(
    non_local_definitions,
    reason = "the celery crate's macro writes its impl into a const"
)]

/// Our worker and Python's on the same Redis.
mod interop;
/// Who owns a message when a worker dies or stops.
mod ownership;
