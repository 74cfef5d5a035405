//! A task that an app has: the handler, and what holds for it here.
//!
//! Counterpart: `celery/app/registry.py`, `celery/app/task.py::Task.bind` @ 5.7.0.

use std::sync::Arc;

use crate::app::Settings;
use crate::handler::options::Effective;
use crate::handler::{Handler, TaskOptions};

/// See the module's text.
pub(crate) struct Registered {
    pub(crate) handler: Arc<dyn Handler>,
    /// What the task says about itself, and `task_annotations` about it.
    pub(crate) options: TaskOptions,
    /// That, and the settings where it says nothing.
    pub(crate) effective: Effective,
}

impl Registered {
    pub(super) fn new(handler: Arc<dyn Handler>, settings: &Settings) -> Self {
        let mut options = handler.options();
        let annotations = &settings.task_annotations;
        annotations.annotate(handler.name(), &mut options);
        Self {
            effective: Effective::new(&options, settings),
            options,
            handler,
        }
    }
}
