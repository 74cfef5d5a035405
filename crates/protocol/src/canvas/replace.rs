//! What takes the place of a running task, and what joins its chord.
//!
//! Counterpart: `celery/app/task.py @ 5.7.0` (`Task.replace`, `Task.add_to_chord`).

use serde_json::{Value, json};

use super::freeze::Belongs;
use super::link::extend;
use super::plan::{CanvasError, Plan, Planner};
use super::tree::{Canvas, list};
use super::{Embed, Signature};
use crate::Map;

/// The task that runs.
#[derive(Debug)]
pub struct Replaced<'a> {
    /// Its id.
    pub id: &'a str,
    /// What follows it.
    pub embed: &'a Embed,
    /// Its group.
    pub group: Option<&'a str>,
    /// Its place in the group.
    pub group_index: Option<i64>,
    /// The first task of the workflow, as its message says.
    pub root_id: Option<&'a str>,
    /// How often a task of this id has been replaced.
    pub nesting: u64,
}

impl Replaced<'_> {
    /// What ties it to a group and to the chord.
    fn ties(&self) -> Map {
        let chord = self.embed.chord.as_ref().map(Signature::to_value);
        let ties = [
            ("chord", json!(chord)),
            ("group_id", json!(self.group)),
            ("group_index", json!(self.group_index)),
            ("root_id", json!(self.root_id)),
        ];
        ties.map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect()
    }
}

impl Planner<'_> {
    /// What is sent in place of the task: it has the task's id, and all that follows the task follows it.
    ///
    /// # Errors
    /// It cannot take a task's place.
    pub fn replace(mut self, canvas: Canvas, task: &Replaced<'_>) -> Result<Plan, CanvasError> {
        if canvas.options().contains_key("chord") {
            return Err(CanvasError::ReplacementInChord);
        }
        if canvas.is_empty_chain() {
            return Err(CanvasError::EmptyReplacement);
        }
        let mut canvas = with_one_end(canvas);
        for callback in task.embed.callbacks.iter().flatten() {
            canvas.link_value(callback.to_value());
        }
        for errback in task.embed.errbacks.iter().flatten() {
            canvas.link_error_value(&errback.to_value(), self.errbacks_on_headers);
        }
        // What follows the chain is put behind it below, so its callbacks belong to its last task.
        if let Canvas::Chain(chain) = &mut canvas
            && let Some(last) = chain.tasks.last_mut()
        {
            let links = list(chain.head.options.shift_remove("link"));
            if !links.is_empty() {
                extend(last.options_mut(), "link", Value::Array(links));
            }
        }
        self.links = true;
        let belongs = Belongs {
            id: Some(task.id.to_owned()),
            ..Belongs::default()
        };
        self.freeze(&mut canvas, belongs);
        self.links = false;
        let nesting = json!(task.nesting + 1);
        let set_nesting = |canvas: &mut Canvas| {
            let options = canvas.options_mut();
            options.insert("replaced_task_nesting".to_owned(), nesting.clone());
        };
        canvas.options_mut().extend(task.ties());
        set_nesting(&mut canvas);
        if let Canvas::Chain(chain) = &mut canvas {
            chain.tasks.iter_mut().for_each(set_nesting);
        }
        for next in task.embed.chain.iter().flatten().rev() {
            let mut next = Canvas::from_signature(next.clone())?;
            set_nesting(&mut next);
            canvas = canvas.then(next);
        }
        self.apply(&canvas, &[], &Map::new(), Map::new())
    }

    /// What is sent to be one more part of the task's chord. Nothing is counted here.
    ///
    /// # Errors
    /// The task is not in a chord.
    pub fn add_to_chord(
        mut self,
        mut canvas: Canvas,
        task: &Replaced<'_>,
    ) -> Result<Plan, CanvasError> {
        if task.embed.chord.is_none() {
            return Err(CanvasError::NotInChord);
        }
        canvas.options_mut().extend(task.ties());
        self.freeze(&mut canvas, Belongs::default());
        self.apply(&canvas, &[], &Map::new(), Map::new())
    }
}

/// A group has many ends, and one result must come of it.
fn with_one_end(canvas: Canvas) -> Canvas {
    match canvas {
        Canvas::Group(_) => canvas.then(accumulate()),
        Canvas::Chain(mut chain) => {
            if let Some(last) = chain.tasks.pop_if(|last| matches!(last, Canvas::Group(_))) {
                chain.tasks.push(last.then(accumulate()));
            }
            Canvas::Chain(chain)
        }
        other => other,
    }
}

fn accumulate() -> Canvas {
    let kwargs = [("index".to_owned(), json!(0))].into_iter().collect();
    Signature::new("celery.accumulate", Vec::new(), kwargs).into()
}
