//! Sending a task: the message that Python's `apply_async` writes, pushed to its queue.
//!
//! Counterpart: `celery/app/base.py::Celery.send_task` and `celery/app/amqp.py` @ 5.7.0. A task sent from
//! inside a task has that one as its parent, shares its root, and becomes one of its children.

use std::time::Duration;

use celeriac_protocol::canvas;
use celeriac_protocol::compose::TaskCall;
use celeriac_protocol::headers::TimeLimit;
use celeriac_protocol::message::{Routing, TaskMessage};
use celeriac_protocol::{Canvas, Compression, Serializer, timestamp};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{App, AsyncResult};
use crate::canvas::{Parent, Signature};
use crate::clock;
use crate::context::{Context, child};
use crate::events;
use crate::transport::{Error, Slot};

/// The waits of Celery's `task_publish_retry_policy`: three retries, the first at once.
const PUBLISH_RETRIES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(200),
];

/// What `apply_async` takes beside the arguments. Everything may be left out.
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    /// The id; a random one otherwise.
    pub task_id: Option<String>,
    /// The queue; that of the task, of `task_routes`, or `task_default_queue` otherwise.
    pub queue: Option<String>,
    /// Do not run before this much time has passed; wins over `eta`.
    pub countdown: Option<Duration>,
    /// Do not run before.
    pub eta: Option<DateTime<Utc>>,
    /// Do not run after.
    pub expires: Option<DateTime<Utc>>,
    /// 0 (first) to 9; `task_default_priority` otherwise.
    pub priority: Option<u8>,
    /// Hard time limit of this call, in whole seconds.
    pub time_limit: Option<Duration>,
    /// Soft time limit of this call, in whole seconds.
    pub soft_time_limit: Option<Duration>,
    /// Store no result; `None`: the task decides when it runs.
    pub ignore_result: Option<bool>,
    /// How the body is written; the task's serializer or `task_serializer` otherwise.
    pub serializer: Option<Serializer>,
    /// How the body is compressed; as the task says, or `task_compression`, otherwise.
    pub compression: Option<Compression>,
    /// Headers of one's own, beside Celery's.
    pub headers: Map<String, Value>,
    /// Sent with the result when the task has succeeded.
    pub link: Vec<Signature>,
    /// Sent with the failed task's id when the task has failed.
    pub link_error: Vec<Signature>,
}

impl SendOptions {
    /// As Celery writes them.
    ///
    /// # Errors
    /// [`SendError::Arguments`]: a callback or an errback cannot be written.
    pub(crate) fn into_map(self) -> Result<Map<String, Value>, SendError> {
        let seconds = |limit: Duration| Value::from(limit.as_secs());
        let time = |time: DateTime<Utc>| Value::from(timestamp::isoformat(time));
        let headers = Some(self.headers).filter(|headers| !headers.is_empty());
        let options = [
            ("task_id", self.task_id.map(Value::from)),
            ("queue", self.queue.map(Value::from)),
            (
                "countdown",
                self.countdown.map(|wait| wait.as_secs_f64().into()),
            ),
            ("eta", self.eta.map(time)),
            ("expires", self.expires.map(time)),
            ("priority", self.priority.map(Value::from)),
            ("time_limit", self.time_limit.map(seconds)),
            ("soft_time_limit", self.soft_time_limit.map(seconds)),
            ("ignore_result", self.ignore_result.map(Value::from)),
            (
                "serializer",
                self.serializer.map(|serializer| serializer.name().into()),
            ),
            (
                "compression",
                self.compression
                    .map(|compression| compression.name().into()),
            ),
            ("headers", headers.map(Value::Object)),
            ("link", links(self.link)?.as_deref().map(values)),
            ("link_error", links(self.link_error)?.as_deref().map(values)),
        ];
        let given = options.into_iter();
        let given = given.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Ok(given.collect())
    }
}

fn links(signatures: Vec<Signature>) -> Result<Option<Vec<canvas::Signature>>, SendError> {
    let links = signatures.into_iter();
    let links = links.map(|link| Ok(Canvas::try_from(link)?.to_signature()));
    let links = links.collect::<Result<Vec<_>, SendError>>()?;
    Ok((!links.is_empty()).then_some(links))
}

fn values(signatures: &[canvas::Signature]) -> Value {
    signatures.iter().map(canvas::Signature::to_value).collect()
}

/// Why a task could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The broker did not take it (or its answer was lost). Sending again with the same id is safe.
    #[error("cannot send task {task} to {url}")]
    Broker {
        /// The task's name.
        task: String,
        /// The broker, its password masked.
        url: String,
        /// The cause.
        source: Error,
    },
    /// The result backend was not told of a chord.
    #[error("cannot start the chord of {task} at {url}")]
    Backend {
        /// The canvas.
        task: String,
        /// The backend, its password masked.
        url: String,
        /// The cause.
        source: Error,
    },
    /// The arguments, or what follows the task, cannot be written in the serializer.
    #[error("cannot send task {task}: its arguments cannot be written: {reason}")]
    Arguments {
        /// The task's name.
        task: String,
        /// The cause.
        reason: String,
    },
}

impl SendError {
    /// The broker is away: try again, nothing was lost.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Broker { source, .. } | Self::Backend { source, .. } => source.is_transient(),
            Self::Arguments { .. } => false,
        }
    }
}

impl App {
    /// Sends a task by name, whoever has it. Returns when the broker has the message. What a task of this app says about
    /// its sending (queue, priority, expiry, time limits) holds where the options say nothing.
    ///
    /// # Errors
    /// [`SendError::Broker`]: the broker is away; [`SendError::is_transient`] says whether to try again.
    /// [`SendError::Arguments`]: msgpack or YAML has no form for one of them, or a callback cannot be written.
    pub async fn send_task(
        &self,
        name: &str,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
        options: SendOptions,
    ) -> Result<AsyncResult, SendError> {
        let unsent = |source| SendError::Broker {
            task: name.to_owned(),
            url: self.broker_url().to_owned(),
            source,
        };
        if let Some(parent) = Context::current() {
            parent.goes_on().map_err(unsent)?;
        }
        let options = self.with_those_of_the_task(name, options);
        let queue = self.queue(name, options.queue.as_deref());
        let message = self.compose(name, args, kwargs, options)?;
        let id = message.headers.id.clone();
        let is_ignored = message.headers.ignore_result == Some(true);
        // JSON writes everything; of the others, the caller is told before anything is sent.
        if message.serializer != Serializer::Json {
            let written = message.try_to_envelope(&Routing::queue(&queue), "");
            written.map_err(|error| SendError::Arguments {
                task: name.to_owned(),
                reason: error.to_string(),
            })?;
        }
        let published = self.publish_with_retries(&message, &queue).await;
        published.map_err(unsent)?;
        if let Some(parent) = Context::current() {
            parent.add_child(child(&id));
        }
        Ok(AsyncResult::new(self.clone(), id).ignored(is_ignored))
    }

    /// Counterpart: `Celery.send_task` in `celery/app/base.py`, which asks the registry for `_get_exec_options`.
    pub(crate) fn with_those_of_the_task(&self, name: &str, options: SendOptions) -> SendOptions {
        let Some(task) = self.registered(name) else {
            return options;
        };
        let (own, effective) = (&task.options, &task.effective);
        let expires = || Some(clock::after(own.expires?));
        SendOptions {
            queue: options.queue.or_else(|| own.queue.clone()),
            priority: options.priority.or(own.priority),
            expires: options.expires.or_else(expires),
            time_limit: options.time_limit.or(effective.time_limit),
            soft_time_limit: options.soft_time_limit.or(effective.soft_time_limit),
            ..options
        }
    }

    /// A client has no loop that comes back later, so it tries a few times: after a quiet hour its
    /// connection may be gone without its knowing.
    pub(super) async fn publish_with_retries(
        &self,
        message: &TaskMessage,
        queue: &str,
    ) -> Result<(), Error> {
        for wait in PUBLISH_RETRIES {
            match self.publish(message, queue).await {
                Err(error) if error.is_transient() => tokio::time::sleep(wait).await,
                settled => return settled,
            }
        }
        self.publish(message, queue).await
    }

    fn compose(
        &self,
        name: &str,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
        options: SendOptions,
    ) -> Result<TaskMessage, SendError> {
        let id = options
            .task_id
            .unwrap_or_else(|| Uuid::new_v4().to_string());
        let parent = Context::current();
        let inherited = parent
            .as_ref()
            .and_then(|running| Parent::of(self, running.message()).priority);
        let mut call = TaskCall {
            kwargs,
            origin: origin(),
            reply_to: Some(self.oid().to_owned()),
            eta: options.countdown.map(clock::after).or(options.eta),
            root_id: parent.as_ref().map(|parent| parent.root_id().to_owned()),
            parent_id: parent.as_ref().map(|parent| parent.id().to_owned()),
            ignore_result: options.ignore_result,
            priority: self.priority(options.priority.or(inherited)),
            timelimit: TimeLimit {
                hard: options.time_limit.map(|limit| limit.as_secs().into()),
                soft: options.soft_time_limit.map(|limit| limit.as_secs().into()),
            },
            headers: options.headers,
            ..TaskCall::new(name, id, args)
        };
        if let Some(expires) = options.expires {
            call.expire_at(expires, clock::now());
        }
        call.embed.callbacks = links(options.link)?;
        call.embed.errbacks = links(options.link_error)?;
        let mut message = call.into_message();
        self.write_as_told(&mut message, options.serializer, options.compression);
        Ok(message)
    }

    /// How a message is written: as its call says, else its task, else the settings.
    pub(crate) fn write_as_told(
        &self,
        message: &mut TaskMessage,
        serializer: Option<Serializer>,
        compression: Option<Compression>,
    ) {
        let task = self.registered(&message.headers.task);
        let task = task.map(|task| &task.options);
        let settings = self.settings();
        message.serializer = serializer
            .or(task.and_then(|task| task.serializer))
            .unwrap_or(settings.task_serializer);
        message.compression = compression
            .or(task.and_then(|task| task.compression))
            .or(settings.task_compression);
    }

    /// Pushes a message, with a delivery tag of its own, as kombu does.
    pub(crate) async fn publish(&self, message: &TaskMessage, queue: &str) -> Result<(), Error> {
        let priority = message.properties.priority.unwrap_or(0);
        let envelope = enveloped(message, queue);
        self.transport().publish(queue, priority, &envelope).await?;
        self.announce(message, queue).await;
        Ok(())
    }

    /// What [`Self::publish`] would push, and where, for whoever can do that in one step with something else.
    pub(crate) async fn post(
        &self,
        message: &TaskMessage,
        queue: &str,
    ) -> Result<Option<(Slot, String)>, Error> {
        let priority = message.properties.priority.unwrap_or(0);
        let slot = self.transport().slot(queue, priority).await?;
        Ok(slot.map(|slot| (slot, enveloped(message, queue))))
    }

    /// Tells monitors of a message that was sent, where the settings ask for that.
    pub(crate) async fn announce(&self, message: &TaskMessage, queue: &str) {
        if self.settings().task_send_sent_event {
            events::announce_sent(self, message, queue).await;
        }
    }

    /// Where a task is sent: as it is named, else as `task_routes` says.
    pub(crate) fn queue(&self, task: &str, named: Option<&str>) -> String {
        let settings = self.settings();
        named
            .or_else(|| settings.task_routes.queue(task))
            .unwrap_or(&settings.task_default_queue)
            .to_owned()
    }

    pub(crate) fn priority(&self, named: Option<u8>) -> i64 {
        named
            .or(self.settings().task_default_priority)
            .unwrap_or(0)
            .into()
    }
}

fn enveloped(message: &TaskMessage, queue: &str) -> String {
    let tag = Uuid::new_v4().to_string();
    message.to_envelope(&Routing::queue(queue), &tag).to_json()
}

/// Who sends: `gen<pid>@<host>`, as `celery/utils/nodenames.py::anon_nodename` writes it.
pub(crate) fn origin() -> String {
    let host = gethostname::gethostname();
    format!("gen{}@{}", std::process::id(), host.to_string_lossy())
}
