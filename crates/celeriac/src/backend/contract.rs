//! What every backend must do. Each test runs for each of them: a new backend is one line in [`each`].
//!
//! Redis is the one of `make up`; each run has a key prefix, or a name, of its own. What only Redis has (its keys'
//! types, its channels, connections that break) is in `redis/tests.rs`. Chords and groups are in `chords`.

mod chords;

use std::sync::Arc;
use std::time::Duration;

use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use celeriac_protocol::{Accept, Compression, Serializer};
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{MemoryBackend, RedisBackend, ResultBackend};
use crate::app::Settings;

/// No step takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A backend, another one on the same results, and a look behind the scenes.
struct World {
    name: &'static str,
    backend: Arc<dyn ResultBackend>,
    other: Arc<dyn ResultBackend>,
    inside: Inside,
}

enum Inside {
    Memory(Box<MemoryBackend>),
    Redis(MultiplexedConnection, String),
}

/// One world for each backend.
async fn each(adjust: impl Fn(&mut Settings)) -> Vec<World> {
    let mut settings = Settings::default();
    let prefix = format!("contract-{}:", Uuid::new_v4());
    settings.result_backend_transport_options.global_keyprefix = prefix;
    adjust(&mut settings);
    vec![memory(&settings), redis(&settings).await]
}

fn memory(settings: &Settings) -> World {
    let new = || MemoryBackend::new("cache+memory://", settings);
    World {
        name: "memory",
        backend: Arc::new(new()),
        other: Arc::new(new()),
        inside: Inside::Memory(Box::new(new())),
    }
}

async fn redis(settings: &Settings) -> World {
    let url = std::env::var("CELERY_RESULT_BACKEND").expect("`make up` runs");
    let client = redis::Client::open(url.as_str()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let new = || RedisBackend::new(&url, settings).unwrap();
    let prefix = &settings.result_backend_transport_options.global_keyprefix;
    World {
        name: "redis",
        backend: Arc::new(new()),
        other: Arc::new(new()),
        inside: Inside::Redis(connection, format!("{prefix}celery-task-meta-")),
    }
}

impl World {
    async fn store(&self, id: &str, status: State, result: Value) {
        let meta = TaskMeta::new(id, status, result);
        self.backend.store(&[meta]).await.unwrap();
    }

    async fn get(&self, id: &str) -> Option<TaskMeta> {
        self.other.get(id).await.unwrap()
    }

    async fn state(&self, id: &str) -> Option<State> {
        self.get(id).await.map(|meta| meta.status)
    }

    /// Which of two are stored, at one instant.
    async fn are_there(&self, ids: [&str; 2]) -> [bool; 2] {
        match &self.inside {
            // Nothing else runs meanwhile.
            Inside::Memory(memory) => ids.map(|id| memory.raw(id).is_some()),
            Inside::Redis(connection, prefix) => {
                let stored: Vec<Option<Vec<u8>>> = redis::cmd("MGET")
                    .arg(ids.map(|id| format!("{prefix}{id}")).as_slice())
                    .query_async(&mut connection.clone())
                    .await
                    .unwrap();
                [stored[0].is_some(), stored[1].is_some()]
            }
        }
    }

    /// Puts any bytes in the place of a result.
    async fn put(&self, id: &str, bytes: &[u8]) {
        match &self.inside {
            Inside::Memory(memory) => memory.put(id, bytes),
            Inside::Redis(connection, prefix) => redis::cmd("SET")
                .arg(format!("{prefix}{id}"))
                .arg(bytes)
                .query_async(&mut connection.clone())
                .await
                .unwrap(),
        }
    }

    /// The bytes that are stored, and for how many seconds.
    async fn raw(&self, id: &str) -> Option<(Vec<u8>, Option<u64>)> {
        let (connection, prefix) = match &self.inside {
            Inside::Memory(memory) => return memory.raw(id),
            Inside::Redis(connection, prefix) => (connection, prefix),
        };
        let key = format!("{prefix}{id}");
        let (bytes, seconds): (Option<Vec<u8>>, i64) = redis::pipe()
            .cmd("GET")
            .arg(&key)
            .cmd("TTL")
            .arg(&key)
            .query_async(&mut connection.clone())
            .await
            .unwrap();
        Some((bytes?, u64::try_from(seconds).ok()))
    }
}

/// What Python would say in a language of its own, in another order of keys, or with other blanks.
const ODD_SUCCESSES: [&[u8]; 3] = [
    br#"{"status":"SUCCESS","result":1}"#,
    br#"{"result": {"status": "FAILURE"}, "task_id": "x", "status": "SUCCESS"}"#,
    b" {\"status\": \"SUCCESS\", \"result\": null}",
];

/// What only looks like a SUCCESS, or is nothing at all.
const NO_SUCCESSES: [&[u8]; 6] = [
    br#"{"status": "FAILURE", "result": "\"status\": \"SUCCESS\""}"#,
    br#"{"result": "{\"status\": \"SUCCESS\"}", "status": "STARTED"}"#,
    br#"{"status": "SUCCESSFUL", "result": 1}"#,
    b"rubbish",
    b"",
    b"\xff\x00{\"status\": \"SUCCESS\"",
];

#[tokio::test]
async fn what_is_stored_is_read_by_others_as_it_was() {
    for world in each(|_| {}).await {
        assert_eq!(world.get("a").await, None, "{}", world.name);
        let mut meta = TaskMeta::new("a", State::Other("PROGRESS".to_owned()), json!({"n": 1}));
        meta.group_id = Some("a group".to_owned());
        meta.parent_id = Some("a parent".to_owned());
        meta.children = json!([[["c", null], null]]);
        meta.extra.insert("worker".to_owned(), json!("celery@här"));
        world.backend.store(&[meta.clone()]).await.unwrap();
        let (raw, _) = world.raw("a").await.unwrap();
        assert_eq!(String::from_utf8(raw).unwrap(), meta.to_json());
        let read = world.get("a").await.unwrap();
        assert_eq!(read.to_json(), meta.to_json(), "{}", world.name);
    }
}

#[tokio::test]
async fn a_success_is_never_overwritten_and_everything_else_is() {
    for world in each(|_| {}).await {
        let states = [State::Started, State::Retry, State::Failure, State::Success];
        for state in states {
            world.store("a", state.clone(), json!(1)).await;
            assert_eq!(world.state("a").await, Some(state), "{}", world.name);
        }
        for state in [State::Failure, State::Started, State::Success] {
            world.store("a", state, json!(2)).await;
        }
        let kept = world.get("a").await.unwrap();
        assert_eq!((kept.status, kept.result), (State::Success, json!(1)));
        for bytes in ODD_SUCCESSES {
            world.put("odd", bytes).await;
            world.store("odd", State::Failure, json!(2)).await;
            assert_eq!(world.raw("odd").await.unwrap().0, bytes, "{}", world.name);
        }
        for bytes in NO_SUCCESSES {
            world.put("none", bytes).await;
            world.store("none", State::Success, json!(2)).await;
            let state = world.state("none").await;
            let bytes = String::from_utf8_lossy(bytes);
            assert_eq!(state, Some(State::Success), "{} {bytes}", world.name);
        }
    }
}

#[tokio::test]
async fn a_first_success_heeds_what_is_there_all_the_same() {
    for world in each(|_| {}).await {
        let first = async |id: &str, result: Value| {
            let meta = TaskMeta::new(id, State::Success, result);
            world.backend.store_first(&meta).await.unwrap();
        };
        let waits = world.other.wait("a");
        let (heard, ()) = tokio::join!(waits, first("a", json!(1)));
        assert_eq!(heard.unwrap().result, json!(1), "{}", world.name);
        first("a", json!(2)).await;
        assert_eq!(world.get("a").await.unwrap().result, json!(1));
        for bytes in ODD_SUCCESSES {
            world.put("odd", bytes).await;
            first("odd", json!(2)).await;
            assert_eq!(world.raw("odd").await.unwrap().0, bytes, "{}", world.name);
        }
        for bytes in NO_SUCCESSES {
            world.put("none", bytes).await;
            first("none", json!(2)).await;
            let state = world.state("none").await;
            let bytes = String::from_utf8_lossy(bytes);
            assert_eq!(state, Some(State::Success), "{} {bytes}", world.name);
        }
        // Together with one that finds something, and with others.
        world.store("there", State::Retry, json!(1)).await;
        let ids = ["b", "there", "c", "d", "e"];
        let other = world.store("other", State::Failure, json!(3));
        tokio::join!(join_all(ids.map(|id| first(id, json!(3)))), other);
        for id in ids.into_iter().chain(["other"]) {
            assert_eq!(world.get(id).await.unwrap().result, json!(3), "{id}");
        }
        let big = json!("x".repeat(1024 * 1024));
        first("big", big.clone()).await;
        assert_eq!(world.get("big").await.unwrap().result, big);
    }
}

#[tokio::test]
async fn in_every_serializer_and_compression_it_is_the_same() {
    for serializer in Serializer::ALL {
        for compression in [None, Some(Compression::Zlib), Some(Compression::Zstd)] {
            let adjust = |settings: &mut Settings| {
                settings.result_serializer = serializer;
                settings.result_accept_content = Some(Accept::only(&[serializer]));
                settings.result_compression = compression;
            };
            for world in each(adjust).await {
                let case = format!("{} {serializer:?} {compression:?}", world.name);
                for state in [State::Started, State::Retry, State::Success, State::Failure] {
                    world.store("a", state, json!({"ü": [1, null]})).await;
                }
                let kept = world.other.wait("a").await.unwrap();
                assert_eq!(kept.status, State::Success, "{case}");
                assert_eq!(kept.result, json!({"ü": [1, null]}), "{case}");
                let (raw, _) = world.raw("a").await.unwrap();
                let is_told_at_once = raw.starts_with(b"{\"status\": \"SUCCESS\"");
                // Ours is YAML on one line, which begins as JSON does.
                let is_wanted = serializer != Serializer::Msgpack && compression.is_none();
                assert_eq!(is_told_at_once, is_wanted, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_a_failure() {
    let adjust = |settings: &mut Settings| {
        settings.result_serializer = Serializer::Msgpack;
        settings.accept_content = Accept::only(&Serializer::ALL);
    };
    for world in each(adjust).await {
        let date = r#"{"__type__": "date", "__value__": "2026-11-23"}"#;
        let date = celeriac_protocol::json::parse("a date", date.as_bytes()).unwrap();
        world.store("a", State::Success, date).await;
        let kept = world.get("a").await.unwrap();
        let text = kept.exception().unwrap().repr();
        assert_eq!(
            (kept.status, &*text),
            (
                State::Failure,
                "EncodeError('msgpack cannot write datetime.date(2026, 11, 23)')"
            )
        );
    }
}

#[tokio::test]
async fn what_is_not_accepted_is_stored_and_not_read() {
    let settings: [fn(&mut Settings); 2] = [
        |_| {},
        |settings| {
            settings.accept_content = Accept::only(&Serializer::ALL);
            settings.result_accept_content = Some(Accept::JSON);
        },
    ];
    for accept in settings {
        let adjust = |settings: &mut Settings| {
            settings.result_serializer = Serializer::Msgpack;
            accept(settings);
        };
        for world in each(adjust).await {
            world.store("a", State::Success, json!(1)).await;
            let kept = world.raw("a").await.unwrap();
            world.store("a", State::Failure, json!(null)).await;
            assert_eq!(world.raw("a").await.unwrap().0, kept.0, "{}", world.name);
            for error in [
                world.backend.get("a").await.unwrap_err(),
                world.backend.wait("a").await.unwrap_err(),
            ] {
                let text = error.to_string();
                let kombus = "Refusing to deserialize untrusted content of type msgpack (application/x-msgpack)";
                assert!(text.contains(kombus), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn rubbish_is_an_error_to_whoever_asks() {
    for world in each(|_| {}).await {
        world.put("a", b"rubbish").await;
        for error in [
            world.backend.get("a").await.unwrap_err(),
            world.backend.wait("a").await.unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("holds no task result"), "{text}");
        }
    }
}

#[tokio::test]
async fn results_are_kept_as_long_as_the_settings_say() {
    let cases = [
        (Some(86_400.0), None, Some(86_400), Some(86_400)),
        (None, None, None, None),
        (Some(60.0), Some(7.5), Some(60), Some(7)),
        (Some(60.0), Some(0.0), Some(60), None),
        (None, Some(5.0), None, Some(5)),
        (Some(0.25), None, Some(1), Some(1)),
    ];
    for (expires, failure, of_success, of_failure) in cases {
        let adjust = |settings: &mut Settings| {
            settings.result_expires = expires.map(Duration::from_secs_f64);
            settings.result_failure_expires = failure.map(Duration::from_secs_f64);
        };
        for world in each(adjust).await {
            world.store("s", State::Success, json!(1)).await;
            let first = TaskMeta::new("first", State::Success, json!(1));
            world.backend.store_first(&first).await.unwrap();
            world.store("f", State::Failure, json!(1)).await;
            world.store("r", State::Revoked, json!(1)).await;
            let kept = |raw: Option<(Vec<u8>, Option<u64>)>| raw.unwrap().1;
            let case = format!("{} {expires:?} {failure:?}", world.name);
            assert_eq!(kept(world.raw("s").await), of_success, "{case}");
            assert_eq!(kept(world.raw("first").await), of_success, "{case}");
            assert_eq!(kept(world.raw("f").await), of_failure, "{case}");
            assert_eq!(kept(world.raw("r").await), of_success, "{case}");
        }
    }
}

#[tokio::test]
async fn what_is_over_is_gone_and_what_is_stored_anew_lives_anew() {
    let second = |settings: &mut Settings| settings.result_expires = Some(Duration::from_secs(1));
    for world in each(second).await {
        world.store("a", State::Success, json!(1)).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while world.get("a").await.is_some() {
            assert!(tokio::time::Instant::now() < deadline, "{}", world.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        world.store("a", State::Failure, json!(2)).await;
        assert_eq!(world.state("a").await, Some(State::Failure));
    }
}

#[tokio::test]
async fn whoever_waits_hears_the_last_state_and_not_those_before() {
    for world in each(|_| {}).await {
        let stores = async {
            for state in [
                State::Started,
                State::Retry,
                State::Other("HALF".to_owned()),
            ] {
                tokio::time::sleep(Duration::from_millis(50)).await;
                world.store("a", state, json!(1)).await;
            }
            world.store("a", State::Failure, json!(2)).await;
        };
        let (first, second, third, ()) = tokio::join!(
            world.other.wait("a"),
            world.other.wait("a"),
            world.backend.wait("a"),
            stores
        );
        for heard in [first, second, third] {
            let heard = heard.unwrap();
            assert_eq!((heard.status, heard.result), (State::Failure, json!(2)));
        }
        // Whoever comes too late finds it there.
        let late = tokio::time::timeout(PATIENCE, world.other.wait("a")).await;
        let late = late.expect("it is looked for").unwrap();
        assert_eq!(late.status, State::Failure, "{}", world.name);
    }
}

#[tokio::test]
async fn whoever_stops_waiting_may_wait_again() {
    for world in each(|_| {}).await {
        for _ in 0..3 {
            let short = Duration::from_millis(50);
            let waited = tokio::time::timeout(short, world.other.wait("a")).await;
            assert!(waited.is_err(), "{}: nothing is stored", world.name);
        }
        let stored = world.store("a", State::Success, json!(1));
        let (heard, ()) = tokio::join!(world.other.wait("a"), stored);
        assert_eq!(heard.unwrap().result, json!(1), "{}", world.name);
    }
}

#[tokio::test]
async fn ten_thousand_wait_and_each_hears_its_own() {
    let ids = || (0..10_000).map(|number| format!("task-{number}"));
    for world in each(|_| {}).await {
        let waits = join_all(ids().map(|id| {
            let other = Arc::clone(&world.other);
            async move { (other.wait(&id).await.unwrap().result, json!(id)) }
        }));
        let stores = async {
            // The first ones are there before anybody listens.
            let all: Vec<String> = ids().collect();
            for some in all.chunks(2_500) {
                let stored = some
                    .iter()
                    .map(|id| world.store(id, State::Success, json!(id)));
                join_all(stored).await;
            }
        };
        let (heard, ()) = tokio::join!(waits, stores);
        for (result, id) in heard {
            assert_eq!(result, id, "{}", world.name);
        }
    }
}

#[tokio::test]
async fn what_is_forgotten_is_gone_and_may_come_again() {
    for world in each(|_| {}).await {
        world.store("a", State::Success, json!(1)).await;
        world.other.forget("a").await.unwrap();
        world.other.forget("a").await.unwrap();
        assert_eq!(world.get("a").await, None, "{}", world.name);
        world.store("a", State::Failure, json!(2)).await;
        assert_eq!(world.state("a").await, Some(State::Failure));
    }
}

#[tokio::test]
async fn of_many_that_store_the_same_the_first_success_wins() {
    for world in each(|_| {}).await {
        let states = [State::Failure, State::Success, State::Started];
        let stores = (0..300).map(|number: usize| {
            let backend = [&world.backend, &world.other][number % 2];
            let mut meta = TaskMeta::new("a", states[number % 3].clone(), json!(number));
            meta.date_done = Some(number.to_string());
            async move { backend.store(&[meta]).await.unwrap() }
        });
        join_all(stores).await;
        let kept = world.get("a").await.unwrap();
        assert_eq!(kept.status, State::Success, "{}", world.name);
        world.store("a", State::Success, json!("late")).await;
        assert_eq!(world.get("a").await.unwrap(), kept, "{}", world.name);
    }
}

#[tokio::test]
async fn who_sees_the_first_of_several_that_are_stored_together_sees_all() {
    for world in &each(|_| {}).await {
        for round in 0..50 {
            let id = |number: usize| format!("{round}-{number}");
            let meta = |number| TaskMeta::new(id(number), State::Failure, json!(number));
            let together: Vec<TaskMeta> = (0..20).map(meta).collect();
            // So many others beside them that one call does not hold all.
            let others = (20..140).map(async |number| {
                world
                    .store(&id(number), State::Success, json!(number))
                    .await;
            });
            let watch = async {
                let mut seen = [false; 2];
                while seen == [false; 2] {
                    seen = world.are_there([&id(0), &id(19)]).await;
                }
                seen
            };
            let stored = world.backend.store(&together);
            let (_, stored, seen) = tokio::join!(join_all(others), stored, watch);
            stored.unwrap();
            assert_eq!(seen, [true; 2], "{}", world.name);
        }
    }
}

#[tokio::test]
async fn a_big_result_and_the_small_ones_beside_it_are_stored() {
    for world in each(|_| {}).await {
        let big = json!("x".repeat(5 * 1024 * 1024));
        let big = &big;
        let world = &world;
        join_all((0..40).map(|number| async move {
            let result = match number % 10 {
                0 => big.clone(),
                _ => json!(number),
            };
            world
                .store(&number.to_string(), State::Success, result)
                .await;
        }))
        .await;
        assert_eq!(&world.get("30").await.unwrap().result, big);
        assert_eq!(world.get("39").await.unwrap().result, json!(39));
    }
}
