//! What is sent for a canvas, in which order, and what is written down before.
//!
//! Counterpart: `celery/canvas.py @ 5.7.0` (`apply_async` of each kind, `_chain.run`, `group._apply_tasks`, `_chord.run`).

use serde_json::{Value, json};

use super::freeze::Belongs;
use super::link::extend;
use super::results::{Place, Results};
use super::tree::{Canvas, Chain, Chord, Group, into_values, list, merged_options};
use crate::{DecodeError, Map};

/// The options of a chain that it uses itself; its first task gets all others.
pub(super) const CHAIN_OPTIONS: [&str; 8] = [
    "chord",
    "group_id",
    "group_index",
    "link",
    "link_error",
    "parent_id",
    "root_id",
    "task_id",
];

const DELAYS: [&str; 2] = ["countdown", "eta"];

/// What is done for a canvas, in this order.
#[derive(Debug, Default)]
pub struct Plan {
    /// See [`Step`].
    pub steps: Vec<Step>,
    /// What the task that sends it names as its children, each `[[id, parent], members]`.
    pub children: Vec<Value>,
    /// What comes of it, in the same form; `None`: nothing was to be sent.
    pub result: Option<Value>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Send a task.
    Send(Call),
    /// Say how many parts a chord has. Celery does that before it sends the last task of the header, which may be yet to
    /// be made; to whoever counts the parts it makes no difference.
    Start {
        /// The header's id.
        group: String,
        /// Parts that will be reported.
        size: usize,
        /// How the results of the header hang together, `[[id, parent], [member, …]]`, where they are not a plain list.
        document: Option<Value>,
        /// How many of the steps after this one are the header.
        steps: usize,
    },
}

/// A task to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its name.
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map,
    /// Options of `apply_async`, `task_id` among them.
    pub options: Map,
    /// Python would show the arguments as a list: nothing was added to those of the signature.
    pub shows_list: bool,
}

/// Why a canvas cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanvasError {
    /// A group has no callbacks of its own.
    #[error("Cannot add link to group: use a chord")]
    GroupLink,
    /// A group has no errbacks of its own.
    #[error("Cannot add link to group: do that on individual tasks")]
    GroupErrback,
    /// A chord has no body.
    #[error("a chord without a body cannot be sent")]
    NoBody,
    /// What takes a task's place belongs to a chord of its own.
    #[error("A signature replacing a task must not be part of a chord")]
    ReplacementInChord,
    /// Nothing would take the task's place.
    #[error("Cannot replace with an empty chain")]
    EmptyReplacement,
    /// Only a member of a chord can add to it.
    #[error("Current task is not member of any chord")]
    NotInChord,
    /// A signature in it is none.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Makes plans.
pub struct Planner<'a> {
    /// Where ids come from.
    pub(super) ids: &'a mut dyn FnMut() -> String,
    /// The sender's oid, for signatures that name no `reply_to`.
    pub(super) oid: &'a str,
    pub(super) results: Results,
    /// Whether frozen headers carry the body; what is sent gets it when its header is sent.
    pub(super) links: bool,
    pub(super) errbacks_on_headers: bool,
    plan: Plan,
}

impl std::fmt::Debug for Planner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl<'a> Planner<'a> {
    /// `oid` is the sender's.
    pub fn new(oid: &'a str, ids: &'a mut dyn FnMut() -> String) -> Self {
        Self {
            ids,
            oid,
            results: Results::default(),
            links: false,
            errbacks_on_headers: false,
            plan: Plan::default(),
        }
    }

    /// Errbacks of a chord are called by the tasks of its header, too (`task_allow_error_cb_on_chord_header`).
    #[must_use]
    pub fn with_errbacks_on_headers(mut self, on_headers: bool) -> Self {
        self.errbacks_on_headers = on_headers;
        self
    }

    /// What `canvas.apply_async(args, kwargs, **options)` sends.
    ///
    /// # Errors
    /// It cannot be sent in this form.
    pub fn apply(
        mut self,
        canvas: &Canvas,
        args: &[Value],
        kwargs: &Map,
        options: Map,
    ) -> Result<Plan, CanvasError> {
        let result = match canvas {
            // Sent as it is, where nothing is added to it.
            Canvas::Task(_) => self.send_task(canvas, args, kwargs, options, true),
            canvas => self.send(canvas, args, kwargs, options)?,
        };
        self.plan.result = result.map(|place| self.results.tuple(place));
        Ok(self.plan)
    }

    /// What `canvas.freeze(…)` does: all ids are fixed, in place. Returns what will come of it, `[[id, parent], members]`.
    pub fn fix(mut self, canvas: &mut Canvas, belongs: Belongs) -> Option<Value> {
        self.links = true;
        let result = self.freeze(canvas, belongs);
        result.map(|place| self.results.tuple(place))
    }

    fn send(
        &mut self,
        canvas: &Canvas,
        args: &[Value],
        kwargs: &Map,
        options: Map,
    ) -> Result<Option<Place>, CanvasError> {
        match canvas {
            Canvas::Task(_) => Ok(self.send_task(canvas, args, kwargs, options, false)),
            Canvas::Chain(chain) => self.send_chain(chain, args, kwargs, options),
            Canvas::Group(group) => self
                .send_group(group, args, kwargs, options, None)
                .map(Some),
            Canvas::Chord(chord) => self.send_chord(chord, args, kwargs, options),
        }
    }

    fn send_task(
        &mut self,
        canvas: &Canvas,
        args: &[Value],
        kwargs: &Map,
        mut options: Map,
        is_as_received: bool,
    ) -> Option<Place> {
        let signature = canvas.head();
        options.retain(|_, value| !value.is_null());
        let mut options = signature.merged_options(options);
        let is_child = options.shift_remove("add_to_parent");
        let id = self.id_of(&mut options, None);
        let result = self.results.task(id);
        if is_child != Some(Value::Bool(false)) {
            self.plan.children.push(self.results.tuple(result));
        }
        self.plan.steps.push(Step::Send(Call {
            task: signature.task.clone(),
            args: signature.merged_args(args),
            kwargs: signature.merged_kwargs(kwargs),
            options,
            shows_list: is_as_received && (signature.immutable || args.is_empty()),
        }));
        Some(result)
    }

    fn send_chain(
        &mut self,
        chain: &Chain,
        args: &[Value],
        kwargs: &Map,
        given: Map,
    ) -> Result<Option<Place>, CanvasError> {
        let mut options = with(&chain.head.options, given);
        let mut own = |key: &str| options.shift_remove(key).filter(|value| !value.is_null());
        let last = Belongs {
            id: own("task_id").and_then(text),
            group_id: own("group_id").and_then(text),
            group_index: own("group_index").and_then(|index| index.as_i64()),
            chord: own("chord"),
            ..Belongs::default()
        };
        let root_id = own("root_id").and_then(text);
        own("parent_id");
        let link = own("link");
        let errbacks = list(own("link_error"));
        let args = if chain.head.immutable { &[] } else { args };
        let tasks = chain.tasks.clone();
        let mut steps = self.steps(tasks, args, kwargs, last, root_id.as_deref(), &errbacks);
        let result = steps.first().and_then(|step| step.result);
        if let (Some(link), Some(last)) = (link, steps.first_mut()) {
            extend(last.canvas.options_mut(), "link", link);
        }
        let Some(first) = steps.pop() else {
            return Ok(None);
        };
        let is_alone = steps.is_empty();
        let rest = steps.into_iter().map(|step| step.canvas).collect();
        let mut chain = list(options.shift_remove("chain"));
        chain.extend(list(Some(into_values(rest))));
        options.insert("chain".to_owned(), Value::Array(chain));
        let sent = self.send(&first.canvas, &[], &Map::new(), options)?;
        Ok(if is_alone { sent } else { result })
    }

    fn send_group(
        &mut self,
        group: &Group,
        args: &[Value],
        kwargs: &Map,
        mut options: Map,
        document: Option<Value>,
    ) -> Result<Place, CanvasError> {
        let is_given = |value: Option<Value>| value.is_some_and(|value| !value.is_null());
        if is_given(options.shift_remove("link")) {
            return Err(CanvasError::GroupLink);
        }
        if is_given(options.shift_remove("link_error")) {
            return Err(CanvasError::GroupErrback);
        }
        let is_child = options.shift_remove("add_to_parent");
        if group.tasks.is_empty() {
            let mut group = group.clone();
            return Ok(self.freeze_group(&mut group, Belongs::default()));
        }
        let mut options = merged_options(&group.head.options, options, &[]);
        let id = options.shift_remove("task_id").and_then(text);
        let id = id.unwrap_or_else(|| (self.ids)());
        options.insert("group_id".to_owned(), id.clone().into());
        options.shift_remove("group_index");
        let chord = options
            .shift_remove("chord")
            .filter(|chord| !chord.is_null());
        let root_id = options.get("root_id").cloned().and_then(text);
        let mut members = Vec::new();
        self.members(group, &id, root_id.as_deref(), &mut members);
        let chord_of = |task: &Canvas| {
            let own = task.options().get("chord").filter(|chord| !chord.is_null());
            chord.as_ref().or(own).cloned()
        };
        let last = members.last().and_then(|(task, _)| chord_of(task));
        let start = last.is_some().then_some(self.plan.steps.len());
        if start.is_some() {
            self.plan.steps.push(Step::Start {
                group: id.clone(),
                size: members.iter().map(|(task, _)| task.descend()).sum(),
                document,
                steps: 0,
            });
        }
        let mut results = Vec::with_capacity(members.len());
        for (task, result) in members {
            let mut options = options.clone();
            options.insert("add_to_parent".to_owned(), Value::Bool(false));
            options.insert("chord".to_owned(), chord_of(&task).unwrap_or_default());
            self.send(&task, args, kwargs, options)?;
            results.extend(result);
        }
        let done = self.plan.steps.len();
        if let Some(start) = start
            && let Some(Step::Start { steps, .. }) = self.plan.steps.get_mut(start)
        {
            *steps = done - start - 1;
        }
        let only = match results.as_slice() {
            [only] if self.results.is_group(*only) => Some(*only),
            _ => None,
        };
        let result = only.unwrap_or_else(|| self.results.group(id, results));
        if is_child != Some(Value::Bool(false)) {
            self.plan.children.push(self.results.tuple(result));
        }
        Ok(result)
    }

    /// The tasks of a group and of the groups in it, each with its place in its own group.
    fn members(
        &mut self,
        group: &Group,
        id: &str,
        root_id: Option<&str>,
        all: &mut Vec<(Canvas, Option<Place>)>,
    ) {
        for (index, task) in (0..).zip(&group.tasks) {
            match task {
                Canvas::Group(inner) => self.members(inner, id, root_id, all),
                task if task.is_nothing() => {}
                task => {
                    let mut task = task.copied();
                    let belongs = Belongs {
                        group_id: Some(id.to_owned()),
                        root_id: root_id.map(ToOwned::to_owned),
                        group_index: Some(index),
                        ..Belongs::default()
                    };
                    let result = self.freeze(&mut task, belongs);
                    all.push((task, result));
                }
            }
        }
    }

    fn send_chord(
        &mut self,
        chord: &Chord,
        args: &[Value],
        kwargs: &Map,
        mut given: Map,
    ) -> Result<Option<Place>, CanvasError> {
        let args = chord.head.merged_args(args);
        let mut header_kwargs = chord.header_kwargs();
        header_kwargs.extend(kwargs.clone());
        let task_id = given.shift_remove("task_id").and_then(text);
        let own = &chord.head.options;
        let delays = take_delays(&mut given, own);
        let mut for_body = given.clone();
        for key in ["link", "link_error", "parent_id"] {
            for_body.shift_remove(key);
        }
        let body = chord.body.as_deref().ok_or(CanvasError::NoBody)?;
        let mut body = body.clone_with(&[], &Map::new(), &for_body);
        let group_id = own.get("task_id").cloned().and_then(text);
        let group_id = group_id.unwrap_or_else(|| (self.ids)());

        let root_id = body.options().get("root_id").cloned().and_then(text);
        let mut options = with(own, given);
        DELAYS
            .iter()
            .for_each(|key| drop(options.shift_remove(*key)));
        let own_id = options.shift_remove("task_id").and_then(text);
        body.take_callbacks(&mut options);
        for (key, value) in &options {
            if key != "parent_id" {
                body.options_mut().insert(key.clone(), value.clone());
            }
        }
        let belongs = Belongs {
            id: task_id.or(own_id),
            group_id: Some(group_id.clone()),
            root_id: root_id.clone(),
            ..Belongs::default()
        };
        if let Canvas::Chain(chain) = &mut body {
            Self::unroll_chords(chain);
        }
        // An empty chain is no body.
        let body_result = self.freeze(&mut body, belongs).ok_or(CanvasError::NoBody)?;
        body.strip_header_links();
        for key in ["chain", "chord"] {
            options.shift_remove(key);
        }
        let mut header = Group::new(chord.header.clone());
        let task_id = json!(group_id);
        header
            .head
            .options
            .insert("task_id".to_owned(), task_id.clone());
        let belongs = Belongs {
            group_id: Some(group_id),
            chord: body.to_link(),
            root_id,
            ..Belongs::default()
        };
        let mut header_result = self.freeze_header(&mut header, belongs);
        if header.tasks.is_empty() {
            let empty = [json!([])];
            self.send(&body, &empty, &Map::new(), Map::new())?;
        } else {
            let document = self.document(header_result);
            options.extend(delays);
            options.insert("task_id".to_owned(), task_id);
            header_result = self.send_group(&header, &args, &header_kwargs, options, document)?;
        }
        self.results.set_parent(body_result, Some(header_result));
        Ok(Some(body_result))
    }

    /// A member that is itself a group cannot be read from the parts. Counterpart: `RedisBackend.apply_chord`.
    fn document(&self, header: Place) -> Option<Value> {
        let mut members = self.results.members(header)?.iter();
        let is_complex = members.any(|member| self.results.is_group(*member));
        is_complex.then(|| self.results.tuple(header))
    }
}

/// When the header runs; the body is not delayed.
fn take_delays(given: &mut Map, own: &Map) -> Map {
    let mut delays = Map::new();
    for key in DELAYS {
        let delay = given.shift_remove(key).filter(|delay| !delay.is_null());
        let delay = delay.or_else(|| own.get(key).cloned());
        if let Some(delay) = delay.filter(|delay| !delay.is_null()) {
            delays.insert(key.to_owned(), delay);
        }
    }
    delays
}

/// Options where those given win, whatever they are.
fn with(own: &Map, given: Map) -> Map {
    let mut options = own.clone();
    options.extend(given);
    options
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
