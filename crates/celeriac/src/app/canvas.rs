//! Sending a canvas: all its messages, and what the backend must know of its chords.
//!
//! Counterpart: `celery/canvas.py` (`apply_async` of each kind) @ 5.7.0.

use celeriac_protocol::canvas::Canvas;
use serde_json::{Map, Value};

use super::App;
use super::send::SendError;
use crate::canvas::{Action, FollowUps, Ids, Parent, Unsendable};
use crate::context::Context;

impl App {
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

pub(crate) fn unsendable(canvas: &Canvas, error: &Unsendable) -> SendError {
    SendError::Arguments {
        task: canvas.to_signature().task,
        reason: error.to_string(),
    }
}
