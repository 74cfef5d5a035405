//! A worker of one language on a Redis of its own, and what can be seen of a task from outside: the documents of its
//! result, the lines of the log, what is left in Redis. Two sides are given the same, and must show the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use celeriac::SendOptions;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use crate::eventually::eventually;
use crate::fleet::Fleet;
use crate::process::{PATIENCE, Process};
use crate::programs::python;

/// What a worker is told beside the tasks.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Settings under Celery's names, as JSON.
    pub settings: Map<String, Value>,
    /// Options of the command line.
    pub flags: Vec<&'static str>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Side {
    /// Redis and the client.
    pub fleet: Fleet,
    /// The worker.
    pub worker: Process,
    documents: Arc<Mutex<Vec<Value>>>,
    listening: JoinHandle<()>,
}

impl Drop for Side {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// What was seen of one task.
#[derive(Debug, PartialEq)]
pub struct Seen {
    /// The documents, one for each change.
    pub documents: Vec<Value>,
    /// The lines that name it: level, kind of process, text.
    pub lines: Vec<String>,
    /// Messages that wait and that are held.
    pub left: (usize, usize),
}

/// JSON as TOML, on one line.
fn toml(value: &Value) -> String {
    let Value::Object(map) = value else {
        return value.to_string();
    };
    let fields = map.iter();
    let fields = fields.map(|(name, value)| format!("{name:?} = {}", toml(value)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

impl Side {
    /// Our worker with the tasks of `tests/worker/options.rs`.
    pub async fn ours(told: &Told) -> Self {
        let settings = told.settings.iter();
        let settings = settings.map(|(name, value)| format!("{name} = {}\n", toml(value)));
        let fleet = Fleet::new(&settings.collect::<String>()).await;
        let mut command = fleet.command("ours");
        command.args(&told.flags);
        let worker = fleet.launch("ours", &mut command);
        Self::watch(fleet, worker).await
    }

    /// Python's with those of `tests/python/options.py`.
    pub async fn python(told: &Told) -> Self {
        let fleet = Fleet::new("").await;
        let mut command = python();
        command
            .args([
                "-m", "celery", "-A", "options", "worker", "-l", "info", "-c", "2",
            ])
            .args(["--without-gossip", "--without-mingle"])
            .args(&told.flags)
            .env("CELERY_BROKER_URL", fleet.redis.url(0))
            .env("CELERY_RESULT_BACKEND", fleet.redis.url(1))
            .env("PYTHONWARNINGS", "ignore")
            .env("CONF", json!(told.settings).to_string());
        let worker = fleet.launch("python", &mut command);
        Self::watch(fleet, worker).await
    }

    async fn watch(fleet: Fleet, mut worker: Process) -> Self {
        let client = redis::Client::open(fleet.redis.url(1)).expect("the URL is right");
        let mut channels = client.get_async_pubsub().await.expect("redis runs");
        let pattern = "celery-task-meta-*";
        channels.psubscribe(pattern).await.expect("redis runs");
        let documents = Arc::<Mutex<Vec<Value>>>::default();
        let heard = Arc::clone(&documents);
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the side, which aborts it"
        )]
        let listening = tokio::spawn(async move {
            let mut messages = channels.into_on_message();
            while let Some(message) = messages.next().await {
                let document = serde_json::from_slice(message.get_payload_bytes());
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push(document.expect("a document is JSON"));
            }
        });
        worker.says(" ready.").await;
        Self {
            fleet,
            worker,
            documents,
            listening,
        }
    }

    /// Sends a task under this id.
    pub async fn send(&self, task: &str, args: &Value, options: SendOptions) {
        let args = args.as_array().expect("a list").clone();
        self.fleet.send(task, args, options).await;
    }

    /// Waits until the log has a line of this task with this text.
    pub async fn says(&self, id: &str, text: &str) {
        let what = format!("{id}: {text}");
        eventually(&what, PATIENCE, async || {
            let log = self.worker.log();
            log.lines()
                .any(|line| line.contains(id) && line.contains(text))
                .then_some(())
        })
        .await;
    }

    /// What there is to see of it now.
    pub async fn seen(&self, id: &str) -> Seen {
        Seen {
            documents: self.documents(id),
            lines: lines(&self.worker.log(), id),
            left: (self.fleet.waiting().await, self.fleet.held().await),
        }
    }

    /// How often something was published of the task of which this was seen.
    pub fn published(&self, seen: &Seen) -> usize {
        let id = seen.documents.first().map(|document| &document["task_id"]);
        id.and_then(Value::as_str)
            .map_or(0, |id| self.all_documents(id).len())
    }

    fn documents(&self, id: &str) -> Vec<Value> {
        let mut documents = self.all_documents(id);
        // Python publishes some of them twice.
        documents.dedup();
        documents
    }

    fn all_documents(&self, id: &str) -> Vec<Value> {
        let documents = self
            .documents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_task = documents
            .iter()
            .filter(|document| document["task_id"] == id);
        of_task.map(comparable).collect()
    }
}

/// Without what differs from run to run, and from language to language.
fn comparable(document: &Value) -> Value {
    let mut document = document.clone();
    let map = document.as_object_mut().expect("a document is an object");
    for (key, value) in map.iter_mut() {
        match key.as_str() {
            "date_done" if !value.is_null() => *value = json!("<time>"),
            // Its last line names the exception.
            "traceback" => {
                let text = value.as_str().unwrap_or_default();
                let last = text.lines().rfind(|line| !line.trim().is_empty());
                *value = last.map_or(Value::Null, Value::from);
            }
            "result" if value.get("pid").is_some() => {
                *value = json!({"pid": "<pid>", "hostname": "<host>"});
            }
            _ => {}
        }
    }
    document
}

/// `INFO/MainProcess Task options.plain[id] received`, and for runs `INFO/ForkPoolWorker`.
fn lines(log: &str, id: &str) -> Vec<String> {
    let named = log.lines().filter(|line| line.contains(id));
    let lines = named.filter_map(|line| {
        let (_, rest) = line.strip_prefix('[')?.split_once(": ")?;
        let (origin, text) = rest.split_once("] ")?;
        let (level, process) = origin.split_once('/')?;
        let process = process.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        (level != "DEBUG").then(|| format!("{level}/{process} {}", without_runtime(text)))
    });
    let mut lines: Vec<String> = lines.collect();
    // Python's processes write independently of each other.
    lines.sort_by_key(|line| line.contains("/ForkPoolWorker "));
    lines
}

/// `succeeded in 0.005s: 1` without the digits.
fn without_runtime(text: &str) -> String {
    let timed = text
        .split_once(" succeeded in ")
        .and_then(|(before, after)| {
            let (_, result) = after.split_once("s: ")?;
            Some(format!("{before} succeeded in <runtime>s: {result}"))
        });
    timed.unwrap_or_else(|| text.to_owned())
}

/// A worker of each language that were told the same.
#[derive(Debug)]
pub struct Sides {
    /// Ours.
    pub ours: Side,
    /// Python's.
    pub python: Side,
}

/// How long both may take to show the same.
const SETTLE: Duration = Duration::from_secs(5);

/// For how long they must show it.
const LASTING: Duration = Duration::from_millis(150);

impl Sides {
    /// Both, ready.
    pub async fn told(told: &Told) -> Self {
        let (ours, python) = tokio::join!(Side::ours(told), Side::python(told));
        Self { ours, python }
    }

    /// Sends the same to both, and waits for the end of both, which a line with this text shows. Then both must show the
    /// same; it is returned.
    ///
    /// # Panics
    /// They do not.
    pub async fn agree(&self, task: &str, args: Value, options: SendOptions, end: &str) -> Seen {
        let id = uuid::Uuid::new_v4().to_string();
        let options = SendOptions {
            task_id: Some(id.clone()),
            ..options
        };
        let task = format!("options.{task}");
        for side in [&self.ours, &self.python] {
            side.send(&task, &args, options.clone()).await;
        }
        tokio::join!(self.ours.says(&id, end), self.python.says(&id, end));
        self.same(&id).await
    }

    /// Waits until both show the same of a task, and go on to do so: what is not there yet on either side is the same, too.
    ///
    /// # Panics
    /// They do not.
    pub async fn same(&self, id: &str) -> Seen {
        let deadline = Instant::now() + SETTLE;
        let mut last = None;
        loop {
            let (ours, python) = tokio::join!(self.ours.seen(id), self.python.seen(id));
            let is_over = Instant::now() > deadline;
            if is_over || (ours == python && last.as_ref() == Some(&ours)) {
                assert_eq!(ours, python, "left: ours, right: Python's");
                return ours;
            }
            last = (ours == python).then_some(ours);
            tokio::time::sleep(LASTING).await;
        }
    }
}
