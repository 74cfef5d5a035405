//! Fixing the ids of a canvas before anything of it is sent.
//!
//! An id that a signature has stays; others come from [`Planner::ids`]. Each signature is told, in its options, what it
//! belongs to: the group, its place in it, the body of the chord that waits for it.
//!
//! Counterpart: `celery/canvas.py @ 5.7.0` (`freeze` of each kind, `group._freeze_unroll`, `_strip_chord_header_links`).

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::plan::Planner;
use super::results::Place;
use super::tree::{Canvas, Chord, Group};

/// What a signature is told when it is frozen.
#[derive(Debug, Clone, Default)]
pub struct Belongs {
    /// Its id, if it has none.
    pub id: Option<String>,
    /// The group that it is in, unless it names one.
    pub group_id: Option<String>,
    /// Its place there.
    pub group_index: Option<i64>,
    /// The body that waits for it.
    pub chord: Option<Value>,
    /// The first task of the workflow.
    pub root_id: Option<String>,
    /// The task that sends it.
    pub parent_id: Option<String>,
}

impl Planner<'_> {
    /// Fixes the ids, in place. `None`: an empty chain, or a chord without a body.
    pub(super) fn freeze(&mut self, canvas: &mut Canvas, belongs: Belongs) -> Option<Place> {
        match canvas {
            Canvas::Task(head) => Some(self.freeze_task(&mut head.options, belongs)),
            Canvas::Chain(chain) => {
                let Belongs {
                    id,
                    group_id,
                    group_index,
                    chord,
                    root_id,
                    ..
                } = belongs;
                let last = Belongs {
                    id,
                    group_id,
                    group_index,
                    chord,
                    ..Belongs::default()
                };
                let result = self.freeze_steps(&mut chain.tasks, last, root_id.as_deref());
                if let Some(result) = result {
                    let id = self.results.id(result).to_owned();
                    chain.head.options.insert("task_id".to_owned(), id.into());
                }
                result
            }
            Canvas::Group(group) => Some(self.freeze_group(group, belongs)),
            Canvas::Chord(chord) => self.freeze_chord(chord, belongs),
        }
    }

    /// In the order in which Celery adds to the options.
    fn freeze_task(&mut self, options: &mut Map<String, Value>, belongs: Belongs) -> Place {
        let id = self.id_of(options, belongs.id);
        let is_named = |text: &String| !text.is_empty();
        let root_id = belongs.root_id.filter(is_named);
        let parent_id = belongs.parent_id.filter(is_named);
        let is_new = |key: &str| !options.contains_key(key);
        let reply_to = is_new("reply_to").then(|| json!(self.oid));
        let group_id = belongs.group_id.filter(|_| is_new("group_id"));
        for (key, value) in [
            ("root_id", root_id.map(Value::from)),
            ("parent_id", parent_id.map(Value::from)),
            ("reply_to", reply_to),
            ("group_id", group_id.map(Value::from)),
            ("chord", belongs.chord),
            ("group_index", belongs.group_index.map(Value::from)),
        ] {
            if let Some(value) = value {
                options.insert(key.to_owned(), value);
            }
        }
        self.results.task(id)
    }

    /// The id that stands in the options; one is put there if there is none.
    pub(super) fn id_of(&mut self, options: &mut Map<String, Value>, or: Option<String>) -> String {
        match options.get("task_id") {
            Some(Value::String(id)) => id.clone(),
            _ => {
                let id = or.unwrap_or_else(|| (self.ids)());
                options.insert("task_id".to_owned(), id.clone().into());
                id
            }
        }
    }

    pub(super) fn freeze_group(&mut self, group: &mut Group, belongs: Belongs) -> Place {
        self.freeze_all(group, belongs, true)
    }

    /// A group that is sent next. Its plain tasks are told then who waits for them: it may be large, and they are many.
    pub(super) fn freeze_header(&mut self, group: &mut Group, belongs: Belongs) -> Place {
        self.freeze_all(group, belongs, false)
    }

    fn freeze_all(&mut self, group: &mut Group, belongs: Belongs, tells_tasks: bool) -> Place {
        let options = &mut group.head.options;
        // The group itself takes no id from those around it.
        let id = self.id_of(options, None);
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                options.insert(key.to_owned(), value);
            }
        };
        put("group_id", belongs.group_id.clone().map(Value::from));
        put("chord", belongs.chord.clone());
        put("group_index", belongs.group_index.map(Value::from));
        let mut or_put = |key: &str, value: Option<String>| {
            let there = options.entry(key).or_insert_with(|| json!(value));
            there.as_str().map(ToOwned::to_owned)
        };
        let root_id = or_put("root_id", belongs.root_id);
        let parent_id = or_put("parent_id", belongs.parent_id);
        let belongs = Belongs {
            id: None,
            group_index: None,
            root_id,
            parent_id,
            ..belongs
        };
        let members = self.freeze_members(&mut group.tasks, &belongs, tells_tasks);
        self.results.group(id, members)
    }

    /// Groups in a group are dissolved.
    fn freeze_members(
        &mut self,
        tasks: &mut Vec<Canvas>,
        belongs: &Belongs,
        tells_tasks: bool,
    ) -> Vec<Place> {
        let mut waiting: VecDeque<Canvas> = std::mem::take(tasks).into();
        let mut results = Vec::with_capacity(waiting.len());
        while let Some(task) = waiting.pop_front() {
            let mut task = match task {
                // Celery puts them in front one by one, so they come out in reverse.
                Canvas::Group(group) => {
                    group
                        .tasks
                        .into_iter()
                        .for_each(|task| waiting.push_front(task));
                    continue;
                }
                task if task.is_nothing() => continue,
                task => task.copied(),
            };
            let index = i64::try_from(tasks.len()).ok();
            let is_told = tells_tasks || !matches!(task, Canvas::Task(_));
            let belongs = Belongs {
                id: None,
                group_id: belongs.group_id.clone(),
                group_index: index,
                chord: belongs.chord.as_ref().filter(|_| is_told).cloned(),
                root_id: belongs.root_id.clone(),
                parent_id: belongs.parent_id.clone(),
            };
            results.extend(self.freeze(&mut task, belongs));
            tasks.push(task);
        }
        results
    }

    fn freeze_chord(&mut self, chord: &mut Chord, belongs: Belongs) -> Option<Place> {
        let Belongs {
            id,
            group_id,
            group_index,
            chord: outer,
            root_id,
            parent_id,
        } = belongs;
        // The header carries the body as it is once that is frozen.
        let mut body_result = None;
        if let Some(body) = &mut chord.body {
            let belongs = Belongs {
                id,
                group_id,
                group_index,
                chord: outer,
                root_id: root_id.clone(),
                parent_id: None,
            };
            body_result = self.freeze(body, belongs);
        }
        let body = chord.body.as_deref().filter(|_| self.links);
        let header = Belongs {
            chord: body.and_then(Canvas::to_link),
            root_id,
            parent_id,
            ..Belongs::default()
        };
        let header_result = chord.with_header(|group| self.freeze_group(group, header));
        let id = self.results.id(header_result).to_owned();
        chord.head.options.insert("task_id".to_owned(), id.into());
        if let Some(result) = body_result {
            let first = self.results.origin(result);
            self.results.set_parent(first, Some(header_result));
        }
        body_result
    }
}

impl Canvas {
    /// What the tasks of a header carry of the body. Celery takes an empty group for none.
    pub(super) fn to_link(&self) -> Option<Value> {
        (!self.is_empty_group()).then(|| self.to_value())
    }

    /// A pending chord carries its body by itself: that each task of the header has it too is left out until the header
    /// is sent.
    pub(super) fn strip_header_links(&mut self) {
        match self {
            Self::Task(_) => {}
            Self::Chord(chord) => {
                if let Some(group) = &mut chord.header_group {
                    group.options.shift_remove("chord");
                }
                chord.header.iter_mut().for_each(Self::clear_chord);
                chord.header.iter_mut().for_each(Self::strip_header_links);
                if let Some(body) = &mut chord.body {
                    body.strip_header_links();
                }
            }
            Self::Group(Group { tasks, .. }) | Self::Chain(super::tree::Chain { tasks, .. }) => {
                tasks.iter_mut().for_each(Self::strip_header_links);
            }
        }
    }

    /// Of those that end it.
    fn clear_chord(&mut self) {
        self.options_mut().shift_remove("chord");
        match self {
            Self::Task(_) => {}
            Self::Group(group) => group.tasks.iter_mut().for_each(Self::clear_chord),
            Self::Chain(chain) => chain
                .tasks
                .last_mut()
                .into_iter()
                .for_each(Self::clear_chord),
            Self::Chord(chord) => {
                if let Some(body) = &mut chord.body {
                    body.clear_chord();
                }
            }
        }
    }
}
