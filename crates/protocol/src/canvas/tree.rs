//! A signature taken apart: what kind of canvas it is, and what it is made of.
//!
//! Reading follows `from_dict` of each kind: a chain and a group keep their tasks and options only, the header of a chord
//! becomes a list of tasks. Whoever passes a signature on without looking into it keeps the [`Signature`], which loses
//! nothing.
//!
//! Counterpart: `celery/canvas.py @ 5.7.0` (`Signature.from_dict`, `_chain`, `group`, `_chord`, `maybe_unroll_group`,
//! `_chord._descend`).

use serde_json::{Value, json};

use super::Signature;
use crate::{
    DecodeError, Map,
    node::{kind, wrong_kind},
};

/// The options that a signature does not let anybody replace.
const OWN_OPTIONS: [&str; 2] = ["group_id", "stamped_headers"];

/// A call, or calls that belong together.
#[derive(Debug, Clone, PartialEq)]
pub enum Canvas {
    /// One call; also `celery.map`, `celery.starmap` and `celery.chunks`, which are tasks.
    Task(Signature),
    /// One after the other, each with the result of the one before.
    Chain(Chain),
    /// All at once.
    Group(Group),
    /// A body that gets the results of all of a header.
    Chord(Chord),
}

/// See [`Canvas::Chain`].
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// All but its tasks.
    pub(super) head: Signature,
    pub(super) tasks: Vec<Canvas>,
}

/// See [`Canvas::Group`].
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// All but its tasks.
    pub(super) head: Signature,
    pub(super) tasks: Vec<Canvas>,
}

/// See [`Canvas::Chord`].
#[derive(Debug, Clone, PartialEq)]
pub struct Chord {
    /// All but its header and its body.
    pub(super) head: Signature,
    pub(super) header: Vec<Canvas>,
    /// Once it is frozen the header is a group, with an id of its own.
    pub(super) header_group: Option<Box<Signature>>,
    pub(super) body: Option<Box<Canvas>>,
}

impl Default for Canvas {
    fn default() -> Self {
        Self::Task(Signature::default())
    }
}

impl Chain {
    /// As it stands, whatever its tasks are.
    pub(super) fn new(tasks: Vec<Canvas>) -> Self {
        let head = head("celery.chain", "chain", &["tasks"]);
        Self { head, tasks }
    }

    /// Its tasks.
    pub fn tasks(&self) -> &[Canvas] {
        &self.tasks
    }

    /// Options of `apply_async`.
    pub fn options(&self) -> &Map {
        &self.head.options
    }

    /// See [`Chain::options`].
    pub fn options_mut(&mut self) -> &mut Map {
        &mut self.head.options
    }
}

impl Group {
    pub(super) fn new(tasks: Vec<Canvas>) -> Self {
        let head = head("celery.group", "group", &["tasks"]);
        Self { head, tasks }
    }

    /// Its tasks.
    pub fn tasks(&self) -> &[Canvas] {
        &self.tasks
    }

    /// Options of `apply_async`.
    pub fn options(&self) -> &Map {
        &self.head.options
    }

    /// See [`Group::options`].
    pub fn options_mut(&mut self) -> &mut Map {
        &mut self.head.options
    }
}

impl Chord {
    pub(super) fn new(header: Vec<Canvas>, body: Option<Canvas>) -> Self {
        let mut head = head("celery.chord", "chord", &["kwargs", "header", "body"]);
        head.kwargs.insert("kwargs".to_owned(), json!({}));
        Self {
            head,
            header,
            header_group: None,
            body: body.map(Box::new),
        }
    }

    /// Those of the header.
    pub fn header(&self) -> &[Canvas] {
        &self.header
    }

    /// What gets their results; Celery can be given a chord that has none yet.
    pub fn body(&self) -> Option<&Canvas> {
        self.body.as_deref()
    }

    /// Options of `apply_async`.
    pub fn options(&self) -> &Map {
        &self.head.options
    }

    /// See [`Chord::options`].
    pub fn options_mut(&mut self) -> &mut Map {
        &mut self.head.options
    }

    /// Makes a group of the header, which it stays.
    pub fn with_header<T>(&mut self, on: impl FnOnce(&mut Group) -> T) -> T {
        let mut header = Group::new(std::mem::take(&mut self.header));
        if let Some(head) = self.header_group.take() {
            header.head = *head;
        }
        let result = on(&mut header);
        self.header = header.tasks;
        self.header_group = Some(Box::new(header.head));
        result
    }

    /// Keyword arguments for all of the header.
    pub(super) fn header_kwargs(&self) -> Map {
        let kwargs = self.head.kwargs.get("kwargs").and_then(Value::as_object);
        kwargs.cloned().unwrap_or_default()
    }
}

/// The parts stand in the keyword arguments; here only their places.
fn head(task: &str, subtask_type: &str, parts: &[&str]) -> Signature {
    let places = parts.iter().map(|part| ((*part).to_owned(), Value::Null));
    let mut head = Signature::new(task, Vec::new(), places.collect());
    head.subtask_type = Some(subtask_type.to_owned());
    head
}

impl Canvas {
    /// Runs a task for each of a list, in one process, one after the other: `task.map(it)`.
    pub fn map(task: Value, it: Vec<Value>) -> Self {
        Self::each("celery.map", task, it)
    }

    /// As [`Canvas::map`]; each of the list is itself a list of arguments.
    pub fn starmap(task: Value, it: Vec<Value>) -> Self {
        Self::each("celery.starmap", task, it)
    }

    /// Sends a group of [`Canvas::starmap`], each with `n` of a list, the last one with what is left: `task.chunks(it, n)`.
    pub fn chunks(task: Value, it: Vec<Value>, n: usize) -> Self {
        let mut chunks = Self::each("celery.chunks", task, it);
        chunks.head_mut().kwargs.insert("n".to_owned(), n.into());
        chunks
    }

    /// The group that [`Canvas::chunks`] sends: `task.chunks(it, n).group()`. An `n` of 0 is taken as 1.
    pub fn chunks_group(task: &Value, it: &[Value], n: usize) -> Self {
        let parts = it.chunks(n.max(1)).map(<[Value]>::to_vec);
        Self::group(parts.map(|part| Self::starmap(task.clone(), part)))
    }

    fn each(name: &str, task: Value, it: Vec<Value>) -> Self {
        let kwargs = [("task", task), ("it", Value::Array(it))];
        let kwargs = kwargs.map(|(key, value)| (key.to_owned(), value));
        let mut signature = Signature::new(name, Vec::new(), kwargs.into_iter().collect());
        signature.immutable = true;
        Self::Task(signature)
    }
}

impl From<Signature> for Canvas {
    /// A plain call, whatever kind it names.
    fn from(signature: Signature) -> Self {
        Self::Task(signature)
    }
}

impl Canvas {
    /// Takes a signature apart.
    ///
    /// # Errors
    /// It names a kind that is not known, or its parts are no signatures.
    pub fn from_signature(mut signature: Signature) -> Result<Self, DecodeError> {
        match signature.subtask_type.as_deref() {
            None | Some("") => Ok(Self::Task(signature)),
            Some("chain") => {
                let tasks = tasks(part(&mut signature, "tasks"))?;
                let head = without_arguments(signature);
                Ok(Self::Chain(Chain { head, tasks }))
            }
            Some("group") => {
                let tasks = tasks(part(&mut signature, "tasks"))?;
                let head = without_arguments(signature);
                Ok(Self::Group(Group { head, tasks }))
            }
            Some("chord") => {
                let header = header(part(&mut signature, "header"))?;
                let body = match part(&mut signature, "body") {
                    Value::Null => None,
                    body => Some(Box::new(Self::from_value(body)?)),
                };
                Ok(Self::Chord(Chord {
                    head: signature,
                    header,
                    header_group: None,
                    body,
                }))
            }
            // Written by nobody; Celery knows them all the same.
            Some("xmap" | "xstarmap" | "chunks") => Ok(Self::Task(signature)),
            Some(_) => Err(wrong_kind(
                "signature",
                "subtask_type",
                "chain, group or chord",
                "another kind",
            )),
        }
    }

    /// As [`Canvas::from_signature`], from its JSON.
    ///
    /// # Errors
    /// As there, or it is no signature.
    pub fn from_value(value: Value) -> Result<Self, DecodeError> {
        Self::from_signature(Signature::from_value(value)?)
    }

    /// The signature as it is written.
    pub fn to_signature(&self) -> Signature {
        self.clone().into_signature()
    }

    /// As [`Canvas::to_signature`], of one that is not needed any more.
    pub fn into_signature(self) -> Signature {
        let (mut head, parts) = match self {
            Self::Task(head) => return head,
            Self::Chain(Chain { head, tasks }) | Self::Group(Group { head, tasks }) => {
                (head, vec![("tasks", into_values(tasks))])
            }
            Self::Chord(chord) => {
                let header = into_values(chord.header);
                let header = match chord.header_group {
                    None => header,
                    Some(mut group) => {
                        group.kwargs.insert("tasks".to_owned(), header);
                        group.into_value()
                    }
                };
                let body = chord.body.map_or(Value::Null, |body| body.into_value());
                (chord.head, vec![("header", header), ("body", body)])
            }
        };
        for (part, value) in parts {
            head.kwargs.insert(part.to_owned(), value);
        }
        head
    }

    /// As [`Canvas::to_signature`], its JSON.
    pub fn to_value(&self) -> Value {
        self.clone().into_value()
    }

    /// As [`Canvas::into_signature`], its JSON.
    pub fn into_value(self) -> Value {
        self.into_signature().into_value()
    }

    /// All but the parts of it.
    pub(super) fn head(&self) -> &Signature {
        match self {
            Self::Task(head)
            | Self::Chain(Chain { head, .. })
            | Self::Group(Group { head, .. })
            | Self::Chord(Chord { head, .. }) => head,
        }
    }

    pub(super) fn head_mut(&mut self) -> &mut Signature {
        match self {
            Self::Task(head)
            | Self::Chain(Chain { head, .. })
            | Self::Group(Group { head, .. })
            | Self::Chord(Chord { head, .. }) => head,
        }
    }

    /// Options of `apply_async`.
    pub fn options(&self) -> &Map {
        &self.head().options
    }

    /// See [`Canvas::options`].
    pub fn options_mut(&mut self) -> &mut Map {
        &mut self.head_mut().options
    }

    pub(super) fn is_empty_group(&self) -> bool {
        matches!(self, Self::Group(group) if group.tasks.is_empty())
    }

    pub(super) fn is_empty_chain(&self) -> bool {
        matches!(self, Self::Chain(chain) if chain.tasks.is_empty())
    }

    /// Nothing comes of it, however it is put. Celery leaves out chains without tasks; with a chain of those in its header it
    /// fails, or waits for ever.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Chain(Chain { tasks, .. }) | Self::Group(Group { tasks, .. }) => {
                tasks.iter().all(Self::is_nothing)
            }
            Self::Task(_) | Self::Chord(_) => false,
        }
    }

    /// A group of one is that one.
    pub(super) fn unrolled(self) -> Self {
        match self {
            Self::Group(mut group) if group.tasks.len() == 1 => {
                group.tasks.pop().unwrap_or_default().unrolled()
            }
            other => other,
        }
    }

    /// A copy for another use, with further arguments and options: those given come first, or win. What is immutable takes
    /// no arguments, a chain and a group neither; and a group that it belongs to stays, as do its stamps.
    /// `clone(args, kwargs, **options)` in Celery.
    pub fn clone_with(&self, args: &[Value], kwargs: &Map, options: &Map) -> Self {
        let mut copy = match self {
            Self::Task(signature) => {
                let mut copy = signature.clone();
                copy.args = signature.merged_args(args);
                copy.kwargs = signature.merged_kwargs(kwargs);
                Self::Task(copy)
            }
            // Neither keeps arguments.
            Self::Group(group) => Self::Group(group.clone()),
            Self::Chain(chain) => Self::Chain(Chain {
                head: chain.head.clone(),
                tasks: chain.tasks.iter().map(Self::copied).collect(),
            }),
            Self::Chord(chord) => {
                let mut copy = chord.clone();
                copy.header_group = None;
                copy.head.args = chord.head.merged_args(args);
                copy.head.kwargs = chord.head.merged_kwargs(kwargs);
                copy.body = chord.body.as_deref().map(|body| Box::new(body.copied()));
                Self::Chord(copy)
            }
        };
        if !options.is_empty() {
            *copy.options_mut() = self.head().merged_options(options.clone());
        }
        copy
    }

    /// See [`Canvas::clone_with`].
    pub(super) fn copied(&self) -> Self {
        self.clone_with(&[], &Map::new(), &Map::new())
    }

    /// How many parts of a chord it reports when it is in a header.
    pub(super) fn descend(&self) -> usize {
        match self {
            Self::Task(_) => 1,
            Self::Group(group) => group.tasks.iter().map(Self::descend).sum(),
            Self::Chain(chain) => {
                let sizes = chain.tasks.iter().rev().map(Self::descend);
                sizes.into_iter().find(|size| *size > 0).unwrap_or(0)
            }
            Self::Chord(chord) => chord.body.as_deref().map_or(0, Self::descend),
        }
    }
}

impl Signature {
    /// Options where those given win, but for its own stamps. Counterpart: `Signature._merge`.
    pub(super) fn merged_options(&self, given: Map) -> Map {
        let stamps = self
            .options
            .get("stamped_headers")
            .and_then(Value::as_array);
        merged_options(&self.options, given, stamps.map_or(&[], Vec::as_slice))
    }
}

/// Options where those given win, but for those that are always kept, and for `kept`.
pub(super) fn merged_options(own: &Map, given: Map, kept: &[Value]) -> Map {
    let is_kept = |key: &str| OWN_OPTIONS.contains(&key) || kept.iter().any(|kept| kept == key);
    let mut merged = own.clone();
    for (key, value) in given {
        if !own.contains_key(&key) || !is_kept(&key) {
            merged.insert(key, value);
        }
    }
    merged
}

/// One, several or none. Counterpart: `kombu.utils.functional.maybe_list`.
pub(super) fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    }
}

pub(super) fn into_values(tasks: Vec<Canvas>) -> Value {
    tasks.into_iter().map(Canvas::into_value).collect()
}

/// Takes a part out and leaves its place.
fn part(signature: &mut Signature, name: &str) -> Value {
    let place = signature.kwargs.get_mut(name);
    place.map(Value::take).unwrap_or_default()
}

/// A chain and a group are rebuilt from their tasks and options.
fn without_arguments(mut signature: Signature) -> Signature {
    signature.args.clear();
    signature.immutable = false;
    signature
}

fn tasks(value: Value) -> Result<Vec<Canvas>, DecodeError> {
    match value {
        Value::Array(tasks) => tasks.into_iter().map(Canvas::from_value).collect(),
        other => Err(wrong_kind("signature", "tasks", "a list", kind(&other))),
    }
}

/// Counterpart: `_maybe_group`.
fn header(value: Value) -> Result<Vec<Canvas>, DecodeError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(tasks) => tasks.into_iter().map(Canvas::from_value).collect(),
        one => Ok(match Canvas::from_value(one)? {
            Canvas::Chain(Chain { tasks, .. }) | Canvas::Group(Group { tasks, .. }) => tasks,
            one => vec![one],
        }),
    }
}
