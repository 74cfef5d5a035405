//! The steps of a chain: what follows what, once everything in it is taken apart.
//!
//! Chains in a chain are part of it, a group of one is that one, and a group that something follows becomes a chord.
//!
//! Counterpart: `celery/canvas.py @ 5.7.0` (`_chain.prepare_steps`, `_chain._unroll_chords`).

use serde_json::{Map, Value, json};

use super::freeze::Belongs;
use super::plan::Planner;
use super::results::Place;
use super::tree::{Canvas, Chain, Chord, Group};

/// One step, frozen.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) canvas: Canvas,
    pub(super) result: Option<Place>,
    /// How many of the steps that were given it was made of.
    parts: usize,
}

impl Planner<'_> {
    /// Freezes copies of a chain's tasks, to be sent: the last one is first. The first one gets the arguments.
    pub(super) fn steps(
        &mut self,
        tasks: Vec<Canvas>,
        args: &[Value],
        kwargs: &Map<String, Value>,
        last: Belongs,
        root_id: Option<&str>,
        errbacks: &[Value],
    ) -> Vec<Step> {
        let mut flat = Vec::new();
        tasks.into_iter().for_each(|task| flatten(task, &mut flat));
        keep_one_if_all_are_empty(&mut flat, Canvas::is_empty_group);
        if let Some(first) = flat.first_mut() {
            *first = first.clone_with(args, kwargs, &Map::new());
        }
        let mut steps = self.link_up(flat, last, root_id, errbacks);
        for step in &mut steps {
            step.canvas.strip_header_links();
        }
        steps
    }

    /// Freezes a chain's tasks where they are.
    pub(super) fn freeze_steps(
        &mut self,
        tasks: &mut [Canvas],
        last: Belongs,
        root_id: Option<&str>,
    ) -> Option<Place> {
        let mut places = Vec::new();
        tasks.iter_mut().for_each(|task| leaves(task, &mut places));
        keep_one_if_all_are_empty(&mut places, |place| place.is_empty_group());
        let flat = places.iter_mut().map(|place| taken(place)).collect();
        let steps = self.link_up(flat, last, root_id, &[]);
        let result = steps.first().and_then(|step| step.result);
        let mut places = places.into_iter();
        for step in steps.into_iter().rev() {
            put_back(step.canvas, step.parts, &mut places);
        }
        result
    }

    /// From the last to the first: each is the parent of the one that comes after it.
    fn link_up(
        &mut self,
        flat: Vec<Canvas>,
        last: Belongs,
        root_id: Option<&str>,
        errbacks: &[Value],
    ) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut last = Some(last);
        // The result whose parent the next one is.
        let mut child = None;
        for canvas in flat.into_iter().rev() {
            let (mut canvas, mut parts) = (canvas, 1);
            let mut is_followed = !steps.is_empty();
            if matches!(canvas, Canvas::Group(_))
                && let Some(body) = steps.pop()
            {
                parts += body.parts;
                if let Some(freed) = self.unlink(&steps, body.result) {
                    child = Some(freed);
                }
                is_followed = !steps.is_empty();
                canvas = self.upgraded(canvas, body, root_id);
            }
            let mut belongs = last.take().unwrap_or_default();
            belongs.root_id = root_id.map(ToOwned::to_owned);
            let result = self.freeze(&mut canvas, belongs);
            if let (true, Some(child), Some(result)) = (is_followed, child, result)
                && self.results.parent(child).is_none()
            {
                self.results.set_parent(child, Some(result));
            }
            for errback in errbacks {
                canvas.link_error_value(errback, self.errbacks_on_headers);
                if let Canvas::Chord(Chord {
                    body: Some(body), ..
                }) = &mut canvas
                {
                    body.link_error_value(errback, self.errbacks_on_headers);
                }
            }
            child = match canvas {
                Canvas::Chord(_) => result.map(|result| self.results.origin(result)),
                _ => result,
            };
            steps.push(Step {
                canvas,
                result,
                parts,
            });
        }
        steps
    }

    /// A group that something follows is the header of a chord.
    fn upgraded(&self, group: Canvas, body: Step, root_id: Option<&str>) -> Canvas {
        let Canvas::Group(group) = group else {
            return group;
        };
        let mut chord = Chord::new(group.tasks, Some(body.canvas));
        let options = &mut chord.head.options;
        if let Some(id) = body.result.and_then(|result| self.results.task_id(result)) {
            options.insert("task_id".to_owned(), id.into());
        }
        options.insert("root_id".to_owned(), json!(root_id));
        Canvas::Chord(chord)
    }

    /// The rest of the chain comes after the chord, not after what is its body now. Returns whose parent that will be.
    fn unlink(&mut self, steps: &[Step], body: Option<Place>) -> Option<Place> {
        let next = steps.last()?.result;
        let before = std::iter::successors(next, |place| self.results.parent(*place));
        let of_the_body = before
            .take_while(|_| body.is_some())
            .find(|place| self.results.parent(*place) == body)?;
        self.results.set_parent(of_the_body, None);
        Some(of_the_body)
    }

    /// The body of a chord that is about to be sent: chords in it are taken apart before they are frozen.
    pub(super) fn unroll_chords(chain: &mut Chain) {
        let mut flat = Vec::new();
        for task in std::mem::take(&mut chain.tasks) {
            unroll(task, &mut flat);
        }
        chain.tasks = flat;
    }
}

fn unroll(task: Canvas, all: &mut Vec<Canvas>) {
    match task {
        Canvas::Chain(mut chain) => {
            Planner::unroll_chords(&mut chain);
            all.push(Canvas::Chain(chain));
        }
        Canvas::Chord(chord) => {
            let (chord, rest) = chord.unrolled_body();
            all.push(Canvas::Chord(chord));
            rest.into_iter().for_each(|task| unroll(task, all));
        }
        task => all.push(task),
    }
}

/// Takes chains apart, and chords whose body is a chain that a task leads.
fn flatten(task: Canvas, all: &mut Vec<Canvas>) {
    match task.unrolled() {
        Canvas::Chain(chain) => chain.tasks.into_iter().for_each(|task| flatten(task, all)),
        Canvas::Chord(chord) => {
            let (chord, rest) = chord.unrolled_body();
            all.push(Canvas::Chord(chord).copied());
            rest.into_iter().for_each(|task| flatten(task, all));
        }
        task => all.push(task),
    }
}

/// The tasks of a chain, also those of the chains in it.
fn leaves<'a>(task: &'a mut Canvas, all: &mut Vec<&'a mut Canvas>) {
    let is_taken_apart = match task {
        Canvas::Chain(_) => true,
        Canvas::Group(group) => group.tasks.len() == 1,
        _ => false,
    };
    if !is_taken_apart {
        all.push(task);
    } else if let Canvas::Chain(Chain { tasks, .. }) | Canvas::Group(Group { tasks, .. }) = task {
        tasks.iter_mut().for_each(|task| leaves(task, all));
    }
}

/// Empty groups do nothing, unless there is nothing else.
fn keep_one_if_all_are_empty<T>(steps: &mut Vec<T>, is_empty: impl Fn(&T) -> bool) {
    if steps.iter().all(&is_empty) {
        steps.drain(..steps.len().saturating_sub(1));
    } else {
        steps.retain(|step| !is_empty(step));
    }
}

/// Where each part of a step came from. A chord may have been a group and what followed it: the group stays as it was,
/// since its members get their ids anew each time.
fn put_back<'a>(canvas: Canvas, parts: usize, places: &mut impl Iterator<Item = &'a mut Canvas>) {
    let Some(place) = places.next() else {
        return;
    };
    match canvas {
        Canvas::Chord(chord) if parts > 1 => {
            if let Some(body) = chord.body {
                put_back(*body, parts - 1, places);
            }
        }
        canvas => *place = canvas,
    }
}

/// What stands there; of a group a copy.
fn taken(place: &mut Canvas) -> Canvas {
    match place {
        Canvas::Group(_) => place.clone(),
        other => std::mem::take(other),
    }
}
