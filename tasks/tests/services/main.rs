//! The task against a real PostgreSQL: `DATABASE_URL` must name a server on which databases may be created.
//!
//! - `world`: a database, three directories and a worker of its own for each test
//! - `loading`: good files, duplicates, what is in the tables
//! - `refusing`: bad files, what may not be touched, names
//! - `crashes`: a run that ends at any of its steps, and the one after it
//! - `outages`: PostgreSQL away, restarted, changed, silent
//! - `corpus`: every file of the shared corpus, where it is there
#![allow(missing_docs, reason = "a test binary has no API")]

mod corpus;
mod crashes;
mod loading;
mod outages;
mod proxy;
mod refusing;
mod world;
