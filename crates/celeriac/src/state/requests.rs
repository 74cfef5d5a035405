//! The requests in a worker's hands, and how far each is.
//!
//! A request is here from its acceptance until it is dropped, whatever its end. Two deliveries of one id are
//! two requests.
//!
//! Counterpart: `celery/worker/state.py` (`requests`, `reserved_requests`, `active_requests`,
//! `scheduled_requests`, `total_count`) @ 5.7.0.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac_protocol::Map;
use celeriac_protocol::message::TaskMessage;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::WorkerState;
use super::stamps::Wanted;
use crate::clock;
use crate::transport::Delivery;

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits for a slot.
    Reserved,
    /// It has run since then.
    Active(DateTime<Utc>),
}

/// A request as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct HeldRequest {
    pub(crate) message: Arc<TaskMessage>,
    pub(crate) stage: Stage,
    pub(crate) is_acknowledged: bool,
}

/// A request that waits for its time: what is needed to find it. The message is in the broker meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) id: Box<str>,
    pub(crate) tag: Arc<str>,
    pub(crate) queue: Arc<str>,
    pub(crate) eta: DateTime<Utc>,
    is_revoked: bool,
}

#[derive(Debug)]
struct Entry {
    shown: HeldRequest,
    /// Ends the run.
    cancel: CancellationToken,
    /// When it was started, and which kind it is of.
    run: Option<(Instant, usize)>,
    /// It must not be started. Kept here too, because the set of revoked ids forgets after a while.
    is_revoked: bool,
    /// The stamp for which it must not be started: its name and value.
    revoking_stamp: Option<Box<Map>>,
    /// Its run was ended by remote control, with this signal.
    terminated: Option<i64>,
    /// Its run is over; it is being settled.
    has_ended: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Requests {
    entries: BTreeMap<u64, Entry>,
    waiting: BTreeMap<u64, Box<Waiting>>,
    by_id: HashMap<String, Vec<u64>>,
    next: u64,
    /// How many run.
    active: usize,
    /// How many were started so far.
    processed: u64,
    totals: Vec<Total>,
    total_index: HashMap<String, usize>,
}

/// What is known of one kind of task.
#[derive(Debug)]
struct Total {
    name: String,
    started: u64,
    /// How many of the last runs were short: halved by one that was not quite, and forgotten after a long one.
    short: u32,
}

/// A run that ends within this time is short: a round trip to the broker takes about as long.
const SHORT: Duration = Duration::from_millis(1);

/// A run that takes so long is no accident.
const LONG: Duration = Duration::from_millis(50);

/// So many short runs in a row make a task brisk …
const BRISK: u32 = 100;

/// … and this is how many count.
const BRISK_MAX: u32 = 1000;

impl Requests {
    pub(super) fn insert(&mut self, message: Arc<TaskMessage>, cancel: CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        let id = message.headers.id.clone();
        let entry = Entry {
            shown: HeldRequest {
                message,
                stage: Stage::Reserved,
                is_acknowledged: false,
            },
            cancel,
            run: None,
            is_revoked: false,
            revoking_stamp: None,
            terminated: None,
            has_ended: false,
        };
        self.entries.insert(number, entry);
        self.by_id.entry(id).or_default().push(number);
        number
    }

    fn remove(&mut self, number: u64) {
        self.waiting.remove(&number);
        let Some(entry) = self.entries.remove(&number) else {
            return;
        };
        if entry.is_running() {
            self.active -= 1;
        }
        let id = &entry.shown.message.headers.id;
        if let Some(numbers) = self.by_id.get_mut(id) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_id.remove(id);
            }
        }
    }

    /// Forbids the start of every request of these ids; returns the ids of which none runs.
    pub(super) fn revoke(&mut self, ids: &[String]) -> Vec<String> {
        let wanted = self.wanted(ids);
        let waiting = self.waiting.values_mut();
        waiting
            .filter(|one| wanted.contains(&*one.id))
            .for_each(|one| one.is_revoked = true);
        let mut idle = Vec::new();
        for id in ids {
            let mut is_running = false;
            self.each(id, |entry| {
                entry.is_revoked = true;
                is_running |= entry.is_running();
            });
            if !is_running {
                idle.push(id.clone());
            }
        }
        idle
    }

    /// Collects the runs of these ids to end; returns the ids of which there is any request.
    pub(super) fn terminate(
        &mut self,
        ids: &[String],
        signal: i64,
        runs: &mut Vec<CancellationToken>,
    ) -> Vec<String> {
        for id in ids {
            self.each(id, |entry| {
                if entry.is_running() {
                    entry.terminated = Some(signal);
                    runs.push(entry.cancel.clone());
                }
            });
        }
        let wanted = self.wanted(ids);
        let waiting = self.waiting.values().map(|one| &*one.id);
        let waiting: HashSet<&str> = waiting.filter(|id| wanted.contains(id)).collect();
        let known = |id: &&String| self.by_id.contains_key(*id) || waiting.contains(id.as_str());
        ids.iter().filter(known).cloned().collect()
    }

    /// The runs to end that have a wanted stamp.
    pub(super) fn terminate_stamped(
        &mut self,
        wanted: &mut Wanted<'_>,
        signal: i64,
    ) -> Vec<CancellationToken> {
        let running = self.entries.values_mut().filter(|entry| entry.is_running());
        let stamped = running.filter(|entry| wanted.meets(&entry.shown.message.headers));
        stamped
            .map(|entry| {
                entry.terminated = Some(signal);
                entry.cancel.clone()
            })
            .collect()
    }

    /// What to look for among those that wait. They are gone through once, however many ids there are: an index would
    /// be most of what they take.
    fn wanted<'a>(&self, ids: &'a [String]) -> HashSet<&'a str> {
        match self.waiting.is_empty() {
            true => HashSet::new(),
            false => ids.iter().map(String::as_str).collect(),
        }
    }

    pub(super) fn held(&self) -> Vec<HeldRequest> {
        let entries = self.entries.values();
        entries.map(|entry| entry.shown.clone()).collect()
    }

    pub(super) fn held_by_id(&self, ids: &[String]) -> Vec<HeldRequest> {
        let numbers = ids.iter().filter_map(|id| self.by_id.get(id)).flatten();
        numbers
            .filter_map(|number| Some(self.entries.get(number)?.shown.clone()))
            .collect()
    }

    /// Those that wait for their time, in the order in which they came.
    pub(super) fn waiting(&self) -> Vec<Waiting> {
        self.waiting.values().map(|one| (**one).clone()).collect()
    }

    pub(super) fn count_waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn totals(&self) -> Vec<(String, u64)> {
        let totals = self.totals.iter();
        totals
            .map(|total| (total.name.clone(), total.started))
            .collect()
    }

    pub(super) fn activity(&self) -> (usize, u64) {
        (self.active, self.processed)
    }

    /// The tasks that are counted are the registered ones, so there are not many.
    fn count(&mut self, task: &str) -> usize {
        self.active += 1;
        self.processed += 1;
        let index = match self.total_index.get(task) {
            Some(index) => *index,
            None => {
                let index = self.totals.len();
                self.total_index.insert(task.to_owned(), index);
                self.totals.push(Total {
                    name: task.to_owned(),
                    started: 0,
                    short: 0,
                });
                index
            }
        };
        self.totals[index].started += 1;
        index
    }

    fn each(&mut self, id: &str, mut change: impl FnMut(&mut Entry)) {
        for number in self.by_id.get(id).into_iter().flatten() {
            if let Some(entry) = self.entries.get_mut(number) {
                change(entry);
            }
        }
    }
}

impl Entry {
    fn is_running(&self) -> bool {
        matches!(self.shown.stage, Stage::Active(_)) && !self.has_ended
    }

    fn heed_stamps(&mut self, state: &WorkerState) {
        let headers = &self.shown.message.headers;
        if self.is_revoked || headers.stamped_headers.is_none() {
            return;
        }
        self.revoking_stamp = state.stamps().of(headers);
        self.is_revoked = self.revoking_stamp.is_some();
    }
}

/// A request's place in the table; it leaves the table with this.
#[derive(Debug)]
pub(crate) struct Tracked {
    state: WorkerState,
    number: u64,
}

impl Tracked {
    pub(super) fn new(state: WorkerState, number: u64) -> Self {
        Self { state, number }
    }

    /// It waits for its time, in the broker; only this much is known of it here meanwhile.
    pub(crate) fn wait(&self, eta: DateTime<Utc>, delivery: &Delivery) {
        let mut requests = self.state.requests();
        let Some(entry) = requests.entries.get(&self.number) else {
            return;
        };
        let waiting = Waiting {
            id: entry.shown.message.headers.id.as_str().into(),
            tag: delivery.shared_tag(),
            queue: delivery.shared_queue(),
            eta,
            is_revoked: entry.is_revoked,
        };
        requests.remove(self.number);
        requests.waiting.insert(self.number, Box::new(waiting));
    }

    /// Its id, while it waits.
    pub(crate) fn waiting_id(&self) -> Option<String> {
        let requests = self.state.requests();
        let waiting = requests.waiting.get(&self.number)?;
        Some(waiting.id.to_string())
    }

    /// Whether it must not be started.
    pub(crate) fn is_revoked(&self) -> bool {
        let requests = self.state.requests();
        let entry = requests.entries.get(&self.number);
        let waiting = requests.waiting.get(&self.number);
        entry.is_some_and(|entry| entry.is_revoked)
            || waiting.is_some_and(|waiting| waiting.is_revoked)
    }

    /// It must not be started.
    pub(crate) fn forbid(&self) {
        self.change(|entry| entry.is_revoked = true);
    }

    /// It must not be started if it has a revoked stamp.
    pub(super) fn forbid_by_stamp(&self) {
        self.change(|entry| entry.heed_stamps(&self.state));
    }

    /// The stamp for which it must not be started: its name and value.
    pub(crate) fn revoking_stamp(&self) -> Option<Box<Map>> {
        self.change(|entry| entry.revoking_stamp.clone()).flatten()
    }

    /// It starts now; `false`: it must not, it or one of its stamps was revoked. One step with looking, so that
    /// whoever revokes finds it either waiting or running.
    pub(crate) fn start(&self) -> bool {
        let mut requests = self.state.requests();
        let Some(entry) = requests.entries.get_mut(&self.number) else {
            return true;
        };
        entry.heed_stamps(&self.state);
        if entry.is_revoked {
            return false;
        }
        entry.shown.stage = Stage::Active(clock::now());
        let message = Arc::clone(&entry.shown.message);
        let kind = requests.count(&message.headers.task);
        if let Some(entry) = requests.entries.get_mut(&self.number) {
            entry.run = Some((Instant::now(), kind));
        }
        true
    }

    /// Whether the last tasks of its kind have all been short; known once it has started.
    pub(crate) fn is_brisk(&self) -> bool {
        let requests = self.state.requests();
        let entry = requests.entries.get(&self.number);
        let kind = entry
            .and_then(|entry| entry.run)
            .and_then(|(_, kind)| requests.totals.get(kind));
        kind.is_some_and(|total| total.short >= BRISK)
    }

    /// The broker has forgotten the message.
    pub(crate) fn acknowledge(&self) {
        self.change(|entry| entry.shown.is_acknowledged = true);
    }

    /// Its run is over, and can be ended no more; `true` when remote control has ended it.
    pub(crate) fn end(&self) -> bool {
        let mut requests = self.state.requests();
        let Some(entry) = requests.entries.get_mut(&self.number) else {
            return false;
        };
        let (was_running, terminated) = (entry.is_running(), entry.terminated);
        entry.has_ended = true;
        let run = entry.run;
        if was_running {
            requests.active -= 1;
        }
        if let Some((started, kind)) = run
            && let Some(total) = requests.totals.get_mut(kind)
        {
            total.short = match started.elapsed() {
                elapsed if elapsed < SHORT => (total.short + 1).min(BRISK_MAX),
                // A busy machine holds up anything now and then.
                elapsed if elapsed < LONG => total.short / 2,
                _ => 0,
            };
        }
        terminated.is_some()
    }

    /// The signal that remote control has named for its end.
    pub(crate) fn signal(&self) -> Option<i64> {
        self.change(|entry| entry.terminated).flatten()
    }

    fn change<R>(&self, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let mut requests = self.state.requests();
        requests.entries.get_mut(&self.number).map(change)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.state.requests().remove(self.number);
    }
}
