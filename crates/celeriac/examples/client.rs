//! The smallest client: sends a file's task, waits for the result, handles the failure; Python's task is linked behind.
//!
//! `cargo run -p celeriac --example client -- data/split_1.csv` · Python counterpart: `python_interop/client.py`
#![expect(clippy::print_stdout, reason = "a client prints what it got")]

use std::time::Duration;

use celeriac::protocol::{canvas::Signature, result::TaskMeta};
use celeriac::{App, AsyncResult, SendOptions, Settings};
use serde_json::{Map, json};

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
    let mut report = Signature::new("reports.summarise", Vec::new(), Map::new());
    report.options.insert("queue".to_owned(), json!("reports"));
    let options = SendOptions {
        link: vec![report],
        ..SendOptions::default()
    };
    let task = "worker.tasks.process_file_task";
    let sent = app
        .send_task(task, vec![json!(path)], Map::new(), options)
        .await?;
    let ended = tokio::time::timeout(Duration::from_secs(60), end_of(&sent)).await;
    let meta = ended.map_err(|_elapsed| "no result within 60 s: does a worker run?")??;
    if let Some(exception) = meta.exception() {
        return Err(format!("the task has failed: {exception:?}").into());
    }
    println!("{}", meta.result);
    Ok(())
}

async fn end_of(sent: &AsyncResult) -> Result<TaskMeta, Box<dyn std::error::Error>> {
    loop {
        if let Some(meta) = sent.meta().await?.filter(|meta| meta.date_done.is_some()) {
            return Ok(meta);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
