//! Who waits for which result.
//!
//! A backend asks [`Waiters::wait`] for a place in the table and hands over what it hears with [`Waiters::deliver`].
//! Whoever serves the table from the outside (a subscription) is told which ids have changed: have come to be waited
//! for, or are waited for no more. A table that nobody serves keeps no such list ([`Waiters::unserved`]).
//!
//! Counterpart: `celery/backends/asynchronous.py` (`add_pending_result`, `on_state_change`) @ 5.7.0.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use celeriac_protocol::result::TaskMeta;
use tokio::sync::{Notify, oneshot};

use crate::transport::Error;

type Answer = Result<TaskMeta, Error>;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    table: Mutex<Table>,
    has_changed: Notify,
    /// Nobody will ask for [`Waiters::changed`].
    is_unserved: bool,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<String, Vec<(u64, oneshot::Sender<Answer>)>>,
    /// Ids whose waiters have changed since [`Waiters::changed`] was asked.
    changed: HashSet<String>,
    count: u64,
    is_served: bool,
}

/// A place in the table; given up when dropped.
pub(super) struct Waiting {
    waiters: Arc<Waiters>,
    id: String,
    number: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Waiters {
    /// A table that hears of everything in this process.
    pub(super) fn unserved() -> Self {
        Self {
            is_unserved: true,
            ..Self::default()
        }
    }

    /// Waits for the result of a task. The second value: nobody serves the table, the caller must see to it.
    pub(super) fn wait(self: &Arc<Self>, id: &str) -> (Waiting, bool) {
        let (sender, answer) = oneshot::channel();
        let mut table = self.table();
        table.count += 1;
        let number = table.count;
        let same = table.by_id.entry(id.to_owned()).or_default();
        same.push((number, sender));
        let is_first = !std::mem::replace(&mut table.is_served, true);
        self.tell(table, id);
        let waiting = Waiting {
            waiters: Arc::clone(self),
            id: id.to_owned(),
            number,
            answer,
        };
        (waiting, is_first)
    }

    /// Hands over what has become of a task; a state that is not the last is kept from those who wait.
    pub(super) fn deliver(&self, id: &str, meta: &TaskMeta) {
        if meta.status.is_ready() {
            self.answer(id, || Ok(meta.clone()));
        }
    }

    /// Ends waiting for one task.
    pub(super) fn fail(&self, id: &str, error: &Error) {
        self.answer(id, || Err(error.clone()));
    }

    /// Ends waiting for all tasks.
    pub(super) fn fail_all(&self, error: &Error) {
        for id in self.ids() {
            self.fail(&id, error);
        }
    }

    fn answer(&self, id: &str, answer: impl Fn() -> Answer) {
        let mut table = self.table();
        let Some(waiting) = table.by_id.remove(id) else {
            return;
        };
        self.tell(table, id);
        for (_, sender) in waiting {
            // Whoever has stopped waiting at this moment wants no answer.
            sender.send(answer()).ok();
        }
    }

    /// All that are waited for.
    pub(super) fn ids(&self) -> Vec<String> {
        self.table().by_id.keys().cloned().collect()
    }

    pub(super) fn is_waited_for(&self, id: &str) -> bool {
        self.table().by_id.contains_key(id)
    }

    /// The ids whose waiters have changed; waits until there is one.
    ///
    /// # Cancel safety
    /// Dropped, it has taken nothing.
    pub(super) async fn changed(&self) -> Vec<String> {
        loop {
            let changed = std::mem::take(&mut self.table().changed);
            if !changed.is_empty() {
                return changed.into_iter().collect();
            }
            self.has_changed.notified().await;
        }
    }

    /// Whoever serves the table stops, unless somebody waits.
    pub(super) fn stop_serving(&self) -> bool {
        let mut table = self.table();
        table.is_served = !table.by_id.is_empty();
        !table.is_served
    }

    /// Whoever served the table was dropped: those who wait look for another.
    pub(super) fn abandon(&self) {
        let mut table = self.table();
        table.is_served = false;
        table.by_id.clear();
        table.changed.clear();
    }

    fn leave(&self, id: &str, number: u64) {
        let mut table = self.table();
        let Some(waiting) = table.by_id.get_mut(id) else {
            return;
        };
        waiting.retain(|(other, _)| *other != number);
        if waiting.is_empty() {
            table.by_id.remove(id);
            self.tell(table, id);
        }
    }

    /// Tells whoever serves the table that the waiters of this id have changed.
    fn tell(&self, mut table: MutexGuard<'_, Table>, id: &str) {
        if self.is_unserved {
            return;
        }
        table.changed.insert(id.to_owned());
        drop(table);
        self.has_changed.notify_one();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The answer; `None`: whoever served the table is gone, wait anew.
    pub(super) async fn answer(mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiters.leave(&self.id, self.number);
    }
}

#[cfg(test)]
mod tests {
    use celeriac_protocol::state::State;

    use super::*;

    #[tokio::test]
    async fn nothing_is_left_of_those_who_have_waited_where_nobody_serves() {
        let waiters = Arc::new(Waiters::unserved());
        let meta = TaskMeta::new("a", State::Success, 1.into());
        let (answered, _) = waiters.wait("a");
        let (gone, _) = waiters.wait("b");
        waiters.deliver("a", &meta);
        drop(gone);
        assert_eq!(answered.answer().await.unwrap().unwrap(), meta);
        let table = waiters.table();
        assert!(table.by_id.is_empty());
        assert!(table.changed.is_empty(), "{:?}", table.changed);
    }
}
