//! `|`: what two canvases become when one follows the other, and a chain of several.
//!
//! Counterpart: `celery/canvas.py @ 5.7.0` (`__or__` of each kind, `_fold_chain`, `_chain.unchain_tasks`).

use super::tree::{Canvas, Chain, Chord, Group, list};
use crate::Map;

impl Canvas {
    /// Several one after the other; they are joined as by `|`.
    pub fn chain(tasks: impl IntoIterator<Item = Self>) -> Self {
        let empty = Self::Chain(Chain::new(Vec::new()));
        tasks.into_iter().fold(empty, Self::then)
    }

    /// All at once.
    pub fn group(tasks: impl IntoIterator<Item = Self>) -> Self {
        Self::Group(Group::new(tasks.into_iter().collect()))
    }

    /// The body gets the results of all of the header.
    pub fn chord(header: impl IntoIterator<Item = Self>, body: Self) -> Self {
        Self::Chord(Chord::new(header.into_iter().collect(), Some(body)))
    }

    /// `self | next`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        match self {
            Self::Task(_) => self.task_then(next),
            Self::Chain(chain) => chain.then(next),
            Self::Group(group) if next.is_empty_group() => Self::Group(group),
            Self::Group(group) => Self::Chord(Chord::new(group.tasks, Some(next))),
            Self::Chord(chord) => chord.then(next),
        }
    }

    fn task_then(self, next: Self) -> Self {
        let mut tasks = vec![self];
        match next {
            Self::Chain(chain) => tasks.extend(chain.unchain_tasks()),
            next => tasks.push(next.unrolled_once()),
        }
        Self::Chain(Chain::new(tasks))
    }

    fn unrolled_once(self) -> Self {
        match self {
            Self::Group(mut group) if group.tasks.len() == 1 => {
                group.tasks.pop().unwrap_or_default()
            }
            other => other,
        }
    }
}

impl Chain {
    /// Its tasks by themselves: they have its callbacks now.
    pub fn unchain_tasks(mut self) -> Vec<Canvas> {
        if let Some(last) = self.tasks.last_mut() {
            for callback in list(self.head.options.shift_remove("link")) {
                last.link_value(callback);
            }
        }
        for errback in list(self.head.options.shift_remove("link_error")) {
            for task in &mut self.tasks {
                task.link_error_value(&errback, false);
            }
        }
        self.tasks
    }

    fn then(self, next: Canvas) -> Canvas {
        if next.is_empty_group() {
            return Canvas::Chain(self);
        }
        match next.unrolled_once() {
            Canvas::Chain(chain) => {
                let tasks = chain.unchain_tasks().into_iter();
                tasks.fold(Canvas::Chain(self), Canvas::then)
            }
            next @ Canvas::Group(_) => {
                let mut tasks = self.unchain_tasks();
                match tasks.last_mut() {
                    None => return next,
                    Some(Canvas::Chord(chord)) => chord.extend_body(next),
                    Some(_) => tasks.push(next),
                }
                Canvas::Chain(Self::new(tasks))
            }
            next => self.then_one(next),
        }
    }

    /// A task or a chord follows.
    fn then_one(mut self, next: Canvas) -> Canvas {
        match self.tasks.pop() {
            Some(Canvas::Group(group)) => {
                let chord = Canvas::Chord(Chord::new(group.tasks, Some(next)));
                match self.tasks.last_mut() {
                    Some(Canvas::Chord(before)) => before.extend_body(chord),
                    _ => self.tasks.push(chord),
                }
                Canvas::Chain(self)
            }
            Some(Canvas::Chord(mut chord)) if !matches!(next, Canvas::Chord(_)) => {
                chord.extend_body(next);
                self.tasks.push(Canvas::Chord(chord));
                Canvas::Chain(self)
            }
            last => {
                self.tasks.extend(last);
                let mut tasks = self.unchain_tasks();
                tasks.push(next);
                Canvas::Chain(Self::new(tasks))
            }
        }
    }
}

impl Chord {
    /// The body goes on.
    pub(super) fn extend_body(&mut self, next: Canvas) {
        self.body = Some(Box::new(match self.body.take() {
            Some(body) => body.then(next),
            None => next,
        }));
    }

    fn then(mut self, next: Canvas) -> Canvas {
        let next = match next {
            Canvas::Group(group) if group.tasks.len() == 1 => Canvas::Group(group).unrolled_once(),
            many @ (Canvas::Group(_) | Canvas::Chain(_)) => {
                return Canvas::Chord(self).task_then(many);
            }
            one => one,
        };
        self.header_group = None;
        self.extend_body(next);
        Canvas::Chord(self)
    }

    /// A chord that is followed by the rest of its body, where that is a chain that a task leads. Each task of the header
    /// carries a copy of the body, which would hold all the rest.
    pub(super) fn unrolled_body(mut self) -> (Self, Vec<Canvas>) {
        let mut rest = Vec::new();
        loop {
            match self.body.take().map(|body| *body) {
                Some(Canvas::Chain(chain)) if chain.is_led_by_task() => {
                    let options = chain.options_of_the_first();
                    let mut tasks = chain.unchain_tasks();
                    rest.splice(..0, tasks.drain(1..));
                    let first = tasks.pop().unwrap_or_default();
                    let first = first.clone_with(&[], &Map::new(), &options);
                    self.body = Some(Box::new(first));
                    self.header_group = None;
                }
                body => {
                    self.body = body.map(Box::new);
                    return (self, rest);
                }
            }
        }
    }
}

impl Chain {
    fn is_led_by_task(&self) -> bool {
        !matches!(self.tasks.first(), None | Some(Canvas::Group(_)))
    }

    /// The options of a chain that its first task gets when it runs.
    fn options_of_the_first(&self) -> Map {
        let options = self.head.options.iter();
        let passed = options.filter(|(key, _)| !super::plan::CHAIN_OPTIONS.contains(&key.as_str()));
        passed
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}
