//! The tasks, by what they are about.

mod failing;
mod numbers;
mod replacing;
mod request;
mod retrying;
mod signatures;
mod stamps;
mod traces;

use celeriac::AppBuilder;
use celeriac::protocol::exception::TaskException;
use serde_json::Value;

/// The module of the tasks and of their exceptions.
const MODULE: &str = "t.integration.tasks";

/// All of them.
pub(crate) fn register(app: AppBuilder) -> AppBuilder {
    let app = failing::register(numbers::register(app));
    let app = traces::register(retrying::register(request::register(app)));
    signatures::register(replacing::register(app))
}

/// `ExpectedException(*args)`.
fn expected_exception(args: Vec<Value>) -> TaskException {
    TaskException::new(MODULE, "ExpectedException", args)
}

/// `UnpickleableException(foo, bar)`, of which only the first argument is told.
fn unpickleable_exception(told: Value) -> TaskException {
    TaskException::new(MODULE, "UnpickleableException", vec![told])
}
