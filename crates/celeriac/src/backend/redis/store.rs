//! Storing results: those that come together go in one call of a script.
//!
//! While one call is on its way, what comes gathers for the next, so a busy worker pays a part of a round trip for each
//! result and an idle one waits for nobody. Each caller hears of its own result, when that is stored.
//!
//! Counterpart: `celery/backends/redis.py` (`_set`) and `celery/backends/base.py::_store_result` @ 5.7.0, which looks,
//! then writes: here it is one step.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Script;
use tokio::sync::{Semaphore, oneshot};

use super::super::stored::{Document, Documents};
use crate::transport::Error;
use crate::transport::redis::Connection;

static STORE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/store.lua")));

/// Results in one call: a script holds up all other clients of the server.
const BATCH_RESULTS: usize = 128;

/// Bytes in one call, beyond which no further result joins it.
const BATCH_BYTES: usize = 1024 * 1024;

/// Calls on their way: the server has the second at hand when it is done with the first.
const IN_FLIGHT: usize = 2;

/// How long after it was stored a result is told again that nobody was told of.
///
/// Celery's client subscribes on one connection and looks on another, without waiting in between: when the server sees the
/// look first, and a result comes before it sees the other, the client waits for ever. It takes a fast worker: the body of
/// a chain is mostly ready in just that moment.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// So many wait for that. Where results come faster, few have anybody who waits for them.
const AGAIN_MAX: usize = 64;

/// Results that wait to be stored.
#[derive(Debug)]
pub(super) struct Stores {
    pending: Mutex<VecDeque<Pending>>,
    turns: Semaphore,
    /// Room for those that are told again.
    again: Arc<Semaphore>,
}

#[derive(Debug)]
struct Pending {
    entry: Entry,
    answer: oneshot::Sender<Answer>,
    /// Who sees this one must see the next one.
    is_with_next: bool,
}

/// One result on its way.
#[derive(Debug)]
struct Entry {
    key: String,
    document: Document,
    /// The SHA-1 of what may be overwritten: it was looked at, and is no SUCCESS.
    overwrites: String,
}

#[derive(Debug)]
enum Answer {
    Stored,
    Failed(Error),
    /// Something is there; whether it is a SUCCESS the script cannot tell.
    Unclear {
        same: Entry,
        sha1: String,
        stored: Vec<u8>,
    },
}

impl Stores {
    pub(super) fn new() -> Self {
        Self {
            pending: Mutex::default(),
            turns: Semaphore::new(IN_FLIGHT),
            again: Arc::new(Semaphore::new(AGAIN_MAX)),
        }
    }

    /// Returns when all are stored, or a SUCCESS was. They go in one call, where they are not more than one holds.
    pub(super) async fn store<D: Fn() -> Document>(
        &self,
        connection: &Arc<Connection>,
        documents: &Documents,
        results: &[(String, D)],
    ) -> Result<(), Error> {
        let fresh = |(key, document): &(String, D)| Entry {
            key: key.clone(),
            document: document(),
            overwrites: String::new(),
        };
        let answers = self.put(results.iter().map(fresh).collect());
        for (result, mut answer) in results.iter().zip(answers) {
            loop {
                let entry = match self.hear(connection, &mut answer).await {
                    Some(Answer::Stored) => break,
                    Some(Answer::Failed(error)) => return Err(error),
                    Some(Answer::Unclear { stored, .. }) if documents.is_success(&stored) => break,
                    Some(Answer::Unclear { same, sha1, .. }) => Entry {
                        overwrites: sha1,
                        ..same
                    },
                    // Whoever carried it was dropped on the way. It may be stored; to store it again is harmless.
                    None => fresh(result),
                };
                answer = self.put(vec![entry]).remove(0);
            }
        }
        Ok(())
    }

    fn put(&self, entries: Vec<Entry>) -> Vec<oneshot::Receiver<Answer>> {
        let count = entries.len();
        let mut pending = self.pending();
        let put = entries.into_iter().enumerate().map(|(index, entry)| {
            let (answer, answered) = oneshot::channel();
            pending.push_back(Pending {
                entry,
                answer,
                is_with_next: index + 1 < count && (index + 1) % BATCH_RESULTS > 0,
            });
            answered
        });
        put.collect()
    }

    /// Waits for an answer. Whoever waits may have to make the call.
    async fn hear(
        &self,
        connection: &Arc<Connection>,
        answered: &mut oneshot::Receiver<Answer>,
    ) -> Option<Answer> {
        tokio::select! {
            biased;
            // cancel-safe: the answer is either received or still in the channel
            answer = &mut *answered => return answer.ok(),
            // cancel-safe: a turn that is not taken is free
            turn = self.turns.acquire() => {
                let _turn = turn.expect("the turns are never closed");
                // What is ready by now goes along.
                if !self.pending().is_empty() {
                    tokio::task::yield_now().await;
                }
                // What came before it goes first, and may be more than one call holds.
                while answered.is_empty() && self.call(connection).await {}
            }
        }
        answered.await.ok()
    }

    /// Makes one call for what waits; `false` when nothing does.
    async fn call(&self, connection: &Arc<Connection>) -> bool {
        let batch = self.next_batch();
        if batch.is_empty() {
            return false;
        }
        let mut script = STORE.prepare_invoke();
        for Pending { entry, .. } in &batch {
            script
                .key(&entry.key)
                .arg(&entry.document.bytes)
                .arg(entry.document.expires_secs);
        }
        let mut looked_at = batch.iter().map(|pending| &pending.entry.overwrites);
        if looked_at.any(|sha1| !sha1.is_empty()) {
            for Pending { entry, .. } in &batch {
                script.arg(&entry.overwrites);
            }
        }
        match connection
            .ask::<Vec<(usize, String, Vec<u8>)>>(&script)
            .await
        {
            Ok(unclear) => {
                let mut unclear = unclear.into_iter().peekable();
                for (number, pending) in (1..).zip(batch) {
                    let own = unclear.next_if(|(unclear, ..)| *unclear == number);
                    let unclear = match own {
                        Some((_, sha1, _)) if sha1.is_empty() => {
                            self.tell_again(connection, &pending.entry);
                            None
                        }
                        own => own.map(|(_, sha1, stored)| (sha1, stored)),
                    };
                    pending.answer(unclear);
                }
            }
            Err(error) => {
                for pending in batch {
                    // Whoever has stopped waiting wants no answer.
                    pending.answer.send(Answer::Failed(error.clone())).ok();
                }
            }
        }
        true
    }

    fn tell_again(&self, connection: &Arc<Connection>, entry: &Entry) {
        if !entry.document.is_final {
            return;
        }
        let Ok(room) = Arc::clone(&self.again).try_acquire_owned() else {
            return;
        };
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&entry.key).arg(&entry.document.bytes);
        let connection = Arc::clone(connection);
        #[expect(
            clippy::disallowed_methods,
            reason = "a stop need not wait for it: the result is stored, and was told once"
        )]
        tokio::spawn(async move {
            tokio::time::sleep(AGAIN_AFTER).await;
            // It is stored in any case.
            connection.ask::<()>(&publish).await.ok();
            drop(room);
        });
    }

    fn next_batch(&self) -> Vec<Pending> {
        let mut pending = self.pending();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut is_open = true;
        while is_open && let Some(next) = pending.pop_front() {
            bytes += next.entry.document.bytes.len();
            is_open = bytes < BATCH_BYTES && (next.is_with_next || batch.len() + 1 < BATCH_RESULTS);
            batch.push(next);
        }
        batch
    }

    fn pending(&self) -> MutexGuard<'_, VecDeque<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// What the script has said of it: what is stored instead, and its SHA-1.
    fn answer(self, unclear: Option<(String, Vec<u8>)>) {
        let answer = match unclear {
            None => Answer::Stored,
            Some((sha1, stored)) => Answer::Unclear {
                same: self.entry,
                sha1,
                stored,
            },
        };
        // Whoever has stopped waiting wants no answer.
        self.answer.send(answer).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize) -> Vec<Entry> {
        let entry = |number: usize| Entry {
            key: number.to_string(),
            document: Document {
                bytes: Vec::new(),
                expires_secs: 0,
                is_final: true,
            },
            overwrites: String::new(),
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn what_is_stored_together_goes_in_one_call_where_it_holds_so_many() {
        let stores = Stores::new();
        for one in entries(100) {
            drop(stores.put(vec![one]));
        }
        for count in [20, 20, 1, 300] {
            drop(stores.put(entries(count)));
        }
        let calls =
            std::iter::from_fn(|| Some(stores.next_batch().len()).filter(|count| *count > 0));
        assert_eq!(calls.collect::<Vec<_>>(), [140, 129, 128, 44]);
    }
}
