//! Storing results: those that come together go in one call.
//!
//! Most are of tasks of which nothing is stored: those go in a transaction, as Celery's do, which takes half of the server's
//! time for a script. It writes only where nothing is there; what finds something, and all others, is judged by the script.
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

/// A larger document is sent once, to the script, and not twice, to store and to tell.
const FIRST_BYTES: usize = 64 * 1024;

/// Calls on their way: the server has the second at hand when it is done with the first.
const IN_FLIGHT: usize = 2;

/// How long after it was stored a result is told again that nobody was told of.
///
/// Celery's client subscribes on one connection and looks on another, without waiting in between: when the server sees the
/// look first, and a result comes before it sees the other, the client waits for ever. It takes a fast worker: the body of
/// a chain is mostly ready in just that moment.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// In larger calls nobody is looked for: where results come so fast, few have anybody who waits for them.
const AGAIN_FEW: usize = 4;

/// So many wait for that.
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
    before: Before,
}

/// What is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing, most likely.
    Nothing,
    /// Whatever it is: the script looks.
    Anything,
    /// What has this SHA-1: it was looked at, and is no SUCCESS.
    Known(String),
}

#[derive(Debug)]
enum Answer {
    Stored,
    Failed(Error),
    /// Something is there: it is to be stored like this.
    Again(Entry),
    /// Something is there; whether it is a SUCCESS the script cannot tell.
    Unclear {
        same: Entry,
        sha1: String,
        stored: Vec<u8>,
    },
}

/// What a call says of one result.
#[derive(Debug)]
enum Found {
    /// It is stored, or a SUCCESS was.
    Done,
    /// It is stored, nobody was told, and few came together.
    Untold,
    /// Something is there.
    Something,
    /// This is there, and this is its SHA-1.
    This(String, Vec<u8>),
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
        before: Before,
    ) -> Result<(), Error> {
        let fresh = |(key, document): &(String, D)| Entry::new(key.clone(), document(), &before);
        let answers = self.put(results.iter().map(fresh).collect());
        for (result, mut answer) in results.iter().zip(answers) {
            loop {
                let entry = match self.hear(connection, &mut answer).await {
                    Some(Answer::Stored) => break,
                    Some(Answer::Failed(error)) => return Err(error),
                    Some(Answer::Unclear { stored, .. }) if documents.is_success(&stored) => break,
                    Some(Answer::Unclear { same, sha1, .. }) => Entry {
                        before: Before::Known(sha1),
                        ..same
                    },
                    Some(Answer::Again(entry)) => entry,
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
        let Some(Pending { entry, .. }) = batch.first() else {
            return false;
        };
        let found = match entry.before {
            Before::Nothing => set(connection, &batch).await,
            Before::Anything | Before::Known(_) => judge(connection, &batch).await,
        };
        match found {
            Ok(found) => {
                for (pending, found) in batch.into_iter().zip(found) {
                    if matches!(found, Found::Untold) {
                        self.tell_again(connection, &pending.entry);
                    }
                    pending.answer(found);
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

    /// What goes in one call: of one kind, and not too much.
    fn next_batch(&self) -> Vec<Pending> {
        let mut pending = self.pending();
        let is_first = pending.front().map(|next| next.entry.is_first());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut is_open = true;
        while is_open
            && let Some(next) = pending.pop_front_if(|next| Some(next.entry.is_first()) == is_first)
        {
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

impl Before {
    fn sha1(&self) -> &str {
        match self {
            Self::Known(sha1) => sha1,
            Self::Nothing | Self::Anything => "",
        }
    }
}

impl Entry {
    fn new(key: String, document: Document, before: &Before) -> Self {
        let before = match document.bytes.len() {
            ..=FIRST_BYTES => before.clone(),
            _ => Before::Anything,
        };
        Self {
            key,
            document,
            before,
        }
    }

    fn is_first(&self) -> bool {
        self.before == Before::Nothing
    }
}

impl Pending {
    fn answer(self, found: Found) {
        let answer = match found {
            Found::Done | Found::Untold => Answer::Stored,
            Found::Something => Answer::Again(Entry {
                before: Before::Anything,
                ..self.entry
            }),
            Found::This(sha1, stored) => Answer::Unclear {
                same: self.entry,
                sha1,
                stored,
            },
        };
        // Whoever has stopped waiting wants no answer.
        self.answer.send(answer).ok();
    }
}

/// Stores and tells, where nothing is there. Of what finds something whoever waits is told a moment early: the script does
/// the rest. (It is a SUCCESS, as what stays there would be.)
async fn set(connection: &Connection, batch: &[Pending]) -> Result<Vec<Found>, Error> {
    let mut pipe = redis::pipe();
    pipe.atomic();
    for Pending { entry, .. } in batch {
        let Entry { key, document, .. } = entry;
        // Guarantee M6: a SUCCESS that is stored is never overwritten.
        pipe.cmd("SET").arg(key).arg(&document.bytes).arg("NX");
        if document.expires_secs > 0 {
            pipe.arg("EX").arg(document.expires_secs);
        }
        pipe.cmd("PUBLISH").arg(key).arg(&document.bytes);
    }
    let answers: Vec<(bool, u64)> = connection.ask(&pipe).await?;
    let found = answers.into_iter().map(|answer| match answer {
        (false, _) => Found::Something,
        (true, 0) if batch.len() <= AGAIN_FEW => Found::Untold,
        (true, _) => Found::Done,
    });
    Ok(found.collect())
}

/// Stores and tells where no SUCCESS is there.
async fn judge(connection: &Connection, batch: &[Pending]) -> Result<Vec<Found>, Error> {
    let mut script = STORE.prepare_invoke();
    script.arg(AGAIN_FEW);
    for Pending { entry, .. } in batch {
        script
            .key(&entry.key)
            .arg(&entry.document.bytes)
            .arg(entry.document.expires_secs);
    }
    let known = batch.iter().map(|pending| pending.entry.before.sha1());
    if known.clone().any(|sha1| !sha1.is_empty()) {
        known.for_each(|sha1| {
            script.arg(sha1);
        });
    }
    let unclear: Vec<(usize, String, Vec<u8>)> = connection.ask(&script).await?;
    let mut unclear = unclear.into_iter().peekable();
    let found = |number| match unclear.next_if(|(unclear, ..)| *unclear == number) {
        None => Found::Done,
        Some((_, sha1, _)) if sha1.is_empty() => Found::Untold,
        Some((_, sha1, stored)) => Found::This(sha1, stored),
    };
    Ok((1..=batch.len()).map(found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize) -> Vec<Entry> {
        let document = || Document {
            bytes: Vec::new(),
            expires_secs: 0,
            is_final: true,
        };
        let entry = |number: usize| Entry::new(number.to_string(), document(), &Before::Anything);
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
