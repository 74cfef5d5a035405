//! A task made of a function that takes whatever arguments come: what the macro has no word for.

use async_trait::async_trait;
use celeriac::{Handler, Invocation, Outcome, TaskOptions};
use serde_json::Value;

/// See the module's text.
pub(crate) struct Function<F> {
    name: &'static str,
    options: TaskOptions,
    run: F,
}

impl<F, R> Function<F>
where
    F: Fn(Invocation) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    pub(crate) fn new(name: &'static str, run: F) -> Self {
        Self::with(TaskOptions::default(), name, run)
    }

    pub(crate) fn with(options: TaskOptions, name: &'static str, run: F) -> Self {
        Self { name, options, run }
    }
}

#[async_trait]
impl<F, R> Handler for Function<F>
where
    F: Fn(Invocation) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    fn name(&self) -> &str {
        self.name
    }

    fn options(&self) -> TaskOptions {
        self.options.clone()
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        (self.run)(invocation).await
    }
}

/// The argument at this place or of this name.
pub(crate) fn argument<'a>(call: &'a Invocation, place: usize, name: &str) -> Option<&'a Value> {
    call.args.get(place).or_else(|| call.kwargs.get(name))
}
