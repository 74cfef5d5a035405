//! What holds for any canvas: it is written as it was read, and what is planned for it fits together.

use std::collections::BTreeSet;

use celeriac_protocol::canvas::{Call, Canvas, CanvasError, Plan, Planner, Step};
use celeriac_protocol::{Map, Signature};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{any_json, any_map};

/// The keys of a signature and others, in any order, each of them there or not.
fn any_signature() -> impl Strategy<Value = Value> {
    let nested = prop_oneof![any_json(), any_canvas()];
    let object = prop_oneof![
        Just(Value::Null),
        any_map().prop_map(Value::from),
        vec(("tasks|header|body|link|chain", nested), 0..3)
            .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
    ];
    let value = prop_oneof![
        (Just("args"), vec(any_json(), 0..3).prop_map(Value::from)),
        (Just("args"), Just(Value::Null)),
        (Just("kwargs"), object.clone()),
        (Just("options"), object),
        (
            Just("subtask_type"),
            option::of("chain|group|chord|[a-z]{0,3}").prop_map(|kind| json!(kind))
        ),
        (
            Just("immutable"),
            option::of(any::<bool>()).prop_map(|is_immutable| json!(is_immutable))
        ),
        (Just("chord_size"), any_json()),
        (select(vec!["new", "", "Task", "é"]), any_json()),
    ];
    (vec(value, 0..10), ".*", 0..10_usize).prop_map(|(values, task, at)| {
        let mut values = values;
        values.insert(at.min(values.len()), ("task", Value::from(task)));
        let values = values.into_iter();
        values.map(|(key, value)| (key.to_owned(), value)).collect()
    })
}

fn signature(kind: Option<&str>, args: &[u8], kwargs: &Value, options: &Map) -> Value {
    let task = kind.map_or_else(|| "t".to_owned(), |kind| format!("celery.{kind}"));
    json!({"task": task, "args": args, "kwargs": kwargs, "options": options, "subtask_type": kind, "immutable": false})
}

fn any_options() -> impl Strategy<Value = Map> {
    let callback = || signature(None, &[1], &json!({}), &Map::new());
    let option = select(vec![
        ("queue", json!("q")),
        ("link", json!([callback()])),
        ("link", callback()),
        ("link_error", json!([callback(), callback()])),
        ("countdown", json!(1)),
        ("priority", Value::Null),
        ("foo", json!("bar")),
        ("stamped_headers", json!(["foo"])),
    ]);
    let options = vec(option, 0..3);
    options.prop_map(|options| {
        let options = options.into_iter();
        options
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    })
}

/// Canvases in canvases, without ids; chords may have no body, and anything may be empty.
fn any_canvas() -> impl Strategy<Value = Value> {
    any_canvas_and(false)
}

/// As [`any_canvas`]. With `one_end` each chord has a body, and one task at the end of it: where the end is a group, Celery
/// itself does not always count what it sends (a chord in a group that is a body in a header reports to that group).
fn any_canvas_and(one_end: bool) -> impl Strategy<Value = Value> {
    let task = (vec(0..9_u8, 0..2), any_options(), any::<bool>());
    let task = task.prop_map(|(args, options, is_immutable)| {
        let mut task = signature(None, &args, &json!({}), &options);
        task["immutable"] = json!(is_immutable);
        task
    });
    task.prop_recursive(4, 24, 3, move |inner| {
        let many = vec(inner.clone(), 0..3);
        let several = (select(vec!["chain", "group"]), many.clone(), any_options());
        let several = several.prop_map(|(kind, tasks, options)| {
            signature(Some(kind), &[], &json!({"tasks": tasks}), &options)
        });
        let body = (inner, 0..9_u8);
        let body = body.prop_map(move |(body, chance)| match body["subtask_type"].as_str() {
            Some("chain" | "group") if one_end => {
                let last = signature(None, &[], &json!({}), &Map::new());
                Some(signature(
                    Some("chain"),
                    &[],
                    &json!({"tasks": [body, last]}),
                    &Map::new(),
                ))
            }
            _ => (one_end || chance > 0).then_some(body),
        });
        let chord = (many, body, any_options(), any::<bool>());
        let chord = chord.prop_map(|(header, body, options, is_group)| {
            let header = match is_group {
                false => json!(header),
                true => signature(Some("group"), &[], &json!({"tasks": header}), &Map::new()),
            };
            let kwargs = json!({"header": header, "body": body, "kwargs": {}});
            signature(Some("chord"), &[], &kwargs, &options)
        });
        prop_oneof![2 => several, 1 => chord]
    })
}

fn applied(canvas: &Canvas) -> Result<Plan, CanvasError> {
    let mut count = 0;
    let mut ids = || {
        count += 1;
        format!("id-{count}")
    };
    Planner::new("oid", &mut ids).apply(canvas, &[json!(7)], &Map::new(), Map::new())
}

fn calls(steps: &[Step]) -> impl Iterator<Item = &Call> {
    steps.iter().filter_map(|step| match step {
        Step::Send(call) => Some(call),
        Step::Start { .. } => None,
    })
}

/// The header's id, the body's and the task's.
type Part<'a> = [&'a str; 3];

/// Who reports to which chord: of the tasks of a signature, of the rest of its chain, and of the body that waits for it,
/// which may be a part of another chord.
fn reporting<'a>(signature: &'a Value, parts: &mut BTreeSet<Part<'a>>) {
    let (kwargs, options) = (&signature["kwargs"], &signature["options"]);
    let mut each = |tasks: &'a Value| {
        let tasks = tasks.as_array().into_iter().flatten();
        tasks.for_each(|task| reporting(task, parts));
    };
    each(&options["chain"]);
    match signature["subtask_type"].as_str() {
        Some("chain" | "group") => each(&kwargs["tasks"]),
        Some(_) => {
            each(&kwargs["header"]);
            each(&kwargs["header"]["kwargs"]["tasks"]);
            reporting(&kwargs["body"], parts);
        }
        None => {
            let body = &options["chord"];
            if let (Some(group), true) = (options["group_id"].as_str(), body.is_object()) {
                let id = |options: &'a Value| options["task_id"].as_str().unwrap_or_default();
                parts.insert([group, id(&body["options"]), id(options)]);
            }
        }
    }
    if options["chord"].is_object() {
        reporting(&options["chord"], parts);
    }
}

proptest! {
    #[test]
    fn a_signature_is_written_as_it_was_read(value in any_signature()) {
        if let Ok(signature) = Signature::from_value(value.clone()) {
            prop_assert_eq!(signature.to_value().to_string(), value.to_string());
            drop(Canvas::from_signature(signature).map(|canvas| canvas.to_value()));
        }
    }

    #[test]
    fn a_canvas_is_read_as_it_was_written(left in any_canvas(), right in any_canvas()) {
        let left = Canvas::from_value(left).unwrap();
        let right = Canvas::from_value(right).unwrap();
        let made = [left.clone().then(right.clone()), Canvas::group([left.clone(), right.clone()]),
            Canvas::chord([left.clone()], right.clone()), Canvas::chain([right, left.clone()]), left];
        for canvas in made {
            prop_assert_eq!(Canvas::from_value(canvas.to_value()), Ok(canvas));
        }
    }

    #[test]
    fn what_is_planned_fits_together(
        parts in vec(any_canvas_and(true), 1..4),
        body in option::of(any_canvas_and(true)),
    ) {
        let parts = parts.into_iter().map(|part| Canvas::from_value(part).unwrap());
        let canvas = match body {
            Some(body) => Canvas::chord(parts, Canvas::from_value(body).unwrap()),
            None => Canvas::chain(parts),
        };
        let Ok(plan) = applied(&canvas) else {
            return Ok(());
        };
        let again = applied(&canvas).unwrap();
        prop_assert_eq!((&plan.steps, &plan.children, &plan.result), (&again.steps, &again.children, &again.result));

        let ids: Vec<&Value> = calls(&plan.steps).map(|call| &call.options["task_id"]).collect();
        let different: BTreeSet<&str> = ids.iter().filter_map(|id| id.as_str()).collect();
        prop_assert_eq!(different.len(), ids.len(), "{:?}", ids);

        let sent: Vec<Option<Value>> = plan.steps.iter().map(|step| match step {
            Step::Send(call) => Some(json!({"options": call.options})),
            Step::Start { .. } => None,
        }).collect();
        for (at, step) in (1..).zip(&plan.steps) {
            if let Step::Start { group, size, steps, .. } = step {
                let (mut inside, mut outside) = (BTreeSet::new(), BTreeSet::new());
                for (place, signature) in sent.iter().enumerate() {
                    let is_inside = (at..at + steps).contains(&place);
                    let parts = if is_inside { &mut inside } else { &mut outside };
                    signature.iter().for_each(|signature| reporting(signature, parts));
                }
                // A group that is itself a part of a chord is no chord of its own. Celery says its size all the same, and
                // lets a chord in it report there, on behalf of the same body.
                let mut bodies = inside.iter().filter(|[to, ..]| to == group).map(|[_, body, _]| *body);
                if let Some(body) = bodies.next() {
                    prop_assert!(bodies.all(|other| other == body), "{} of {:#?}", group, plan.steps);
                    let parts = inside.iter().filter(|[_, of, _]| *of == body).count();
                    prop_assert_eq!(parts, *size, "{} of {:#?}", group, plan.steps);
                    prop_assert!(outside.iter().all(|[to, ..]| to != group), "{} of {:#?}", group, plan.steps);
                }
            }
        }
    }
}
