//! Sending a canvas: all its messages, and what the backend must know of its chords.
//!
//! Counterpart: `celery/canvas.py` (`apply_async` of each kind) @ 5.7.0.

use celeriac_protocol::Serializer;
use celeriac_protocol::canvas::Canvas;
use celeriac_protocol::message::Routing;
use serde_json::{Map, Value};

use super::send::{SendError, SendOptions};
use super::{App, ResultNode};
use crate::canvas::{Action, FollowUps, Ids, NOTHING, Parent, Unsendable};
use crate::context::Context;

impl App {
    /// Sends a canvas as a caller does: under new ids, where it has none.
    ///
    /// # Errors
    /// As [`Self::send_canvas`]; [`SendError::Arguments`] where there was nothing to send.
    pub(crate) async fn apply(
        &self,
        canvas: &Canvas,
        args: &[Value],
        options: SendOptions,
    ) -> Result<ResultNode, SendError> {
        let options = options.into_map()?;
        let ignores = match canvas {
            Canvas::Task(task) => self.ignores_result(&task.task, &task.options, &options),
            _ => false,
        };
        let result = self.send_canvas(canvas, args, options, Ids::Random).await?;
        let result = result.and_then(|tuple| self.result_from_tuple(&tuple));
        match result {
            Some(ResultNode::Task(task)) => Ok(ResultNode::Task(task.ignored(ignores))),
            Some(group) => Ok(group),
            None => Err(SendError::Arguments {
                task: canvas.to_signature().task,
                reason: NOTHING.to_owned(),
            }),
        }
    }

    /// Whether no result will be stored of a task that is sent with these options.
    fn ignores_result(
        &self,
        task: &str,
        own: &Map<String, Value>,
        given: &Map<String, Value>,
    ) -> bool {
        let said =
            [given, own].map(|options| options.get("ignore_result").and_then(Value::as_bool));
        let of_task = || Some(self.registered(task)?.effective.ignore_result);
        said[0].or(said[1]).or_else(of_task).unwrap_or(false)
    }

    /// Sends what `canvas.apply_async(args, **options)` sends in Python, as children of the task that runs here, if one
    /// does. Returns what will come of it, `[[id, parent], members]`; `None`: there was nothing to send.
    ///
    /// # Errors
    /// As [`App::send_task`]; also [`SendError::Backend`], where there is a chord in it. A part may have been sent.
    pub(crate) async fn send_canvas(
        &self,
        canvas: &Canvas,
        args: &[Value],
        options: Map<String, Value>,
        mut ids: Ids,
    ) -> Result<Option<Value>, SendError> {
        let running = Context::current();
        let parent = running
            .as_ref()
            .map(|running| Parent::of(self, running.message()));
        let mut follow_ups = FollowUps::default();
        let unsent = |error| unsendable(canvas, &error);
        let result = follow_ups
            .apply(self, canvas, args, options, parent.as_ref(), &mut ids)
            .map_err(unsent)?;
        self.send_all(canvas, follow_ups).await?;
        Ok(result)
    }

    /// Sends what was planned for a canvas.
    pub(crate) async fn send_all(
        &self,
        canvas: &Canvas,
        follow_ups: FollowUps,
    ) -> Result<(), SendError> {
        let name = || canvas.to_signature().task;
        let unsent = |source| SendError::Broker {
            task: name(),
            url: self.broker_url().to_owned(),
            source,
        };
        let running = Context::current();
        if let Some(running) = &running {
            running.goes_on().map_err(unsent)?;
        }
        follow_ups.actions.iter().try_for_each(can_be_written)?;
        for action in follow_ups.actions {
            match action {
                Action::Send(next) => {
                    let sent = self.publish_with_retries(&next.message, &next.queue);
                    sent.await.map_err(unsent)?;
                }
                Action::Start {
                    group,
                    size,
                    document,
                    ..
                } => {
                    let start = self
                        .backend()
                        .chord_start(&group, size, document.as_ref(), false);
                    start.await.map_err(|source| SendError::Backend {
                        task: name(),
                        url: self.backend_url().to_owned(),
                        source,
                    })?;
                }
            }
        }
        for child in follow_ups.children {
            running
                .iter()
                .for_each(|running| running.add_child(child.clone()));
        }
        Ok(())
    }
}

/// JSON writes everything; of the others, the caller is told before anything is sent.
fn can_be_written(action: &Action) -> Result<(), SendError> {
    let Action::Send(next) = action else {
        return Ok(());
    };
    if next.message.serializer == Serializer::Json {
        return Ok(());
    }
    let written = next
        .message
        .try_to_envelope(&Routing::queue(&next.queue), "");
    written.map(drop).map_err(|error| SendError::Arguments {
        task: next.message.headers.task.clone(),
        reason: error.to_string(),
    })
}

pub(crate) fn unsendable(canvas: &Canvas, error: &Unsendable) -> SendError {
    SendError::Arguments {
        task: canvas.to_signature().task,
        reason: error.to_string(),
    }
}
