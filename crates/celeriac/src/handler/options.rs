//! What a task says about itself, and what holds where it says nothing.
//!
//! Precedence: the message > the task > the settings > the worker's command line.
//!
//! Counterpart: the attributes of `celery/app/task.py::Task` @ 5.7.0, and its `from_config`.

use std::time::Duration;

use celeriac_protocol::{Compression, Serializer};

use super::{ExceptionKind, RateLimit};
use crate::app::Settings;

/// `Task.default_retry_delay`: three minutes.
pub const DEFAULT_RETRY_DELAY: Duration = Duration::from_secs(180);

/// `Task.retry_backoff_max`: ten minutes.
pub const DEFAULT_BACKOFF_MAX: Duration = Duration::from_secs(600);

/// How often a task may be retried. Celery's names: a number, or `None` for without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxRetries {
    /// This often.
    Times(u32),
    /// Without end.
    Unlimited,
}

impl Default for MaxRetries {
    /// Three times, as in Celery.
    fn default() -> Self {
        Self::Times(3)
    }
}

impl MaxRetries {
    /// Whether the `count`th retry is still allowed.
    pub(crate) fn allows(self, count: u64) -> bool {
        match self {
            Self::Times(times) => count <= u64::from(times),
            Self::Unlimited => true,
        }
    }
}

/// What a task may decide for itself, under the names of Celery's task attributes. `None`: a setting decides, or
/// Celery's default.
///
/// ```
/// # use std::time::Duration;
/// # use celeriac::TaskOptions;
/// let options = TaskOptions {
///     acks_late: Some(true),
///     autoretry_for: vec!["ConnectionError".into(), "TimeoutError".into()],
///     retry_backoff: Some(Duration::from_secs(1)),
///     time_limit: Some(Duration::from_secs(60)),
///     ..TaskOptions::default()
/// };
/// ```
#[derive(Debug, Clone, Default)]
pub struct TaskOptions {
    /// Acknowledge after the task has ended instead of just before it starts (`task_acks_late`).
    pub acks_late: Option<bool>,
    /// With late acknowledgement: a failed task's message is done with; `false` refuses it, which on Redis is the same
    /// but for the event (`task_acks_on_failure`).
    pub acks_on_failure: Option<bool>,
    /// With late acknowledgement: the message of a task that was ended by its hard time limit is done with; `false` puts
    /// it back into its queue (`task_acks_on_timeout`).
    pub acks_on_timeout: Option<bool>,
    /// Both of the above, where those say nothing (`task_acks_on_failure_or_timeout`).
    pub acks_on_failure_or_timeout: Option<bool>,
    /// With late acknowledgement, after a start that ended in the death of its worker: `true` or `None` runs the task
    /// again (three deaths at most), `false` stores `WorkerLostError` instead (`task_reject_on_worker_lost`).
    pub reject_on_worker_lost: Option<bool>,
    /// Store no result (`task_ignore_result`). The message wins.
    pub ignore_result: Option<bool>,
    /// Store failures even so (`task_store_errors_even_if_ignored`).
    pub store_errors_even_if_ignored: Option<bool>,
    /// Store STARTED when the task starts (`task_track_started`).
    pub track_started: Option<bool>,
    /// Send events about this task, where the worker sends events; by default it does.
    pub send_events: Option<bool>,
    /// How often it may be retried; three times by default.
    pub max_retries: Option<MaxRetries>,
    /// How long a retry waits that says nothing else; three minutes by default.
    pub default_retry_delay: Option<Duration>,
    /// Failures of these kinds are retried by themselves.
    pub autoretry_for: Vec<ExceptionKind>,
    /// But not those of these kinds.
    pub dont_autoretry_for: Vec<ExceptionKind>,
    /// Such retries wait this long at first, and twice as long each time. Whole seconds; anything below one is one.
    pub retry_backoff: Option<Duration>,
    /// But never longer than this; ten minutes by default.
    pub retry_backoff_max: Option<Duration>,
    /// Wait a random time up to that instead, so that they do not all come back at once; by default they do.
    pub retry_jitter: Option<bool>,
    /// How many may start in a second, minute or hour, in one worker (`task_default_rate_limit`).
    pub rate_limit: Option<RateLimit>,
    /// It is ended after this long (`task_time_limit`).
    pub time_limit: Option<Duration>,
    /// It is told after this long, and ended where it does not listen (`task_soft_time_limit`).
    pub soft_time_limit: Option<Duration>,
    /// Failures of these kinds are part of the business: they are logged at INFO.
    pub throws: Vec<ExceptionKind>,
    /// When it is sent: it must not start later than this after that.
    pub expires: Option<Duration>,
    /// When it is sent: its priority (`task_default_priority`).
    pub priority: Option<u8>,
    /// When it is sent: its queue (`task_default_queue`).
    pub queue: Option<String>,
    /// When it is sent, or retried: how its body is written (`task_serializer`).
    pub serializer: Option<Serializer>,
    /// When it is sent, or retried: how its body is compressed (`task_compression`).
    pub compression: Option<Compression>,
}

/// What holds for a task in this app.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    pub(crate) acks_late: bool,
    pub(crate) acks_on_failure: bool,
    pub(crate) acks_on_timeout: bool,
    pub(crate) runs_again_after_death: bool,
    pub(crate) ignore_result: bool,
    pub(crate) store_errors_even_if_ignored: bool,
    pub(crate) track_started: bool,
    pub(crate) send_events: bool,
    pub(crate) max_retries: MaxRetries,
    pub(crate) default_retry_delay: Duration,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) soft_time_limit: Option<Duration>,
}

impl Effective {
    pub(crate) fn new(task: &TaskOptions, settings: &Settings) -> Self {
        let either = task
            .acks_on_failure_or_timeout
            .unwrap_or(settings.task_acks_on_failure_or_timeout);
        let reject_on_worker_lost = task
            .reject_on_worker_lost
            .or(settings.task_reject_on_worker_lost);
        Self {
            acks_late: task.acks_late.unwrap_or(settings.task_acks_late),
            acks_on_failure: task
                .acks_on_failure
                .or(settings.task_acks_on_failure)
                .unwrap_or(either),
            acks_on_timeout: task
                .acks_on_timeout
                .or(settings.task_acks_on_timeout)
                .unwrap_or(either),
            runs_again_after_death: reject_on_worker_lost.unwrap_or(true),
            ignore_result: task.ignore_result.unwrap_or(settings.task_ignore_result),
            store_errors_even_if_ignored: task
                .store_errors_even_if_ignored
                .unwrap_or(settings.task_store_errors_even_if_ignored),
            track_started: task.track_started.unwrap_or(settings.task_track_started),
            send_events: task.send_events.unwrap_or(true),
            max_retries: task.max_retries.unwrap_or_default(),
            default_retry_delay: task.default_retry_delay.unwrap_or(DEFAULT_RETRY_DELAY),
            rate_limit: task.rate_limit.or(settings.task_default_rate_limit),
            time_limit: task.time_limit.or(settings.task_time_limit),
            soft_time_limit: task.soft_time_limit.or(settings.task_soft_time_limit),
        }
    }
}
