//! Tasks that send a canvas: in their own place, into their chord, or beside it.

use celeriac::protocol::canvas::{Canvas, Signature};
use celeriac::protocol::exception::TaskException;
use celeriac::protocol::repr;
use celeriac::{AppBuilder, Invocation, Outcome, SendError};
use serde_json::{Map, Value, json};

use super::numbers::is_true;
use super::{MODULE, stamps, traces};
use crate::function::{Function, bind, only_keywords};

type Ended = Result<Outcome, TaskException>;

pub(super) fn register(app: AppBuilder) -> AppBuilder {
    let app = register_senders(app);
    app.handler(Function::new(
        "t.integration.tasks.add_replaced",
        add_replaced,
    ))
    .handler(Function::new(
        "t.integration.tasks.add_replaced_with_chain",
        add_replaced_with_chain,
    ))
    .handler(Function::new(
        "t.integration.tasks.record_replaced_task_nesting",
        record_replaced_task_nesting,
    ))
    .handler(Function::new(
        "t.integration.tasks.replace_with_chain",
        replace_with_chain,
    ))
    .handler(Function::new(
        "t.integration.tasks.replace_with_chain_which_raises",
        replace_with_chain_which_raises,
    ))
    .handler(Function::new(
        "t.integration.tasks.replace_with_empty_chain",
        replace_with_empty_chain,
    ))
    .handler(Function::new(
        "t.integration.tasks.replace_with_chain_which_contains_a_group",
        replace_with_chain_which_contains_a_group,
    ))
    .handler(Function::new(
        "t.integration.tasks.replace_with_stamped_task",
        replace_with_stamped_task,
    ))
    .handler(Function::new(
        "t.integration.tasks.second_order_replace1",
        second_order_replace1,
    ))
    .handler(Function::new(
        "t.integration.tasks.second_order_replace2",
        second_order_replace2,
    ))
    .handler(Function::new(
        "t.integration.tasks.fail_replaced",
        fail_replaced,
    ))
    .handler(Function::new("t.integration.tasks.add_to_all", add_to_all))
}

/// Those that stay where they are.
fn register_senders(app: AppBuilder) -> AppBuilder {
    app.handler(Function::new(
        "t.integration.tasks.add_to_all_to_chord",
        add_to_all_to_chord,
    ))
    .handler(Function::new(
        "t.integration.tasks.add_chord_to_chord",
        add_chord_to_chord,
    ))
    .handler(Function::new(
        "t.integration.tasks.build_chain_inside_task",
        build_chain_inside_task,
    ))
    .handler(Function::new("t.integration.tasks.chain_add", chain_add))
    .handler(Function::new("t.integration.tasks.chord_add", chord_add))
}

/// `add_replaced(self, x, y)`.
async fn add_replaced(call: Invocation) -> Ended {
    let sum = s("add", bind(&call, ["x", "y"], 2)?);
    Ok(Outcome::replace(sum))
}

/// `add_replaced_with_chain(self, x, y)`.
async fn add_replaced_with_chain(call: Invocation) -> Ended {
    let sum = s("add", bind(&call, ["x", "y"], 2)?);
    let chain = Canvas::chain([sum, s("identity", [])]);
    Ok(Outcome::replace(chain))
}

/// `record_replaced_task_nesting(self, replacements, nesting=None)`.
async fn record_replaced_task_nesting(call: Invocation) -> Ended {
    let [replacements, nesting] = bind(&call, ["replacements", "nesting"], 1)?;
    let mut nesting = match nesting {
        Value::Null => Vec::new(),
        nesting => list(nesting)?,
    };
    nesting.push(json!(call.context.headers().replaced_task_nesting));
    match replacements.as_i64() {
        Some(0) => Ok(Outcome::Success(Value::Array(nesting))),
        Some(count) => {
            let args = [json!(count - 1), Value::Array(nesting)];
            let mut next = s("record_replaced_task_nesting", args);
            let reply_to = json!(call.context.properties().reply_to);
            next.options_mut().insert("reply_to".to_owned(), reply_to);
            Ok(Outcome::replace(next))
        }
        None => Err(TaskException::type_error("replacements must be a number")),
    }
}

/// `replace_with_chain(self, *args, link_msg=None)`.
async fn replace_with_chain(call: Invocation) -> Ended {
    let echo = echo(&call)?;
    let first = s("identity", call.args);
    let chain = Canvas::chain([first, s("identity", [])]).link(echo);
    Ok(Outcome::replace(chain))
}

/// `replace_with_chain_which_raises(self, *args, link_msg=None)`.
async fn replace_with_chain_which_raises(call: Invocation) -> Ended {
    let echo = echo(&call)?;
    let first = s("identity", call.args);
    let chain = Canvas::chain([first, s("raise_error", [])]).link_error(echo);
    Ok(Outcome::replace(chain))
}

/// Writes the message that the call names, or else what it is given.
fn echo(call: &Invocation) -> Result<Canvas, TaskException> {
    only_keywords(call, &["link_msg"])?;
    Ok(match call.kwargs.get("link_msg") {
        None | Some(Value::Null) => s("redis_echo", []),
        Some(message) => si("redis_echo", [message.clone()], &json!({})),
    })
}

/// `replace_with_empty_chain(self, *_)`.
async fn replace_with_empty_chain(call: Invocation) -> Ended {
    only_keywords(&call, &[])?;
    Ok(Outcome::replace(Canvas::chain([])))
}

/// `replace_with_chain_which_contains_a_group(self)`.
async fn replace_with_chain_which_contains_a_group(call: Invocation) -> Ended {
    let [] = bind(&call, [], 0)?;
    let one = || s("add", [json!(1)]);
    let chain = Canvas::chain([
        s("add", [json!(1), json!(2)]),
        Canvas::group([one(), one()]),
    ]);
    Ok(Outcome::replace(chain))
}

/// `replace_with_stamped_task(self, replace_with=None)`; in Python the stamps come from its `on_replace`.
async fn replace_with_stamped_task(call: Invocation) -> Ended {
    let [replacement] = bind(&call, ["replace_with"], 0)?;
    let mut replacement = match replacement {
        Value::Null => s("replaced_with_me", []).to_value(),
        other => other,
    };
    stamps::stamp(
        &mut replacement,
        "StampOnReplace",
        &json!("This is the replaced task"),
    );
    let shown = repr::repr_value(&replacement);
    let canvas = Canvas::from_value(replacement)
        .map_err(|error| TaskException::type_error(format!("{shown}: {error}")))?;
    Ok(Outcome::replace(canvas))
}

/// `second_order_replace1(self, state=False)`.
async fn second_order_replace1(call: Invocation) -> Ended {
    let [state] = bind(&call, ["state"], 0)?;
    if is_true(&state) {
        return mark(&call, "Out A").await;
    }
    mark(&call, "In A").await?;
    let chain = Canvas::chain([
        s("second_order_replace2", []),
        si("second_order_replace1", [], &json!({"state": true})),
    ]);
    Ok(Outcome::replace(chain))
}

/// `second_order_replace2(self, state=False)`.
async fn second_order_replace2(call: Invocation) -> Ended {
    let [state] = bind(&call, ["state"], 0)?;
    if is_true(&state) {
        return mark(&call, "Out B").await;
    }
    mark(&call, "In B").await?;
    let chain = Canvas::chain([
        s("redis_echo", [json!("In/Out C")]),
        si("second_order_replace2", [], &json!({"state": true})),
    ]);
    Ok(Outcome::replace(chain))
}

async fn mark(call: &Invocation, text: &str) -> Ended {
    traces::push(&call.context, "redis-echo", &json!(text)).await?;
    Ok(Outcome::Success(Value::Null))
}

/// `fail_replaced(self, *args)`.
async fn fail_replaced(call: Invocation) -> Ended {
    only_keywords(&call, &[])?;
    let failing = si("fail", call.args, &json!({}));
    Ok(Outcome::replace(failing))
}

/// `add_to_all(self, nums, val)`.
async fn add_to_all(call: Invocation) -> Ended {
    let group = Canvas::group(sums(&call)?);
    Ok(Outcome::replace(group))
}

/// `add_to_all_to_chord(self, nums, val)`.
async fn add_to_all_to_chord(call: Invocation) -> Ended {
    for sum in sums(&call)? {
        let added = call.context.add_to_chord(sum).await;
        added.map_err(|error| unsent(&error))?;
    }
    Ok(Outcome::Success(json!(0)))
}

/// `add_chord_to_chord(self, nums, val)`.
async fn add_chord_to_chord(call: Invocation) -> Ended {
    let chord = Canvas::group(sums(&call)?).then(s("tsum", []));
    let added = call.context.add_to_chord(chord).await;
    added.map_err(|error| unsent(&error))?;
    Ok(Outcome::Success(json!(0)))
}

/// For each of `nums` its sum with `val`.
fn sums(call: &Invocation) -> Result<Vec<Canvas>, TaskException> {
    let [nums, val] = bind(call, ["nums", "val"], 2)?;
    let nums = list(nums)?.into_iter();
    Ok(nums.map(|num| s("add", [num, val.clone()])).collect())
}

/// `build_chain_inside_task(self)`: what will come of the chain is its result.
async fn build_chain_inside_task(call: Invocation) -> Ended {
    let [] = bind(&call, [], 0)?;
    let plus = |number: i64| s("add", [json!(number)]);
    let chain = Canvas::chain([
        s("add", [json!(1), json!(1)]),
        plus(2),
        Canvas::group([plus(3), plus(4)]),
        plus(5),
    ]);
    Ok(Outcome::Success(send(&call, chain).await?))
}

/// `chain_add(x, y)`.
async fn chain_add(call: Invocation) -> Ended {
    let [x, y] = bind(&call, ["x", "y"], 2)?;
    let chain = Canvas::chain([s("add", [x.clone(), x]), s("add", [y])]);
    send(&call, chain).await?;
    Ok(Outcome::Success(Value::Null))
}

/// `chord_add(x, y)`: what stands for its header is one task.
async fn chord_add(call: Invocation) -> Ended {
    let [x, y] = bind(&call, ["x", "y"], 2)?;
    let chord = Canvas::chord([s("add", [x.clone(), x])], s("add", [y]));
    send(&call, chord).await?;
    Ok(Outcome::Success(Value::Null))
}

async fn send(call: &Invocation, canvas: Canvas) -> Result<Value, TaskException> {
    let sent = celeriac::Signature::from(canvas);
    let sent = sent.delay(call.context.app()).await;
    let result = sent.map_err(|error| unsent(&error))?;
    Ok(result.as_tuple())
}

fn unsent(error: &SendError) -> TaskException {
    match error {
        SendError::Arguments { reason, .. } => TaskException::builtin("ValueError", reason),
        _ => TaskException::new(
            "kombu.exceptions",
            "OperationalError",
            vec![json!(error.to_string())],
        ),
    }
}

/// `task.s(*args)`
fn s(task: &str, args: impl Into<Vec<Value>>) -> Canvas {
    Signature::new(format!("{MODULE}.{task}"), args.into(), Map::new()).into()
}

/// `task.si(*args, **kwargs)`
fn si(task: &str, args: impl Into<Vec<Value>>, kwargs: &Value) -> Canvas {
    let kwargs = kwargs.as_object().cloned().unwrap_or_default();
    let signature = Signature::new(format!("{MODULE}.{task}"), args.into(), kwargs);
    Canvas::from(Signature {
        immutable: true,
        ..signature
    })
}

fn list(value: Value) -> Result<Vec<Value>, TaskException> {
    match value {
        Value::Array(list) => Ok(list),
        other => {
            let shown = repr::repr_value(&other);
            Err(TaskException::type_error(format!("{shown} is no list")))
        }
    }
}
