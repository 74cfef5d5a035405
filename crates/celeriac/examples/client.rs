//! The smallest client: sends a file's task, waits for the result, handles the failure; Python's task is linked behind.
//!
//! `cargo run -p celeriac --example client -- data/split_1.csv` · Python counterpart: `python_interop/client.py`
#![expect(clippy::print_stdout, reason = "a client prints what it got")]

use std::time::Duration;

use celeriac::{App, ResultError, Settings, signature};
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: client PATH")?;
    let settings = Settings {
        broker_url: std::env::var("CELERY_BROKER_URL")?,
        result_backend: Some(std::env::var("CELERY_RESULT_BACKEND")?),
        ..Settings::default()
    };
    let app = App::builder("client", settings).build()?;
    // Either worker runs the file's task; only Python's has this one, on a queue of its own.
    let report = signature("reports.summarise", ()).set("queue", "reports");
    let file = signature("worker.tasks.process_file_task", (path,)).link(report);
    let sent = file.delay(&app).await?;
    match sent.get::<Value>(Duration::from_secs(60)).await {
        Ok(value) => println!("{value}"),
        Err(ResultError::Failed { exception, .. }) => {
            return Err(format!("the task has failed: {}", exception.repr()).into());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
