//! Settling what we hold: ack, requeue. (The third way is in `dead_letters`.)
//!
//! Counterpart: `QoS.ack`, `QoS.reject` and `QoS.restore_by_tag` in `kombu/transport/redis.py`.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use redis::{Script, ScriptInvocation};

use super::{Delivery, Error, QueueEnd, RedisTransport};
use crate::transport::redelivered::redelivered;

static REQUEUE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/requeue.lua")));

static UNKNOWN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/unknown.lua")));

/// For how long it is remembered that nobody knew a message, after the last time.
const UNKNOWN_REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// How many such messages are counted; beyond that the counts start afresh.
const UNKNOWN_COUNTED: usize = 100_000;

/// So many messages are worth a thread for each core.
const SHARED_OUT: usize = 2000;

/// Scripts sent before the first is answered.
const BATCHES_ON_THE_WAY: usize = 16;

/// Messages a script gives back at once: about 2 ms of the server's time.
const REQUEUE_BATCH: usize = 100;

impl RedisTransport {
    /// First the record, then the index: what is left when only half was done is an index entry
    /// without a record, which every worker's restore cleans up.
    ///
    /// Each record by itself, because each caller must hear whether its message was still ours.
    pub(super) async fn remove_claims(
        &self,
        deliveries: &[Delivery],
    ) -> Result<Vec<Arc<str>>, Error> {
        let tags: Vec<&str> = deliveries.iter().map(Delivery::tag).collect();
        let unacked = self.keys.unacked();
        let mut pipe = redis::pipe();
        for tag in &tags {
            pipe.cmd("HDEL").arg(&unacked).arg(tag);
        }
        pipe.cmd("ZREM")
            .arg(self.keys.unacked_index())
            .arg(&tags)
            .ignore();
        let marked = |delivery: &&Delivery| delivery.is_started;
        let marks: Vec<&str> = deliveries
            .iter()
            .filter(marked)
            .map(Delivery::tag)
            .collect();
        if !marks.is_empty() {
            pipe.cmd("HDEL")
                .arg(self.keys.started())
                .arg(marks)
                .ignore();
        }
        let removed: Vec<usize> = self.commands.ask(&pipe).await?;
        let lost = deliveries.iter().zip(removed);
        let lost = lost.filter(|(_, removed)| *removed == 0);
        Ok(lost.map(|(delivery, _)| delivery.shared_tag()).collect())
    }

    pub(super) async fn push_back(
        &self,
        deliveries: &[Delivery],
        end: QueueEnd,
    ) -> Result<usize, Error> {
        let (command, ordered): (_, Vec<&Delivery>) = match end {
            // The last one pushed is the next one taken, so the oldest goes last.
            QueueEnd::Front => ("RPUSH", deliveries.iter().rev().collect()),
            QueueEnd::Back => ("LPUSH", deliveries.iter().collect()),
        };
        let calls = self.calls_to_push(command, &ordered);
        let mut pushed = 0;
        // Some are on the way while the server does the first; they are sent, and done, in this order.
        let mut on_the_way = FuturesOrdered::new();
        for call in &calls {
            on_the_way.push_back(self.commands.ask::<usize>(call));
            if on_the_way.len() >= BATCHES_ON_THE_WAY
                && let Some(count) = on_the_way.next().await
            {
                pushed += count?;
            }
        }
        while let Some(count) = on_the_way.next().await {
            pushed += count?;
        }
        Ok(pushed)
    }

    /// Writing the messages anew takes longer than pushing them: many are shared out among the cores.
    fn calls_to_push(
        &self,
        command: &str,
        ordered: &[&Delivery],
    ) -> Vec<ScriptInvocation<'static>> {
        let write = |batches: &[&[&Delivery]]| -> Vec<ScriptInvocation<'static>> {
            let calls = batches
                .iter()
                .map(|batch| self.call_to_push(command, batch));
            calls.collect()
        };
        let batches: Vec<&[&Delivery]> = ordered.chunks(REQUEUE_BATCH).collect();
        if ordered.len() < SHARED_OUT {
            return write(&batches);
        }
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            let shares = batches.chunks(batches.len().div_ceil(cores));
            let threads: Vec<_> = shares.map(|share| scope.spawn(|| write(share))).collect();
            let calls = threads.into_iter().map(thread::ScopedJoinHandle::join);
            calls
                .flat_map(|calls| calls.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        })
    }

    fn call_to_push(&self, command: &str, batch: &[&Delivery]) -> ScriptInvocation<'static> {
        let mut call = REQUEUE.prepare_invoke();
        call.arg(self.keys.unacked())
            .arg(self.keys.unacked_index())
            .arg(self.keys.started())
            .arg(command);
        for delivery in batch {
            let again = redelivered(delivery.raw());
            call.arg(delivery.tag())
                .arg(self.keys.list(delivery.queue(), again.priority))
                .arg(again.message);
        }
        call
    }

    /// Writes down that a message runs now, and is acknowledged only afterwards.
    pub(super) async fn write_started(
        &self,
        delivery: &mut Delivery,
        id: &str,
    ) -> Result<(), Error> {
        // Also where the answer is lost: the mark may be there.
        delivery.is_started = true;
        let mut mark = redis::cmd("HSET");
        mark.arg(self.keys.started()).arg(delivery.tag()).arg(id);
        self.commands.ask(&mark).await
    }

    pub(super) async fn forget_deaths(&self, id: &str) -> Result<(), Error> {
        let mut forget = redis::cmd("HDEL");
        forget.arg(self.keys.deaths()).arg(id);
        self.commands.ask(&forget).await
    }

    pub(super) async fn read_deaths(&self, ids: &[&str]) -> Result<Vec<u32>, Error> {
        let mut read = redis::cmd("HMGET");
        read.arg(self.keys.deaths()).arg(ids);
        let deaths: Vec<Option<u32>> = self.commands.ask(&read).await?;
        Ok(deaths.into_iter().map(Option::unwrap_or_default).collect())
    }

    pub(super) async fn count_unknown(&self, id: &str) -> Result<(u32, Duration), Error> {
        let mut count = UNKNOWN.prepare_invoke();
        count
            .arg(self.keys.unknown())
            .arg(id)
            .arg(UNKNOWN_REMEMBERED.as_secs())
            .arg(UNKNOWN_COUNTED);
        let (hands, seconds) = self.commands.ask(&count).await?;
        Ok((hands, Duration::from_secs(seconds)))
    }
}
