//! Results within this process: `cache+memory://NAME` (`memory://NAME` is taken too), for tests without a server.
//!
//! All backends of one name in this process are the same, and go with the last of them.
//!
//! Counterpart: `celery/backends/cache.py` with `memory` @ 5.7.0. Differences: Celery's is the same for every URL, is
//! looked at every half second by those who wait, and forgets all but the last 5,000 results.

mod chords;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_protocol::result::TaskMeta;
use tokio::time::Instant;

use super::ResultBackend;
use super::chord::Rules;
use super::stored::Documents;
use super::waiters::Waiters;
use crate::app::Settings;
use crate::transport::Error;
use chords::Groups;

/// How many results are kept; beyond that the oldest go.
const RESULTS_MAX: usize = 1_000_000;

/// The stores of this process that somebody uses.
static STORES: LazyLock<Mutex<HashMap<String, Weak<Store>>>> = LazyLock::new(Mutex::default);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct MemoryBackend {
    url: String,
    documents: Documents,
    rules: Rules,
    store: Arc<Store>,
}

#[derive(Debug)]
struct Store {
    results: Mutex<Results>,
    groups: Mutex<Groups>,
    waiters: Arc<Waiters>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            results: Mutex::default(),
            groups: Mutex::default(),
            // Every change passes through here: there is nobody to tell which ids to listen for.
            waiters: Arc::new(Waiters::unserved()),
        }
    }
}

#[derive(Debug, Default)]
struct Results {
    by_id: HashMap<String, Stored>,
    /// The ids in the order in which they were last stored.
    order: BTreeMap<u64, String>,
    /// When those that expire do, with their place in the order.
    expiring: BTreeSet<(Instant, u64)>,
    count: u64,
}

#[derive(Debug)]
struct Stored {
    bytes: Vec<u8>,
    /// Its place in the order.
    number: u64,
    expires: Option<Instant>,
}

impl MemoryBackend {
    /// The store that the URL names; a new one, if nobody uses it.
    pub(crate) fn new(url: &str, settings: &Settings) -> Self {
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|_, store| store.strong_count() > 0);
        let prefix = &settings.result_backend_transport_options.global_keyprefix;
        let name = format!("{}/{prefix}", url.trim_start_matches("cache+"));
        let found = stores.get(&name).and_then(Weak::upgrade);
        let store = found.unwrap_or_default();
        stores.insert(name, Arc::downgrade(&store));
        Self {
            url: url.to_owned(),
            documents: Documents::new(settings),
            rules: Rules::new(settings),
            store,
        }
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        let results = &self.store.results;
        results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts any bytes in the place of a result.
    #[cfg(test)]
    pub(super) fn put(&self, id: &str, bytes: &[u8]) {
        let now = Instant::now();
        self.results().insert(now, id, bytes.to_vec(), 0);
    }

    /// The bytes of a result, and how many seconds it has left.
    #[cfg(test)]
    pub(super) fn raw(&self, id: &str) -> Option<(Vec<u8>, Option<u64>)> {
        let results = self.results();
        let stored = results.get(id)?;
        let left = |expires: Instant| (expires - Instant::now()).as_secs_f64().ceil() as u64;
        Some((stored.bytes.clone(), stored.expires.map(left)))
    }
}

#[async_trait]
impl ResultBackend for MemoryBackend {
    fn url(&self) -> &str {
        &self.url
    }

    async fn store(&self, metas: &[TaskMeta]) -> Result<(), Error> {
        let mut results = self.results();
        for meta in metas {
            let stored = results.get(&meta.task_id);
            if stored.is_some_and(|stored| self.documents.is_success(&stored.bytes)) {
                continue;
            }
            let document = self.documents.write(meta);
            let now = Instant::now();
            results.insert(now, &meta.task_id, document.bytes, document.expires_secs);
            self.store.waiters.deliver(&meta.task_id, meta);
        }
        Ok(())
    }

    async fn get(&self, task_id: &str) -> Result<Option<TaskMeta>, Error> {
        let results = self.results();
        let stored = results.get(task_id);
        let read = stored.map(|stored| self.documents.read(task_id, &stored.bytes));
        read.transpose()
    }

    async fn wait(&self, task_id: &str) -> Result<TaskMeta, Error> {
        loop {
            // First a place in the table, then the look: nothing is missed in between.
            let (waiting, _) = self.store.waiters.wait(task_id);
            match self.get(task_id).await? {
                Some(meta) if meta.status.is_ready() => return Ok(meta),
                _ => {}
            }
            if let Some(answer) = waiting.answer().await {
                return answer;
            }
        }
    }

    async fn forget(&self, task_id: &str) -> Result<(), Error> {
        self.results().remove(task_id);
        Ok(())
    }
}

impl Results {
    fn get(&self, id: &str) -> Option<&Stored> {
        let stored = self.by_id.get(id)?;
        let is_over = stored
            .expires
            .is_some_and(|expires| expires <= Instant::now());
        (!is_over).then_some(stored)
    }

    fn insert(&mut self, now: Instant, id: &str, bytes: Vec<u8>, expires_secs: u64) {
        let expires = (expires_secs > 0).then(|| now + Duration::from_secs(expires_secs));
        self.remove(id);
        self.count += 1;
        let number = self.count;
        let stored = Stored {
            bytes,
            number,
            expires,
        };
        self.by_id.insert(id.to_owned(), stored);
        self.order.insert(number, id.to_owned());
        self.expiring
            .extend(expires.map(|expires| (expires, number)));
        self.make_room(now, RESULTS_MAX);
    }

    fn remove(&mut self, id: &str) {
        if let Some(stored) = self.by_id.remove(id) {
            self.order.remove(&stored.number);
            if let Some(expires) = stored.expires {
                self.expiring.remove(&(expires, stored.number));
            }
        }
    }

    /// Drops what is over, and the oldest beyond `most`.
    fn make_room(&mut self, now: Instant, most: usize) {
        while let Some((expires, number)) = self.expiring.first()
            && *expires <= now
            && let Some(id) = self.order.get(number).cloned()
        {
            self.remove(&id);
        }
        while self.order.len() > most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(results: &Results) -> Vec<&str> {
        let mut ids: Vec<_> = results.by_id.keys().map(String::as_str).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn the_oldest_goes_first_and_what_was_forgotten_and_came_again_is_new() {
        let (now, mut results) = (Instant::now(), Results::default());
        for id in ["a", "b", "c"] {
            results.insert(now, id, Vec::new(), 0);
        }
        results.remove("a");
        results.insert(now, "a", Vec::new(), 0);
        results.make_room(now, 2);
        assert_eq!(ids(&results), ["a", "c"]);
        results.make_room(now, 1);
        assert_eq!(ids(&results), ["a"]);
        assert_eq!(results.order.len(), 1);
    }

    #[test]
    fn what_is_over_is_freed_when_the_next_is_stored() {
        let (now, mut results) = (Instant::now(), Results::default());
        results.insert(now, "for ever", Vec::new(), 0);
        results.insert(now, "long", Vec::new(), 100);
        results.insert(now, "short", Vec::new(), 10);
        results.insert(now, "again", Vec::new(), 10);
        let now = now + Duration::from_secs(5);
        results.insert(now, "again", Vec::new(), 10);
        let now = now + Duration::from_secs(5);
        results.insert(now, "next", Vec::new(), 0);
        assert_eq!(ids(&results), ["again", "for ever", "long", "next"]);
        assert_eq!((results.order.len(), results.expiring.len()), (4, 2));
    }
}
