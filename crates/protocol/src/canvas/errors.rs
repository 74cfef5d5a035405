//! The tasks of a group that will not run: their ids, and who hears of it.
//!
//! Counterpart: `celery/backends/base.py @ 5.7.0` (`_handle_group_chord_error`, `_result_errbacks`).

use std::collections::HashMap;

use serde_json::Value;

use super::Signature;
use super::freeze::Belongs;
use super::plan::Planner;
use super::tree::{Canvas, Group, list};

/// See the module's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Lost {
    /// The group's id.
    pub group: String,
    /// Its tasks.
    pub tasks: Vec<LostTask>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct LostTask {
    /// The id of its result.
    pub id: String,
    /// Each once: its own, then those of the group.
    pub errbacks: Vec<Signature>,
}

impl Planner<'_> {
    /// What would have come of a group.
    pub fn lost(mut self, mut group: Group) -> Lost {
        let place = self.freeze_group(&mut group, Belongs::default());
        let of_the_group = list(group.head.options.get("link_error").cloned());
        let members = self.results.members(place).unwrap_or_default();
        // Where two have the same id, the first of them counts.
        let own: HashMap<_, _> = group.tasks.iter().rev().map(errbacks).collect();
        let tasks = members.iter().map(|member| {
            let id = self.results.id(*member).to_owned();
            let mut all = own.get(&Some(id.as_str())).cloned().unwrap_or_default();
            all.extend(of_the_group.iter().cloned());
            LostTask {
                id,
                errbacks: once(all),
            }
        });
        Lost {
            group: self.results.id(place).to_owned(),
            tasks: tasks.collect(),
        }
    }
}

fn once(errbacks: Vec<Value>) -> Vec<Signature> {
    let mut all: Vec<Value> = Vec::new();
    for errback in errbacks {
        if !all.contains(&errback) {
            all.push(errback);
        }
    }
    let read = all.into_iter().map(Signature::from_value);
    // One that is no signature has nobody to call.
    read.filter_map(Result::ok).collect()
}

/// The id of a result and the errbacks linked to it. A chord's is that of its body; a group's errbacks are those of its
/// tasks too, a chain's only its own.
fn errbacks(canvas: &Canvas) -> (Option<&str>, Vec<Value>) {
    let mut all = Vec::new();
    let mut canvas = canvas;
    while let Canvas::Chord(chord) = canvas
        && let Some(body) = chord.body.as_deref()
    {
        all.extend(list(chord.head.options.get("link_error").cloned()));
        canvas = body;
    }
    all.extend(list(canvas.options().get("link_error").cloned()));
    if let Canvas::Group(group) = canvas {
        all.extend(group.tasks.iter().flat_map(|task| errbacks(task).1));
    }
    (canvas.options().get("task_id").and_then(Value::as_str), all)
}
