//! The app: its tasks, and what they need from the settings.

use std::sync::Arc;

use anyhow::Context as _;
use celeriac::App;
use celeriac_cli::Loaded;
use sensor_tasks::{Ingest, IngestSettings};

use crate::commands::options;

/// Its name, as `-A` says it.
pub(crate) const NAME: &str = "worker.tasks";

/// The app with its tasks and all that they need. Nothing is connected yet. Must be called within a runtime.
///
/// # Errors
/// A setting that cannot be used.
pub(crate) fn build(loaded: &Loaded) -> anyhow::Result<App> {
    let settings = options::settings(&loaded.options, loaded)?;
    let every_core = || std::thread::available_parallelism().map_or(1, usize::from);
    let slots = loaded
        .settings
        .worker_concurrency
        .unwrap_or_else(every_core);
    let ingest = Ingest::new(IngestSettings {
        database_url: settings.database_url.map(|url| url.reveal().to_owned()),
        watch_dir: settings.pipeline.watch_dir,
        quarantine_dir: settings.pipeline.quarantine_dir,
        log_dir: settings.pipeline.log_dir,
        max_connections: u32::try_from(slots).unwrap_or(u32::MAX),
    })
    .context("the settings of the tasks")?;
    let builder = App::builder(NAME, loaded.settings.clone());
    Ok(sensor_tasks::register(builder, Arc::new(ingest)).build()?)
}

/// The app of a program that only sends: no database, no directories.
///
/// # Errors
/// A setting that cannot be used, for example a broker's URL that is none.
pub(crate) fn for_sending(loaded: &Loaded) -> anyhow::Result<App> {
    Ok(App::builder(NAME, loaded.settings.clone()).build()?)
}
