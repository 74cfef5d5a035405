//! What the tests of the whole program share: real servers, real workers of both languages, and waiting
//! for a condition with a deadline.
//!
//! Servers that every test may use come from `make up` (environment variables); a test that kills or
//! fills one starts its own ([`redis::PrivateRedis`], [`private::PrivateServer`]).

pub mod afterwards;
pub mod canary;
pub mod certificates;
pub mod checks;
pub mod control;
pub mod copying;
pub mod eventually;
pub mod files;
pub mod fleet;
pub mod kafka;
pub mod marks;
pub mod odd_files;
pub mod pipeline;
pub mod postgres;
pub mod private;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod random;
pub mod redis;
pub mod sensor_file;
pub mod sentinel;
pub mod side;
pub mod twin;

use std::path::{Path, PathBuf};

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the checkout")
        .to_owned()
}

/// A variable that `make up` provides; without it the tests cannot run.
///
/// # Panics
/// It is not set.
pub fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run `make test`, or `make up` and then eval \"$(tests/services/services env)\""
        )
    })
}
