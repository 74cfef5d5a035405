//! What every backend must do for chords and groups.

use std::time::Duration;

use celeriac_protocol::state::State;
use celeriac_protocol::{Accept, Compression, Serializer};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::super::chord::{Claim, Counted, Part, PartResult, Parts, ResultTree, Start};
use super::{Inside, World, each};
use crate::app::Settings;

/// A chord's part whose task has succeeded.
fn part<'a>(task_id: &'a str, index: i64, result: &'a Value) -> Part<'a> {
    Part {
        group: "g",
        task_id,
        index: Some(index),
        state: State::Success,
        result,
        is_again: true,
    }
}

impl World {
    async fn start(&self, size: usize) {
        let started = self.backend.chord_start("g", size, None, false).await;
        assert_eq!(started.unwrap(), Start::Started, "{}", self.name);
    }

    async fn start_again(&self, size: usize) -> Start {
        let started = self.other.chord_start("g", size, None, true).await;
        started.unwrap()
    }

    /// Counts a success, with the task's id as the token.
    async fn count(&self, task_id: &str, index: i64, result: Value) -> Counted {
        let part = part(task_id, index, &result);
        let counted = self.backend.chord_part(&part, task_id);
        counted.await.unwrap()
    }

    /// Counts what completes the chord.
    async fn complete(&self, task_id: &str, index: i64) -> Claim {
        match self.count(task_id, index, json!(index)).await {
            Counted::Claimed(claim) => claim,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    async fn results(&self) -> Vec<PartResult> {
        match self.other.chord_results("g").await.unwrap() {
            Parts::Each(parts) => parts,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    async fn values(&self) -> Vec<Value> {
        let results = self.results().await.into_iter();
        results.map(|part| part.result).collect()
    }

    /// As if the claim had lasted its time.
    async fn drop_claim(&self) {
        match &self.inside {
            Inside::Memory(memory) => memory.drop_claim("g"),
            Inside::Redis(connection, prefix) => redis::cmd("DEL")
                .arg(format!("{}g.c", prefix.replace("-task-", "-taskset-")))
                .query_async(&mut connection.clone())
                .await
                .unwrap(),
        }
    }
}

#[tokio::test]
async fn the_last_part_starts_the_body_with_all_in_their_order() {
    for world in each(|_| {}).await {
        world.start(3).await;
        for (id, index) in [("c", 10), ("a", 9)] {
            let counted = world.count(id, index, json!({"ü": index})).await;
            assert_eq!(counted, Counted::Waiting, "{}", world.name);
        }
        let claim = world.complete("b", 0).await;
        let results = world.results().await;
        let ids: Vec<_> = results.iter().map(|part| part.task_id.as_str()).collect();
        assert_eq!(ids, ["b", "a", "c"], "{}", world.name);
        let values = [json!(0), json!({"ü": 9}), json!({"ü": 10})];
        assert_eq!(world.values().await, values, "{}", world.name);
        assert!(world.other.chord_extend("g", &claim).await.unwrap());
        for _ in 0..2 {
            assert!(world.other.chord_done("g", &claim).await.unwrap());
        }
        for id in ["a", "d"] {
            assert_eq!(world.count(id, 1, json!(1)).await, Counted::Over);
        }
        assert_eq!(world.results().await, [], "{}", world.name);
    }
}

#[tokio::test]
async fn a_part_counts_once_and_its_first_value_stays() {
    for world in each(|_| {}).await {
        world.start(2).await;
        for value in 5..8 {
            let counted = world.count("a", 0, json!(value)).await;
            assert_eq!(counted, Counted::Waiting, "{}", world.name);
        }
        let failure = json!({"exc_type": "X"});
        let late = Part {
            state: State::Failure,
            ..part("a", 0, &failure)
        };
        let counted = world.other.chord_part(&late, "t").await.unwrap();
        assert_eq!(counted, Counted::Waiting, "{}", world.name);
        // The same id at another place is another part: a signature that is used twice.
        world.complete("a", 1).await;
        assert_eq!(world.values().await, [json!(5), json!(1)]);
    }
}

#[tokio::test]
async fn parts_that_come_before_the_size_is_known_count() {
    for world in each(|_| {}).await {
        assert_eq!(world.count("a", 0, json!("a")).await, Counted::Waiting);
        assert_eq!(world.count("b", 1, json!("b")).await, Counted::Waiting);
        world.start(3).await;
        assert_eq!(world.count("a", 0, json!("late")).await, Counted::Waiting);
        world.complete("c", 2).await;
        let values = world.values().await;
        assert_eq!(values, [json!("a"), json!("b"), json!(2)]);
    }
}

#[tokio::test]
async fn more_parts_than_the_size_start_nothing() {
    for world in each(|_| {}).await {
        for (id, index) in [("a", 0), ("b", 1), ("c", 2)] {
            world.count(id, index, json!(1)).await;
        }
        world.start(2).await;
        let counted = world.count("c", 2, json!(1)).await;
        assert_eq!(counted, Counted::Waiting, "{}", world.name);
    }
}

#[tokio::test]
async fn states_and_exceptions_come_as_they_were() {
    for world in each(|_| {}).await {
        world.start(2).await;
        let exception = json!({"exc_type": "E", "exc_message": ["é", 1.5], "exc_module": "m"});
        for (id, index, state) in [("f", Some(0), State::Failure), ("r", None, State::Revoked)] {
            let part = Part {
                state,
                index,
                ..part(id, 0, &exception)
            };
            world.other.chord_part(&part, id).await.unwrap();
        }
        let of = |task_id: &str, state| PartResult {
            task_id: task_id.to_owned(),
            state,
            result: exception.clone(),
        };
        let expected = [of("f", State::Failure), of("r", State::Revoked)];
        assert_eq!(world.results().await, expected, "{}", world.name);
    }
}

#[tokio::test]
async fn where_order_does_not_matter_they_come_as_they_were_ready() {
    let unordered = |settings: &mut Settings| {
        let options = &mut settings.result_backend_transport_options;
        options.result_chord_ordered = false;
    };
    for world in each(unordered).await {
        world.start(3).await;
        for (id, index) in [("c", 2), ("a", 0), ("c", 2)] {
            world.count(id, index, json!(index)).await;
        }
        world.complete("b", 1).await;
        assert_eq!(world.values().await, [json!(2), json!(0), json!(1)]);
    }
}

#[tokio::test]
async fn those_without_a_place_come_last() {
    for world in each(|_| {}).await {
        world.start(3).await;
        let value = json!("nowhere");
        let lone = Part {
            index: None,
            ..part("n", 0, &value)
        };
        world.other.chord_part(&lone, "n").await.unwrap();
        world.count("a", 1_000_000, json!(1)).await;
        world.complete("b", -1).await;
        let values = world.values().await;
        assert_eq!(values, [json!(-1), json!(1), value], "{}", world.name);
    }
}

#[tokio::test]
async fn of_all_that_count_at_once_one_gets_the_claim() {
    for world in each(|_| {}).await {
        world.start(100).await;
        // Each runs twice.
        let counts = (0..200).map(|number: i64| {
            let backend = [&world.backend, &world.other][usize::from(number > 99)];
            async move {
                let (id, token) = ((number % 100).to_string(), number.to_string());
                let result = json!(number % 100);
                let part = part(&id, number % 100, &result);
                backend.chord_part(&part, &token).await.unwrap()
            }
        });
        let counted = join_all(counts).await;
        let claimed = counted
            .iter()
            .filter(|counted| matches!(counted, Counted::Claimed(_)));
        assert_eq!(claimed.count(), 1, "{} {counted:?}", world.name);
        let values: Vec<Value> = (0..100).map(Value::from).collect();
        assert_eq!(world.values().await, values);
    }
}

#[tokio::test]
async fn whoever_lost_the_answer_gets_the_claim_with_the_same_token_and_others_wait() {
    for world in each(|_| {}).await {
        world.start(1).await;
        let claim = world.complete("a", 0).await;
        assert_eq!(world.complete("a", 0).await, claim, "{}", world.name);
        let value = json!(1);
        let again = part("a", 0, &value);
        let held = world.other.chord_part(&again, "another").await.unwrap();
        let Counted::Held(wait) = held else {
            panic!("{}: {held:?}", world.name);
        };
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1));
        world.drop_claim().await;
        let counted = world.other.chord_part(&again, "another").await.unwrap();
        let Counted::Claimed(anothers) = counted else {
            panic!("{}: {counted:?}", world.name);
        };
        for _ in 0..2 {
            assert!(!world.backend.chord_extend("g", &claim).await.unwrap());
            assert!(!world.backend.chord_done("g", &claim).await.unwrap());
        }
        assert_eq!(world.values().await, [json!(0)], "{}", world.name);
        assert!(world.other.chord_extend("g", &anothers).await.unwrap());
        assert!(world.other.chord_done("g", &anothers).await.unwrap());
    }
}

#[tokio::test]
async fn a_claim_that_has_ended_is_taken_again_while_the_chord_is_there() {
    for world in each(|_| {}).await {
        world.start(1).await;
        let claim = world.complete("a", 0).await;
        world.drop_claim().await;
        assert!(!world.backend.chord_done("g", &claim).await.unwrap());
        assert!(world.backend.chord_extend("g", &claim).await.unwrap());
        assert!(world.backend.chord_done("g", &claim).await.unwrap());
        world.drop_claim().await;
        assert!(!world.backend.chord_extend("g", &claim).await.unwrap());
    }
}

#[tokio::test]
async fn a_chord_that_has_failed_is_over() {
    for world in each(|_| {}).await {
        world.start(1).await;
        let claim = world.complete("a", 0).await;
        for _ in 0..2 {
            world.backend.chord_failed("g", &claim).await.unwrap();
        }
        assert_eq!(world.count("a", 0, json!(1)).await, Counted::Over);
        assert_eq!(world.start_again(1).await, Start::Over, "{}", world.name);
    }
}

#[tokio::test]
async fn a_chord_that_has_failed_under_a_claim_that_has_ended_starts_nothing_more() {
    for world in each(|_| {}).await {
        world.start(1).await;
        let claim = world.complete("a", 0).await;
        world.drop_claim().await;
        world.backend.chord_failed("g", &claim).await.unwrap();
        let counted = world.count("a", 0, json!(1)).await;
        assert_eq!(counted, Counted::Waiting, "{}", world.name);
        assert!(!world.backend.chord_extend("g", &claim).await.unwrap());
    }
}

#[tokio::test]
async fn who_starts_a_chord_again_changes_nothing_of_it() {
    for world in each(|_| {}).await {
        assert_eq!(world.start_again(2).await, Start::Started);
        assert_eq!(world.start_again(5).await, Start::Running);
        world.count("a", 0, json!(1)).await;
        let claim = world.complete("b", 1).await;
        assert_eq!(world.start_again(2).await, Start::Running);
        assert!(world.backend.chord_done("g", &claim).await.unwrap());
        assert_eq!(world.start_again(2).await, Start::Over, "{}", world.name);
        assert_eq!(world.count("a", 0, json!(1)).await, Counted::Over);
    }
}

#[tokio::test]
async fn a_chord_that_is_applied_again_runs_again() {
    for world in each(|_| {}).await {
        for value in 1..3 {
            world.start(2).await;
            let counted = world.count("a", 0, json!(value)).await;
            assert_eq!(counted, Counted::Waiting, "{}", world.name);
            world.backend.chord_grow("g", "added").await.unwrap();
            world.count("b", 1, json!(value)).await;
            let claim = world.complete("added", 2).await;
            assert_eq!(world.values().await, [json!(value), json!(value), json!(2)]);
            assert!(world.backend.chord_done("g", &claim).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_chord_grows_once_for_each_task_that_is_added() {
    for world in each(|_| {}).await {
        world.backend.chord_grow("g", "x").await.unwrap();
        world.start(1).await;
        for id in ["x", "y", "x", "y"] {
            world.other.chord_grow("g", id).await.unwrap();
        }
        for (id, index) in [("a", 0), ("x", 0)] {
            let counted = world.count(id, index, json!(id)).await;
            assert_eq!(counted, Counted::Waiting, "{}", world.name);
        }
        let claim = world.complete("y", 0).await;
        assert!(world.backend.chord_done("g", &claim).await.unwrap());
        // Whoever adds late begins nothing.
        world.backend.chord_grow("g", "z").await.unwrap();
        world.start(1).await;
        world.complete("a", 0).await;
    }
}

#[tokio::test]
async fn a_header_in_a_form_of_its_own_is_joined_by_that() {
    let tuple = json!([
        ["g", null],
        [[["a", null], null], [["h", null], [[["b", null], null]]]]
    ]);
    let id = |id: &str| id.to_owned();
    let tree = ResultTree::Group {
        id: id("g"),
        members: vec![
            ResultTree::Task(id("a")),
            ResultTree::Group {
                id: id("h"),
                members: vec![ResultTree::Task(id("b"))],
            },
        ],
    };
    for world in each(|_| {}).await {
        let started = world.backend.chord_start("g", 2, Some(&tuple), true).await;
        assert_eq!(started.unwrap(), Start::Started);
        world.count("a", 0, json!(1)).await;
        let claim = world.complete("b", 0).await;
        let results = world.other.chord_results("g").await.unwrap();
        assert_eq!(results, Parts::Saved(tree.clone()), "{}", world.name);
        assert!(world.backend.chord_done("g", &claim).await.unwrap());
        // It is the group's saved result as well, and stays.
        let saved = world.other.restore_group("g").await.unwrap();
        assert_eq!(saved.as_ref(), Some(&tuple), "{}", world.name);
    }
}

#[tokio::test]
async fn groups_are_saved_and_restored() {
    let tuple = json!([["g", [["p", null], null]], [[["a", null], null]]]);
    for world in each(|_| {}).await {
        assert_eq!(world.other.restore_group("g").await.unwrap(), None);
        world.backend.save_group("g", &json!([])).await.unwrap();
        world.backend.save_group("g", &tuple).await.unwrap();
        let saved = world.other.restore_group("g").await.unwrap();
        assert_eq!(saved.as_ref(), Some(&tuple), "{}", world.name);
        for _ in 0..2 {
            world.other.delete_group("g").await.unwrap();
        }
        assert_eq!(world.backend.restore_group("g").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_saved_group_that_is_none_cannot_be_read() {
    for world in each(|_| {}).await {
        world.start(1).await;
        world.complete("a", 0).await;
        world.backend.save_group("g", &json!(1)).await.unwrap();
        let results = world.other.chord_results("g").await.unwrap();
        let Parts::Unreadable(why) = results else {
            panic!("{}: {results:?}", world.name);
        };
        assert!(why.contains("holds no group"), "{why}");
    }
}

#[tokio::test]
async fn parts_are_the_same_in_every_serializer_and_compression() {
    for serializer in Serializer::ALL {
        for compression in [None, Some(Compression::Zlib), Some(Compression::Zstd)] {
            let adjust = |settings: &mut Settings| {
                settings.result_serializer = serializer;
                settings.result_accept_content = Some(Accept::only(&[serializer]));
                settings.result_compression = compression;
            };
            let tuple = json!([["h", null], []]);
            for world in each(adjust).await {
                world.start(2).await;
                world.count("a", 0, json!({"ü": [1, null]})).await;
                world.complete("b", 1).await;
                let values = [json!({"ü": [1, null]}), json!(1)];
                assert_eq!(
                    world.values().await,
                    values,
                    "{} {serializer:?}",
                    world.name
                );
                world.backend.save_group("h", &tuple).await.unwrap();
                let saved = world.other.restore_group("h").await.unwrap();
                assert_eq!(saved.as_ref(), Some(&tuple), "{}", world.name);
            }
        }
    }
}

#[tokio::test]
async fn a_part_that_cannot_be_written_has_failed() {
    let adjust = |settings: &mut Settings| {
        settings.result_serializer = Serializer::Msgpack;
        settings.accept_content = Accept::only(&Serializer::ALL);
    };
    for world in each(adjust).await {
        world.start(1).await;
        let date = br#"{"__type__": "date", "__value__": "2026-11-23"}"#;
        let date = celeriac_protocol::json::parse("a date", date).unwrap();
        let part = part("a", 0, &date);
        world.other.chord_part(&part, "a").await.unwrap();
        let results = world.results().await;
        let text = results[0].result["exc_message"][0].as_str().unwrap();
        assert_eq!(
            (&results[0].state, text),
            (
                &State::Failure,
                "msgpack cannot write datetime.date(2026, 11, 23)"
            ),
            "{}",
            world.name
        );
    }
}

#[tokio::test]
async fn parts_that_are_not_accepted_cannot_be_read() {
    let adjust = |settings: &mut Settings| {
        settings.result_serializer = Serializer::Msgpack;
    };
    for world in each(adjust).await {
        world.start(1).await;
        world.complete("a", 0).await;
        let results = world.other.chord_results("g").await.unwrap();
        let Parts::Unreadable(why) = results else {
            panic!("{}: {results:?}", world.name);
        };
        assert!(why.contains("Refusing to deserialize"), "{why}");
    }
}

#[tokio::test]
async fn a_large_chord_comes_whole_and_in_order() {
    // More than are read at once, and some that are too large to be read with many others.
    let size = 2_501;
    for world in each(|_| {}).await {
        world.start(size).await;
        let world = &world;
        let large = &"x".repeat(256 * 1024);
        let counted = join_all((0..size).rev().map(|index| async move {
            let value = match index % 100 {
                0 => json!([index, large]),
                _ => json!([index]),
            };
            let index = i64::try_from(index).unwrap();
            world.count(&index.to_string(), index, value).await
        }));
        let counted = counted.await;
        assert!(
            counted
                .iter()
                .any(|counted| matches!(counted, Counted::Claimed(_)))
        );
        let values = world.values().await;
        let numbers: Vec<_> = values.iter().map(|value| value[0].as_u64()).collect();
        let expected: Vec<_> = (0..size as u64).map(Some).collect();
        assert_eq!(numbers, expected, "{}", world.name);
    }
}
