//! Chords and groups in the memory: what Redis keeps in several keys of a group is one entry here, under one lock.
//!
//! Difference to Redis: what belongs to a chord expires together.

use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;

use super::super::chord::{
    Chords, Claim, Counted, Part, Parts, Start, read_group, read_header, read_part, write_group,
    write_part,
};
use super::MemoryBackend;
use crate::transport::Error;

/// Below so many groups nobody looks for what is over.
const SWEEP_FROM: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Groups {
    by_id: HashMap<String, Group>,
    /// With so many groups, what is over is removed.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Group {
    saved: Option<Kept<Vec<u8>>>,
    chord: Option<Kept<Chord>>,
    claim: Option<Kept<ClaimedBy>>,
}

#[derive(Debug, Default)]
struct Chord {
    size: Option<usize>,
    /// In the order in which they came.
    parts: Vec<(Option<i64>, Vec<u8>)>,
    counted: HashSet<(String, Option<i64>)>,
    added: HashSet<String>,
}

#[derive(Debug, PartialEq)]
enum ClaimedBy {
    /// Whoever has this token starts the body.
    Token(String),
    /// The body was sent, or made to fail.
    Done,
}

/// Something, and when it is over.
#[derive(Debug)]
struct Kept<T> {
    value: T,
    expires: Option<Instant>,
}

impl<T> Kept<T> {
    /// `secs`: 0 is for ever.
    fn new(value: T, secs: u64) -> Self {
        let expires = expiry(secs);
        Self { value, expires }
    }

    fn is_over(&self) -> bool {
        self.expires
            .is_some_and(|expires| expires <= Instant::now())
    }

    fn left_ms(&self) -> Option<u64> {
        let left = self.expires?.saturating_duration_since(Instant::now());
        u64::try_from(left.as_millis()).ok()
    }
}

fn expiry(secs: u64) -> Option<Instant> {
    (secs > 0).then(|| Instant::now() + Duration::from_secs(secs))
}

#[async_trait]
impl Chords for MemoryBackend {
    async fn chord_start(
        &self,
        group: &str,
        size: usize,
        group_result: Option<&Value>,
        is_again: bool,
    ) -> Result<Start, Error> {
        let document = group_result.map(|tuple| write_group(&self.documents, tuple));
        let document = document.transpose()?;
        let mut groups = self.groups();
        let group = groups.entry(group);
        let is_running = group.chord.as_ref();
        let is_running = is_running.is_some_and(|chord| chord.value.size.is_some());
        if is_again && (is_running || group.claim.is_some()) {
            return Ok(match group.is_done() || !is_running {
                true => Start::Over,
                false => Start::Running,
            });
        }
        if let Some(document) = document {
            group.saved = Some(Kept::new(document, self.rules.chord_secs));
        }
        group.claim = None;
        group.chord_for(self.rules.chord_secs).size = Some(size);
        Ok(Start::Started)
    }

    async fn chord_part(&self, part: &Part<'_>, token: &str) -> Result<Counted, Error> {
        let bytes = write_part(&self.documents, part);
        let mut groups = self.groups();
        let group = groups.entry(part.group);
        if group.is_done() {
            return Ok(Counted::Over);
        }
        if let Some(saved) = &mut group.saved
            && self.rules.chord_secs > 0
            && self.rules.header_secs > 0
        {
            saved.expires = expiry(self.rules.header_secs);
        }
        let chord = group.chord_for(self.rules.chord_secs);
        if chord.counted.insert((part.task_id.to_owned(), part.index)) {
            chord.parts.push((part.index, bytes));
        }
        let total = chord.size.map(|size| size + chord.added.len());
        if total != Some(chord.parts.len()) {
            return Ok(Counted::Waiting);
        }
        Ok(match &group.claim {
            Some(claim) if !claim.value.is_of(token) => Counted::held(claim.left_ms()),
            _ => {
                group.claim(token, self.rules.claim_secs);
                Counted::claimed(token)
            }
        })
    }

    async fn chord_results(&self, group: &str) -> Result<Parts, Error> {
        let mut groups = self.groups();
        let found = groups.entry(group);
        if let Some(saved) = &found.saved {
            return Ok(read_header(&self.documents, group, &saved.value));
        }
        let chord = found.chord.as_ref();
        let mut parts = chord.map_or_else(Vec::new, |chord| chord.value.parts.clone());
        drop(groups);
        if self.rules.is_ordered {
            parts.sort_by_key(|(index, _)| index.map_or((true, 0), |index| (false, index)));
        }
        let read = parts
            .iter()
            .map(|(_, bytes)| read_part(&self.documents, group, bytes));
        Ok(match read.collect() {
            Ok(parts) => Parts::Each(parts),
            Err(error) => Parts::Unreadable(error.to_string()),
        })
    }

    async fn chord_extend(&self, group: &str, claim: &Claim) -> Result<bool, Error> {
        let mut groups = self.groups();
        let group = groups.entry(group);
        let is_ours = match (&group.claim, &group.chord) {
            (Some(owner), _) => owner.value.is_of(&claim.token),
            (None, chord) => chord
                .as_ref()
                .is_some_and(|chord| chord.value.size.is_some()),
        };
        if is_ours {
            group.claim(&claim.token, self.rules.publish_secs);
        }
        Ok(is_ours)
    }

    async fn chord_done(&self, group: &str, claim: &Claim) -> Result<bool, Error> {
        let mut groups = self.groups();
        let group = groups.entry(group);
        if group.is_claimed_by(claim) {
            group.chord = None;
            group.end(self.rules.done_secs);
        }
        Ok(group.is_done())
    }

    async fn chord_failed(&self, group: &str, claim: &Claim) -> Result<(), Error> {
        let mut groups = self.groups();
        let group = groups.entry(group);
        if let Some(chord) = &mut group.chord {
            chord.value.size = None;
        }
        if group.is_claimed_by(claim) {
            group.end(self.rules.done_secs);
        }
        Ok(())
    }

    async fn chord_grow(&self, group: &str, task_id: &str) -> Result<(), Error> {
        let mut groups = self.groups();
        let group = groups.entry(group);
        if !group.is_done() {
            let chord = group.chord_for(self.rules.chord_secs);
            chord.added.insert(task_id.to_owned());
        }
        Ok(())
    }

    async fn save_group(&self, group: &str, group_result: &Value) -> Result<(), Error> {
        let document = write_group(&self.documents, group_result)?;
        let saved = Kept::new(document, self.rules.group_secs);
        self.groups().entry(group).saved = Some(saved);
        Ok(())
    }

    async fn restore_group(&self, group: &str) -> Result<Option<Value>, Error> {
        let mut groups = self.groups();
        let saved = &groups.entry(group).saved;
        let read = saved
            .as_ref()
            .map(|saved| read_group(&self.documents, group, &saved.value));
        read.transpose()
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        self.groups().entry(group).saved = None;
        Ok(())
    }
}

impl MemoryBackend {
    fn groups(&self) -> MutexGuard<'_, Groups> {
        let groups = &self.store.groups;
        groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a claim before its time.
    #[cfg(test)]
    pub(in crate::backend) fn drop_claim(&self, group: &str) {
        self.groups().entry(group).claim = None;
    }
}

impl Groups {
    /// The group, without what is over.
    fn entry(&mut self, id: &str) -> &mut Group {
        if self.by_id.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.by_id.retain(|_, group| {
                group.drop_what_is_over();
                !group.is_empty()
            });
            // Half of the next ones may be over before one looks again.
            self.sweep_at = self.by_id.len() * 2;
        }
        let group = self.by_id.entry(id.to_owned()).or_default();
        group.drop_what_is_over();
        group
    }
}

impl Group {
    fn drop_what_is_over(&mut self) {
        self.saved.take_if(|saved| saved.is_over());
        self.chord.take_if(|chord| chord.is_over());
        self.claim.take_if(|claim| claim.is_over());
    }

    fn is_empty(&self) -> bool {
        self.saved.is_none() && self.chord.is_none() && self.claim.is_none()
    }

    /// The chord, which is kept for this long from now on.
    fn chord_for(&mut self, secs: u64) -> &mut Chord {
        let fresh = || Kept::new(Chord::default(), secs);
        let chord = self.chord.get_or_insert_with(fresh);
        chord.expires = expiry(secs);
        &mut chord.value
    }

    fn is_done(&self) -> bool {
        let claim = self.claim.as_ref();
        claim.is_some_and(|claim| claim.value == ClaimedBy::Done)
    }

    fn is_claimed_by(&self, claim: &Claim) -> bool {
        let owner = self.claim.as_ref();
        owner.is_some_and(|owner| owner.value.is_of(&claim.token))
    }

    fn claim(&mut self, token: &str, secs: u64) {
        let owner = ClaimedBy::Token(token.to_owned());
        self.claim = Some(Kept::new(owner, secs));
    }

    fn end(&mut self, secs: u64) {
        self.claim = Some(Kept::new(ClaimedBy::Done, secs));
    }
}

impl ClaimedBy {
    fn is_of(&self, token: &str) -> bool {
        matches!(self, Self::Token(owner) if owner == token)
    }
}

#[cfg(test)]
mod tests {
    use celeriac_protocol::state::State;
    use serde_json::json;

    use super::*;
    use crate::app::Settings;

    fn backend(name: &str) -> MemoryBackend {
        MemoryBackend::new(&format!("memory://{name}"), &Settings::default())
    }

    async fn part(backend: &MemoryBackend, group: &str, token: &str) -> Counted {
        let result = json!(1);
        let part = Part {
            group,
            task_id: "a",
            index: Some(0),
            state: State::Success,
            result: &result,
            is_again: true,
        };
        backend.chord_part(&part, token).await.unwrap()
    }

    impl<T> Kept<T> {
        fn age(&mut self, age: Duration) {
            self.expires = self.expires.map(|expires| expires - age);
        }
    }

    impl MemoryBackend {
        /// As if so many seconds had passed.
        fn age(&self, secs: u64) {
            let age = Duration::from_secs(secs);
            for group in self.groups().by_id.values_mut() {
                group.chord.iter_mut().for_each(|chord| chord.age(age));
                group.claim.iter_mut().for_each(|claim| claim.age(age));
            }
        }
    }

    #[tokio::test]
    async fn claims_and_chords_end_by_themselves() {
        let backend = backend("claims-end");
        backend.chord_start("g", 1, None, false).await.unwrap();
        let Counted::Claimed(claim) = part(&backend, "g", "one").await else {
            panic!("it is complete");
        };
        backend.age(4);
        assert!(matches!(part(&backend, "g", "two").await, Counted::Held(_)));
        backend.age(2);
        assert_eq!(part(&backend, "g", "two").await, Counted::claimed("two"));
        assert!(!backend.chord_extend("g", &claim).await.unwrap());
        backend.age(6);
        // Nobody has taken it since.
        assert!(backend.chord_extend("g", &claim).await.unwrap());
        backend.age(15);
        assert!(matches!(part(&backend, "g", "two").await, Counted::Held(_)));
        assert!(backend.chord_done("g", &claim).await.unwrap());
        backend.age(290);
        assert_eq!(part(&backend, "g", "two").await, Counted::Over);
        backend.age(10);
        assert_eq!(part(&backend, "g", "two").await, Counted::Waiting);
        backend.age(86_400);
        assert!(!backend.chord_extend("g", &claim).await.unwrap());
        assert!(backend.groups().entry("g").is_empty());
    }

    #[tokio::test]
    async fn of_many_groups_those_that_are_over_are_freed() {
        let backend = backend("many-groups");
        for number in 0..5 * SWEEP_FROM {
            part(&backend, &number.to_string(), "t").await;
            backend.age(100);
        }
        let count = backend.groups().by_id.len();
        assert!(count < 2 * SWEEP_FROM, "{count}");
    }
}
