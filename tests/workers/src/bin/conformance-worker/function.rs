//! A task made of a function that takes whatever arguments come: what the macro has no word for.

use async_trait::async_trait;
use celeriac::protocol::exception::TaskException;
use celeriac::{Handler, Invocation, Outcome, TaskOptions};
use serde_json::Value;

/// See the module's text.
pub(crate) struct Function<F> {
    name: &'static str,
    options: TaskOptions,
    takes_failure: bool,
    run: F,
}

/// What a function may return.
pub(crate) trait Ending {
    fn into_outcome(self) -> Outcome;
}

impl Ending for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl Ending for Result<Outcome, TaskException> {
    fn into_outcome(self) -> Outcome {
        self.unwrap_or_else(Outcome::failure)
    }
}

impl<F, R> Function<F>
where
    F: Fn(Invocation) -> R + Send + Sync + 'static,
    R: Future<Output: Ending> + Send + 'static,
{
    pub(crate) fn new(name: &'static str, run: F) -> Self {
        Self::with(TaskOptions::default(), name, run)
    }

    pub(crate) fn with(options: TaskOptions, name: &'static str, run: F) -> Self {
        Self {
            name,
            options,
            takes_failure: false,
            run,
        }
    }

    /// As an errback it is given the request, the exception and the traceback of what has failed.
    pub(crate) fn taking_failure(self) -> Self {
        Self {
            takes_failure: true,
            ..self
        }
    }
}

#[async_trait]
impl<F, R> Handler for Function<F>
where
    F: Fn(Invocation) -> R + Send + Sync + 'static,
    R: Future<Output: Ending> + Send + 'static,
{
    fn name(&self) -> &str {
        self.name
    }

    fn options(&self) -> TaskOptions {
        self.options.clone()
    }

    fn takes_failure(&self) -> bool {
        self.takes_failure
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        (self.run)(invocation).await.into_outcome()
    }
}

/// The argument at this place or of this name.
pub(crate) fn argument<'a>(call: &'a Invocation, place: usize, name: &str) -> Option<&'a Value> {
    call.args.get(place).or_else(|| call.kwargs.get(name))
}

/// The arguments for these parameters. Of them, all after the first `required` are null where they are left out.
///
/// # Errors
/// Python's TypeError where they do not fit.
pub(crate) fn bind<const N: usize>(
    call: &Invocation,
    parameters: [&str; N],
    required: usize,
) -> Result<[Value; N], TaskException> {
    only_keywords(call, &parameters)?;
    let function = function(call);
    let given = call.args.len();
    let mut positional = parameters.iter().take(given);
    if let Some(name) = positional.find(|name| call.kwargs.contains_key(**name)) {
        let text = format!("{function}() got multiple values for argument '{name}'");
        return Err(TaskException::type_error(text));
    }
    if given > N {
        let text = format!("{function}() takes {N} positional arguments but {given} were given");
        return Err(TaskException::type_error(text));
    }
    let find = |place: usize, name: &str| argument(call, place, name).cloned();
    let mut named = parameters.iter().enumerate().take(required);
    if let Some((_, name)) = named.find(|(place, name)| find(*place, name).is_none()) {
        let text = format!("{function}() missing 1 required positional argument: '{name}'");
        return Err(TaskException::type_error(text));
    }
    let mut place = 0..N;
    Ok(parameters.map(|name| {
        let found = place.next().and_then(|place| find(place, name));
        found.unwrap_or_default()
    }))
}

/// # Errors
/// Python's TypeError where there are other keyword arguments than these.
pub(crate) fn only_keywords(call: &Invocation, known: &[&str]) -> Result<(), TaskException> {
    let mut given = call.kwargs.keys();
    match given.find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let function = function(call);
            let text = format!("{function}() got an unexpected keyword argument '{name}'");
            Err(TaskException::type_error(text))
        }
    }
}

/// `t.integration.tasks.add` is the function `add`.
fn function(call: &Invocation) -> &str {
    let task = call.context.task_name();
    task.rsplit('.').next().unwrap_or(task)
}
