//! Callbacks and errbacks of each kind of canvas, and further options.
//!
//! Counterpart: `celery/canvas.py @ 5.7.0` (`link`, `link_error`, `set`, `set_immutable` of each kind, `append_to_list_option`,
//! `_chord._add_body_callbacks`, `_link_error_to_body_tasks`).

use serde_json::Value;

use super::tree::{Canvas, Chord, Group, list};
use crate::Map;

impl Canvas {
    /// Adds what is sent with the result after a success: of a group its first task calls it, of a chord the body. An empty
    /// group, and a chord without a body, have nobody to call it, where Celery raises.
    #[must_use]
    pub fn link(mut self, callback: Self) -> Self {
        self.link_value(callback.into_value());
        self
    }

    /// Adds what is sent after a failure: each task of a group calls it, of a chord the body.
    #[must_use]
    pub fn link_error(mut self, errback: Self) -> Self {
        self.link_error_value(&errback.into_value(), false);
        self
    }

    /// As [`Canvas::link_error`]; each task of a chord's header calls it, too (`task_allow_error_cb_on_chord_header`).
    #[must_use]
    pub fn link_error_on_headers(mut self, errback: Self) -> Self {
        self.link_error_value(&errback.into_value(), true);
        self
    }

    /// Sets options of `apply_async`, in place of those of the same names. As in Celery `immutable` is not one of them:
    /// see [`Canvas::set_immutable`].
    #[must_use]
    pub fn set(mut self, mut options: Map) -> Self {
        if let Some(Value::Bool(immutable)) = options.shift_remove("immutable") {
            self.set_immutable(immutable);
        }
        self.options_mut().extend(options);
        self
    }

    /// Whether it takes the result of what went before: each task of a group, or of a chord's header.
    pub fn set_immutable(&mut self, immutable: bool) {
        match self {
            Self::Task(head) => head.immutable = immutable,
            Self::Chain(chain) => chain.head.immutable = immutable,
            Self::Group(Group { tasks, .. }) | Self::Chord(Chord { header: tasks, .. }) => {
                for task in tasks {
                    task.set_immutable(immutable);
                }
            }
        }
    }

    pub(super) fn link_value(&mut self, callback: Value) {
        match self {
            Self::Task(_) | Self::Chain(_) => append(self.options_mut(), "link", callback),
            _ => self.link_copy(callback),
        }
    }

    /// To Celery a copy differs from what it is a copy of, so it is added also where that is.
    fn link_copy(&mut self, callback: Value) {
        match self {
            Self::Task(_) | Self::Chain(_) => extend(self.options_mut(), "link", callback),
            Self::Group(group) => {
                if let Some(first) = group.tasks.first_mut() {
                    first.link_copy(immutable(callback));
                }
            }
            Self::Chord(chord) => {
                if let Some(body) = &mut chord.body {
                    body.link_copy(callback);
                }
            }
        }
    }

    /// `on_headers`: also each task of a chord's header calls it (`task_allow_error_cb_on_chord_header`).
    pub(super) fn link_error_value(&mut self, errback: &Value, on_headers: bool) {
        match self {
            Self::Task(_) | Self::Chain(_) => {
                append(self.options_mut(), "link_error", errback.clone());
            }
            Self::Group(group) => {
                for task in &mut group.tasks {
                    task.link_error_copy(errback, on_headers);
                }
            }
            Self::Chord(chord) => {
                if on_headers {
                    let marked = marked_immutable(errback.clone());
                    // A chord in it does so twice, see below, but copies equal each other.
                    for task in &mut chord.header {
                        task.link_error_value(&marked, on_headers);
                    }
                }
                for task in &mut chord.header {
                    if matches!(task, Self::Chord(_)) {
                        task.link_error_value(errback, on_headers);
                    }
                }
                if let Some(body) = &mut chord.body {
                    body.link_error_value(errback, on_headers);
                }
            }
        }
    }

    /// See [`Canvas::link_copy`].
    fn link_error_copy(&mut self, errback: &Value, on_headers: bool) {
        match self {
            Self::Task(_) | Self::Chain(_) => {
                extend(self.options_mut(), "link_error", errback.clone());
            }
            _ => self.link_error_value(errback, on_headers),
        }
    }

    /// Moves the callbacks of a chord from its options to its body.
    pub(super) fn take_callbacks(&mut self, options: &mut Map) {
        for callback in list(options.shift_remove("link")) {
            match self {
                Self::Group(group) if group.tasks.is_empty() => {
                    extend(&mut group.head.options, "link", callback);
                }
                _ => self.link_copy(callback),
            }
        }
        for errback in list(options.shift_remove("link_error")) {
            match self {
                Self::Group(_) => self.link_error_to_tasks(&errback, true),
                _ => append(self.options_mut(), "link_error", errback),
            }
        }
    }

    fn link_error_to_tasks(&mut self, errback: &Value, runs_as_group: bool) {
        match self {
            Self::Group(group) => {
                let own = group.head.options.get("link_error");
                if runs_as_group && own.is_some_and(|own| !own.is_null()) {
                    extend(&mut group.head.options, "link_error", errback.clone());
                    return;
                }
                for task in &mut group.tasks {
                    task.link_error_to_tasks(errback, false);
                }
            }
            Self::Chord(chord) => {
                if let Some(body) = &mut chord.body {
                    body.link_error_to_tasks(errback, true);
                }
            }
            _ => self.link_error_copy(errback, false),
        }
    }
}

/// Adds to an option that is a list, unless it is there.
fn append(options: &mut Map, key: &str, value: Value) {
    let mut all = list(options.get_mut(key).map(Value::take));
    if !all.contains(&value) {
        all.push(value);
    }
    options.insert(key.to_owned(), Value::Array(all));
}

/// Adds to an option that is a list, also what is there.
pub(super) fn extend(options: &mut Map, key: &str, value: Value) {
    let mut all = list(options.get_mut(key).map(Value::take));
    all.extend(list(Some(value)));
    options.insert(key.to_owned(), Value::Array(all));
}

/// What `clone(immutable=True)` makes: an option of that name, which changes nothing.
fn marked_immutable(mut signature: Value) -> Value {
    let options = signature.get_mut("options");
    if let Some(options) = options.and_then(Value::as_object_mut) {
        options.insert("immutable".to_owned(), Value::Bool(true));
    }
    signature
}

/// What is no signature stays as it is.
fn immutable(signature: Value) -> Value {
    match Canvas::from_value(signature.clone()) {
        Ok(mut canvas) => {
            canvas.set_immutable(true);
            canvas.into_value()
        }
        Err(_) => signature,
    }
}
