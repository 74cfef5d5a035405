//! Canvases: what Celery joins, freezes, sends and stamps (`python_interop/recorder/canvas`).
//!
//! Ids are named by the order in which they appear, since it does not matter in which order they are drawn. The size of
//! a chord may be known earlier than Celery says it.

use std::collections::HashMap;

use celeriac_protocol::canvas::{
    Belongs, Canvas, CanvasError, Chain, Chord, Group, Plan, Planner, Replaced, StampingVisitor,
    Step,
};
use celeriac_protocol::{Embed, Map, Signature};
use serde_json::{Value, json};

use super::{check_all, fixture};

/// Whose `reply_to` it is.
const OID: &str = "OID";

#[test]
fn canvases_are_joined_as_celery_joins_them() {
    let cases = fixture::<Value>("canvas/join");
    let ours = |case: &Value| canvas(&case["left"]).then(canvas(&case["right"]));
    check_all(
        "join",
        cases
            .iter()
            .map(|case| compared(case, &ours(case).to_value(), "joined")),
    );
    let cases = fixture::<Value>("canvas/chain");
    let ours = |case: &Value| {
        let items = case["items"].as_array().unwrap();
        Canvas::chain(items.iter().map(canvas))
    };
    check_all(
        "chain",
        cases
            .iter()
            .map(|case| compared(case, &ours(case).to_value(), "joined")),
    );
}

#[test]
fn ids_are_fixed_as_celery_fixes_them() {
    let cases = fixture::<Value>("canvas/freeze");
    let cases = cases.iter().filter(|case| case["raises"].is_null());
    check_all(
        "freeze",
        cases.map(|case| {
            let mut canvas = canvas(&case["signature"]);
            let mut ids = ids();
            let result = Planner::new(OID, &mut ids).fix(&mut canvas, belongs(&case["args"]));
            let ours = Value::Array(vec![canvas.into_value(), result.unwrap_or_default()]);
            let recorded = vec![
                signature(&case["frozen"]).into_value(),
                case["result"].clone(),
            ];
            let recorded = Value::Array(recorded);
            (name(case), normal(&ours), normal(&recorded))
        }),
    );
}

#[test]
fn canvases_are_sent_as_celery_sends_them() {
    let cases = fixture::<Value>("canvas/apply");
    check_all(
        "apply",
        cases.iter().map(|case| {
            let mut ids = ids();
            let args = case["args"].as_array().unwrap();
            let planner = Planner::new(OID, &mut ids);
            let kwargs = map(&case["kwargs"]);
            let plan = planner.apply(
                &canvas(&case["signature"]),
                args,
                &kwargs,
                map(&case["options"]),
            );
            let ours = planned(plan);
            let recorded = match case["raises"].is_null() {
                true => recorded(&case["ops"], &case["result"]),
                false => json!("raises"),
            };
            (name(case), normal(&ours), normal(&recorded))
        }),
    );
}

#[test]
fn tasks_are_replaced_as_celery_replaces_them() {
    let cases = fixture::<Value>("canvas/replace");
    // Celery fails to link a callback to a group that it has not read yet.
    let is_bug = |case: &&Value| case["raises"] == "AttributeError";
    check_all(
        "replace",
        cases.iter().filter(|case| !is_bug(case)).map(|case| {
            let request = &case["request"];
            let text = |key: &str| request.get(key).and_then(Value::as_str);
            let embed: Map = ["callbacks", "errbacks", "chain", "chord"]
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), request.get(key)?.clone())))
                .collect();
            let embed = Embed::from_map(embed).unwrap();
            let task = Replaced {
                id: "T",
                embed: &embed,
                group: text("group"),
                group_index: request.get("group_index").and_then(Value::as_i64),
                root_id: text("root_id"),
                nesting: request
                    .get("replaced_task_nesting")
                    .and_then(Value::as_u64)
                    .unwrap_or(0),
            };
            let mut ids = ids();
            let on_headers = &case["conf"]["task_allow_error_cb_on_chord_header"];
            let planner = Planner::new(OID, &mut ids);
            let planner = planner.with_errbacks_on_headers(*on_headers == json!(true));
            let canvas = canvas(&case["signature"]);
            let plan = match case["method"].as_str() {
                Some("replace") => planner.replace(canvas, &task),
                _ => planner.add_to_chord(canvas, &task),
            };
            // What comes of it is not recorded.
            let ours = planned(plan.map(|plan| Plan {
                result: None,
                ..plan
            }));
            let is_raised = !matches!(case["raises"].as_str(), None | Some("Ignore"));
            let recorded = match is_raised {
                false => recorded(&case["ops"], &Value::Null),
                true => json!("raises"),
            };
            (name(case), normal(&ours), normal(&recorded))
        }),
    );
}

#[test]
fn canvases_are_stamped_as_celery_stamps_them() {
    let cases = fixture::<Value>("canvas/stamp");
    // Celery fails where an object is to be merged with an older stamp that is none.
    let cases = cases.iter().filter(|case| case["raises"].is_null());
    check_all(
        "stamp",
        cases.map(|case| {
            let mut canvas = canvas(&case["signature"]);
            let mut answers = Answers(&case["visitor"]);
            let visitor = case["visitor"].is_object();
            let visitor = visitor.then_some(&mut answers as &mut dyn StampingVisitor);
            let append = case["append"] == json!(true);
            canvas
                .stamp(visitor, append, &map(&case["stamps"]))
                .unwrap();
            let ours = stamps(&canvas.to_value());
            let recorded = stamps(&unshared(&signature(&case["stamped"]).into_value()));
            (name(case), normal(&ours), normal(&recorded))
        }),
    );
}

#[test]
fn canvases_are_changed_as_celery_changes_them() {
    let cases = fixture::<Value>("canvas/link");
    // Celery fails to link to an empty group, and to a chord without a body: here nothing is done.
    let cases = cases.iter().filter(|case| case["raises"].is_null());
    check_all(
        "link",
        cases.map(|case| {
            let before = canvas(&case["signature"]);
            let (args, kwargs) = (&case["args"], map(&case["kwargs"]));
            let on_headers = &case["conf"]["task_allow_error_cb_on_chord_header"];
            let (ours, is_new) = match case["method"].as_str().unwrap() {
                "link" => (before.link(canvas(&args[0])), false),
                "link_error" if *on_headers == json!(true) => {
                    (before.link_error_on_headers(canvas(&args[0])), false)
                }
                "link_error" => (before.link_error(canvas(&args[0])), false),
                "set" => (before.set(kwargs), false),
                "set_immutable" => {
                    let mut canvas = before;
                    canvas.set_immutable(args[0] == json!(true));
                    (canvas, false)
                }
                "clone" => {
                    let given = args[0].as_array().cloned().unwrap_or_default();
                    let changed = before.clone_with(&given, &map(&args[1]), &kwargs);
                    (changed, true)
                }
                "group" => {
                    let given = before.to_signature().kwargs;
                    let it = given["it"].as_array().unwrap();
                    let n = given["n"].as_u64().unwrap().try_into().unwrap();
                    let chunks = Canvas::chunks(given["task"].clone(), it.clone(), n);
                    assert_eq!(normal(&chunks.to_value()), normal(&case["signature"]));
                    (Canvas::chunks_group(&given["task"], it, n), true)
                }
                "unchain_tasks" => {
                    let Canvas::Chain(chain) = before else {
                        panic!("{} is no chain", name(case))
                    };
                    let tasks: Vec<Value> = chain
                        .unchain_tasks()
                        .into_iter()
                        .map(Canvas::into_value)
                        .collect();
                    return (name(case), normal(&json!(tasks)), normal(&case["returned"]));
                }
                other => panic!("{other} is not known"),
            };
            compared(
                case,
                &ours.to_value(),
                if is_new { "returned" } else { "after" },
            )
        }),
    );
}

/// Answers as it is told, by the name of the hook.
struct Answers<'a>(&'a Value);

impl StampingVisitor for Answers<'_> {
    fn on_signature(&mut self, _: &mut Signature, _: &Map) -> Map {
        map(&self.0["on_signature"])
    }

    fn on_group_start(&mut self, _: &mut Group, _: &Map) -> Map {
        map(&self.0["on_group_start"])
    }

    fn on_chain_start(&mut self, _: &mut Chain, _: &Map) -> Map {
        map(&self.0["on_chain_start"])
    }

    /// As it is by default; with an answer more.
    fn on_chord_header_start(&mut self, chord: &mut Chord, headers: &Map) -> Map {
        let mut all = chord.with_header(|header| self.on_group_start(header, headers));
        all.extend(map(&self.0["on_chord_header_start"]));
        all
    }

    fn on_chord_body(&mut self, _: &mut Chord, _: &Map) -> Map {
        map(&self.0["on_chord_body"])
    }

    fn on_callback(&mut self, _: &mut Canvas, _: &Map) -> Map {
        map(&self.0["on_callback"])
    }

    fn on_errback(&mut self, _: &mut Canvas, _: &Map) -> Map {
        map(&self.0["on_errback"])
    }
}

/// Without what means nothing: the order of the stamps' names, and whether a header is a group or the list of its tasks.
fn stamps(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(stamps).collect(),
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    ("stamped_headers", Value::Array(names)) => {
                        let mut names = names.clone();
                        names.sort_by_key(Value::to_string);
                        Value::Array(names)
                    }
                    ("header", group) if group["options"] == json!({}) => {
                        stamps(&group["kwargs"]["tasks"])
                    }
                    (_, value) => stamps(value),
                };
                (key.clone(), value)
            });
            pairs.collect::<Map>().into()
        }
        other => other.clone(),
    }
}

/// Celery extends the lists that it is given, so whatever is stamped later gets what was meant for others: values once
/// more, and names that have no value there.
fn unshared(value: &Value) -> Value {
    let Value::Object(map) = value else {
        return match value {
            Value::Array(list) => list.iter().map(unshared).collect(),
            other => other.clone(),
        };
    };
    let mut map: Map = map
        .iter()
        .map(|(key, value)| (key.clone(), unshared(value)))
        .collect();
    if let Some(Value::Array(mut names)) = map.get("stamped_headers").cloned() {
        names.retain(|name| map.contains_key(name.as_str().unwrap()));
        // Those that are given as lists.
        for name in ["foo", "list"] {
            if let Some(Value::Array(values)) = map.get_mut(name) {
                let all = std::mem::take(values);
                for value in all {
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
            }
        }
        map.insert("stamped_headers".to_owned(), Value::Array(names));
    }
    Value::Object(map)
}

#[test]
fn who_hears_of_a_group_that_will_not_run_is_who_celery_tells() {
    let cases = fixture::<Value>("canvas/chord_error");
    let groups = cases
        .iter()
        .filter_map(|case| match canvas(&case["signature"]) {
            // Celery drops an errback that cannot be sent; here that is seen when it is sent.
            Canvas::Group(group) if name(case) != "group_errback_invalid/frozen" => {
                Some((case, group))
            }
            _ => None,
        });
    check_all(
        "chord_error",
        groups.map(|(case, group)| {
            let mut ids = ids();
            let lost = Planner::new(OID, &mut ids).lost(group);
            let told = lost.tasks.iter().flat_map(|task| {
                let errbacks = task.errbacks.iter();
                errbacks.map(|errback| json!([errback.task, task.id]))
            });
            let told: Vec<Value> = told.collect();
            let revoked: Vec<&String> = lost.tasks.iter().map(|task| &task.id).collect();
            let ours = json!([told, revoked, lost.group]);
            (
                name(case),
                normal(&ours),
                normal(&told_by_celery(&case["ops"])),
            )
        }),
    );
}

fn told_by_celery(ops: &Value) -> Value {
    let ops = ops.as_array().unwrap();
    let told = ops.iter().filter_map(|op| match op["op"].as_str() {
        Some("send") => Some(json!([op["task"], op["args"][0]])),
        Some("call") => Some(json!([op["task"], op["id"]])),
        _ => None,
    });
    let told: Vec<Value> = told.collect();
    let revoke = ops.iter().position(|op| op["op"] == "revoke").unwrap();
    // The group is the last that has failed before.
    json!([told, ops[revoke]["ids"], ops[revoke - 1]["id"]])
}

/// Sends in their order; then what is written down.
fn planned(plan: Result<Plan, CanvasError>) -> Value {
    let Ok(plan) = plan else {
        return json!("raises");
    };
    let mut sends = Vec::new();
    let mut starts = Vec::new();
    for step in plan.steps {
        match step {
            Step::Send(call) => {
                sends.push(sent(call.task, call.args.into(), call.kwargs, call.options))
            }
            Step::Start {
                group,
                size,
                document,
                ..
            } => starts.push(json!({"group": group, "size": size, "document": document})),
        }
    }
    ended(sends, starts, plan.result.unwrap_or_default())
}

fn sent(task: String, args: Value, kwargs: Map, options: Map) -> Value {
    let call = [
        ("task", Value::String(task)),
        ("args", args),
        ("kwargs", Value::Object(kwargs)),
        ("options", Value::Object(options)),
    ];
    call.into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn ended(sends: Vec<Value>, starts: Vec<Value>, result: Value) -> Value {
    let sends = Value::Array(sends);
    let starts = Value::Array(in_order(starts, &sends));
    Value::Array(vec![sends, starts, result])
}

/// By the order in which the groups are named in what is sent.
fn in_order(mut starts: Vec<Value>, sends: &Value) -> Vec<Value> {
    if starts.len() > 1 {
        let mut text = String::new();
        write(sends, &mut str::to_owned, &mut text);
        starts.sort_by_key(|start| text.find(&start["group"].to_string()));
    }
    starts
}

/// The same of what Celery did.
fn recorded(ops: &Value, result: &Value) -> Value {
    let mut sends = Vec::new();
    let mut starts: Vec<Value> = Vec::new();
    for op in ops.as_array().unwrap() {
        match op["op"].as_str().unwrap() {
            "send" => {
                let mut options = map(&op["options"]);
                options.insert("task_id".to_owned(), op["id"].clone());
                options.shift_remove("add_to_parent");
                let task = op["task"].as_str().unwrap();
                if options.contains_key("immediate") {
                    // It is registered there, so the task has said how it is sent.
                    options.shift_remove("serializer");
                    options.shift_remove("ignore_result");
                }
                sends.push(sent(
                    task.to_owned(),
                    op["args"].clone(),
                    map(&op["kwargs"]),
                    options,
                ));
            }
            "size" => {
                let group = &op["group"];
                let saved = starts.iter_mut().find(|start| start["group"] == *group);
                match saved {
                    Some(saved) => saved["size"] = op["size"].clone(),
                    None => {
                        starts.push(json!({"group": group, "size": op["size"], "document": null}))
                    }
                }
            }
            "save" => {
                starts.push(json!({"group": op["group"], "size": null, "document": op["document"]}))
            }
            _ => {}
        }
    }
    ended(sends, starts, result.clone())
}

/// Both as text: ours, and what stands under a key of the case.
fn compared(case: &Value, ours: &Value, key: &str) -> (String, String, String) {
    (name(case), normal(ours), normal(&case[key]))
}

fn name(case: &Value) -> String {
    case["name"].as_str().unwrap().to_owned()
}

fn canvas(value: &Value) -> Canvas {
    Canvas::from_signature(signature(value)).unwrap()
}

/// Written again it is what was read.
fn signature(value: &Value) -> Signature {
    let signature = Signature::from_value(value.clone()).unwrap();
    assert_eq!(signature.to_value().to_string(), value.to_string());
    signature
}

fn map(value: &Value) -> Map {
    value.as_object().cloned().unwrap_or_default()
}

fn ids() -> impl FnMut() -> String {
    let mut count = 0;
    move || {
        count += 1;
        format!("U{count}")
    }
}

fn belongs(args: &Value) -> Belongs {
    let text = |key: &str| args.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    Belongs {
        id: text("_id"),
        group_id: text("group_id"),
        group_index: args.get("group_index").and_then(Value::as_i64),
        chord: args.get("chord").filter(|chord| !chord.is_null()).cloned(),
        root_id: text("root_id"),
        parent_id: text("parent_id"),
    }
}

/// Without what means nothing: the order of keys, options that are null, the names of drawn ids.
fn normal(value: &Value) -> String {
    let mut names = HashMap::new();
    let mut text = String::new();
    let mut id = |id: &str| {
        let count = names.len();
        let name = names.entry(id.to_owned()).or_insert(count);
        format!("U{name}")
    };
    write(value, &mut id, &mut text);
    text
}

/// `id` says what stands for a drawn id.
fn write(value: &Value, id: &mut dyn FnMut(&str) -> String, text: &mut String) {
    match value {
        Value::Array(list) => {
            text.push('[');
            for value in list {
                write(value, id, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(map) => write_map(map, true, id, text),
        Value::String(drawn) if is_drawn(drawn) => text.push_str(&format!("{:?}", id(drawn))),
        other => text.push_str(&other.to_string()),
    }
}

fn write_map(map: &Map, has_nulls: bool, id: &mut dyn FnMut(&str) -> String, text: &mut String) {
    let pairs = map
        .iter()
        .filter(|(_, value)| has_nulls || !value.is_null());
    let mut pairs: Vec<(&String, &Value)> = pairs.collect();
    pairs.sort_unstable_by_key(|(key, _)| *key);
    text.push('{');
    for (key, value) in pairs {
        text.push_str(&format!("{key:?}:"));
        match value {
            Value::Object(options) if key == "options" => write_map(options, false, id, text),
            value => write(value, id, text),
        }
        text.push(',');
    }
    text.push('}');
}

fn is_drawn(text: &str) -> bool {
    let number = text.strip_prefix('U').unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}
