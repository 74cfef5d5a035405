//! Chains, groups and chords of both languages, started from either.

use std::process::{Command, Output};

use celeriac::protocol::Limits;
use celeriac::protocol::envelope::Envelope;
use celeriac::protocol::state::State;
use celeriac::{
    App, GroupResult, ResultNode, Signature, TaskSignature, chain, chord, group, signature,
};
use celeriac_tests::fleet::Fleet;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::{python, python_worker};
use celeriac_tests::redis::PrivateRedis;
use celery::task::TaskResult;
use chrono::DateTime;
use serde_json::{Value, json};

#[celery::task(name = "proj.add")]
fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celery::task(name = "proj.total")]
fn total(values: Vec<i64>) -> TaskResult<i64> {
    Ok(values.into_iter().sum())
}

fn boom(text: &str) -> Signature {
    signature("proj.boom", ("ValueError", text))
}

/// A Redis, workers, and clients of both languages.
struct World {
    fleet: Fleet,
}

impl World {
    async fn new() -> Self {
        let fleet = Fleet::new("").await;
        Self { fleet }
    }

    fn app(&self) -> &App {
        self.fleet.app()
    }

    fn redis(&self) -> &PrivateRedis {
        &self.fleet.redis
    }

    /// Our worker, on the queue `celery`.
    async fn ours(&self) -> Process {
        self.fleet.worker("ours").await
    }

    /// Python's, on this queue.
    async fn theirs(&self, queue: &str) -> Process {
        let mut command = python_worker(&self.redis().url(0), &self.redis().url(1));
        command.args(["-Q", queue]);
        let mut worker = self.fleet.launch("python", &mut command);
        worker.says(" ready.").await;
        worker
    }

    fn on_it(&self, command: &mut Command) -> Output {
        let command = command
            .env("CELERY_BROKER_URL", self.redis().url(0))
            .env("CELERY_RESULT_BACKEND", self.redis().url(1));
        let output = command.output().expect("python runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{out}\n{err}");
        output
    }

    /// Runs this with the names of `proj.py` and `canvas.py`.
    fn python(&self, code: &str) -> String {
        let code = format!("from canvas import *\n{code}");
        let output = self.on_it(python().args(["-c", &code]));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Python's client starts canvases, with every other task on this queue.
    fn pythons_canvases(&self, other: &str) {
        let mut tests = python();
        tests
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "canvas.py"])
            .env("OTHER_QUEUE", other);
        self.on_it(&mut tests);
    }

    async fn get(&self, signature: Signature) -> Value {
        let sent = signature.delay(self.app()).await.expect("redis runs");
        let value = sent.get(PATIENCE).await;
        value.unwrap_or_else(|error| panic!("{signature:?}: {error}"))
    }
}

/// Canvases started from Rust, with every other task on this queue.
async fn canvases(world: &World, other: &str) {
    let other = |signature: Signature| signature.set("queue", other);
    let each = |n: i64| match n % 2 {
        0 => add::s((n, n)),
        _ => other(add::s((n, n))),
    };
    for (signature, expected) in [
        (
            chain![add::s((2, 2)), other(add::s((4,))), add::s((8,))],
            json!(16),
        ),
        (other(add::s((2, 2))) | add::si((1, 1)), json!(2)),
        (group((0..6).map(each)), json!([0, 2, 4, 6, 8, 10])),
        (chord((0..6).map(each), total::s(())), json!(30)),
        (chord((0..6).map(each), other(total::s(()))), json!(30)),
        (
            add::s((1, 1))
                | group([add::s((1,)), other(add::s((2,)))])
                | other(total::s(()))
                | group([add::s((10,)), other(add::s((20,)))]),
            json!([17, 27]),
        ),
        (
            chord(
                [
                    chord((0..4).map(each), other(total::s(()))),
                    other(add::s((1, 1))) | add::s((1,)),
                ],
                total::s(()),
            ) | other(add::s((100,))),
            json!(115),
        ),
    ] {
        assert_eq!(world.get(signature).await, expected);
    }
    calls_back(world, other).await;
}

/// Callbacks, errbacks and failures.
async fn calls_back(world: &World, other: impl Fn(Signature) -> Signature) {
    let mut callback = other(add::s((100,)));
    let called = callback.freeze(world.app()).expect("there is a task");
    assert_eq!(world.get(add::s((1, 1)).link(callback)).await, 2);
    assert_eq!(called.get::<i64>(PATIENCE).await.expect("a number"), 102);

    let mut errback = other(signature("proj.identity", ()));
    let told = errback.freeze(world.app()).expect("there is a task");
    let header = [add::s((1, 1)), other(boom("bad"))];
    let sent = chord(header, total::s(()).link_error(errback));
    let sent = sent.delay(world.app()).await.expect("redis runs");
    let id: String = told.get(PATIENCE).await.expect("an id");
    assert_eq!(id, sent.id());
    let failed = sent.get::<Value>(PATIENCE).await;
    let failed = failed.expect_err("its header has failed");
    let exception = failed.exception().expect("it has failed");
    assert_eq!(exception.repr(), "ValueError('bad')");
    let body = sent.as_task().expect("a task");
    let stored = body.wait(PATIENCE).await.expect("it is stored");
    let exception = stored.exception().expect("it has failed");
    assert_eq!(
        (stored.status, &*exception.exc_type),
        (State::Failure, "ChordError")
    );

    let sent = group([boom("a"), other(boom("b")), add::s((1, 1))]);
    let sent = sent.delay(world.app()).await.expect("redis runs");
    let sent = sent.as_group().expect("a group");
    for (result, text) in sent.results().iter().zip(["a", "b"]) {
        let failed = result.get::<Value>(PATIENCE).await;
        let failed = failed.expect_err("it fails");
        let exception = failed.exception().expect("it has failed");
        assert_eq!(exception.repr(), format!("ValueError('{text}')"));
    }
    let last: i64 = sent.results()[2].get(PATIENCE).await.expect("a number");
    assert_eq!(
        (last, sent.completed_count().await.expect("redis runs")),
        (2, 1)
    );
}

#[tokio::test]
async fn rusts_canvases_run_in_a_python_worker() {
    let world = World::new().await;
    let _worker = world.theirs("celery").await;
    canvases(&world, "celery").await;
}

#[tokio::test]
async fn canvases_of_both_clients_run_in_our_worker() {
    let world = World::new().await;
    let _worker = world.ours().await;
    canvases(&world, "celery").await;
    world.pythons_canvases("celery");
}

#[tokio::test]
async fn canvases_of_both_clients_run_in_workers_of_both_languages() {
    let world = World::new().await;
    let (_ours, _theirs) = tokio::join!(world.ours(), world.theirs("python"));
    canvases(&world, "python").await;
    world.pythons_canvases("python");
    // Names that only one of them has.
    let only = signature("proj.python_only", ()).set("queue", "python");
    let both = chain![add::s((2, 3)), only, signature("proj.echo", ())];
    assert_eq!(world.get(both).await["args"], json!([5]));
}

#[tokio::test]
async fn a_group_that_one_language_has_saved_the_other_restores() {
    let world = World::new().await;
    let _worker = world.ours().await;
    let sent = group([
        add::s((1, 1)),
        add::s((2, 2)) | group([add::s((1,)), add::s((2,))]),
    ]);
    let sent = sent.delay(world.app()).await.expect("redis runs");
    let sent = sent.as_group().expect("a group");
    sent.save().await.expect("redis runs");
    let code = format!(
        "print(GroupResult.restore('{}', app=app).get(timeout=20))",
        sent.id()
    );
    assert_eq!(world.python(&code).trim(), "[2, [5, 6]]");

    let code = "result = group(add.s(1, 1), add.s(2, 2) | group([add.s(1), add.s(2)])).delay()\n\
                result.save(backend=app.backend)\nprint(result.id)";
    let id = world.python(code);
    let restored = GroupResult::restore(world.app(), id.trim()).await;
    let restored = restored.expect("redis runs").expect("it was saved");
    let value: Value = ResultNode::from(restored)
        .get(PATIENCE)
        .await
        .expect("all succeed");
    assert_eq!(value, json!([2, [5, 6]]));
}

#[tokio::test]
async fn who_waits_for_a_body_can_see_first_what_the_header_has_raised() {
    let world = World::new().await;
    let _worker = world.ours().await;
    let sent = chord([boom("bad")], total::s(()));
    let sent = sent.delay(world.app()).await.expect("redis runs");
    let body = sent.as_task().expect("a task").wait(PATIENCE).await;
    let body = body.expect("it is stored");
    let header = sent.parent().and_then(ResultNode::as_group);
    let part = &header.expect("a group").tasks()[0];
    let part = part.wait(PATIENCE).await.expect("it is stored");
    let done = [part, body].map(|meta| {
        let done = meta.date_done.expect("it has ended");
        DateTime::parse_from_rfc3339(&done).unwrap_or_else(|error| panic!("{done}: {error}"))
    });
    // Python's client asks for the one, and some milliseconds later for the other.
    let between = done[1] - done[0];
    assert!(between.num_milliseconds() >= 20, "{between}");
}

/// A signature with an id, as a message has it.
fn frozen(id: &str, task: &str) -> Value {
    json!({"task": task, "args": [], "kwargs": {}, "options": {"task_id": id}, "subtask_type": null,
        "immutable": false})
}

fn frozen_group(id: &str, members: [&str; 2]) -> Value {
    let mut group = frozen(id, "celery.group");
    group["subtask_type"] = json!("group");
    group["kwargs"] = json!({"tasks": members.map(|member| frozen(member, "proj.identity"))});
    group
}

/// Results, as a message has them.
fn tuples(ids: &[&str]) -> Value {
    ids.iter().map(|id| json!([[id, null], null])).collect()
}

/// What is stored of a task, without what differs from run to run.
async fn document(world: &World, id: &str) -> Value {
    let waited = world.app().async_result(id).wait(PATIENCE).await;
    waited.unwrap_or_else(|error| panic!("{id}: {error}"));
    let mut connection = world.redis().connect_to(1).await;
    let get = redis::cmd("GET")
        .arg(format!("celery-task-meta-{id}"))
        .to_owned();
    let raw: String = get.query_async(&mut connection).await.expect("a document");
    let mut document: Value = serde_json::from_str(&raw).expect("JSON");
    let fields = document.as_object_mut().expect("an object");
    // Errbacks are sent as a group with an id of its own, which in Python is among the children of the body.
    for key in ["date_done", "traceback", "children", "group_id"] {
        fields.remove(key);
    }
    document
}

/// Chords that `celery.chord_unlock` polls: what is stored of their bodies.
async fn polled(world: &World) -> Vec<Value> {
    let later = add::s((3, 4)).set("task_id", "later").set("countdown", 1);
    later.delay(world.app()).await.expect("redis runs");
    for (id, signature) in [
        ("two", add::s((1, 1))),
        ("five", add::s((2, 3))),
        ("bad", boom("bad")),
    ] {
        let signature = signature.set("task_id", id);
        signature.delay(world.app()).await.expect("redis runs");
        document(world, id).await;
    }
    let total = |id| frozen(id, "proj.total");
    let mut failing = total("failed");
    failing["options"]["link_error"] = json!([frozen("told", "proj.identity")]);
    let nested = json!([
        [["inner", null], tuples(&["two", "five"])],
        [["five", null], null]
    ]);
    let endless = json!({"result": tuples(&["never"]), "interval": 0.1, "max_retries": 1});
    for (group, body, rest) in [
        (
            "ready",
            total("sum"),
            json!({"result": tuples(&["two", "five"])}),
        ),
        (
            "late",
            total("late sum"),
            json!({"result": tuples(&["later", "two"]), "interval": 0.2}),
        ),
        (
            "nested",
            frozen("tree", "proj.identity"),
            json!({"result": nested}),
        ),
        (
            "of a group",
            frozen_group("both", ["left", "right"]),
            json!({"result": tuples(&["two"])}),
        ),
        (
            "failing",
            failing,
            json!({"result": tuples(&["two", "bad"])}),
        ),
        (
            "failing group",
            frozen_group("none", ["no left", "no right"]),
            json!({"result": tuples(&["bad"])}),
        ),
        ("endless", total("given up"), endless),
    ] {
        let polls = signature("celery.chord_unlock", (group, body)).kwargs(rest);
        let polls = polls.set("task_id", format!("{group} polls"));
        polls.delay(world.app()).await.expect("redis runs");
    }
    let mut stored = Vec::new();
    for id in [
        "sum", "late sum", "tree", "left", "right", "failed", "told", "no left", "no right",
        "given up",
    ] {
        stored.push(document(world, id).await);
    }
    stored
}

#[tokio::test]
async fn a_chord_is_polled_as_in_python() {
    let (ours, theirs) = (World::new().await, World::new().await);
    let (_ours, _theirs) = tokio::join!(ours.ours(), theirs.theirs("celery"));
    let (ours, theirs) = tokio::join!(polled(&ours), polled(&theirs));
    assert_eq!(ours, theirs);
    assert_eq!([&ours[0]["result"], &ours[1]["result"]], [7, 9]);
    assert_eq!(ours[5]["status"], "FAILURE");
}

/// All messages of the queue, oldest first, with ids numbered as they come, and without what differs from language to
/// language.
async fn sent(redis: &PrivateRedis) -> Vec<String> {
    let mut connection = redis.connect().await;
    let taken = redis::cmd("RPOP").arg("celery").arg(100).to_owned();
    let taken: Vec<Vec<u8>> = taken.query_async(&mut connection).await.expect("messages");
    redis::cmd("FLUSHALL")
        .query_async::<()>(&mut connection)
        .await
        .expect("redis runs");
    let mut ids: Vec<String> = Vec::new();
    let texts = taken.iter().map(|raw| {
        let mut envelope = Envelope::parse(raw).expect("an envelope");
        // Python's client has the tasks, so it says whether their results are wanted.
        for key in ["origin", "lang", "ignore_result"] {
            envelope.headers.insert(key.to_owned(), Value::Null);
        }
        envelope.properties.delivery_tag = None;
        let body = envelope.decode_body(&Limits::NONE).expect("a body");
        let body = String::from_utf8(body).expect("JSON");
        envelope.body = String::new();
        let mut text = format!("{} {body}", envelope.to_json());
        let is_of_ids = |c: char| c.is_ascii_hexdigit() || c == '-';
        let words: Vec<String> = text.split(|c| !is_of_ids(c)).map(str::to_owned).collect();
        for word in words.into_iter().filter(|word| word.len() == 36) {
            let number = ids.iter().position(|id| *id == word).unwrap_or_else(|| {
                ids.push(word.clone());
                ids.len() - 1
            });
            text = text.replace(&word, &format!("<{number}>"));
        }
        text
    });
    texts.collect()
}

#[tokio::test]
async fn a_canvas_is_sent_as_python_sends_it() {
    let world = World::new().await;
    for (rust, python, count) in [
        (
            chain![
                add::s((2, 2)),
                add::s((4,)).set("queue", "other").link(add::si((1, 1))),
                signature("proj.total", ([1, 2],))
                    .kwargs(json!({"k": "é"}))
                    .immutable(),
            ],
            "add.s(2, 2) | add.s(4).set(queue='other', link=[add.si(1, 1)]) | app.signature('proj.total', ([1, 2],), {'k': 'é'}, immutable=True)",
            1,
        ),
        (
            group([add::s((1, 1)), add::s((2, 2)) | add::s((3,))]),
            "group(add.s(1, 1), add.s(2, 2) | add.s(3))",
            2,
        ),
        (
            group([add::s((1, 1)), add::s((2, 2))]) | total::s(()) | add::s((1,)),
            "group(add.s(1, 1), add.s(2, 2)) | total.s() | add.s(1)",
            2,
        ),
        (
            chord([add::s((1, 1))], total::s(()).link_error(add::s(()))),
            "chord([add.s(1, 1)], total.s().on_error(add.s()))",
            1,
        ),
    ] {
        world.python(&format!("({python}).apply_async()"));
        let theirs = sent(world.redis()).await;
        rust.delay(world.app()).await.expect("redis runs");
        let ours = sent(world.redis()).await;
        assert_eq!(ours, theirs);
        assert_eq!(ours.len(), count, "{ours:?}");
    }
}
