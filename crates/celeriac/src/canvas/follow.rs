//! What follows a task: callbacks, the next of a chain, errbacks, the body of a chord, a replacement.
//!
//! Counterpart: `celery/app/trace.py` (`_dispatch_callbacks_and_chain`), `celery/backends/base.py`
//! (`Backend._call_task_errbacks`), `celery/app/task.py` (`Task.replace`) @ 5.7.0. Difference: a chain as an errback is sent
//! like any other; Celery takes it for a task that it can call, and fails.

use celeriac_protocol::canvas::{Canvas, CanvasError, Plan, Planner, Replaced, Signature, Step};
use celeriac_protocol::exception::TaskException;
use celeriac_protocol::message::TaskMessage;
use serde_json::{Map, Value};

use super::compose::{Parent, compose};
use super::ids::Ids;
use crate::app::App;

/// A message that is ready to be sent.
#[derive(Debug)]
pub(crate) struct FollowUp {
    pub(crate) message: TaskMessage,
    pub(crate) queue: String,
}

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(crate) struct FollowUps {
    pub(crate) actions: Vec<Action>,
    /// What the task that does it names as its children.
    pub(crate) children: Vec<Value>,
}

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Action {
    Send(Box<FollowUp>),
    /// A chord begins; so many of the actions after this one are its header.
    Start {
        group: String,
        size: usize,
        document: Option<Value>,
        actions: usize,
    },
}

/// What follows cannot be sent as it is written.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Unsendable(#[from] CanvasError);

impl Unsendable {
    /// What Celery raises.
    pub(crate) fn into_exception(self) -> TaskException {
        let text = self.to_string();
        match self.0 {
            CanvasError::GroupLink | CanvasError::GroupErrback => TaskException::type_error(text),
            CanvasError::NotInChord => TaskException::builtin("ValueError", text),
            CanvasError::ReplacementInChord | CanvasError::EmptyReplacement => {
                TaskException::improperly_configured(text)
            }
            _ => TaskException::invalid_task(text),
        }
    }
}

impl FollowUps {
    /// A message that is sent by itself.
    pub(crate) fn alone(message: TaskMessage, queue: String) -> Self {
        let child = crate::context::child(&message.headers.id);
        Self {
            actions: vec![Action::Send(Box::new(FollowUp { message, queue }))],
            children: vec![child],
        }
    }

    fn add(
        &mut self,
        app: &App,
        plan: Plan,
        parent: Option<&Parent<'_>>,
    ) -> Result<(), Unsendable> {
        for step in plan.steps {
            self.actions.push(match step {
                Step::Send(call) => Action::Send(Box::new(compose(app, call, parent)?)),
                Step::Start {
                    group,
                    size,
                    document,
                    steps,
                } => Action::Start {
                    group,
                    size,
                    document,
                    actions: steps,
                },
            });
        }
        self.children.extend(plan.children);
        Ok(())
    }

    /// Adds what a canvas sends.
    pub(crate) fn apply(
        &mut self,
        app: &App,
        canvas: &Canvas,
        args: &[Value],
        options: Map<String, Value>,
        parent: Option<&Parent<'_>>,
        ids: &mut Ids,
    ) -> Result<Option<Value>, Unsendable> {
        let mut next = || ids.next();
        let on_headers = app.settings().task_allow_error_cb_on_chord_header;
        let planner = Planner::new(app.oid(), &mut next).with_errbacks_on_headers(on_headers);
        let mut plan = planner.apply(canvas, args, &Map::new(), options)?;
        let result = plan.result.take();
        self.add(app, plan, parent)?;
        Ok(result)
    }
}

/// What follows a success: the callbacks, then the next of the chain.
pub(crate) fn after_success(
    app: &App,
    ended: &TaskMessage,
    result: &Value,
) -> Result<FollowUps, Unsendable> {
    let mut follow_ups = FollowUps::default();
    let embed = &ended.embed;
    let callbacks = embed.callbacks.as_deref().unwrap_or_default();
    let next = embed.next_in_chain();
    if callbacks.is_empty() && next.is_none() {
        return Ok(follow_ups);
    }
    let parent = Parent::of(app, ended);
    let mut ids = Ids::of(&ended.headers.id, "next");
    let args = std::slice::from_ref(result);
    let mut apply = |canvas: &Canvas, chain: Option<&[Signature]>| {
        let mut options = parent.options();
        // Unlike what else a task sends, this wins over the signature's own.
        options.insert("priority".to_owned(), parent.priority.into());
        if let Some(chain) = chain {
            // Empty at the end of a chain, not null, as Celery writes it.
            let chain = chain.iter().map(Signature::to_value).collect();
            options.insert("chain".to_owned(), chain);
        }
        follow_ups.apply(app, canvas, args, options, Some(&parent), &mut ids)
    };
    let callbacks = canvases(callbacks)?;
    match callbacks.as_slice() {
        [] => {}
        [only] => drop(apply(only, None)?),
        _ => {
            let is_group = |canvas: &Canvas| matches!(canvas, Canvas::Group(_));
            let (groups, others): (Vec<_>, Vec<_>) = callbacks.into_iter().partition(is_group);
            for group in &groups {
                apply(group, None)?;
            }
            if !others.is_empty() {
                apply(&Canvas::group(others), None)?;
            }
        }
    }
    if let Some((signature, rest)) = next {
        let canvas = Canvas::from_signature(signature.clone());
        apply(&canvas.map_err(CanvasError::from)?, Some(rest))?;
    }
    Ok(follow_ups)
}

/// The errbacks of a task, or of the body of a chord, that failed; all of them are one group.
pub(crate) fn errbacks(
    app: &App,
    errbacks: &[Signature],
    failed: &str,
    root: Option<&str>,
) -> Result<FollowUps, Unsendable> {
    let mut follow_ups = FollowUps::default();
    if errbacks.is_empty() {
        return Ok(follow_ups);
    }
    let root = root.filter(|root| !root.is_empty()).unwrap_or(failed);
    let parent = Parent {
        id: failed,
        root,
        priority: None,
    };
    let mut ids = Ids::of(failed, "errback");
    let group = Canvas::group(canvases(errbacks)?);
    let args = [Value::from(failed)];
    let options = parent.options();
    follow_ups.apply(app, &group, &args, options, Some(&parent), &mut ids)?;
    Ok(follow_ups)
}

/// What a chord's body sends when it gets the results of the header. `parent` is the member that finished last, where one
/// runs.
pub(crate) fn body(
    app: &App,
    group: &str,
    body: &Signature,
    results: Vec<Value>,
    parent: Option<&Parent<'_>>,
) -> Result<FollowUps, Unsendable> {
    let mut follow_ups = FollowUps::default();
    let canvas = Canvas::from_signature(body.clone()).map_err(CanvasError::from)?;
    let mut ids = Ids::of(group, "body");
    let args = [Value::Array(results)];
    follow_ups.apply(app, &canvas, &args, Map::new(), parent, &mut ids)?;
    Ok(follow_ups)
}

/// What takes the place of a task that runs.
pub(crate) fn instead(
    app: &App,
    running: &TaskMessage,
    canvas: Canvas,
) -> Result<FollowUps, Unsendable> {
    let headers = &running.headers;
    let task = replaced(running);
    let mut ids = Ids::of(&headers.id, &format!("replace-{}", task.nesting + 1));
    let mut next = || ids.next();
    let on_headers = app.settings().task_allow_error_cb_on_chord_header;
    let planner = Planner::new(app.oid(), &mut next).with_errbacks_on_headers(on_headers);
    let plan = planner.replace(canvas, &task)?;
    let mut follow_ups = FollowUps::default();
    follow_ups.add(app, plan, Some(&Parent::of(app, running)))?;
    Ok(follow_ups)
}

/// What joins the chord of a task that runs, and what will come of it. The place tells it from what the same run has added
/// before.
pub(crate) fn added(
    app: &App,
    running: &TaskMessage,
    canvas: Canvas,
    place: &str,
) -> Result<(FollowUps, Value), Unsendable> {
    let mut ids = Ids::of(&running.headers.id, place);
    let mut next = || ids.next();
    let planner = Planner::new(app.oid(), &mut next);
    let mut plan = planner.add_to_chord(canvas, &replaced(running))?;
    let result = plan.result.take().unwrap_or_default();
    let mut follow_ups = FollowUps::default();
    follow_ups.add(app, plan, Some(&Parent::of(app, running)))?;
    Ok((follow_ups, result))
}

fn replaced(running: &TaskMessage) -> Replaced<'_> {
    let headers = &running.headers;
    Replaced {
        id: &headers.id,
        embed: &running.embed,
        group: headers.group.as_deref(),
        group_index: headers.group_index,
        root_id: headers.root_id.as_deref(),
        nesting: headers.replaced_task_nesting,
    }
}

fn canvases(signatures: &[Signature]) -> Result<Vec<Canvas>, CanvasError> {
    let canvases = signatures.iter().cloned().map(Canvas::from_signature);
    Ok(canvases.collect::<Result<_, _>>()?)
}
