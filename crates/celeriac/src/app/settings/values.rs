//! The table of settings: name, kind, default and meaning of each, once.
//!
//! The macro `settings!` makes of it the struct with its documentation, the defaults, the reading
//! from TOML, and the catalogue that the example file and the nearest-name search use. So none of
//! them can drift from the others. To add a setting, add an entry here, then run
//! `UPDATE_EXAMPLE=1 cargo test -p celeriac settings` for the example file.
//!
//! An entry reads `name: type as Kind = default`; its doc comment begins with one sentence, then
//! unit and special values.

use std::fmt;
use std::time::Duration;

use celeriac_protocol::{Accept, Compression, Limits, Serializer};
use toml::Value;

use super::annotations::{Annotations, TaskAnnotations};
use super::kinds::{
    BackendUrl, BrokerUrl, Concurrency, Count, CountOrNone, FanoutPrefix, FileOrNone, Flag,
    FlagOrNone, Kind, Name, OptionalName, Priority, PrioritySteps, QueueOrder, RateLimitOrNone,
    Seconds, SecondsOrNever, SecondsOrUnset, SecondsOrZero, SentinelLogin, Text, Tries, shown,
};
use super::mask::{mask_broker_url, mask_url};
use super::routes::{Routes, TaskRoutes};
use super::serializers::{AcceptedContent, AcceptedContentOrNone, CompressionName, SerializerName};
use crate::handler::RateLimit;

/// One line of the catalogue.
pub(crate) struct Entry {
    /// The setting's name, as in the file.
    pub(crate) name: &'static str,
    /// The lines of its documentation.
    pub(crate) doc: &'static [&'static str],
    /// Its default, as TOML.
    pub(crate) default: Value,
}

/// A value that a setting cannot take.
pub(crate) struct Refused {
    /// The value as it may be shown: passwords are masked.
    pub(crate) shown: String,
    /// What was expected instead.
    pub(crate) expected: &'static str,
}

/// A struct whose fields are settings: all of [`Settings`], or one of its tables.
pub(crate) trait Section: Default {
    /// Every setting of this section, in the order of the table.
    fn catalogue() -> Vec<Entry>;

    /// Every setting of this section with its value, as TOML: passwords are in it.
    fn values(&self) -> Vec<(&'static str, Value)>;

    /// Sets one setting; `None` where there is none of that name.
    fn set(&mut self, name: &str, toml: &Value) -> Option<Result<(), Refused>>;
}

macro_rules! settings {
    (
        $(#[$struct_doc:meta])*
        pub struct $section:ident {
            $( $(#[doc = $doc:literal])+ $name:ident: $type:ty as $kind:ident = $default:expr; )*
            $( table $(#[doc = $table_doc:literal])+ $table:ident: $table_type:ident; )*
        }
    ) => {
        $(#[$struct_doc])*
        #[derive(Clone, PartialEq)]
        pub struct $section {
            $( $(#[doc = $doc])+ pub $name: $type, )*
            $( $(#[doc = $table_doc])+ pub $table: $table_type, )*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $( $name: $default, )* $( $table: $table_type::default(), )* }
            }
        }

        impl Section for $section {
            fn catalogue() -> Vec<Entry> {
                let defaults = Self::default();
                vec![ $( Entry {
                    name: stringify!($name),
                    doc: &[$($doc),+],
                    default: $kind::write(&defaults.$name),
                } ),* ]
            }

            fn values(&self) -> Vec<(&'static str, Value)> {
                vec![ $( (stringify!($name), $kind::write(&self.$name)) ),* ]
            }

            fn set(&mut self, name: &str, toml: &Value) -> Option<Result<(), Refused>> {
                match name {
                    $( stringify!($name) => Some(match $kind::read(toml) {
                        Some(value) => { self.$name = value; Ok(()) }
                        None => Err(Refused { shown: shown(toml), expected: $kind::EXPECTED }),
                    }), )*
                    _ => None,
                }
            }
        }

        impl fmt::Debug for $section {
            /// Passwords are masked: what `Debug` shows may end in a log.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut out = f.debug_struct(stringify!($section));
                $( out.field(stringify!($name), &format_args!("{}", shown(&$kind::write(&self.$name)))); )*
                $( out.field(stringify!($table), &self.$table); )*
                out.finish()
            }
        }
    };
}

settings! {
    /// Everything that can be set, under Celery's names. Frozen once an app has been built from it.
    ///
    /// [`Settings::default`] are Celery's defaults; [`Settings::load`] reads the environment and the file.
    pub struct Settings {
        /// Where the messages are: the URL of the broker.
        ///
        /// Celery's own default is AMQP; Redis is what this worker speaks.
        broker_url: String as BrokerUrl = "redis://localhost:6379/0".to_owned();
        /// Where results are stored; "disabled://": nowhere.
        result_backend: Option<String> as BackendUrl = None;
        /// Whether a worker that cannot reach the broker when it starts tries again.
        broker_connection_retry_on_startup: bool as Flag = true;
        /// How often a connection to the broker is tried before the worker gives up; 0 or "none": for ever.
        broker_connection_max_retries: Option<u32> as Tries = Some(100);
        /// The queue of tasks that name none.
        task_default_queue: String as Name = "celery".to_owned();
        /// The queues of tasks where neither the call nor the task names one: { "feed.*" = "feeds", "proj.add" = "sums" }.
        ///
        /// A name in full comes first, then the patterns in their order; of a list of such tables, the first that fits.
        task_routes: TaskRoutes as Routes = TaskRoutes::default();
        /// Options of tasks, whatever they say themselves: { "proj.add" = { rate_limit = "10/s" }, "*" = { acks_late = true } }.
        ///
        /// "*" stands for all tasks, and wins over a name; of a list of such tables, the first that has the name counts.
        task_annotations: TaskAnnotations as Annotations = TaskAnnotations::default();
        /// The priority of messages that name none; on Redis, a lower number goes first.
        task_default_priority: Option<u8> as Priority = None;
        /// Whether what a task sends, and what follows it, has its priority where nothing else is said.
        task_inherit_parent_priority: bool as Flag = false;
        /// Whether the errbacks of a chord are also those of each task of its header, where a chord takes a task's place.
        task_allow_error_cb_on_chord_header: bool as Flag = false;
        /// Whether a message is acknowledged after its task has run, not before.
        ///
        /// With false, a worker that is killed loses the tasks that were running.
        task_acks_late: bool as Flag = false;
        /// With late acknowledgement, whether the message of a task that has failed is done with; "none": as the next but one says.
        ///
        /// With false it is refused: on Redis it is gone as well, and an event tells of it.
        task_acks_on_failure: Option<bool> as FlagOrNone = None;
        /// With late acknowledgement, whether the message of a task that was ended by its hard time limit is done with; "none": as the next says.
        ///
        /// With false it goes back into its queue.
        task_acks_on_timeout: Option<bool> as FlagOrNone = None;
        /// Both of the above at once.
        task_acks_on_failure_or_timeout: bool as Flag = true;
        /// With late acknowledgement, whether a task runs again after the worker has died under it; "none": it does.
        ///
        /// With false its result is WorkerLostError. Either way, three deaths set its message aside.
        task_reject_on_worker_lost: Option<bool> as FlagOrNone = None;
        /// How long a task may run, in seconds; then it is ended, and has failed. "none": without end.
        task_time_limit: Option<Duration> as SecondsOrNever = None;
        /// How long a task may run before it is told to come to its end, in seconds; "none": without end.
        ///
        /// It is ended where it does not listen.
        task_soft_time_limit: Option<Duration> as SecondsOrNever = None;
        /// How many tasks of a kind may start in a worker, like "10/s", "100/m" or "1000/h"; "none": no limit.
        task_default_rate_limit: Option<RateLimit> as RateLimitOrNone = None;
        /// Whether the state STARTED is stored when a task starts.
        task_track_started: bool as Flag = false;
        /// Whether results are thrown away, unless the task says otherwise.
        task_ignore_result: bool as Flag = false;
        /// Whether failures are stored even where results are ignored.
        task_store_errors_even_if_ignored: bool as Flag = false;
        /// Whether whoever sends a task tells monitors so, by the event task-sent.
        task_send_sent_event: bool as Flag = false;
        /// How long results are kept, in seconds; 0 or "none": for ever.
        result_expires: Option<Duration> as SecondsOrNever = Some(Duration::from_secs(24 * 60 * 60));
        /// How long results of failed tasks are kept, in seconds; "none": as long as others, 0: for ever.
        result_failure_expires: Option<Duration> as SecondsOrUnset = None;
        /// How long what belongs to a chord that runs is kept after its last part, in seconds; "none": as result_expires says, 0: for ever.
        result_chord_expires: Option<Duration> as SecondsOrUnset = None;
        /// How long a chord's results are waited for where a part of it is a group, in seconds; 0 or "none": without end.
        ///
        /// A worker that dies over starting the body is given twice that time, and at least 5 seconds; then another starts it.
        result_chord_join_timeout: Option<Duration> as SecondsOrNever = Some(Duration::from_secs(3));
        /// How long celery.chord_unlock waits before it looks again whether the header of its chord has ended, in seconds.
        result_chord_retry_interval: Duration as Seconds = Duration::from_secs(1);
        /// The serializer of results: "json", "msgpack" or "yaml"; the same for all clients and workers.
        result_serializer: Serializer as SerializerName = Serializer::Json;
        /// The serializers of results that are read; "none": as accept_content says.
        ///
        /// Where result_serializer is none of them, results are stored and not read, as in Celery.
        result_accept_content: Option<Accept> as AcceptedContentOrNone = None;
        /// How results are compressed: "gzip", "bzip2", "zstd", "brotli", or "none".
        ///
        /// A result says itself how it was compressed; Python before Celery 5.7 cannot read one that was.
        result_compression: Option<Compression> as CompressionName = None;
        /// Whether a result also has the task's name, arguments, worker, retries and queue.
        result_extended: bool as Flag = false;
        /// Whether no rate limits apply.
        worker_disable_rate_limits: bool as Flag = false;
        /// Whether a message that comes a second time is done with when its task has succeeded before.
        ///
        /// For late acknowledgement; asks the result backend for each message that is marked as redelivered.
        worker_deduplicate_successful_tasks: bool as Flag = false;
        /// The serializers of messages that are run: "json", "msgpack", "yaml".
        ///
        /// Others are refused and kept among the dead letters. Pickle is never read: it runs code.
        accept_content: Accept as AcceptedContent = Accept::JSON;
        /// The serializer of the messages that are sent, retries among them, unless the call or the task says otherwise.
        task_serializer: Serializer as SerializerName = Serializer::Json;
        /// How the bodies of those messages are compressed: "gzip", "bzip2", "zstd", "brotli", or "none".
        ///
        /// A Python worker reads zstd and brotli only where their packages are installed.
        task_compression: Option<Compression> as CompressionName = None;
        /// How many tasks run at the same time; "auto": as many as there are CPUs for this process.
        worker_concurrency: Option<usize> as Concurrency = None;
        /// How many messages a worker takes ahead for each task that it can run; 0: no limit.
        worker_prefetch_multiplier: usize as Count = 4;
        /// Whether a worker takes a message only when it can start it at once.
        worker_disable_prefetch: bool as Flag = false;
        /// How many messages a worker holds at most while some of them wait for their ETA; "none": no limit.
        worker_eta_task_limit: Option<usize> as CountOrNone = None;
        /// How many seconds tasks may go on running after a cold stop was asked for (SIGQUIT, the second Ctrl+C); 0: none.
        worker_soft_shutdown_timeout: Duration as SecondsOrZero = Duration::ZERO;
        /// Whether the worker tells monitors (Flower, "celery events") what happens to its tasks; the flag -E sets it.
        worker_send_task_events: bool as Flag = false;
        /// Whether the worker listens to remote control (inspect, control): whoever can publish at the broker can revoke and stop.
        worker_enable_remote_control: bool as Flag = true;
        /// The file in which the revoked ids outlive a restart; "none": they do not.
        worker_state_db: Option<String> as FileOrNone = None;
        table
        /// Options of the broker's transport (Redis).
        broker_transport_options: BrokerTransportOptions;
        table
        /// Options of the result backend (Redis).
        result_backend_transport_options: ResultBackendTransportOptions;
    }
}

settings! {
    /// Options of the Redis transport: the table `[broker_transport_options]`, with kombu's names.
    pub struct BrokerTransportOptions {
        /// After how many seconds a message that nobody has acknowledged is delivered again.
        visibility_timeout: Duration as Seconds = Duration::from_secs(3600);
        /// What every key in Redis starts with; the same for all clients and workers of these queues.
        global_keyprefix: String as Text = String::new();
        /// The priorities that have a list of their own, ascending from 0.
        priority_steps: Vec<u8> as PrioritySteps = vec![0, 3, 6, 9];
        /// What stands between a queue's name and its priority step.
        sep: String as Name = "\u{6}\u{16}".to_owned();
        /// What the channels of broadcasts start with, after global_keyprefix; "{db}" stands for the database's number.
        ///
        /// true is the default, false (or "") no prefix; the same for all clients and workers.
        fanout_prefix: String as FanoutPrefix = "/{db}.".to_owned();
        /// Which queue comes first: "round_robin" (each in turn), "sorted" (by name) or "priority" (as given).
        queue_order_strategy: QueueOrder as QueueOrder = QueueOrder::RoundRobin;
        /// The hash of messages that were taken and are not acknowledged yet.
        unacked_key: String as Name = "unacked".to_owned();
        /// The sorted set of when those were taken.
        unacked_index_key: String as Name = "unacked_index".to_owned();
        /// The lock of whoever gives old ones back.
        unacked_mutex_key: String as Name = "unacked_mutex".to_owned();
        /// How many seconds that lock is held at most.
        unacked_mutex_expire: Duration as Seconds = Duration::from_secs(300);
        /// Every how many seconds old ones are looked for.
        unacked_restore_interval: Duration as Seconds = Duration::from_secs(10);
        /// The largest message that is read, in bytes: as it lies in its queue, and its body when decompressed.
        ///
        /// Larger ones are kept among the dead letters of their queue. Not a setting of Celery's, which reads everything.
        message_max_bytes: usize as Count = 64 * 1024 * 1024;
        /// How many dead letters a queue keeps, in the list of its name and ".dead".
        ///
        /// Beyond that the oldest fall off, and the worker's log says which. Not a setting of Celery's, which destroys
        /// such messages.
        dead_letters_max: usize as Count = 10_000;
        /// With sentinel://: the master's name among the sentinels.
        master_name: Option<String> as OptionalName = None;
        /// With sentinel://: username and password for the sentinels themselves.
        sentinel_kwargs: SentinelLogin as SentinelLogin = SentinelLogin::default();
    }
}

settings! {
    /// Options of the Redis result backend: the table `[result_backend_transport_options]`.
    pub struct ResultBackendTransportOptions {
        /// What every key of a result starts with; an underscore is put behind it where it ends in none of ":_-.".
        global_keyprefix: String as Text = String::new();
        /// Whether a chord's results come in the order of its header, not as they are ready; the same for all clients and workers.
        result_chord_ordered: bool as Flag = true;
        /// With sentinel://: the master's name among the sentinels.
        master_name: Option<String> as OptionalName = None;
        /// With sentinel://: username and password for the sentinels themselves.
        sentinel_kwargs: SentinelLogin as SentinelLogin = SentinelLogin::default();
    }
}

impl Settings {
    /// The broker's URL as Celery's banner and log lines show it: `redis://:**@host:6379/0`.
    pub fn masked_broker_url(&self) -> String {
        mask_broker_url(&self.broker_url)
    }

    /// The result backend's URL as Celery's banner shows it; `disabled://` where there is none.
    pub fn masked_result_backend(&self) -> String {
        self.result_backend
            .as_deref()
            .map_or_else(|| "disabled://".to_owned(), mask_url)
    }

    /// How much of a message is read, and in which serializers.
    pub fn message_limits(&self) -> Limits {
        let bytes = self.broker_transport_options.message_max_bytes;
        Limits::new(bytes, bytes).accepting(self.accept_content)
    }

    /// The names of the tables among the settings.
    pub(crate) const TABLES: [&'static str; 2] = [
        "broker_transport_options",
        "result_backend_transport_options",
    ];
}
