//! Running a task again: by its own wish, or because its options say so.
//!
//! Counterpart: `celery/app/task.py` (`retry`, `signature_from_request`) and `celery/app/autoretry.py` @ 5.7.0.

use std::time::Duration;

use celeriac_protocol::compose::expiration;
use celeriac_protocol::exception::TaskException;
use celeriac_protocol::message::TaskMessage;
use celeriac_protocol::state::State;
use celeriac_protocol::{Map, repr, timestamp};
use chrono::{DateTime, Utc};
use serde_json::{Number, Value, json};

use super::time_limit::seconds;
use super::{Executor, Request};
use crate::canvas::FollowUps;
use crate::clock;
use crate::context::Context;
use crate::handler::{DEFAULT_BACKOFF_MAX, ExceptionKind, MaxRetries, Retry, TaskOptions};
use crate::traceback;

impl Executor {
    /// Sends the message again under the same id, before this delivery is acknowledged. The traceback is that of the
    /// failure that has led to it, for the last of them.
    pub(super) async fn retry(
        &self,
        mut request: Request,
        retry: Retry,
        traceback: Option<String>,
    ) {
        let count = request.message().headers.retries.saturating_add(1);
        let max = retry
            .max_retries
            .map_or(request.options().max_retries, MaxRetries::Times);
        if !retry.is_uncounted && !max.allows(count) {
            let parameters = request.handler().parameters();
            let exceeded = || exceeded(request.context(), &retry, parameters);
            let exception = retry.exception.clone().unwrap_or_else(exceeded);
            return self.fail(request, exception, traceback).await;
        }
        let countdown = retry
            .countdown
            .unwrap_or(request.options().default_retry_delay);
        let eta = retry.eta.unwrap_or_else(|| clock::after(countdown));
        let parameters = request.handler().parameters();
        let mut message = again(request.message(), &retry, parameters, eta);
        message.headers.ignore_result = Some(request.ignores_result());
        if !retry.is_uncounted {
            message.headers.retries = count;
        }
        // Celery writes a retry as the task is written when it is sent, however this message came.
        self.app.write_as_told(&mut message, None, None);
        let queue = retry.queue.unwrap_or_else(|| request.queue().to_owned());
        // Celery counts the message of a retry among the task's children.
        let follow_ups = FollowUps::alone(message, queue);
        let children = super::settle::children(&request, &follow_ups);
        if !self.carry_out(follow_ups, false).await {
            return self.give_back(request).await;
        }
        let when = match retry.eta {
            Some(eta) => format!("at {}", timestamp::isoformat(eta)),
            None => format!("in {}s", repr::repr_value(&seconds(countdown))),
        };
        let cause = retry.exception.as_ref();
        let value = cause.map_or(Value::Null, TaskException::to_value);
        let traceback = traceback::of_retry(&when, cause);
        self.store(&request, State::Retry, value, Some(&traceback), children)
            .await;
        request.subject().retried(&when, cause);
        let id = request.event_id();
        self.events.retried(id, cause, Some(&traceback));
        self.ack(&mut request).await;
    }
}

/// The retry that the task's options want after this failure; `None`: it is final.
pub(super) fn automatic(
    options: &TaskOptions,
    exception: &TaskException,
    retries: u64,
) -> Option<Retry> {
    let is_any = |kinds: &[ExceptionKind]| kinds.iter().any(|kind| kind.includes(exception));
    if !is_any(&options.autoretry_for) || is_any(&options.dont_autoretry_for) {
        return None;
    }
    let countdown = options.retry_backoff.map(|factor| {
        let most = options.retry_backoff_max.unwrap_or(DEFAULT_BACKOFF_MAX);
        backoff(factor, most, retries, options.retry_jitter.unwrap_or(true))
    });
    Some(Retry {
        countdown,
        ..Retry::because(exception.clone())
    })
}

/// Counterpart: `celery/utils/time.py::get_exponential_backoff_interval`, in whole seconds.
fn backoff(factor: Duration, most: Duration, retries: u64, has_jitter: bool) -> Duration {
    let doublings = u32::try_from(retries).unwrap_or(u32::MAX);
    let factor = factor.as_secs().max(1);
    let wait = 2_u64
        .checked_pow(doublings)
        .and_then(|times| factor.checked_mul(times))
        .unwrap_or(u64::MAX)
        .min(most.as_secs());
    Duration::from_secs(match has_jitter {
        true => rand::random_range(0..=wait),
        false => wait,
    })
}

/// The message of a retry; everything that it does not change travels on, known or not.
fn again(
    sent: &TaskMessage,
    retry: &Retry,
    parameters: &[&str],
    eta: DateTime<Utc>,
) -> TaskMessage {
    let mut message = sent.clone();
    if let Some((args, kwargs)) = rebound(sent, retry, parameters) {
        message.headers.argsrepr = Some(repr::repr_args(&args));
        message.headers.kwargsrepr = Some(repr::repr_kwargs(&kwargs));
        message.args = args;
        message.kwargs = kwargs;
    }
    let headers = &mut message.headers;
    headers.parent_id = Some(headers.id.clone());
    headers.eta = Some(timestamp::isoformat(eta));
    if let Some(expires) = retry.expires {
        headers.expires = Some(timestamp::isoformat(expires));
    }
    let number = |limit: Option<Duration>| match seconds(limit?) {
        Value::Number(number) => Some::<Number>(number),
        _ => None,
    };
    if let Some(limit) = number(retry.time_limit) {
        headers.timelimit.hard = Some(limit);
    }
    if let Some(limit) = number(retry.soft_time_limit) {
        headers.timelimit.soft = Some(limit);
    }
    headers.extra.extend(retry.headers.clone());
    let expires = headers.expires_time().ok().flatten();
    let properties = &mut message.properties;
    properties.expiration = expires.map(|expires| expiration(expires, clock::now()));
    if let Some(priority) = retry.priority {
        properties.priority = Some(priority.into());
    }
    // Celery passes the option `origin` on to kombu too, which takes it for a property.
    properties
        .extra
        .insert("origin".to_owned(), json!(headers.origin));
    message
}

/// The arguments of the retry; `None`: the same. What is newly given wins over what was given for the same parameter in
/// the other way.
fn rebound(sent: &TaskMessage, retry: &Retry, parameters: &[&str]) -> Option<(Vec<Value>, Map)> {
    match (retry.args.clone(), retry.kwargs.clone()) {
        (None, None) => None,
        (Some(args), Some(kwargs)) => Some((args, kwargs)),
        (Some(args), None) => {
            let mut kwargs = sent.kwargs.clone();
            for name in parameters.iter().take(args.len()) {
                kwargs.shift_remove(*name);
            }
            Some((args, kwargs))
        }
        (None, Some(mut kwargs)) => {
            let mut args = sent.args.clone();
            // Too many of them are the task's business.
            if args.len() <= parameters.len() {
                for (name, slot) in parameters.iter().zip(&mut args) {
                    if let Some(value) = kwargs.shift_remove(*name) {
                        *slot = value;
                    }
                }
            }
            Some((args, kwargs))
        }
    }
}

fn exceeded(context: &Context, retry: &Retry, parameters: &[&str]) -> TaskException {
    match rebound(context.message(), retry, parameters) {
        Some((args, kwargs)) => context.retries_exceeded(&args, &kwargs),
        None => context.retries_exceeded(context.args(), context.kwargs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most() {
        let wait = |retries| {
            backoff(
                Duration::from_secs(2),
                Duration::from_secs(60),
                retries,
                false,
            )
        };
        let waits: Vec<u64> = (0..7).map(|retries| wait(retries).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(wait(u64::MAX), Duration::from_secs(60));
        let short = backoff(Duration::from_millis(10), Duration::from_secs(60), 0, false);
        assert_eq!(short, Duration::from_secs(1));
        let most = Duration::from_secs(8);
        let jittered: Vec<_> = (0..200).map(|_| backoff(most, most, 3, true)).collect();
        assert!(jittered.iter().all(|wait| *wait <= most));
        assert!(jittered.iter().any(|wait| *wait != jittered[0]));
    }

    #[test]
    fn a_kind_that_is_excepted_is_not_retried() {
        let options = TaskOptions {
            autoretry_for: vec!["OSError".into()],
            dont_autoretry_for: vec!["FileNotFoundError".into()],
            ..TaskOptions::default()
        };
        let is_retried =
            |kind: &str| automatic(&options, &TaskException::builtin(kind, "x"), 0).is_some();
        assert!(is_retried("ConnectionError"));
        assert!(!is_retried("FileNotFoundError"));
        assert!(!is_retried("ValueError"));
        assert!(
            automatic(
                &TaskOptions::default(),
                &TaskException::builtin("OSError", "x"),
                0
            )
            .is_none()
        );
    }

    #[test]
    fn new_arguments_win_over_those_for_the_same_parameters() {
        let sent = |args: Value, kwargs: Value| TaskMessage {
            args: args.as_array().unwrap().clone(),
            kwargs: kwargs.as_object().unwrap().clone(),
            ..TaskMessage::default()
        };
        let parameters = ["foo", "bar", "label"];
        let by_args = Retry {
            args: Some(vec![json!("new"), json!("new")]),
            ..Retry::default()
        };
        let message = sent(json!([]), json!({"bar": 1, "foo": 2, "label": 3}));
        let (args, kwargs) = rebound(&message, &by_args, &parameters).unwrap();
        assert_eq!(
            (json!(args), json!(kwargs)),
            (json!(["new", "new"]), json!({"label": 3}))
        );
        let kwargs = json!({"bar": "new", "other": 4});
        let by_kwargs = Retry {
            kwargs: kwargs.as_object().cloned(),
            ..Retry::default()
        };
        let message = sent(json!([1, 2]), json!({"label": 3}));
        let (args, kwargs) = rebound(&message, &by_kwargs, &parameters).unwrap();
        assert_eq!(
            (json!(args), json!(kwargs)),
            (json!([1, "new"]), json!({"other": 4}))
        );
        assert_eq!(rebound(&message, &Retry::default(), &parameters), None);
    }
}
