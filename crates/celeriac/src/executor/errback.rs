//! Errbacks that take the failure itself: they run where the task has failed.
//!
//! Counterpart: `celery/backends/base.py` (`Backend._call_task_errbacks`) @ 5.7.0.

use std::sync::Arc;

use celeriac_protocol::canvas::Signature;
use celeriac_protocol::compose::TaskCall;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::record::Failed;
use super::{Executor, run_handler};
use crate::context::{Context, Place};
use crate::handler::{Invocation, Outcome};
use crate::log_lines::shown;

impl Executor {
    /// Runs one; what goes wrong with it is logged.
    pub(super) async fn run_errback(
        &self,
        errback: &Signature,
        failed_id: &str,
        root: Option<&str>,
        failed: &Failed,
    ) {
        let Some(task) = self.app.registered(&errback.task) else {
            return;
        };
        let request = json!({"id": failed_id, "root_id": root, "errbacks": [errback.to_value()]});
        let exception = failed.exception.to_value();
        let args = errback.merged_args(&[request, exception, json!(failed.traceback)]);
        // It has no id of its own; what it sends belongs to what has failed.
        let mut call = TaskCall::new(&errback.task, failed_id, args.clone());
        call.root_id = root.map(ToOwned::to_owned);
        let place = Place {
            hostname: Arc::from(self.hostname.as_str()),
            queue: Arc::from(""),
            is_redelivered: false,
            threads: self.threads.clone(),
        };
        let message = Arc::new(call.into_message());
        let context = Context::new(self.app.clone(), message, place, CancellationToken::new());
        if task.handler.needs_thread()
            && let Some(place) = self.threads.place().await
        {
            context.give_thread(place);
        }
        let invocation = Invocation {
            args,
            kwargs: errback.kwargs.clone(),
            context,
        };
        let handler = Arc::clone(&task.handler);
        let has_thread = handler.needs_thread();
        let ended = run_handler(handler, invocation, has_thread).await;
        if let Outcome::Failure { exception, .. } = ended {
            log::error!(
                "Errback {} raised an exception: {}",
                shown(&errback.task),
                exception.repr()
            );
        }
    }
}
