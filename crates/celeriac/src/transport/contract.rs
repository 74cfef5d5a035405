//! What every transport must do. Each test runs for each of them: a new transport is one line in [`each`].
//!
//! Redis is the one of `make up`; each run has a key prefix, or a name, of its own. What only Redis has
//! (lost replies, rights, keys of another type) is in `redis/tests.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use uuid::Uuid;

use super::memory::MemoryTransport;
use super::redis::RedisTransport;
use super::{Delivery, QueueEnd, Transport};
use crate::app::settings::{BrokerTransportOptions, QueueOrder};

/// A transport, another one on the same broker, and a look behind the scenes.
struct World {
    name: &'static str,
    transport: Arc<dyn Transport>,
    other: Arc<dyn Transport>,
    inside: Inside,
}

enum Inside {
    Memory(Box<MemoryTransport>),
    Redis(MultiplexedConnection, String),
}

/// One world for each transport.
async fn each(adjust: impl Fn(&mut BrokerTransportOptions)) -> Vec<World> {
    let mut options = BrokerTransportOptions {
        global_keyprefix: format!("contract-{}:", Uuid::new_v4()),
        ..BrokerTransportOptions::default()
    };
    adjust(&mut options);
    vec![memory(&options), redis(options).await]
}

fn memory(options: &BrokerTransportOptions) -> World {
    let url = format!("memory://{}", options.global_keyprefix);
    let new = || MemoryTransport::new(&url, options);
    World {
        name: "memory",
        transport: Arc::new(new()),
        other: Arc::new(new()),
        inside: Inside::Memory(Box::new(new())),
    }
}

async fn redis(options: BrokerTransportOptions) -> World {
    let url = std::env::var("CELERY_BROKER_URL").expect("`make up` runs");
    let client = redis::Client::open(url.as_str()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let new = || RedisTransport::new(&url, &options).unwrap();
    World {
        name: "redis",
        transport: Arc::new(new()),
        other: Arc::new(new()),
        inside: Inside::Redis(connection, options.global_keyprefix),
    }
}

impl World {
    async fn publish(&self, queue: &str, priority: i64, ids: std::ops::Range<u32>) {
        for id in ids {
            let envelope = envelope(id, priority);
            let sent = self.transport.publish(queue, priority, &envelope);
            sent.await.unwrap();
        }
    }

    async fn take(&self, queues: &[&str], max: usize) -> Vec<Delivery> {
        let queues: Vec<String> = queues.iter().map(|queue| (*queue).to_owned()).collect();
        self.transport.take(&queues, max).await.unwrap()
    }

    /// How many messages wait in the queue `q`, are held, and are dead.
    async fn census(&self) -> (usize, usize, usize) {
        let (connection, prefix) = match &self.inside {
            Inside::Memory(memory) => return memory.census("q"),
            Inside::Redis(connection, prefix) => (connection, prefix),
        };
        let mut pipe = redis::pipe();
        for step in ["", "\u{6}\u{16}3", "\u{6}\u{16}6", "\u{6}\u{16}9"] {
            pipe.cmd("LLEN").arg(format!("{prefix}q{step}"));
        }
        pipe.cmd("HLEN").arg(format!("{prefix}unacked"));
        pipe.cmd("LLEN").arg(format!("{prefix}q.dead"));
        let mut connection = connection.clone();
        let counts: Vec<usize> = pipe.query_async(&mut connection).await.unwrap();
        (counts[..4].iter().sum(), counts[4], counts[5])
    }
}

/// An envelope as small as one can be.
fn envelope(id: u32, priority: i64) -> String {
    format!(
        r#"{{"body": "", "headers": {{"id": "{id}"}}, "properties": {{"delivery_info": {{"exchange": "", "routing_key": "q"}}, "priority": {priority}}}}}"#
    )
}

fn id(delivery: &Delivery) -> u32 {
    let envelope: serde_json::Value = serde_json::from_slice(delivery.raw()).unwrap();
    let id = envelope["headers"]["id"].as_str();
    id.unwrap().parse().unwrap()
}

fn ids(deliveries: &[Delivery]) -> Vec<u32> {
    deliveries.iter().map(id).collect()
}

fn tags(deliveries: &[Delivery]) -> Vec<String> {
    let tags = deliveries.iter().map(Delivery::tag);
    tags.map(str::to_owned).collect()
}

/// Deliveries under the same claims: what a worker would have that was asleep.
fn copies(deliveries: &[Delivery]) -> Vec<Delivery> {
    let copy = |delivery: &Delivery| {
        Delivery::new(
            delivery.tag().to_owned(),
            delivery.queue().to_owned(),
            delivery.raw().to_vec(),
        )
    };
    deliveries.iter().map(copy).collect()
}

#[tokio::test]
async fn the_oldest_is_taken_first_and_byte_for_byte() {
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..3).await;
        let taken = world.take(&["q"], 2).await;
        assert_eq!(ids(&taken), [0, 1], "{}", world.name);
        assert_eq!(taken[0].raw(), envelope(0, 0).as_bytes());
        assert_eq!(taken[0].queue(), "q");
        assert!(
            taken[0].tag() < taken[1].tag(),
            "claims sort as they were made"
        );
        assert_eq!(world.census().await, (1, 2, 0), "{}", world.name);
    }
}

#[tokio::test]
async fn a_lower_priority_step_comes_first_over_all_queues() {
    for world in each(|_| {}).await {
        world.publish("q", 9, 0..1).await;
        world.publish("q", 4, 1..2).await;
        world.publish("r", 3, 2..3).await;
        world.publish("r", 0, 3..4).await;
        // Between the steps a priority counts as the step below; beyond them as the last.
        world.publish("q", 255, 4..5).await;
        let taken = ids(&world.take(&["q", "r"], 10).await);
        assert_eq!(
            (taken[0], &taken[3..]),
            (3, [0, 4].as_slice()),
            "{}",
            world.name
        );
    }
}

#[tokio::test]
async fn queues_take_their_turns() {
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..10).await;
        world.publish("r", 0, 100..110).await;
        let mut of_r = 0;
        for _ in 0..10 {
            let taken = world.take(&["q", "r"], 1).await;
            of_r += taken.iter().filter(|one| one.queue() == "r").count();
        }
        assert_eq!(of_r, 5, "{}", world.name);
    }
}

#[tokio::test]
async fn a_queue_may_be_preferred() {
    for (strategy, first) in [(QueueOrder::Sorted, "q"), (QueueOrder::Priority, "r")] {
        for world in each(|options| options.queue_order_strategy = strategy).await {
            world.publish("q", 0, 0..5).await;
            world.publish("r", 0, 0..5).await;
            for _ in 0..5 {
                let taken = world.take(&["r", "q"], 1).await;
                assert_eq!(taken[0].queue(), first, "{} {strategy:?}", world.name);
            }
        }
    }
}

#[tokio::test]
async fn what_is_acknowledged_is_gone_once() {
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..3).await;
        let taken = world.take(&["q"], 3).await;
        let again = copies(&taken);
        let mut acks = copies(&taken[1..]);
        acks.push(copies(&again[..1]).remove(0));
        let lost = world.transport.ack(copies(&taken[..1])).await.unwrap();
        assert!(lost.is_empty(), "{}", world.name);
        let lost = world.transport.ack(acks).await.unwrap();
        assert_eq!(lost, [taken[0].shared_tag()], "{}", world.name);
        assert_eq!(world.census().await, (0, 0, 0), "{}", world.name);
        assert_eq!(
            world.transport.ack(again).await.unwrap().len(),
            3,
            "{}",
            world.name
        );
    }
}

#[tokio::test]
async fn a_message_goes_back_to_the_end_that_was_named() {
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..4).await;
        let taken = world.take(&["q"], 2).await;
        let front = world.transport.requeue(taken, QueueEnd::Front).await;
        assert_eq!(front.unwrap(), 2);
        let taken = world.take(&["q"], 2).await;
        assert_eq!(ids(&taken), [0, 1], "{}: they keep their order", world.name);
        let text = String::from_utf8_lossy(taken[0].raw());
        assert!(
            text.contains(r#""redelivered": true"#) || text.contains(r#""redelivered":true"#),
            "{text}"
        );
        let back = world.transport.requeue(taken, QueueEnd::Back).await;
        assert_eq!(back.unwrap(), 2);
        assert_eq!(
            ids(&world.take(&["q"], 4).await),
            [2, 3, 0, 1],
            "{}",
            world.name
        );
    }
}

#[tokio::test]
async fn thousands_go_back_in_their_order() {
    let all = |world: &World| {
        let transport = Arc::clone(&world.transport);
        async move {
            let (queues, mut all) = (["q".to_owned()], Vec::new());
            while let taken @ [_, ..] = &mut *transport.take(&queues, 256).await.unwrap() {
                all.extend(copies(taken));
            }
            all
        }
    };
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..2500).await;
        let taken = all(&world).await;
        let back = world.transport.requeue(taken, QueueEnd::Front).await;
        assert_eq!(back.unwrap(), 2500, "{}", world.name);
        assert!(
            ids(&all(&world).await).into_iter().eq(0..2500),
            "{}",
            world.name
        );
    }
}

#[tokio::test]
async fn what_is_given_back_keeps_its_priority() {
    for world in each(|_| {}).await {
        world.publish("q", 6, 0..1).await;
        let taken = world.take(&["q"], 1).await;
        world
            .transport
            .requeue(taken, QueueEnd::Front)
            .await
            .unwrap();
        world.publish("q", 3, 1..2).await;
        assert_eq!(ids(&world.take(&["q"], 2).await), [1, 0], "{}", world.name);
    }
}

#[tokio::test]
async fn what_another_has_is_not_given_back_a_second_time() {
    for world in each(|options| options.visibility_timeout = Duration::ZERO).await {
        world.publish("q", 0, 0..1).await;
        let stale = world.take(&["q"], 1).await;
        assert_eq!(world.other.restore_expired().await.unwrap(), 1);
        let requeued = world
            .transport
            .requeue(copies(&stale), QueueEnd::Front)
            .await;
        assert_eq!(
            (requeued.unwrap(), world.census().await),
            (0, (1, 0, 0)),
            "{}",
            world.name
        );
        let mut buried = copies(&stale);
        let buried = buried.pop().unwrap();
        world
            .transport
            .dead_letter(buried, "0", "late")
            .await
            .unwrap();
        assert_eq!(world.census().await, (1, 0, 0), "{}", world.name);
        assert_eq!(
            world.transport.ack(stale).await.unwrap().len(),
            1,
            "{}",
            world.name
        );
    }
}

#[tokio::test]
async fn a_dead_letter_is_kept_and_not_delivered() {
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..1).await;
        let delivery = world.take(&["q"], 1).await.pop().unwrap();
        world
            .transport
            .dead_letter(delivery, "0", "unreadable")
            .await
            .unwrap();
        assert_eq!(world.census().await, (0, 0, 1), "{}", world.name);
        assert!(world.take(&["q"], 1).await.is_empty());
    }
}

#[tokio::test]
async fn rubbish_is_buried_and_hides_nothing() {
    for world in each(|_| {}).await {
        for rubbish in ["rubbish", "[1]", "", "{\"half\": 1"] {
            world.transport.publish("q", 0, rubbish).await.unwrap();
        }
        world.publish("q", 0, 0..1).await;
        let mut taken = Vec::new();
        for _ in 0..5 {
            taken.extend(world.take(&["q"], 10).await);
        }
        assert_eq!(ids(&taken), [0], "{}", world.name);
        assert_eq!(world.census().await, (0, 1, 4), "{}", world.name);
    }
}

#[tokio::test]
async fn only_what_is_not_renewed_is_restored() {
    let timeout = Duration::from_millis(500);
    for world in each(|options| options.visibility_timeout = timeout).await {
        world.publish("q", 0, 0..4).await;
        let taken = world.take(&["q"], 4).await;
        let kept = tags(&taken[..1]);
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut restored = 0;
        while restored < 3 {
            assert!(
                Instant::now() < deadline,
                "{}: nothing was restored",
                world.name
            );
            let lost = world.transport.renew(&kept).await.unwrap();
            assert!(lost.is_empty(), "{}", world.name);
            restored += world.other.restore_expired().await.unwrap();
        }
        assert_eq!(world.census().await, (3, 1, 0), "{}", world.name);
        let mut lost = world.transport.renew(&tags(&taken)).await.unwrap();
        lost.sort_unstable();
        assert_eq!(
            lost,
            tags(&taken[1..]),
            "{}: the holder is told",
            world.name
        );
        let again = ids(&world.take(&["q"], 4).await);
        assert_eq!(again, [1, 2, 3], "{}: the oldest first", world.name);
    }
}

#[tokio::test]
async fn many_messages_are_taken_in_bounded_portions_by_many() {
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..1500).await;
        let drain = |transport: Arc<dyn Transport>| async move {
            let queues = ["q".to_owned()];
            let mut all = Vec::new();
            loop {
                let taken = transport.take(&queues, usize::MAX).await.unwrap();
                if taken.is_empty() {
                    return all;
                }
                assert!(taken.len() <= super::MAX_TAKE);
                all.extend(ids(&taken));
                transport.ack(taken).await.unwrap();
            }
        };
        let both = [&world.transport, &world.other];
        let all = join_all(both.map(|transport| drain(Arc::clone(transport)))).await;
        let all: Vec<u32> = all.into_iter().flatten().collect();
        let different: BTreeSet<&u32> = all.iter().collect();
        assert_eq!((all.len(), different.len()), (1500, 1500), "{}", world.name);
        assert_eq!(world.census().await, (0, 0, 0), "{}", world.name);
    }
}

#[tokio::test]
async fn a_push_wakes_whoever_waits() {
    for world in each(|_| {}).await {
        assert!(world.take(&["q"], 1).await.is_empty());
        let (queues, waiting) = (["q".to_owned()], Instant::now());
        tokio::join!(world.transport.woken(&queues), world.publish("q", 3, 0..1));
        assert!(waiting.elapsed() < Duration::from_secs(2), "{}", world.name);
        assert_eq!(world.take(&["q"], 1).await.len(), 1, "{}", world.name);
    }
}

#[tokio::test]
async fn a_push_before_the_wait_is_not_missed() {
    for world in each(|_| {}).await {
        assert!(world.take(&["q"], 1).await.is_empty());
        world.publish("q", 3, 0..1).await;
        let (queues, waiting) = (["q".to_owned()], Instant::now());
        world.transport.woken(&queues).await;
        assert!(waiting.elapsed() < Duration::from_secs(2), "{}", world.name);
    }
}

#[tokio::test]
async fn a_push_wakes_whoever_has_just_taken_the_last_one() {
    for pushed_to in [0, 3] {
        for world in each(|_| {}).await {
            world.publish("q", 0, 0..1).await;
            assert_eq!(world.take(&["q"], 2).await.len(), 1, "{}", world.name);
            let (queues, waiting) = (["q".to_owned()], Instant::now());
            let push = world.publish("q", pushed_to, 1..2);
            tokio::join!(world.transport.woken(&queues), push);
            let waited = waiting.elapsed();
            assert!(
                waited < Duration::from_secs(2),
                "{}: {waited:?}",
                world.name
            );
        }
    }
}

/// The name of the worker behind the claims.
fn worker(deliveries: &[Delivery]) -> String {
    let (worker, _number) = deliveries[0].tag().rsplit_once('-').unwrap();
    worker.to_owned()
}

#[tokio::test]
async fn a_worker_is_told_what_it_holds_and_puts_back_what_it_does_not() {
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..4).await;
        let mut taken = world.take(&["q"], 3).await;
        let others = world.other.take(&["q".to_owned()], 1).await.unwrap();
        let marked = world.transport.mark_started(&mut taken[1], "1").await;
        marked.unwrap();
        let mut claims = world.transport.claims().await.unwrap();
        claims.sort_unstable();
        let tags = tags(&taken);
        assert_eq!(claims, tags, "{}", world.name);
        // One of them is settled meanwhile.
        let acked = world.transport.ack(vec![taken.remove(0)]).await;
        assert!(acked.unwrap().is_empty(), "{}", world.name);
        let restored = world.transport.put_back(&tags).await.unwrap();
        assert_eq!(
            (restored, world.census().await),
            (2, (2, 1, 0)),
            "{}",
            world.name
        );
        assert_eq!(world.transport.deaths(&["1"]).await.unwrap(), [0]);
        assert_eq!(ids(&world.take(&["q"], 3).await), [1, 2], "{}", world.name);
        let still = world.other.claims().await.unwrap();
        assert_eq!(still, [others[0].tag()], "{}", world.name);
    }
}

#[tokio::test]
async fn a_worker_taken_for_dead_loses_what_it_held_and_is_told() {
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..3).await;
        let first = world.transport.beat().await.unwrap();
        assert!(first.is_unbroken && first.others.is_empty(), "{first:?}");
        let mut taken = world.take(&["q"], 3).await;
        let marked = world.transport.mark_started(&mut taken[0], "0").await;
        marked.unwrap();
        let (dead, other) = (worker(&taken), &world.other);
        let beat = other.beat().await.unwrap().others[&dead];
        let too_early = other.take_over(&dead, Some(beat - 1)).await.unwrap();
        assert_eq!(
            (too_early, world.census().await),
            (Some(0), (0, 3, 0)),
            "{}",
            world.name
        );
        let restored = other.take_over(&dead, Some(beat)).await.unwrap();
        assert_eq!(
            (restored, world.census().await),
            (Some(3), (3, 0, 0)),
            "{}",
            world.name
        );
        assert_eq!(
            other.deaths(&["0", "1"]).await.unwrap(),
            [1, 0],
            "{}",
            world.name
        );
        let again = world.transport.beat().await.unwrap();
        assert!(!again.is_unbroken, "{}: {again:?}", world.name);
        let tags = tags(&taken);
        assert_eq!(
            world.transport.renew(&tags).await.unwrap(),
            tags,
            "{}",
            world.name
        );
        assert_eq!(
            ids(&world.take(&["q"], 3).await),
            [0, 1, 2],
            "{}",
            world.name
        );
    }
}

#[tokio::test]
async fn a_worker_that_leaves_is_not_watched() {
    for world in each(|_| {}).await {
        world.transport.beat().await.unwrap();
        assert_eq!(
            world.other.beat().await.unwrap().others.len(),
            1,
            "{}",
            world.name
        );
        world.transport.leave().await.unwrap();
        assert_eq!(
            world.other.beat().await.unwrap().others.len(),
            0,
            "{}",
            world.name
        );
    }
}

#[tokio::test]
async fn what_has_killed_three_workers_is_set_aside() {
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..2).await;
        for restored in [2, 2, 1] {
            let doomed = Uuid::new_v4();
            world.transport.identify(doomed);
            let mut taken = world.take(&["q"], 2).await;
            let marked = world.transport.mark_started(&mut taken[0], "0").await;
            marked.unwrap();
            let over = world.other.take_over(&doomed.to_string(), None).await;
            assert_eq!(over.unwrap(), Some(restored), "{}", world.name);
        }
        assert_eq!(world.census().await, (1, 0, 1), "{}", world.name);
        let counted = world.transport.deaths(&["0", "1"]).await.unwrap();
        assert_eq!(counted, [0, 0], "{}: replayed, it begins anew", world.name);
        let letters = world.other.dead_letters("q", 0, 10).await.unwrap();
        let message = letters[0].message.as_deref().unwrap();
        assert!(
            world
                .other
                .replay_dead_letter(&letters[0], 0, message)
                .await
                .unwrap()
        );
        assert!(!world.other.drop_dead_letter(&letters[0]).await.unwrap());
        assert_eq!(world.census().await, (2, 0, 0), "{}", world.name);
    }
}

#[tokio::test]
async fn a_survivor_is_forgiven_and_a_stranger_is_counted() {
    for world in each(|_| {}).await {
        world.publish("q", 0, 0..1).await;
        let mut taken = world.take(&["q"], 1).await;
        let marked = world.transport.mark_started(&mut taken[0], "0").await;
        marked.unwrap();
        let over = world.other.take_over(&worker(&taken), None).await;
        assert_eq!(over.unwrap(), Some(1));
        world.transport.forgive("0").await.unwrap();
        assert_eq!(
            world.transport.deaths(&["0"]).await.unwrap(),
            [0],
            "{}",
            world.name
        );
        for hands in 1..=3 {
            let (seen, since) = world.other.unknown("0").await.unwrap();
            assert_eq!(seen, hands, "{}", world.name);
            assert!(since < Duration::from_secs(10), "{}", world.name);
        }
    }
}
