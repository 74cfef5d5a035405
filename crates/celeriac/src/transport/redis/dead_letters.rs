//! `<queue>.dead`: a list of what nobody can run, newest first, and no longer than `dead_letters_max`.
//!
//! Each step is one script: a message is in its queue, in `unacked` or here, at every instant (promise M1), and bad ones
//! stop nobody (M5). The scripts make the records, so that a large message does not travel for it.
//!
//! Counterpart: none. Celery on Redis destroys what it cannot run.

use std::sync::LazyLock;

use redis::{Script, Value};

use super::{Delivery, Error, RedisTransport};
use crate::transport::dead_letter::{DeadLetter, record_head};

static BURY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/dead_record.lua"),
        include_str!("scripts/dead_letter.lua")
    ))
});
static BURY_WAITING: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/dead_record.lua"),
        include_str!("scripts/refusal.lua"),
        include_str!("scripts/dead_letter_waiting.lua")
    ))
});
static REPLAY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/replay.lua")));

/// How many ids of dead letters that fell off one line of the log names.
const NAMED_MAX: usize = 10;

impl RedisTransport {
    /// Sets aside what we hold. What was counted beside it, under its id, is forgotten.
    pub(super) async fn bury(
        &self,
        delivery: &Delivery,
        id: &str,
        reason: &str,
    ) -> Result<(), Error> {
        let queue = delivery.queue();
        let is_blank = |byte: &&u8| byte.is_ascii_whitespace();
        let blanks = delivery.raw().iter().take_while(is_blank).count();
        let mut bury = BURY.prepare_invoke();
        bury.arg(self.keys.unacked())
            .arg(self.keys.unacked_index())
            .arg(self.keys.started())
            .arg(self.keys.deaths())
            .arg(self.keys.unknown())
            .arg(delivery.tag())
            .arg(id)
            .arg(self.keys.dead(queue))
            .arg(record_head(queue, &self.node(), Some(delivery.raw())))
            .arg(reason)
            .arg(delivery.raw().len())
            .arg(blanks)
            .arg(self.options.dead_letters_max);
        let fallen: Vec<String> = self.commands.ask(&bury).await?;
        self.say_fallen(queue, &fallen);
        Ok(())
    }

    /// Sets aside the next entry of a list that must not be taken. A failure leaves it where it is, for the next take
    /// to find.
    pub(super) async fn bury_waiting(&self, list: &str, queue: &str) {
        let mut bury = BURY_WAITING.prepare_invoke();
        bury.arg(list)
            .arg(self.options.message_max_bytes)
            .arg(self.keys.dead(queue))
            .arg(record_head(queue, &self.node(), None))
            .arg(self.options.dead_letters_max);
        let moved = self.commands.ask::<Value>(&bury).await;
        match moved.map(redis::from_redis_value::<(String, usize, Vec<String>)>) {
            Ok(Ok((reason, bytes, fallen))) => {
                log::error!(
                    "Received invalid task message in queue {queue:?} ({bytes} bytes): {reason}. It is kept in {:?}.",
                    self.keys.dead(queue)
                );
                self.say_fallen(queue, &fallen);
            }
            // Another worker was there first.
            Ok(Err(_)) => {}
            Err(error) => log::warn!(
                "the next message of queue {queue:?} cannot be taken, and not be moved to {:?}: {error}",
                self.keys.dead(queue)
            ),
        }
    }

    pub(super) async fn count_dead(&self, queue: &str) -> Result<usize, Error> {
        let mut length = redis::cmd("LLEN");
        length.arg(self.keys.dead(queue));
        self.commands.ask(&length).await
    }

    /// Oldest first, `skip` of them left out.
    pub(super) async fn read_dead(
        &self,
        queue: &str,
        skip: usize,
        count: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let from_end = |place: usize| format!("-{place}");
        let mut read = redis::cmd("LRANGE");
        read.arg(self.keys.dead(queue))
            .arg(from_end(skip.saturating_add(count)))
            .arg(from_end(skip.saturating_add(1)));
        let records: Vec<Vec<u8>> = self.commands.ask(&read).await?;
        let letters = records.into_iter().rev().enumerate();
        Ok(letters
            .map(|(place, record)| DeadLetter::parse(queue, skip + place, record))
            .collect())
    }

    /// Puts a message back into its queue, where it is the last one. `false`: it was gone.
    pub(super) async fn push_dead(
        &self,
        letter: &DeadLetter,
        priority: i64,
        message: &[u8],
    ) -> Result<bool, Error> {
        let mut replay = REPLAY.prepare_invoke();
        replay
            .arg(self.keys.dead(&letter.queue))
            .arg(&letter.record)
            .arg(self.keys.list(&letter.queue, priority))
            .arg(message);
        self.commands.ask(&replay).await
    }

    /// Destroys a message. `false`: it was gone.
    pub(super) async fn drop_dead(&self, letter: &DeadLetter) -> Result<bool, Error> {
        let mut remove = redis::cmd("LREM");
        remove
            .arg(self.keys.dead(&letter.queue))
            .arg(-1)
            .arg(&letter.record);
        self.commands.ask(&remove).await
    }

    fn say_fallen(&self, queue: &str, ids: &[String]) {
        if ids.is_empty() {
            return;
        }
        let named = ids.get(..NAMED_MAX).unwrap_or(ids).join(", ");
        let more = if ids.len() > NAMED_MAX { ", …" } else { "" };
        log::warn!(
            "{:?} keeps {} messages (dead_letters_max): the {} oldest fell off ({named}{more})",
            self.keys.dead(queue),
            self.options.dead_letters_max,
            ids.len()
        );
    }
}
