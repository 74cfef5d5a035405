//! Signatures as results and as arguments; nothing of them is sent.

use celeriac::protocol::canvas::Canvas;
use celeriac::protocol::exception::TaskException;
use celeriac::protocol::repr;
use celeriac::{AppBuilder, Invocation, Outcome};
use serde_json::{Value, json};

use crate::function::{Function, bind};

pub(super) fn register(app: AppBuilder) -> AppBuilder {
    let app = app.handler(Function::new(
        "t.integration.tasks.rebuild_signature",
        rebuild_signature,
    ));
    nested().into_iter().fold(app, |app, (name, signature)| {
        app.handler(Function::new(name, move |call: Invocation| {
            let signature = signature.clone();
            async move {
                let [] = bind(&call, [], 0)?;
                Ok::<_, TaskException>(Outcome::Success(signature))
            }
        }))
    })
}

/// `rebuild_signature(sig_dict)`: what is read must be signatures throughout.
async fn rebuild_signature(call: Invocation) -> Result<Outcome, TaskException> {
    let [signature] = bind(&call, ["sig_dict"], 1)?;
    let shown = repr::repr_value(&signature);
    match Canvas::from_value(signature) {
        Ok(_) => Ok(Outcome::Success(Value::Null)),
        Err(error) => Err(TaskException::type_error(format!(
            "{shown} is not a signature object: {error}"
        ))),
    }
}

/// As Python writes them: a group in a group, and a chain or a group as a header, have left their members only.
fn nested() -> [(&'static str, Value); 9] {
    [
        (
            "t.integration.tasks.return_nested_signature_chain_chain",
            chain(&chain(&add())),
        ),
        (
            "t.integration.tasks.return_nested_signature_chain_group",
            chain(&group(&add())),
        ),
        (
            "t.integration.tasks.return_nested_signature_chain_chord",
            chain(&chord(&add())),
        ),
        (
            "t.integration.tasks.return_nested_signature_group_chain",
            group(&chain(&add())),
        ),
        (
            "t.integration.tasks.return_nested_signature_group_group",
            group(&add()),
        ),
        (
            "t.integration.tasks.return_nested_signature_group_chord",
            group(&chord(&add())),
        ),
        (
            "t.integration.tasks.return_nested_signature_chord_chain",
            chord(&add()),
        ),
        (
            "t.integration.tasks.return_nested_signature_chord_group",
            chord(&add()),
        ),
        (
            "t.integration.tasks.return_nested_signature_chord_chord",
            chord(&chord(&add())),
        ),
    ]
}

/// `add.s()`
fn add() -> Value {
    signature("t.integration.tasks.add", &json!({}), None)
}

/// A chain of one.
fn chain(task: &Value) -> Value {
    signature("celery.chain", &json!({"tasks": [task]}), Some("chain"))
}

/// A group of one.
fn group(task: &Value) -> Value {
    signature("celery.group", &json!({"tasks": [task]}), Some("group"))
}

/// A chord with a header of one.
fn chord(task: &Value) -> Value {
    let parts = json!({"kwargs": {}, "header": [task], "body": add()});
    signature("celery.chord", &parts, Some("chord"))
}

fn signature(task: &str, kwargs: &Value, kind: Option<&str>) -> Value {
    json!({
        "task": task,
        "args": [],
        "kwargs": kwargs,
        "options": {},
        "subtask_type": kind,
        "immutable": false,
    })
}
