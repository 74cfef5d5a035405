//! The transport against a real Redis: every step leaves each message in exactly one place.
//!
//! The server is the one of `make up`; each test has a key prefix of its own.

mod dead_letters;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{BrokerTransportOptions, Error, QueueEnd, RedisTransport, Transport};

/// An envelope as small as one can be.
fn envelope(id: u32) -> String {
    format!(
        r#"{{"body": "", "headers": {{"id": "{id}"}}, "properties": {{"delivery_info": {{"exchange": "", "routing_key": "q"}}, "priority": 0}}}}"#
    )
}

struct World {
    transport: RedisTransport,
    options: BrokerTransportOptions,
    prefix: String,
    redis: MultiplexedConnection,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut BrokerTransportOptions)) -> Self {
        let url = broker_url();
        let prefix = format!("test-{}:", Uuid::new_v4());
        let mut options = BrokerTransportOptions {
            global_keyprefix: prefix.clone(),
            ..BrokerTransportOptions::default()
        };
        adjust(&mut options);
        let client = redis::Client::open(url.as_str()).unwrap();
        Self {
            transport: RedisTransport::new(&url, &options).unwrap(),
            options,
            prefix,
            redis: client.get_multiplexed_async_connection().await.unwrap(),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn run<T: redis::FromRedisValue>(
        &mut self,
        command: &str,
        key: &str,
        args: &[&str],
    ) -> T {
        let key = self.key(key);
        let mut command = redis::cmd(command);
        command.arg(key).arg(args);
        command.query_async(&mut self.redis).await.unwrap()
    }

    /// How many messages wait, are held, are indexed, and are dead.
    async fn census(&mut self) -> (usize, usize, usize, usize) {
        (
            self.run("LLEN", "q", &[]).await,
            self.run("HLEN", "unacked", &[]).await,
            self.run("ZCARD", "unacked_index", &[]).await,
            self.run("LLEN", "q.dead", &[]).await,
        )
    }

    async fn publish(&self, count: u32) {
        for id in 0..count {
            self.transport.publish("q", 0, &envelope(id)).await.unwrap();
        }
    }

    async fn take(&self, max: usize) -> Vec<super::Delivery> {
        self.transport.take(&queues(), max).await.unwrap()
    }
}

fn broker_url() -> String {
    std::env::var("CELERY_BROKER_URL").expect(
        "CELERY_BROKER_URL is not set: run `make test`, or `make up` and eval \"$(tests/services/services env)\"",
    )
}

fn queues() -> Vec<String> {
    vec!["q".to_owned()]
}

#[tokio::test]
async fn a_message_is_waiting_then_held_then_gone() {
    let mut world = World::new().await;
    world.publish(3).await;
    assert_eq!(world.census().await, (3, 0, 0, 0));
    let mut taken = world.take(2).await;
    assert_eq!(world.census().await, (1, 2, 2, 0));
    assert_eq!(
        taken[0].raw(),
        envelope(0).as_bytes(),
        "the oldest is taken first"
    );
    let last = taken.pop().unwrap();
    world.transport.ack(taken).await.unwrap();
    assert_eq!(world.census().await, (1, 1, 1, 0));
    world
        .transport
        .requeue(vec![last], QueueEnd::Front)
        .await
        .unwrap();
    assert_eq!(world.census().await, (2, 0, 0, 0));
}

#[tokio::test]
async fn what_is_given_back_keeps_its_order_and_is_marked() {
    let mut world = World::new().await;
    world.publish(4).await;
    let taken = world.take(3).await;
    assert_eq!(
        world
            .transport
            .requeue(taken, QueueEnd::Front)
            .await
            .unwrap(),
        3
    );
    let again = world.take(4).await;
    let ids: Vec<_> = again
        .iter()
        .map(|delivery| String::from_utf8_lossy(delivery.raw()).into_owned())
        .collect();
    for (id, raw) in ids.iter().enumerate() {
        assert!(raw.contains(&format!(r#""id": "{id}""#)), "{raw}");
    }
    assert!(ids[0].contains(r#""redelivered": true"#) && !ids[3].contains("redelivered"));
    assert_eq!(world.census().await, (0, 4, 4, 0));
}

#[tokio::test]
async fn urgent_messages_are_taken_first_and_stay_in_their_list() {
    let mut world = World::new().await;
    world
        .transport
        .publish(
            "q",
            9,
            &envelope(9).replace(r#""priority": 0"#, r#""priority": 9"#),
        )
        .await
        .unwrap();
    world.publish(1).await;
    let taken = world.take(2).await;
    assert_eq!(taken[0].raw(), envelope(0).as_bytes());
    world
        .transport
        .requeue(taken, QueueEnd::Front)
        .await
        .unwrap();
    let late: usize = world.run("LLEN", "q\u{6}\u{16}9", &[]).await;
    assert_eq!((late, world.census().await.0), (1, 1));
}

#[tokio::test]
async fn a_key_of_another_type_loses_no_message() {
    let mut world = World::new().await;
    world.publish(1).await;
    world
        .run::<()>("SET", "unacked", &["a person's mistake"])
        .await;
    assert!(matches!(
        world.transport.take(&queues(), 1).await,
        Err(Error::Reply { .. })
    ));
    world.run::<()>("DEL", "unacked", &[]).await;
    assert_eq!(world.census().await, (1, 0, 0, 0));

    // A queue that is no list does not hide the next one.
    world.run::<()>("SET", "broken", &["x"]).await;
    let queues = ["broken".to_owned(), "q".to_owned()];
    assert_eq!(world.transport.take(&queues, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_right_that_is_missing_loses_no_message() {
    for missing in ["-ltrim", "-hset", "-zadd"] {
        let mut world = World::new().await;
        world.publish(1).await;
        let name = Uuid::new_v4().simple().to_string();
        redis::cmd("ACL")
            .arg(&[
                "SETUSER", &name, "on", ">secret", "~*", "&*", "+@all", missing,
            ])
            .query_async::<()>(&mut world.redis)
            .await
            .unwrap();
        let url = broker_url().replacen("redis://", &format!("redis://{name}:secret@"), 1);
        let options = BrokerTransportOptions {
            global_keyprefix: world.prefix.clone(),
            ..BrokerTransportOptions::default()
        };
        let restricted = RedisTransport::new(&url, &options).unwrap();
        let refused = restricted.take(&queues(), 1).await;
        assert!(
            matches!(refused, Err(Error::Reply { .. })),
            "{missing}: {refused:?}"
        );
        let (waiting, held, _, _) = world.census().await;
        assert_eq!((waiting, held), (1, 0), "{missing}");
        redis::cmd("ACL")
            .arg(&["DELUSER", &name])
            .query_async::<()>(&mut world.redis)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn whoever_may_not_remove_a_claim_pushes_no_second_message() {
    let mut world = World::new().await;
    world.publish(1).await;
    let name = Uuid::new_v4().simple().to_string();
    let mut user = redis::cmd("ACL");
    user.arg(&[
        "SETUSER", &name, "on", ">secret", "~*", "&*", "+@all", "-hdel",
    ]);
    user.query_async::<()>(&mut world.redis).await.unwrap();
    let url = broker_url().replacen("redis://", &format!("redis://{name}:secret@"), 1);
    let options = BrokerTransportOptions {
        global_keyprefix: world.prefix.clone(),
        ..BrokerTransportOptions::default()
    };
    let restricted = RedisTransport::new(&url, &options).unwrap();
    let mut held = restricted.take(&queues(), 1).await.unwrap();
    for _ in 0..2 {
        let refused = restricted.requeue(held, QueueEnd::Front).await;
        held = refused.expect_err("it may not remove").deliveries;
        assert_eq!(world.census().await, (0, 1, 1, 0));
    }
    let mut user = redis::cmd("ACL");
    user.arg(&["DELUSER", &name]);
    user.query_async::<()>(&mut world.redis).await.unwrap();
}

#[tokio::test]
async fn a_renewed_claim_is_not_restored_and_one_that_is_not_is() {
    let timeout = Duration::from_millis(500);
    let mut world = World::with(|options| options.visibility_timeout = timeout).await;
    world.publish(2).await;
    let taken = world.take(2).await;
    let kept = taken[0].tag().to_owned();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    let mut restored = 0;
    while restored == 0 {
        assert!(std::time::Instant::now() < deadline, "nothing was restored");
        assert!(
            world
                .transport
                .renew(std::slice::from_ref(&kept))
                .await
                .unwrap()
                .is_empty()
        );
        restored = world.transport.restore_expired().await.unwrap();
    }
    assert_eq!((restored, world.census().await), (1, (1, 1, 1, 0)));
    let lost = world
        .transport
        .renew(&[taken[1].tag().to_owned()])
        .await
        .unwrap();
    assert_eq!(lost, [taken[1].tag()], "the holder is told");
    // What was taken over is not settled twice.
    assert_eq!(
        world
            .transport
            .requeue(taken, QueueEnd::Front)
            .await
            .unwrap(),
        1
    );
    assert_eq!(world.census().await, (2, 0, 0, 0));
}

#[tokio::test]
async fn a_worker_killed_while_it_restores_holds_up_the_others_for_seconds_only() {
    let mut world = World::with(|options| options.visibility_timeout = Duration::ZERO).await;
    world.publish(1).await;
    world.take(1).await;
    assert!(
        world
            .transport
            .lock(&world.key("unacked_mutex"), "a dead worker")
            .await
            .unwrap()
    );
    assert_eq!(world.transport.restore_expired().await.unwrap(), 0);
    let left_ms: i64 = world.run("PTTL", "unacked_mutex", &[]).await;
    assert!((1..=10_000).contains(&left_ms), "{left_ms}");
    // As if that time had passed.
    world.run::<()>("DEL", "unacked_mutex", &[]).await;
    assert_eq!(world.transport.restore_expired().await.unwrap(), 1);
}

#[tokio::test]
async fn what_python_has_taken_is_restored_by_its_binding() {
    let mut world = World::with(|options| options.visibility_timeout = Duration::ZERO).await;
    world.transport.declare("q").await.unwrap();
    let record = format!(r#"[{}, "q", "q"]"#, envelope(1));
    world
        .run::<()>("HSET", "unacked", &["their-tag", &record])
        .await;
    world
        .run::<()>("ZADD", "unacked_index", &["1", "their-tag"])
        .await;
    assert_eq!(world.transport.restore_expired().await.unwrap(), 1);
    assert_eq!(world.census().await, (1, 0, 0, 0));
}

#[tokio::test]
async fn rubbish_among_the_held_stops_no_restore() {
    let mut world = World::with(|options| options.visibility_timeout = Duration::ZERO).await;
    world.publish(1).await;
    world.take(1).await;
    world
        .run::<()>("HSET", "unacked", &["broken", "{no json"])
        .await;
    world
        .run::<()>("ZADD", "unacked_index", &["1", "broken"])
        .await;
    world
        .run::<()>("ZADD", "unacked_index", &["1", "an index entry alone"])
        .await;
    assert_eq!(world.transport.restore_expired().await.unwrap(), 1);
    assert_eq!(world.census().await, (1, 1, 1, 0));
}

#[tokio::test]
async fn much_rubbish_hides_no_message_and_the_order_is_kept() {
    let mut world = World::with(|options| options.visibility_timeout = Duration::ZERO).await;
    world.publish(250).await;
    world.take(250).await;
    for number in 0..120 {
        let tag = format!("broken-{number}");
        world
            .run::<()>("HSET", "unacked", &[&tag, "{no json"])
            .await;
        world.run::<()>("ZADD", "unacked_index", &["1", &tag]).await;
    }
    assert_eq!(world.transport.restore_expired().await.unwrap(), 250);
    assert_eq!(world.census().await, (250, 120, 120, 0));
    let taken = world.take(250).await;
    for (id, delivery) in taken.iter().enumerate() {
        let id = format!(r#""id": "{id}""#);
        let raw = String::from_utf8_lossy(delivery.raw()).into_owned();
        assert!(raw.contains(&id), "{id} in {raw}");
    }
}

#[tokio::test]
async fn a_worker_that_stands_down_wakes_the_next_one() {
    let world = World::new().await;
    let other = RedisTransport::new(&broker_url(), &world.options).unwrap();
    let queues = queues();
    // They have heard of each other; the first one to wait watches.
    for transport in [&world.transport, &other, &world.transport] {
        transport.beat().await.unwrap();
        assert!(transport.take(&queues, 1).await.unwrap().is_empty());
    }
    tokio::join!(world.transport.woken(&queues), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.publish(2).await;
    });
    let waiting = std::time::Instant::now();
    tokio::join!(other.woken(&queues), async {
        assert_eq!(world.take(1).await.len(), 1);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(world.transport.stand_down(&queues).await.unwrap());
    });
    // Without being called it would look after five seconds.
    assert!(
        waiting.elapsed() < Duration::from_secs(3),
        "{:?}",
        waiting.elapsed()
    );
    assert_eq!(other.take(&queues, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn workers_with_other_queues_watch_their_own() {
    let world = World::new().await;
    let other = RedisTransport::new(&broker_url(), &world.options).unwrap();
    let others_queues = ["other".to_owned()];
    for _ in 0..2 {
        world.transport.beat().await.unwrap();
        other.beat().await.unwrap();
    }
    // Each is the lookout of its own queues.
    world.transport.woken(&queues()).await;
    other.woken(&others_queues).await;
    assert!(other.take(&others_queues, 1).await.unwrap().is_empty());
    let waiting = std::time::Instant::now();
    tokio::join!(other.woken(&others_queues), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let envelope = envelope(0);
        let pushed = world.transport.publish("other", 0, &envelope);
        pushed.await.unwrap();
    });
    assert!(
        waiting.elapsed() < Duration::from_secs(2),
        "{:?}",
        waiting.elapsed()
    );
    assert_eq!(other.take(&others_queues, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_worker_in_the_place_of_a_dead_lookout_is_up_before_that_ones_lease_ends() {
    let world = World::new().await;
    let dead = RedisTransport::new(&broker_url(), &world.options).unwrap();
    for _ in 0..2 {
        dead.beat().await.unwrap();
        world.transport.beat().await.unwrap();
    }
    assert!(dead.take(&queues(), 1).await.unwrap().is_empty());
    dead.woken(&queues()).await;
    drop(dead);
    assert!(world.take(1).await.is_empty());
    let waiting = std::time::Instant::now();
    tokio::join!(async { world.transport.woken(&queues()).await }, async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.publish(1).await;
    });
    let waited = waiting.elapsed();
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    assert_eq!(world.take(1).await.len(), 1);
}

#[tokio::test]
async fn without_tracking_a_push_wakes_too() {
    let mut world = World::new().await;
    let name = Uuid::new_v4().simple().to_string();
    let mut user = redis::cmd("ACL");
    user.arg(&[
        "SETUSER",
        &name,
        "on",
        ">secret",
        "~*",
        "&*",
        "+@all",
        "-client|tracking",
    ]);
    user.query_async::<()>(&mut world.redis).await.unwrap();
    let url = broker_url().replacen("redis://", &format!("redis://{name}:secret@"), 1);
    let transport = RedisTransport::new(&url, &world.options).unwrap();
    assert!(transport.take(&queues(), 1).await.unwrap().is_empty());
    let (queues, waiting) = (queues(), std::time::Instant::now());
    tokio::join!(transport.woken(&queues), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.publish(1).await;
    });
    assert!(
        waiting.elapsed() < Duration::from_millis(900),
        "{:?}",
        waiting.elapsed()
    );
    assert_eq!(transport.take(&queues, 1).await.unwrap().len(), 1);
    let mut gone = redis::cmd("ACL");
    gone.arg(&["DELUSER", &name]);
    gone.query_async::<()>(&mut world.redis).await.unwrap();
}

#[tokio::test]
async fn claims_whose_reply_was_lost_are_found_again() {
    let mut world = World::new().await;
    let (url, way) = proxy().await;
    let options = BrokerTransportOptions {
        global_keyprefix: world.prefix.clone(),
        ..BrokerTransportOptions::default()
    };
    let behind_proxy = RedisTransport::new(&url, &options).unwrap();
    assert!(behind_proxy.take(&queues(), 1).await.unwrap().is_empty());
    world.publish(5).await;
    way.cut.store(true, Ordering::SeqCst);
    assert!(behind_proxy.take(&queues(), 3).await.is_err());
    assert_eq!(world.census().await, (2, 3, 3, 0), "the server had done it");

    way.cut.store(false, Ordering::SeqCst);
    assert!(
        behind_proxy.claims().await.unwrap().is_empty(),
        "not handed out so far"
    );
    let found = behind_proxy.take(&queues(), 5).await.unwrap();
    let mut tags: Vec<_> = found.iter().map(super::Delivery::tag).collect();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!((tags.len(), world.census().await), (5, (0, 5, 5, 0)));
    assert_eq!(behind_proxy.claims().await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_silent_connection_is_given_up() {
    let world = World::new().await;
    let (url, way) = proxy().await;
    let behind_proxy = RedisTransport::new(&url, &world.options).unwrap();
    assert!(behind_proxy.take(&queues(), 1).await.unwrap().is_empty());
    world.publish(1).await;
    // Nobody hangs up: only a deadline tells.
    way.mute.store(true, Ordering::SeqCst);
    let queues = queues();
    let taking = behind_proxy.take(&queues, 1);
    let given_up = tokio::time::timeout(Duration::from_secs(15), taking);
    assert!(matches!(given_up.await, Ok(Err(Error::Connection { .. }))));
    // The old connection stays silent for ever; a new one is not.
    way.mute.store(false, Ordering::SeqCst);
    assert_eq!(behind_proxy.take(&queues, 1).await.unwrap().len(), 1);
}

/// A way to the server that can be disturbed.
#[derive(Debug, Default)]
struct Way {
    /// Replies are swallowed, and the connection ends.
    cut: AtomicBool,
    /// Replies are swallowed, and nothing more comes on that connection.
    mute: AtomicBool,
}

async fn proxy() -> (String, Arc<Way>) {
    let url = url::Url::parse(&broker_url()).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(6379));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let here = format!("redis://{}{}", listener.local_addr().unwrap(), url.path());
    let way = Arc::new(Way::default());
    let told = Arc::clone(&way);
    let serve = async move {
        let connections = TaskTracker::new();
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(&server).await.unwrap();
            connections.spawn(forward(client, upstream, Arc::clone(&told)));
        }
    };
    TaskTracker::new().spawn(serve);
    (here, way)
}

async fn forward(client: TcpStream, server: TcpStream, way: Arc<Way>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let replies = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if way.cut.load(Ordering::SeqCst) {
                return;
            }
            if way.mute.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            to_client.write_all(&buffer[..count]).await.ok();
        }
    };
    tokio::select! {
        _ = requests => {}
        () = replies => {}
    }
}
