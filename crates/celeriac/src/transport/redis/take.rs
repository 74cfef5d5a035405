//! Taking messages: from the lists into `unacked`, in one step on the server.
//!
//! The claim tags are made here, a prefix of this transport and a counter, so that claims whose reply
//! was lost on the way can be asked for by name.
//!
//! Counterpart: `Channel._brpop_read` and `QoS.append` in `kombu/transport/redis.py`.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, LazyLock, PoisonError};
use std::time::{Duration, Instant};

use redis::{FromRedisValue, Script, ScriptInvocation, Value};
use uuid::Uuid;

use super::forms::Forms;
use super::{Delivery, Error, RedisTransport};
use crate::app::settings::QueueOrder;
use crate::transport::MAX_TAKE;
use crate::transport::order::Cycle;

static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/refusal.lua"),
        include_str!("scripts/take.lua")
    ))
});

/// A take whose reply was lost may be done by the server for so long: it was on its way.
const LATE_MAX: Duration = Duration::from_secs(60);

/// How often its claims are asked for meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The claims that this transport makes.
#[derive(Debug)]
pub(super) struct Claims {
    /// Who we are: what every claim of ours begins with.
    pub(super) worker: String,
    /// How often we have said that we live, as the server counted it last.
    pub(super) beat: Option<i64>,
    next: u64,
    /// While a take is on its way: the first number that it may bring.
    on_the_way: Option<u64>,
    /// Takes without a reply.
    doubtful: Vec<Doubtful>,
    /// Of the messages that the server has parsed.
    forms: Forms,
    cycle: Cycle,
    /// The next take, made before it is known that there is something to take.
    prepared: Option<Take>,
    /// How much the last take had room for.
    room: usize,
}

/// A call of the script, and what its answer is read with.
#[derive(Debug)]
struct Take {
    /// As they were asked for.
    queues: Vec<String>,
    room: usize,
    /// Of the claims.
    numbers: Range<u64>,
    /// As they are looked at.
    ordered: Vec<String>,
    /// As the script numbers them: of each step, one for each queue.
    lists: Vec<String>,
    prefix: String,
    call: ScriptInvocation<'static>,
}

impl Take {
    /// A list, and its queue.
    fn list(&self, index: usize) -> Result<(&str, &str), Error> {
        let index = index.wrapping_sub(1);
        let list = self.lists.get(index).ok_or_else(unexpected)?;
        Ok((list, &self.ordered[index % self.ordered.len()]))
    }
}

/// Numbers that a take may have used.
#[derive(Debug)]
struct Doubtful {
    numbers: Vec<u64>,
    since: Instant,
    asked: Option<Instant>,
    /// It may still be on its way to the server.
    may_come_late: bool,
}

impl Doubtful {
    fn is_due(&self) -> bool {
        self.asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN)
    }

    fn is_open(&self) -> bool {
        self.may_come_late && self.since.elapsed() < LATE_MAX
    }
}

impl Claims {
    pub(super) fn new(strategy: QueueOrder) -> Self {
        Self {
            worker: Uuid::new_v4().to_string(),
            beat: None,
            // Not from 0: a worker that is started again under its old name may have left claims behind.
            next: rand::random_range(0..1 << 38),
            on_the_way: None,
            doubtful: Vec::new(),
            forms: Forms::default(),
            cycle: Cycle::new(strategy),
            prepared: None,
            room: 0,
        }
    }

    pub(super) fn rename(&mut self, worker: Uuid) {
        self.worker = worker.to_string();
        self.prepared = None;
    }

    /// Whether there may be claims of ours that we do not know.
    pub(super) fn has_doubtful(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// Whether a claim of ours has been handed out, as far as a take knows.
    pub(super) fn is_answered(&self, tag: &str) -> bool {
        let number = tag.strip_prefix(&self.worker);
        let number = number.and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        let is_doubtful = |number| {
            let mut doubtful = self.doubtful.iter();
            doubtful.any(|one| one.numbers.contains(&number))
        };
        number.is_some_and(|number| {
            self.on_the_way.is_none_or(|first| number < first) && !is_doubtful(number)
        })
    }

    fn tag(&self, number: u64) -> String {
        claim_tag(&format!("{}-", self.worker), number)
    }

    /// Of those of takes whose reply was lost, of the prepared one, and of the next.
    fn first_open(&self) -> u64 {
        let doubtful = self.doubtful.iter().flat_map(|one| &one.numbers);
        let prepared = self.prepared.iter().map(|take| &take.numbers.start);
        let open = doubtful.chain(prepared).min();
        open.copied().unwrap_or(self.next)
    }

    fn reserve(&mut self, count: usize) -> Range<u64> {
        let first = self.next;
        self.next += count as u64;
        first..self.next
    }
}

impl RedisTransport {
    pub(super) async fn take_messages(
        &self,
        queues: &[String],
        max: usize,
    ) -> Result<Vec<Delivery>, Error> {
        {
            let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            claims.on_the_way = Some(claims.first_open());
        }
        let taken = self.recover_and_take(queues, max).await;
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.on_the_way = None;
        taken
    }

    async fn recover_and_take(
        &self,
        queues: &[String],
        max: usize,
    ) -> Result<Vec<Delivery>, Error> {
        let mut deliveries = self.recover_doubtful().await?;
        let room = max.saturating_sub(deliveries.len()).min(MAX_TAKE);
        if room == 0 || queues.is_empty() {
            return Ok(deliveries);
        }
        let take = {
            let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            claims.room = room;
            let prepared = claims.prepared.take();
            prepared
                .filter(|take| take.room == room && take.queues == queues)
                .unwrap_or_else(|| self.next_take(&mut claims, queues, room))
        };
        match self.run_take(&take).await {
            Ok(taken) => deliveries.extend(taken),
            Err(error) => {
                // The script may have run although its reply did not come, and may have taken from one list before
                // another one has refused.
                let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
                claims.doubtful.push(Doubtful {
                    numbers: take.numbers.collect(),
                    since: Instant::now(),
                    asked: None,
                    may_come_late: error.is_connection(),
                });
                drop(claims);
                if deliveries.is_empty() {
                    return Err(error);
                }
            }
        }
        Ok(deliveries)
    }

    /// Makes the next take while there is time: it will most likely have as much room as the last one.
    pub(super) fn prepare_take(&self, queues: &[String]) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.prepared.is_none() && claims.room > 0 {
            let room = claims.room;
            claims.prepared = Some(self.next_take(&mut claims, queues, room));
        }
    }

    fn next_take(&self, claims: &mut Claims, queues: &[String], room: usize) -> Take {
        let numbers = claims.reserve(room);
        let ordered = claims.cycle.next(queues);
        let lists = self.keys.lists(&ordered);
        let prefix = format!("{}-", claims.worker);
        let mut call = TAKE.prepare_invoke();
        for list in &lists {
            call.key(list);
        }
        call.arg(self.keys.unacked())
            .arg(self.keys.unacked_index())
            .arg(room)
            .arg(&prefix)
            .arg(numbers.start)
            .arg(self.options.message_max_bytes)
            .arg(queues.len());
        for queue in &ordered {
            call.arg(record_tail(queue));
        }
        for parts in claims.forms.parts() {
            call.arg(parts.len()).arg(parts);
        }
        Take {
            queues: queues.to_vec(),
            room,
            numbers,
            ordered,
            lists,
            prefix,
            call,
        }
    }

    async fn run_take(&self, take: &Take) -> Result<Vec<Delivery>, Error> {
        let mut reply = self.taker.ask::<Vec<Value>>(&take.call).await?.into_iter();

        let foreign: usize = value(reply.next())?;
        let parsed: Vec<usize> = value(reply.next())?;
        let mut deliveries = Vec::with_capacity(reply.len() / 2);
        let mut last: Option<(usize, Arc<str>)> = None;
        let mut number = take.numbers.start;
        while let Some(index) = reply.next() {
            let index: usize = value(Some(index))?;
            let raw: Vec<u8> = value(reply.next())?;
            let queue = match &last {
                Some((same, queue)) if *same == index => Arc::clone(queue),
                _ => Arc::from(take.list(index)?.1),
            };
            last = Some((index, Arc::clone(&queue)));
            deliveries.push(Delivery::new(claim_tag(&take.prefix, number), queue, raw));
            number += 1;
        }
        if !parsed.is_empty() {
            let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            for delivery in parsed
                .iter()
                .filter_map(|number| deliveries.get(number - 1))
            {
                claims.forms.learn(delivery.raw());
            }
        }
        if foreign > 0 {
            let (list, queue) = take.list(foreign)?;
            self.bury_waiting(list, queue).await;
        }
        Ok(deliveries)
    }

    /// Each record is the message between two parts that we have written.
    pub(super) async fn read_claimed(&self, deliveries: &mut [Delivery]) -> Result<(), Error> {
        for batch in deliveries.chunks_mut(MAX_TAKE) {
            let tags: Vec<&str> = batch.iter().map(Delivery::tag).collect();
            let mut read = redis::cmd("HMGET");
            read.arg(self.keys.unacked()).arg(tags);
            let records: Vec<Option<Vec<u8>>> = self.commands.ask(&read).await?;
            for (delivery, record) in batch.iter_mut().zip(records) {
                let tail = record_tail(delivery.queue());
                let message = record.as_deref().and_then(|record| {
                    let message = record.strip_prefix(b"[")?;
                    message.strip_suffix(tail.as_bytes())
                });
                if let Some(message) = message {
                    delivery.fill(message.to_vec());
                }
            }
        }
        Ok(())
    }

    /// Asks for the claims of takes whose reply never came.
    async fn recover_doubtful(&self) -> Result<Vec<Delivery>, Error> {
        let tags: Vec<String> = {
            let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            let mut numbers = Vec::new();
            for doubtful in claims.doubtful.iter_mut().filter(|one| one.is_due()) {
                doubtful.asked = Some(Instant::now());
                numbers.extend_from_slice(&doubtful.numbers);
            }
            numbers
                .into_iter()
                .map(|number| claims.tag(number))
                .collect()
        };
        if tags.is_empty() {
            return Ok(Vec::new());
        }
        let mut find = redis::cmd("HMGET");
        find.arg(self.keys.unacked()).arg(&tags);
        let records: Vec<Option<Vec<u8>>> = match self.commands.ask(&find).await {
            Ok(records) => records,
            Err(error) => {
                let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
                claims.doubtful.iter_mut().for_each(|one| one.asked = None);
                return Err(error);
            }
        };
        let found = tags.into_iter().zip(records);
        let found: Vec<Delivery> = found
            .filter_map(|(tag, record)| {
                let record = super::restore::Record::parse(&record?)?;
                Some(Delivery::new(tag, record.routing_key, record.message))
            })
            .collect();
        let known: HashSet<&str> = found.iter().map(Delivery::tag).collect();
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let mut doubtful = std::mem::take(&mut claims.doubtful);
        for one in &mut doubtful {
            one.numbers
                .retain(|number| !known.contains(claims.tag(*number).as_str()));
        }
        doubtful.retain(|one| one.asked.is_none() || one.is_open());
        claims.doubtful = doubtful;
        Ok(found)
    }
}

/// As the script writes it: equal scores sort by text, so the number has a fixed width. It is as wide as makes the tag
/// longer than `zset-max-listpack-value` (64): an index of few entries would be a list otherwise, in which Redis reads
/// every score for each that is added, which takes longer than all else of a take.
fn claim_tag(prefix: &str, number: u64) -> String {
    format!("{prefix}{number:028}")
}

/// The end of a record in `unacked`: no exchange, and the queue as the routing key, which every
/// worker's restore resolves to that very queue.
pub(super) fn record_tail(queue: &str) -> String {
    format!(", \"\", {}]", serde_json::Value::from(queue))
}

fn value<T: FromRedisValue>(value: Option<Value>) -> Result<T, Error> {
    value
        .and_then(|value| redis::from_redis_value(value).ok())
        .ok_or_else(unexpected)
}

fn unexpected() -> Error {
    Error::Connection {
        reason: "the take script answered in an unexpected form".to_owned(),
    }
}
