//! Tasks with options, for the comparison with Python's: `tests/python/options.py` has the same ones.

use std::time::Duration;

use async_trait::async_trait;
use celeriac::protocol::exception::TaskException;
use celeriac::{
    AppBuilder, Handler, Invocation, MaxRetries, Outcome, RateLimit, Retry, TaskOptions,
};
use serde_json::{Value, json};

/// Long enough for Python to write down that it retries, before the retry is received.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// A task of this file: its body is in [`run`].
struct Optioned {
    name: &'static str,
    parameters: &'static [&'static str],
    options: TaskOptions,
}

#[async_trait]
impl Handler for Optioned {
    fn name(&self) -> &str {
        self.name
    }

    fn options(&self) -> TaskOptions {
        self.options.clone()
    }

    fn parameters(&self) -> &[&str] {
        self.parameters
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let body = self.name.trim_start_matches("options.");
        run(body, invocation).await
    }
}

/// All of them.
pub(crate) fn register(app: AppBuilder) -> AppBuilder {
    tasks().into_iter().fold(app, |app, (name, options)| {
        app.handler(Optioned {
            name,
            parameters: match name {
                "options.retried_with_args" => &["foo", "bar", "label"],
                "options.retried_with_kwargs" => &["foo", "bar"],
                _ => &[],
            },
            options,
        })
    })
}

fn tasks() -> Vec<(&'static str, TaskOptions)> {
    let mut tasks = retried_tasks();
    tasks.extend(limited_tasks());
    let plain = [
        "options.plain",
        "options.fails",
        "options.naps",
        "options.progress",
        "options.ignores",
        "options.request",
    ];
    tasks.extend(plain.map(|name| (name, TaskOptions::default())));
    tasks.extend([
        (
            "options.tracked",
            TaskOptions {
                track_started: Some(true),
                ..TaskOptions::default()
            },
        ),
        (
            "options.ignored",
            TaskOptions {
                ignore_result: Some(true),
                ..TaskOptions::default()
            },
        ),
        (
            "options.errors_stored",
            TaskOptions {
                ignore_result: Some(true),
                store_errors_even_if_ignored: Some(true),
                ..TaskOptions::default()
            },
        ),
        (
            "options.throws",
            TaskOptions {
                throws: vec!["LookupError".into()],
                ..TaskOptions::default()
            },
        ),
        ("options.late", late()),
        ("options.rejects_once", late()),
        ("options.rejects", late()),
        (
            "options.failure_refused",
            TaskOptions {
                acks_on_failure: Some(false),
                ..late()
            },
        ),
        (
            "options.dies_once",
            TaskOptions {
                reject_on_worker_lost: Some(false),
                ..late()
            },
        ),
    ]);
    tasks
}

fn late() -> TaskOptions {
    TaskOptions {
        acks_late: Some(true),
        ..TaskOptions::default()
    }
}

fn retried(max_retries: MaxRetries) -> TaskOptions {
    TaskOptions {
        max_retries: Some(max_retries),
        default_retry_delay: Some(HALF_A_SECOND),
        ..TaskOptions::default()
    }
}

fn retried_tasks() -> Vec<(&'static str, TaskOptions)> {
    let once = || retried(MaxRetries::Times(1));
    vec![
        ("options.retried", retried(MaxRetries::Times(2))),
        ("options.retried_without_cause", once()),
        ("options.unlimited", retried(MaxRetries::Unlimited)),
        ("options.retried_more", once()),
        ("options.retried_with_args", once()),
        ("options.retried_with_kwargs", once()),
        ("options.retried_elsewhere", once()),
        (
            "options.automatic",
            TaskOptions {
                autoretry_for: vec!["OSError".into()],
                dont_autoretry_for: vec!["FileNotFoundError".into()],
                ..once()
            },
        ),
        (
            "options.backoff",
            TaskOptions {
                autoretry_for: vec!["Exception".into()],
                retry_backoff: Some(Duration::from_secs(1)),
                retry_backoff_max: Some(Duration::from_secs(2)),
                retry_jitter: Some(false),
                max_retries: Some(MaxRetries::Times(3)),
                ..TaskOptions::default()
            },
        ),
    ]
}

fn limited_tasks() -> Vec<(&'static str, TaskOptions)> {
    let second = Some(Duration::from_secs(1));
    let hard = || TaskOptions {
        time_limit: second,
        ..TaskOptions::default()
    };
    let soft = || TaskOptions {
        soft_time_limit: second,
        ..TaskOptions::default()
    };
    vec![
        ("options.hard", hard()),
        (
            "options.hard_late",
            TaskOptions {
                acks_late: Some(true),
                ..hard()
            },
        ),
        (
            "options.hard_again",
            TaskOptions {
                acks_late: Some(true),
                acks_on_timeout: Some(false),
                ..hard()
            },
        ),
        ("options.soft", soft()),
        ("options.soft_caught", soft()),
        (
            "options.naps_limited",
            TaskOptions {
                time_limit: Some(Duration::from_secs(60)),
                ..TaskOptions::default()
            },
        ),
        (
            "options.rate_limited",
            TaskOptions {
                rate_limit: Some(RateLimit::per_second(2)),
                ..TaskOptions::default()
            },
        ),
    ]
}

async fn run(body: &str, invocation: Invocation) -> Outcome {
    let context = &invocation.context;
    let first = invocation.args.first().cloned().unwrap_or(Value::Null);
    match body {
        "plain" | "late" | "rate_limited" => Outcome::Success(first),
        "tracked" => Outcome::Success(json!(1)),
        "fails" | "throws" | "automatic" => raise(first.as_str().unwrap_or("ValueError")),
        "failure_refused" | "backoff" => raise("ValueError"),
        "ignored" | "errors_stored" => match first.as_str() {
            Some(kind) => raise(kind),
            None => Outcome::Success(json!(1)),
        },
        "hard_again" | "rejects_once" if context.is_redelivered() => {
            Outcome::Success(json!("again"))
        }
        "rejects_once" => Outcome::Reject {
            reason: "not now".to_owned(),
            requeue: true,
        },
        "rejects" => Outcome::Reject {
            reason: "for good".to_owned(),
            requeue: false,
        },
        "hard" | "hard_late" | "hard_again" | "soft" => nap(10.0).await,
        "naps" | "naps_limited" => nap(first.as_f64().unwrap_or(0.0)).await,
        "soft_caught" => {
            context.soft_limit().cancelled().await;
            Outcome::Success(json!("cleaned up"))
        }
        "progress" => {
            let meta = json!({"done": 1, "of": 2});
            let stored = context.update_state("PROGRESS", meta).await;
            stored.expect("the backend is there");
            Outcome::Success(json!(2))
        }
        "ignores" => Outcome::Ignore,
        "dies_once" => std::process::abort(),
        "request" => Outcome::Success(request(&invocation)),
        _ => retry(body, &invocation, &first),
    }
}

fn retry(body: &str, invocation: &Invocation, first: &Value) -> Outcome {
    let retries = invocation.context.retries();
    let now = || Retry {
        countdown: Some(HALF_A_SECOND),
        ..Retry::default()
    };
    let retry = match body {
        "retried" => {
            let kind = first.as_str().unwrap_or_default();
            Retry::because(TaskException::builtin(kind, "on purpose"))
        }
        "unlimited" if retries >= first.as_u64().unwrap_or(0) => {
            return Outcome::Success(json!(retries));
        }
        "unlimited" => Retry::default(),
        "retried_more" => Retry {
            max_retries: Some(2),
            ..Retry::because(TaskException::builtin("KeyError", "enough"))
        },
        "retried_with_args" | "retried_with_kwargs" | "retried_elsewhere" if retries > 0 => {
            return Outcome::Success(second_run(body, invocation));
        }
        "retried_with_args" => Retry {
            args: Some(vec![json!("new"), json!("newer")]),
            ..now()
        },
        "retried_with_kwargs" => Retry {
            kwargs: json!({"bar": "new"}).as_object().cloned(),
            ..now()
        },
        "retried_elsewhere" => Retry {
            priority: Some(3),
            time_limit: Some(Duration::from_secs(50)),
            soft_time_limit: Some(Duration::from_secs(40)),
            ..now()
        },
        _ => now(),
    };
    retry.into()
}

fn second_run(body: &str, invocation: &Invocation) -> Value {
    let Invocation {
        args,
        kwargs,
        context,
    } = invocation;
    let argument = |index: usize, name: &str| {
        let given = args.get(index).or_else(|| kwargs.get(name));
        given.cloned().unwrap_or(Value::Null)
    };
    match body {
        "retried_elsewhere" => json!([
            context.delivery_info().routing_key,
            context.properties().priority,
            [
                context.headers().timelimit.hard,
                context.headers().timelimit.soft
            ],
            own_headers(invocation),
        ]),
        "retried_with_args" => {
            json!([argument(0, "foo"), argument(1, "bar"), argument(2, "label")])
        }
        _ => json!([argument(0, "foo"), argument(1, "bar")]),
    }
}

fn request(invocation: &Invocation) -> Value {
    let context = &invocation.context;
    let headers = context.headers();
    json!({
        "id": context.id(), "retries": context.retries(), "root_id": context.root_id(), "parent_id": context.parent_id(),
        "group": context.group(), "group_index": context.group_index(), "args": context.args(),
        "kwargs": context.kwargs(), "eta": headers.eta, "expires": headers.expires,
        "timelimit": [headers.timelimit.hard, headers.timelimit.soft],
        "headers": own_headers(invocation), "priority": context.properties().priority,
        "routing_key": context.delivery_info().routing_key, "redelivered": context.is_redelivered(),
        "correlation_id": context.properties().correlation_id,
    })
}

/// Headers of the sender's own; Python has None where there are none.
fn own_headers(invocation: &Invocation) -> Value {
    let extra = &invocation.context.headers().extra;
    match extra.is_empty() {
        true => Value::Null,
        false => json!(extra),
    }
}

fn raise(kind: &str) -> Outcome {
    Outcome::failure(TaskException::builtin(kind, "on purpose"))
}

async fn nap(seconds: f64) -> Outcome {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Outcome::Success(json!(seconds))
}
