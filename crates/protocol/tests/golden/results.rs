//! Results that Celery stored, and exceptions as it shows them.

use celeriac_protocol::{State, TaskException, TaskMeta, json::to_python_string};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{check_all, fixture};

#[derive(Deserialize)]
struct Result {
    name: String,
    meta: String,
}

#[derive(Deserialize)]
struct Exception {
    stored: String,
    repr: String,
    str: String,
}

#[derive(Deserialize)]
struct States {
    all: Vec<String>,
    ready: Vec<String>,
    exception: Vec<String>,
    propagate: Vec<String>,
}

fn parse(line: &Result) -> TaskMeta {
    TaskMeta::parse(line.meta.as_bytes()).unwrap_or_else(|err| panic!("{}: {err}", line.name))
}

#[test]
fn every_result_is_written_again_byte_for_byte() {
    let lines = fixture::<Result>("results");
    check_all(
        "results",
        lines
            .iter()
            .map(|line| (line.name.clone(), parse(line).to_json(), line.meta.clone())),
    );
}

#[test]
fn a_result_made_from_its_parts_is_the_bytes_that_python_stored() {
    let lines = fixture::<Result>("results");
    check_all(
        "results",
        lines.iter().map(|line| {
            let recorded = parse(line);
            let ours = TaskMeta {
                traceback: recorded.traceback,
                children: recorded.children,
                date_done: recorded.date_done,
                group_id: recorded.group_id,
                parent_id: recorded.parent_id,
                extra: recorded.extra,
                ..TaskMeta::new(recorded.task_id, recorded.status, recorded.result)
            };
            (line.name.clone(), ours.to_json(), line.meta.clone())
        }),
    );
}

#[test]
fn an_exception_is_stored_and_shown_as_python_does() {
    let lines = fixture::<Exception>("exceptions");
    let read = |line: &Exception| {
        TaskException::from_value(serde_json::from_str(&line.stored).unwrap()).unwrap()
    };
    let stored = |line: &Exception| to_python_string(&read(line).to_value());
    check_all(
        "stored",
        lines
            .iter()
            .map(|line| (line.repr.clone(), stored(line), line.stored.clone())),
    );
    check_all(
        "repr",
        lines
            .iter()
            .map(|line| (line.stored.clone(), read(line).repr(), line.repr.clone())),
    );
    check_all(
        "str",
        lines
            .iter()
            .map(|line| (line.stored.clone(), read(line).display(), line.str.clone())),
    );
}

#[test]
fn celerys_own_exceptions_have_the_recorded_names() {
    let stored = |line: Exception| serde_json::from_str::<Value>(&line.stored).unwrap();
    let recorded: Vec<Value> = fixture::<Exception>("exceptions")
        .into_iter()
        .map(stored)
        .collect();
    for exception in [
        TaskException::builtin("ValueError", "bang"),
        TaskException::type_error(
            "process_file_task() missing 1 required positional argument: 'file_path'",
        ),
        TaskException::not_registered("worker.tasks.missing"),
        TaskException::task_revoked("revoked"),
        TaskException::max_retries_exceeded(
            "Can't retry worker.tasks.add[id] args:[1, 2] kwargs:{}",
        ),
        TaskException::invalid_task("bad message"),
        TaskException::chord_error("Dependency 1 raised ValueError('x')"),
        TaskException::ignore(),
        TaskException::reject(json!("bad"), false),
        TaskException::worker_lost("Worker exited prematurely: signal 9 (SIGKILL) Job: 3."),
        TaskException::terminated(15),
        TaskException::time_limit_exceeded(json!(1)),
        TaskException::soft_time_limit_exceeded(),
    ] {
        assert!(
            recorded.contains(&exception.to_value()),
            "not recorded: {exception:?}"
        );
    }
}

#[test]
fn states_have_celerys_names_and_sets() {
    let [states] = &fixture::<States>("states")[..] else {
        panic!("one line expected")
    };
    for name in &states.all {
        let state = State::from(name.as_str());
        assert!(!matches!(state, State::Other(_)), "{name} is not known");
        assert_eq!(state.as_str(), name);
        assert_eq!(state.is_ready(), states.ready.contains(name), "{name}");
        assert_eq!(
            state.is_exception(),
            states.exception.contains(name),
            "{name}"
        );
        assert_eq!(
            state.is_propagated(),
            states.propagate.contains(name),
            "{name}"
        );
    }
    assert_eq!(State::from("PROGRESS"), State::Other("PROGRESS".to_owned()));
}
