//! The app: its tasks, and what they need from the settings.

use std::sync::Arc;

use anyhow::Context as _;
use celeriac::App;
use celeriac_cli::Loaded;
use sensor_tasks::{Ingest, IngestSettings};

use crate::commands::options;
use crate::settings::Settings;

/// Its name, as `-A` says it.
pub(crate) const NAME: &str = "worker.tasks";

/// The app with its tasks and all that they need. Nothing is connected yet. Must be called within a runtime.
///
/// # Errors
/// A setting that cannot be used.
pub(crate) fn build(loaded: &Loaded) -> anyhow::Result<App> {
    let settings = options::settings(&loaded.options, loaded)?;
    let slots = loaded
        .settings
        .worker_concurrency
        .unwrap_or_else(every_core);
    let ingest = ingest(&settings, u32::try_from(slots).unwrap_or(u32::MAX))?;
    let builder = App::builder(NAME, loaded.settings.clone());
    Ok(sensor_tasks::register(builder, Arc::new(ingest)).build()?)
}

/// How much is done at a time unless the settings say otherwise: one thing for each CPU.
pub(crate) fn every_core() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the tasks share, for whoever runs one or reads the ledger. Must be called within a runtime.
///
/// # Errors
/// A setting that cannot be used.
pub(crate) fn ingest(settings: &Settings, max_connections: u32) -> anyhow::Result<Ingest> {
    let pipeline = settings.pipeline.clone();
    Ingest::new(IngestSettings {
        database_url: settings
            .database_url
            .as_ref()
            .map(|url| url.reveal().to_owned()),
        watch_dir: pipeline.watch_dir,
        quarantine_dir: pipeline.quarantine_dir,
        log_dir: pipeline.log_dir,
        max_connections,
    })
    .context("the settings of the tasks")
}

/// The app of a program that only sends: no database, no directories.
///
/// # Errors
/// A setting that cannot be used, for example a broker's URL that is none.
pub(crate) fn for_sending(loaded: &Loaded) -> anyhow::Result<App> {
    Ok(App::builder(NAME, loaded.settings.clone()).build()?)
}
