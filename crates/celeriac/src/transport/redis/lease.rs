//! Who owns what is taken, as the owner says it: renewing our claims, and saying that we live.
//!
//! A renewed claim has the server's present as its score, so that Python's restore leaves it alone; everything goes by
//! the server's clock, and a worker whose own clock is wrong harms nobody. Beside it each worker counts up a number of
//! its own in one hash. Whoever has watched a number stand still for long enough takes over what that worker held
//! (`restore`), long before the visibility timeout.
//!
//! Counterpart: none. kombu's worker neither renews nor says that it lives.

use std::collections::BTreeMap;
use std::sync::{LazyLock, PoisonError};

use redis::Script;

use super::{Error, RedisTransport};
use crate::transport::{Beats, next_step};

static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/renew.lua")));

/// Claims renewed by one call: about 1 ms of the server's time.
const RENEW_BATCH: usize = 1000;

impl RedisTransport {
    pub(super) async fn renew_claims(&self, tags: &[String]) -> Result<Vec<String>, Error> {
        let mut lost = Vec::new();
        for batch in tags.chunks(RENEW_BATCH) {
            let mut renew = RENEW.prepare_invoke();
            renew.arg(self.keys.unacked_index()).arg(batch);
            lost.extend(self.commands.ask::<Vec<String>>(&renew).await?);
        }
        Ok(lost)
    }

    pub(super) async fn say_alive(&self) -> Result<Beats, Error> {
        let worker = self.worker();
        let step = next_step();
        let mut pipe = redis::pipe();
        pipe.cmd("HINCRBY")
            .arg(self.keys.workers())
            .arg(&worker)
            .arg(step)
            .cmd("HGETALL")
            .arg(self.keys.workers());
        let answer = self.commands.ask_and_tell(&pipe).await?;
        let ((beat, mut all), connection): ((i64, BTreeMap<String, i64>), _) = answer;
        all.remove(&worker);
        self.post.meet(!all.is_empty());
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let last = claims.beat.replace(beat);
        Ok(Beats {
            is_unbroken: last.is_none_or(|last| beat == last + step),
            connection,
            others: all,
        })
    }

    pub(super) async fn say_goodbye(&self) -> Result<(), Error> {
        let has_doubtful = {
            let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            claims.has_doubtful()
        };
        if has_doubtful {
            return Ok(());
        }
        let mut remove = redis::cmd("HDEL");
        remove.arg(self.keys.workers()).arg(self.worker());
        self.commands.ask(&remove).await
    }
}
