//! Chords in Redis: Celery's keys behind `celery-taskset-meta-<group id>`, each step one script.
//!
//! | | |
//! | --- | --- |
//! | (nothing) | the header's or the group's saved result |
//! | `.j` | the parts: a sorted set by place in the header, or a list |
//! | `.t` `.s` | what was added to the size; the size |
//! | `.d` | `<task id>:<place>` of each part that was counted |
//! | `.c` | the token of whoever starts the body, or `done` |
//! | `.celeriac-added` | the ids of tasks that were added: ours |
//!
//! Counterpart: `celery/backends/redis.py` @ 5.7.0 (`CHORD_PART_RETURN_LUA`, `CHORD_CLAIM_EXTEND_LUA`, `CHORD_CLEANUP_LUA`).

use std::sync::LazyLock;

use async_trait::async_trait;
use redis::Script;
use serde_json::Value;

use super::super::chord::{
    Chords, Claim, Counted, Part, Parts, Start, read_group, read_header, read_part, write_group,
    write_part,
};
use super::RedisBackend;
use crate::transport::{Error, Slot};

static START: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/chord_start.lua")));
static PART: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/chord_part.lua")));
static EXTEND: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/chord_extend.lua")));
static DONE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/chord_done.lua")));
static SEND: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/chord_send.lua")));
static FAILED: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/chord_failed.lua")));
static GROW: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/chord_grow.lua")));
static SAVE_GROUP: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/save_group.lua")));

/// The place of a part that has none: behind all others.
const NO_PLACE: &str = "+inf";

/// Messages that go in one step: a script holds up all other clients of the server.
const POSTS_MAX: usize = 1000;

/// Bytes of them.
const POSTED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Parts that are read at once: at first, and at most.
const READ_AT_ONCE: [usize; 2] = [100, 1000];

/// Bytes that are to be read at once, by the size of those read before.
const READ_BYTES: usize = 8 * 1024 * 1024;

#[async_trait]
impl Chords for RedisBackend {
    async fn chord_start(
        &self,
        group: &str,
        size: usize,
        group_result: Option<&Value>,
        is_again: bool,
    ) -> Result<Start, Error> {
        let document = group_result.map(|tuple| write_group(&self.documents, tuple));
        let document = document.transpose()?.unwrap_or_default();
        let mut call = self.call(&START, group, &[".c", ".s", ""]);
        call.arg(size).arg(self.rules.chord_secs);
        call.arg(document).arg(u8::from(is_again));
        let found: String = self.connection.ask(&call).await?;
        Ok(match &*found {
            "running" => Start::Running,
            "over" => Start::Over,
            _ => Start::Started,
        })
    }

    async fn chord_part(&self, part: &Part<'_>, token: &str) -> Result<Counted, Error> {
        let place = part.index.map(|index| index.to_string());
        let keys = [".j", ".t", ".s", ".d", "", ".c", ".celeriac-early"];
        let mut call = self.call(&PART, part.group, &keys);
        call.arg(part.task_id)
            .arg(write_part(&self.documents, part))
            .arg(u8::from(self.rules.is_ordered))
            .arg(place.as_deref().unwrap_or(NO_PLACE))
            .arg(self.rules.chord_secs)
            .arg(self.rules.header_secs)
            .arg(self.rules.claim_secs)
            .arg(token)
            .arg(u8::from(part.is_again))
            .arg(self.rules.done_secs);
        let (count, added, size, is_claimed, left_ms): Answer = self.connection.ask(&call).await?;
        let is_complete = size.is_some_and(|size| count == size + added.unwrap_or(0));
        Ok(match (count, is_complete, is_claimed) {
            (-1, ..) => Counted::Over,
            (_, false, _) => Counted::Waiting,
            (_, true, true) => Counted::claimed(token),
            (_, true, false) => Counted::held(u64::try_from(left_ms).ok()),
        })
    }

    async fn chord_results(&self, group: &str) -> Result<Parts, Error> {
        if let Some(bytes) = self.saved(group).await? {
            let key = self.group_key(group, "");
            return Ok(read_header(&self.documents, &key, &bytes));
        }
        // Where one came in between, those behind it have moved.
        loop {
            if let Some(parts) = self.parts(group).await? {
                return Ok(parts);
            }
        }
    }

    async fn chord_extend(&self, group: &str, claim: &Claim) -> Result<bool, Error> {
        let mut call = self.call(&EXTEND, group, &[".c", ".s"]);
        call.arg(&claim.token).arg(self.rules.publish_secs);
        self.connection.ask(&call).await
    }

    async fn chord_done(&self, group: &str, claim: &Claim) -> Result<bool, Error> {
        let keys = [".c", ".j", ".t", ".s", ".d", ".celeriac-added"];
        let mut call = self.call(&DONE, group, &keys);
        call.arg(&claim.token).arg(self.rules.done_secs);
        self.connection.ask(&call).await
    }

    async fn chord_send(
        &self,
        group: &str,
        claim: &Claim,
        posts: &[(Slot, String)],
    ) -> Result<Option<bool>, Error> {
        let is_ours = |slot: &Slot| Some(slot.server) == self.server;
        let size: usize = posts.iter().map(|(_, envelope)| envelope.len()).sum();
        let is_small = posts.len() <= POSTS_MAX && size <= POSTED_BYTES_MAX;
        if !is_small || !posts.iter().all(|(slot, _)| is_ours(slot)) {
            return Ok(None);
        }
        let keys = [".c", ".j", ".t", ".s", ".d", ".celeriac-added"];
        let mut call = self.call(&SEND, group, &keys);
        call.arg(&claim.token).arg(self.rules.done_secs);
        call.arg(self.database);
        for (slot, envelope) in posts {
            call.arg(slot.database).arg(&slot.list).arg(envelope);
        }
        self.connection.ask(&call).await.map(Some)
    }

    async fn chord_failed(&self, group: &str, claim: &Claim) -> Result<(), Error> {
        let mut call = self.call(&FAILED, group, &[".c", ".s"]);
        call.arg(&claim.token).arg(self.rules.done_secs);
        self.connection.ask(&call).await
    }

    async fn chord_grow(&self, group: &str, task_id: &str) -> Result<(), Error> {
        let mut call = self.call(&GROW, group, &[".c", ".t", ".celeriac-added"]);
        call.arg(task_id).arg(self.rules.chord_secs);
        self.connection.ask(&call).await
    }

    async fn save_group(&self, group: &str, group_result: &Value) -> Result<(), Error> {
        let mut call = self.call(&SAVE_GROUP, group, &[""]);
        call.arg(write_group(&self.documents, group_result)?)
            .arg(self.rules.group_secs);
        self.connection.ask(&call).await
    }

    async fn restore_group(&self, group: &str) -> Result<Option<Value>, Error> {
        let saved = self.saved(group).await?;
        let key = self.group_key(group, "");
        let read = saved.map(|bytes| read_group(&self.documents, &key, &bytes));
        read.transpose()
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let key = self.group_key(group, "");
        self.connection.ask(redis::cmd("DEL").arg(&key)).await
    }
}

/// See `scripts/chord_part.lua`.
type Answer = (i64, Option<i64>, Option<i64>, bool, i64);

impl RedisBackend {
    fn group_key(&self, group: &str, what: &str) -> String {
        format!("{}{group}{what}", self.group_key_prefix)
    }

    /// A call of a script with these keys of a group.
    fn call<'a>(
        &self,
        script: &'a Script,
        group: &str,
        keys: &[&str],
    ) -> redis::ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        for what in keys {
            call.key(self.group_key(group, what));
        }
        call
    }

    async fn saved(&self, group: &str) -> Result<Option<Vec<u8>>, Error> {
        let key = self.group_key(group, "");
        self.connection.ask(redis::cmd("GET").arg(&key)).await
    }

    /// All parts, some at a time: neither the server nor we hold more than that of what is on its way. `None`: some have
    /// come or gone meanwhile.
    async fn parts(&self, group: &str) -> Result<Option<Parts>, Error> {
        let key = self.group_key(group, ".j");
        let [length, range] = match self.rules.is_ordered {
            true => ["ZCARD", "ZRANGE"],
            false => ["LLEN", "LRANGE"],
        };
        let total: usize = self.connection.ask(redis::cmd(length).arg(&key)).await?;
        let mut parts = Vec::with_capacity(total);
        let [mut at_once, most] = READ_AT_ONCE;
        while parts.len() < total {
            let mut pipe = redis::pipe();
            let from = parts.len();
            pipe.cmd(range).arg(&key).arg(from).arg(from + at_once - 1);
            pipe.cmd(length).arg(&key);
            let (some, now): (Vec<Vec<u8>>, usize) = self.connection.ask(&pipe).await?;
            if now != total || some.is_empty() {
                return Ok(None);
            }
            let bytes: usize = some.iter().map(Vec::len).sum();
            at_once = (READ_BYTES * some.len() / bytes.max(1)).clamp(1, most);
            for bytes in some {
                match read_part(&self.documents, &key, &bytes) {
                    Ok(part) => parts.push(part),
                    Err(error) => return Ok(Some(Parts::Unreadable(error.to_string()))),
                }
            }
        }
        Ok(Some(Parts::Each(parts)))
    }
}
