//! Chords in Redis: what is in the keys, and that Python's backend and ours count the parts of one chord together.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use celeriac_protocol::state::State;
use celeriac_protocol::{Accept, Compression, Serializer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::chord::{Chords, Claim, Counted, Part, PartResult, Parts, Start};
use super::*;
use crate::transport::Slot;

struct World {
    backend: RedisBackend,
    prefix: String,
}

impl World {
    fn new(adjust: impl FnOnce(&mut Settings)) -> Self {
        let url = std::env::var("CELERY_RESULT_BACKEND").expect("`make up` runs");
        let mut settings = Settings::default();
        let prefix = format!("chord-{}:", Uuid::new_v4());
        let options = &mut settings.result_backend_transport_options;
        options.global_keyprefix.clone_from(&prefix);
        adjust(&mut settings);
        Self {
            backend: RedisBackend::new(&url, &settings).unwrap(),
            prefix,
        }
    }

    async fn run<T: redis::FromRedisValue>(&self, command: &str, key: &str, args: &[&str]) -> T {
        let key = format!("{}celery-taskset-meta-{key}", self.prefix);
        let command = redis::cmd(command).arg(key).arg(args).to_owned();
        self.backend.connection.ask(&command).await.unwrap()
    }

    async fn count(&self, task_id: &str, index: i64, value: Value) -> Counted {
        let part = Part {
            group: "g",
            task_id,
            index: Some(index),
            state: State::Success,
            result: &value,
            is_again: true,
        };
        self.backend.chord_part(&part, task_id).await.unwrap()
    }

    async fn start(&self, size: usize, group_result: Option<&Value>) {
        let started = self.backend.chord_start("g", size, group_result, false);
        started.await.unwrap();
    }

    async fn claim(&self, task_id: &str, index: i64, value: Value) -> Claim {
        match self.count(task_id, index, value).await {
            Counted::Claimed(claim) => claim,
            other => panic!("{other:?}"),
        }
    }

    /// How long each of the keys is kept, in seconds; -1: for ever, -2: it is not there.
    async fn ttls(&self) -> Vec<(&'static str, i64)> {
        let mut ttls = Vec::new();
        for key in ["", ".j", ".t", ".s", ".d", ".c", ".celeriac-added"] {
            let ttl = self.run("TTL", &format!("g{key}"), &[]).await;
            ttls.push((key, ttl));
        }
        ttls.retain(|(_, ttl)| *ttl != -2);
        ttls
    }
}

#[tokio::test]
async fn the_keys_are_celerys() {
    let world = World::new(|settings| {
        settings.result_chord_expires = Some(Duration::from_secs(60));
        settings.result_expires = Some(Duration::from_secs(90));
    });
    let tuple = json!([["g", null], []]);
    world.start(2, Some(&tuple)).await;
    assert_eq!(world.ttls().await, [("", 60), (".s", 60)]);
    world.count("a", 7, json!({"é": 1})).await;
    world.backend.chord_grow("g", "x").await.unwrap();
    world.count("x", 7, json!(null)).await;
    let kept = [
        ("", 90),
        (".j", 60),
        (".t", 60),
        (".s", 60),
        (".d", 60),
        (".celeriac-added", 60),
    ];
    assert_eq!(world.ttls().await, kept);
    let lone = Part {
        group: "g",
        task_id: "b",
        index: None,
        state: State::Revoked,
        result: &json!({"exc_type": "E"}),
        is_again: true,
    };
    let Counted::Claimed(claim) = world.backend.chord_part(&lone, "tok").await.unwrap() else {
        panic!("it is complete");
    };

    let saved: String = world.run("GET", "g", &[]).await;
    assert_eq!(saved, r#"{"result": [["g", null], []]}"#);
    let parts: Vec<(String, String)> = world.run("ZRANGE", "g.j", &["0", "-1", "WITHSCORES"]).await;
    let text = |text: &str, score: &str| (text.to_owned(), score.to_owned());
    assert_eq!(
        parts,
        [
            text(r#"[1, "a", "SUCCESS", {"\u00e9": 1}]"#, "7"),
            text(r#"[1, "x", "SUCCESS", null]"#, "7"),
            text(r#"[1, "b", "REVOKED", {"exc_type": "E"}]"#, "inf"),
        ]
    );
    for (key, value) in [("g.t", "1"), ("g.s", "2"), ("g.c", "tok")] {
        assert_eq!(world.run::<String>("GET", key, &[]).await, value);
    }
    let mut counted: Vec<String> = world.run("SMEMBERS", "g.d", &[]).await;
    counted.sort();
    assert_eq!(counted, ["a:7", "b:+inf", "x:7"]);

    let of_the_claim = async || world.run::<i64>("TTL", "g.c", &[]).await;
    assert_eq!(of_the_claim().await, 6);
    assert!(world.backend.chord_extend("g", &claim).await.unwrap());
    assert_eq!(of_the_claim().await, 21);
    assert!(world.backend.chord_done("g", &claim).await.unwrap());
    assert_eq!(world.ttls().await, [("", 90), (".c", 300)]);
    assert_eq!(world.run::<String>("GET", "g.c", &[]).await, "done");
}

#[tokio::test]
async fn what_a_failed_chord_leaves_is_celerys_and_a_word_that_it_is_over() {
    let world = World::new(|_| {});
    world.start(1, None).await;
    let claim = world.claim("a", 0, json!(1)).await;
    world.backend.chord_failed("g", &claim).await.unwrap();
    let day = 86_400;
    assert_eq!(world.ttls().await, [(".j", day), (".d", day), (".c", 300)]);
}

#[tokio::test]
async fn what_never_expires_has_no_end() {
    let world = World::new(|settings| settings.result_chord_expires = Some(Duration::ZERO));
    world.start(2, Some(&json!([["g", null], []]))).await;
    world.backend.chord_grow("g", "x").await.unwrap();
    world.count("a", 0, json!(1)).await;
    let ttls = world.ttls().await;
    assert_eq!(ttls.len(), 6);
    assert!(ttls.iter().all(|(_, ttl)| *ttl == -1), "{ttls:?}");
    world.backend.save_group("g", &json!([])).await.unwrap();
    assert_eq!(world.run::<i64>("TTL", "g", &[]).await, 86_400);
}

#[tokio::test]
async fn what_was_added_belongs_to_one_run_of_the_chord() {
    let world = World::new(|_| {});
    world.start(1, None).await;
    world.backend.chord_grow("g", "x").await.unwrap();
    // Python's cleanup knows nothing of ours.
    for key in ["g.j", "g.t", "g.s", "g.d"] {
        world.run::<()>("DEL", key, &[]).await;
    }
    world.start(1, None).await;
    world.backend.chord_grow("g", "x").await.unwrap();
    assert_eq!(world.run::<String>("GET", "g.t", &[]).await, "1");
}

#[tokio::test]
async fn a_part_of_an_older_worker_counts() {
    let world = World::new(|_| {});
    world.start(2, None).await;
    let part = r#"[1, "old", "SUCCESS", 1]"#;
    world.run::<()>("ZADD", "g.j", &["0", part]).await;
    world.claim("a", 1, json!(2)).await;
}

#[tokio::test]
async fn a_claim_without_an_end_is_looked_at_again_after_a_second() {
    let world = World::new(|_| {});
    world.start(1, None).await;
    world.run::<()>("SET", "g.c", &["somebody"]).await;
    let counted = world.count("a", 0, json!(1)).await;
    assert_eq!(counted, Counted::Held(Duration::from_secs(1)));
    world.run::<()>("PEXPIRE", "g.c", &["200"]).await;
    let Counted::Held(wait) = world.count("a", 0, json!(1)).await else {
        panic!("it is held");
    };
    assert!(wait <= Duration::from_millis(200), "{wait:?}");
}

#[tokio::test]
async fn a_chord_whose_body_python_made_to_fail_is_over_for_who_starts_it_again() {
    let world = World::new(|_| {});
    world.start(1, None).await;
    world.claim("a", 0, json!(1)).await;
    world.run::<()>("DEL", "g.s", &[]).await;
    let again = world.backend.chord_start("g", 1, None, true).await;
    assert_eq!(again.unwrap(), Start::Over);
}

#[tokio::test]
async fn rubbish_among_the_parts_cannot_be_read() {
    for rubbish in ["rubbish", "{}", "[1]", r#"[1, 2, "SUCCESS", 3]"#] {
        let world = World::new(|_| {});
        world.start(2, None).await;
        world.run::<()>("ZADD", "g.j", &["0", rubbish]).await;
        world.claim("a", 1, json!(2)).await;
        let results = world.backend.chord_results("g").await.unwrap();
        let Parts::Unreadable(why) = results else {
            panic!("{results:?}");
        };
        assert!(why.contains("holds no part of a chord"), "{why}");
    }
}

#[tokio::test]
async fn parts_that_come_while_others_are_read_are_read_with_them() {
    let world = World::new(|_| {});
    let fill = redis::Script::new(
        "for place = 1, 3000 do
           redis.call('ZADD', KEYS[1], place, '[1, \"' .. place .. '\", \"SUCCESS\", 1]')
         end",
    );
    let key = format!("{}celery-taskset-meta-g.j", world.prefix);
    let call = fill.key(&key);
    world.backend.connection.ask::<()>(&call).await.unwrap();
    let adds = async {
        // Before all that are there: those move.
        for place in 1..20 {
            let part = format!(r#"[1, "-{place}", "SUCCESS", 1]"#);
            let place = format!("-{place}");
            world.run::<()>("ZADD", "g.j", &[&place, &part]).await;
        }
    };
    let (results, ()) = tokio::join!(world.backend.chord_results("g"), adds);
    let Parts::Each(parts) = results.unwrap() else {
        panic!("they are parts");
    };
    let places: Vec<i64> = parts
        .iter()
        .map(|part| part.task_id.parse().unwrap())
        .collect();
    assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
    assert_eq!(places.last(), Some(&3000));
}

/// The line of docs/operations.md that makes a worker's user, with another name and before its keys the prefix.
fn documented_worker(user: &str, prefix: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("ACL SETUSER worker "));
    let line = line.expect("the documentation has the line");
    let ours = line
        .replace(" worker ", &format!(" {user} "))
        .replace("~celery-", &format!("~{prefix}celery-"))
        .replace("&celery-", &format!("&{prefix}celery-"));
    ours.split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    for is_ordered in [true, false] {
        let mut world = World::new(|_| {});
        let user = Uuid::new_v4().to_string();
        let words = documented_worker(&user, &world.prefix);
        let mut line = redis::cmd(&words[0]);
        world
            .backend
            .connection
            .ask::<()>(line.arg(&words[1..]))
            .await
            .unwrap();
        let url = std::env::var("CELERY_RESULT_BACKEND").expect("`make up` runs");
        let mut settings = Settings::default();
        let options = &mut settings.result_backend_transport_options;
        options.global_keyprefix.clone_from(&world.prefix);
        options.result_chord_ordered = is_ordered;
        let url = url.replace("redis://", &format!("redis://{user}:PASSWORD@"));
        let everything = std::mem::replace(
            &mut world.backend,
            RedisBackend::new(&url, &settings).unwrap(),
        );

        world.start(1, None).await;
        world.backend.chord_grow("g", "x").await.unwrap();
        world.count("a", 0, json!(1)).await;
        let claim = world.claim("x", 0, json!(2)).await;
        assert_eq!(
            world.count("a", 0, json!(1)).await,
            Counted::Held(Duration::from_secs(1))
        );
        let results = world.backend.chord_results("g").await.unwrap();
        assert!(matches!(results, Parts::Each(parts) if parts.len() == 2));
        assert!(world.backend.chord_extend("g", &claim).await.unwrap());
        assert!(world.backend.chord_done("g", &claim).await.unwrap());
        world.backend.chord_failed("g", &claim).await.unwrap();
        let again = world.backend.chord_start("g", 1, None, true).await;
        assert_eq!(again.unwrap(), Start::Over);
        world.backend.save_group("g", &json!([])).await.unwrap();
        world.backend.restore_group("g").await.unwrap();
        world.backend.delete_group("g").await.unwrap();

        let gone = redis::cmd("ACL").arg(&["DELUSER", &user]).to_owned();
        everything.connection.ask::<()>(&gone).await.unwrap();
    }
}

/// Python's backend, beside ours on the same keys.
struct Python {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Python {
    /// With the settings of the world's backend.
    fn beside(world: &World, way: Way) -> Self {
        let env = |name| std::env::var(name).expect("`make up` runs");
        let python = std::env::var("CELERIAC_PYTHON")
            .expect("CELERIAC_PYTHON: `tests/services/services install python`");
        let mut child = Command::new(python)
            .args(["-c", include_str!("chord_parts.py")])
            .arg(env("CELERY_BROKER_URL"))
            .arg(env("CELERY_RESULT_BACKEND"))
            .args([&world.prefix, &way.of_python(&world.prefix).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            to: child.stdin.take().unwrap(),
            from: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Lets it count a part, or start the chord; returns the arguments of each body that it has sent so far.
    fn count(&mut self, task_id: &str, index: i64, value: &Value) -> Value {
        writeln!(self.to, "{}", json!([task_id, index, value])).unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("Python has counted it")
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends by itself otherwise.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How both keep the parts.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Ordered,
    AsTheyCome,
    Packed,
}

impl Way {
    const ALL: [Self; 3] = [Self::Ordered, Self::AsTheyCome, Self::Packed];

    fn world(self) -> World {
        World::new(|settings| {
            let options = &mut settings.result_backend_transport_options;
            options.result_chord_ordered = self != Self::AsTheyCome;
            if self == Self::Packed {
                settings.result_serializer = Serializer::Msgpack;
                settings.result_accept_content = Some(Accept::only(&[Serializer::Msgpack]));
                settings.result_compression = Some(Compression::Zlib);
            }
        })
    }

    fn of_python(self, prefix: &str) -> Value {
        let is_ordered = self != Self::AsTheyCome;
        let options = json!({"global_keyprefix": prefix, "result_chord_ordered": is_ordered});
        let mut settings = json!({"result_backend_transport_options": options});
        if self == Self::Packed {
            settings["result_serializer"] = json!("msgpack");
            settings["result_accept_content"] = json!(["msgpack"]);
            settings["result_compression"] = json!("gzip");
        }
        settings
    }

    /// Those that have come in this order, each with its place.
    fn arranged<T>(self, mut parts: Vec<(usize, T)>) -> Vec<T> {
        if self != Self::AsTheyCome {
            parts.sort_by_key(|(place, _)| *place);
        }
        parts.into_iter().map(|(_, part)| part).collect()
    }
}

#[tokio::test]
async fn python_starts_the_body_with_our_parts_among_its_own() {
    for way in Way::ALL {
        let world = way.world();
        let mut python = Python::beside(&world, way);
        world.start(4, None).await;
        let waits = async |id: &str, index, value| {
            assert_eq!(world.count(id, index, value).await, Counted::Waiting);
        };
        waits("c", 2, json!({"é": 2.5})).await;
        assert_eq!(python.count("b", 1, &json!("b")), json!([]));
        // Each has seen the other's part.
        waits("b", 1, json!("late")).await;
        assert_eq!(python.count("c", 2, &json!("late")), json!([]));
        waits("a", 0, json!(null)).await;
        let parts = way.arranged(vec![
            (2, json!({"é": 2.5})),
            (1, json!("b")),
            (0, json!(null)),
            (3, json!("d")),
        ]);
        let body = json!([[parts]]);
        assert_eq!(python.count("d", 3, &json!("d")), body);
        // It is over for all.
        for id in ["d", "e"] {
            assert_eq!(world.count(id, 3, json!("d")).await, Counted::Over);
        }
        assert_eq!(python.count("a", 0, &json!("a")), body);
    }
}

#[tokio::test]
async fn we_start_the_body_with_pythons_parts_among_ours() {
    for way in Way::ALL {
        let world = way.world();
        let mut python = Python::beside(&world, way);
        let none = json!([]);
        assert_eq!(python.count("b", 1, &json!(["b"])), none);
        assert_eq!(world.count("b", 1, json!("late")).await, Counted::Waiting);
        assert_eq!(python.count("start", 0, &json!(3)), none);
        assert_eq!(python.count("a", 0, &json!({"é": 1})), none);
        let claim = world.claim("c", 2, json!("c")).await;
        // Python finds our claim, and goes away.
        assert_eq!(python.count("a", 0, &json!("late")), none);
        let of = |task_id: &str, result| PartResult {
            task_id: task_id.to_owned(),
            state: State::Success,
            result,
        };
        let parts = way.arranged(vec![
            (1, of("b", json!(["b"]))),
            (0, of("a", json!({"é": 1}))),
            (2, of("c", json!("c"))),
        ]);
        let results = world.backend.chord_results("g").await.unwrap();
        assert_eq!(results, Parts::Each(parts));
        assert!(world.backend.chord_extend("g", &claim).await.unwrap());
        assert!(world.backend.chord_done("g", &claim).await.unwrap());
        for id in ["a", "d"] {
            assert_eq!(python.count(id, 0, &json!(1)), none);
        }
        assert_eq!(world.ttls().await, [(".c", 300)]);
        // Another run: Python starts it, both count.
        python.count("start", 0, &json!(2));
        assert_eq!(world.count("a", 0, json!(1)).await, Counted::Waiting);
        assert_eq!(python.count("b", 1, &json!(2)), json!([[[1, 2]]]));
    }
}

#[tokio::test]
async fn a_part_of_the_next_run_counts_though_the_chord_is_still_over() {
    let world = World::new(|_| ());
    world.start(2, None).await;
    world.count("a", 0, json!(0)).await;
    let claim = world.claim("b", 1, json!(1)).await;
    assert!(world.backend.chord_done("g", &claim).await.unwrap());
    let count = async |task_id: &str, index: i64, is_again: bool| {
        let part = Part {
            group: "g",
            task_id,
            index: Some(index),
            state: State::Success,
            result: &json!(index),
            is_again,
        };
        world.backend.chord_part(&part, task_id).await.unwrap()
    };
    // One that comes late, and one of a client that has not said yet that it applies the chord again.
    assert_eq!(count("b", 1, true).await, Counted::Over);
    assert_eq!(count("a", 0, false).await, Counted::Over);
    let kept: i64 = world.run("TTL", "g.celeriac-early", &[]).await;
    assert_eq!(kept, 300);
    world.start(2, None).await;
    assert!(matches!(count("b", 1, false).await, Counted::Claimed(_)));
}

#[tokio::test]
async fn the_body_is_sent_and_the_chord_ends_in_one_step_where_one_server_has_both() {
    let world = World::new(|_| ());
    world.start(1, None).await;
    let claim = world.claim("a", 0, json!(0)).await;
    let list = format!("{}celery-taskset-meta-list", world.prefix);
    let post = |server: u64| {
        let slot = Slot {
            server,
            database: world.backend.database,
            list: list.clone(),
        };
        [(slot, "body".to_owned())]
    };
    let server = world.backend.server.unwrap();
    let elsewhere = post(server.wrapping_add(1));
    let sent = world.backend.chord_send("g", &claim, &elsewhere).await;
    assert_eq!(sent.unwrap(), None);
    assert_eq!(world.run::<usize>("LLEN", "list", &[]).await, 0);
    // The second time the first answer was lost.
    for _ in 0..2 {
        let sent = world.backend.chord_send("g", &claim, &post(server)).await;
        assert_eq!(sent.unwrap(), Some(true));
    }
    assert_eq!(world.run::<usize>("LLEN", "list", &[]).await, 1);
    assert_eq!(world.count("a", 0, json!(0)).await, Counted::Over);

    world.start(1, None).await;
    let claim = world.claim("a", 0, json!(0)).await;
    let () = world.run("SET", "g.c", &["another"]).await;
    let sent = world.backend.chord_send("g", &claim, &post(server)).await;
    assert_eq!(sent.unwrap(), Some(false), "another has the claim");
    assert_eq!(world.run::<usize>("LLEN", "list", &[]).await, 1);
}
