//! Chords and groups, as a backend keeps them: parts that are counted once each, and one claim to start the body.
//!
//! Guarantee: of all workers, ours and Python's, that count the parts of a chord, one is told to start its body; and if it
//! dies over that, another is.
//!
//! Counterpart: `celery/backends/redis.py` (`set_chord_size`, `on_chord_part_return`, `add_to_chord`) and
//! `celery/backends/base.py` (`save_group`, `chord_expires`, `_chord_result_expires`) @ 5.7.0. Deliberate differences: a
//! worker that finds a complete chord claimed by another looks again until that one is done, where Python's goes away; a
//! chord that has failed is over; and a starter or an adder that is delivered again changes nothing the second time.

use std::time::Duration;

use async_trait::async_trait;
use celeriac_protocol::state::State;
use serde_json::Value;

use super::stored::{Documents, whole_secs};
use crate::app::Settings;
use crate::log_lines::shown;
use crate::transport::{Error, Slot};

/// What a backend does for chords and groups. `group` is the id of the group, which is the chord's header.
#[async_trait]
pub(crate) trait Chords: Send + Sync {
    /// Begins a chord of `size` parts; right before the last message of its header is sent. `group_result` is the header's
    /// result as `GroupResult.as_tuple` has it, where the values must come in its form: some member is a group itself.
    ///
    /// `is_again`: whoever starts it may have done so before, since its message was delivered again. Then a chord that
    /// runs or is over stays as it is. Otherwise it is another run of the same chord.
    ///
    /// # Cancel safety
    /// It may have begun. To begin again is harmless as long as no message of the header is sent.
    ///
    /// # Errors
    /// The backend is away or refuses the write; or the app has none.
    async fn chord_start(
        &self,
        group: &str,
        size: usize,
        group_result: Option<&Value>,
        is_again: bool,
    ) -> Result<Start, Error>;

    /// Counts a part, once for its task id and index, whatever its runs return. `token` is the caller's own, and the same
    /// when it calls again for this run of the task: after an error, or to look again.
    ///
    /// # Cancel safety
    /// It may have been counted and the chord claimed. The next call with the same token gets that claim.
    ///
    /// # Errors
    /// The backend is away or refuses the write.
    async fn chord_part(&self, part: &Part<'_>, token: &str) -> Result<Counted, Error>;

    /// What the body is called with, for whoever has the claim.
    ///
    /// # Errors
    /// The backend is away.
    async fn chord_results(&self, group: &str) -> Result<Parts, Error>;

    /// Makes the claim last for as long as sending the body may take. `false`: another one has it, or the chord is gone;
    /// then the body must not be sent.
    ///
    /// # Errors
    /// The backend is away or refuses the write.
    async fn chord_extend(&self, group: &str, claim: &Claim) -> Result<bool, Error>;

    /// Ends a chord whose body was sent. `false`: another one has the claim, and the parts are left to expire.
    ///
    /// # Cancel safety
    /// It may be over. To end it again is harmless.
    ///
    /// # Errors
    /// The backend is away or refuses the write.
    async fn chord_done(&self, group: &str, claim: &Claim) -> Result<bool, Error>;

    /// Sends the body and ends the chord in one step, so that no crash comes in between. `None`: it cannot be done in one
    /// step, and nothing was done; else as [`Self::chord_done`].
    ///
    /// # Cancel safety
    /// It may be done. To do it again is harmless.
    ///
    /// # Errors
    /// The backend is away or refuses the write.
    async fn chord_send(
        &self,
        _group: &str,
        _claim: &Claim,
        _posts: &[(Slot, String)],
    ) -> Result<Option<bool>, Error> {
        Ok(None)
    }

    /// Ends a chord whose body was made to fail; its parts are left to expire. No further part counts.
    ///
    /// # Cancel safety
    /// As [`Self::chord_done`].
    ///
    /// # Errors
    /// The backend is away or refuses the write.
    async fn chord_failed(&self, group: &str, claim: &Claim) -> Result<(), Error>;

    /// Adds one to the size of a chord that runs, once for each task id (`Task.add_to_chord`).
    ///
    /// # Cancel safety
    /// It may have been added. To add it again is harmless.
    ///
    /// # Errors
    /// The backend is away or refuses the write; or the app has none.
    async fn chord_grow(&self, group: &str, task_id: &str) -> Result<(), Error>;

    /// Saves the result of a group, as `GroupResult.as_tuple` has it.
    ///
    /// # Errors
    /// The backend is away or refuses the write; or the app has none.
    async fn save_group(&self, group: &str, group_result: &Value) -> Result<(), Error>;

    /// The result of a group, as it was saved; `None`: it was not.
    ///
    /// # Errors
    /// The backend is away, or holds something else under this key; or the app has none.
    async fn restore_group(&self, group: &str) -> Result<Option<Value>, Error>;

    /// Removes the saved result of a group; those of its tasks stay.
    ///
    /// # Errors
    /// The backend is away; or the app has none.
    async fn delete_group(&self, group: &str) -> Result<(), Error>;
}

/// A part of a chord, to be counted.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) group: &'a str,
    pub(crate) task_id: &'a str,
    /// Its place in the header, `group_index`.
    pub(crate) index: Option<i64>,
    /// SUCCESS, FAILURE or REVOKED.
    pub(crate) state: State,
    /// The value, or the exception as a result document has it.
    pub(crate) result: &'a Value,
    /// Its message was handed out before. Where the chord is over, a part that is not may be of its next run.
    pub(crate) is_again: bool,
}

/// What counting a part has come to.
#[derive(Debug, PartialEq)]
pub(crate) enum Counted {
    /// The chord is over; the part was not counted.
    Over,
    /// Others are missing, or it is not known yet how many there are.
    Waiting,
    /// The chord is complete, and the caller starts its body.
    Claimed(Claim),
    /// The chord is complete, and another one has the claim. Whoever goes away now leaves the body to that one, which may
    /// be dead: count again after this time.
    Held(Duration),
}

/// The right to start the body of a chord; it ends by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claim {
    pub(super) token: String,
}

/// What whoever starts a chord has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It was not there; now it is.
    Started,
    /// It is there already: its size is known, and so its messages may have been sent.
    Running,
    /// Its body was sent, or made to fail.
    Over,
}

/// What came of the parts of a chord.
#[derive(Debug, PartialEq)]
pub(crate) enum Parts {
    /// In the form of the header; the values are in the results of these tasks.
    Saved(ResultTree),
    /// By their index, those without one last; where `result_chord_ordered` is off, as they came. Empty when the chord is
    /// over meanwhile.
    Each(Vec<PartResult>),
    /// What is stored cannot be read, for this reason; to try again would not help.
    Unreadable(String),
}

/// What came of one part.
#[derive(Debug, PartialEq)]
pub(crate) struct PartResult {
    pub(crate) task_id: String,
    pub(crate) state: State,
    /// The value, or the exception as a result document has it.
    pub(crate) result: Value,
}

/// The result of a task, or of a group and of those in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ResultTree {
    /// A task's id.
    Task(String),
    /// A group.
    Group {
        /// Its id.
        id: String,
        /// In the order of the group.
        members: Vec<ResultTree>,
    },
}

impl ResultTree {
    /// Reads what `ResultBase.as_tuple` has: `[[id, parent], members]`, `members` being null for a task; instead of
    /// `[id, parent]` the id alone. Parents are left out. `None`: it is none.
    pub(crate) fn from_tuple(tuple: &Value) -> Option<Self> {
        let [named, members] = tuple.as_array()?.as_slice() else {
            return None;
        };
        let id = named.as_array().map_or(Some(named), |both| both.first())?;
        let id = id.as_str()?.to_owned();
        if members.is_null() {
            return Some(Self::Task(id));
        }
        // What is read nests no deeper than the reader allows.
        let members = members.as_array()?.iter().map(Self::from_tuple);
        Some(Self::Group {
            id,
            members: members.collect::<Option<_>>()?,
        })
    }
}

/// The least that a claim lasts, in seconds.
const CLAIM_SECS_MIN: u64 = 5;

/// What a claim's length is made from where the join may take for ever, in seconds.
const JOIN_SECS_DEFAULT: u64 = 5;

/// How long sending the body may take, in seconds: Celery's defaults for `task_publish_retry_policy` (three retries, after
/// 0, 0.2 and 0.4 s) and `broker_connection_timeout` (4 s, and one more for the answer).
const PUBLISH_SECS: u64 = 21;

/// The least that is remembered of a chord that is over, in seconds.
const DONE_SECS_MIN: u64 = 300;

/// The longest that one waits before one looks again at a chord that another has claimed: most are done much sooner than
/// their claim ends.
const LOOK_AGAIN_MS: u64 = 1000;

/// How chords are kept.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) is_ordered: bool,
    /// For how long what belongs to a chord is kept, in seconds; 0: for ever.
    pub(super) chord_secs: u64,
    /// The same of the header's saved result.
    pub(super) header_secs: u64,
    /// The same of a group that somebody saves.
    pub(super) group_secs: u64,
    /// How long a claim lasts, in seconds: for reading the results.
    pub(super) claim_secs: u64,
    /// How long it lasts when it was extended: for sending the body.
    pub(super) publish_secs: u64,
    /// For how long it is known that a chord is over, in seconds.
    pub(super) done_secs: u64,
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Self {
        let group_secs = whole_secs(settings.result_expires);
        let chord_secs = match settings.result_chord_expires {
            None => group_secs,
            Some(expires) => whole_secs((!expires.is_zero()).then_some(expires)),
        };
        let join = settings.result_chord_join_timeout;
        let join = join.unwrap_or(Duration::from_secs(JOIN_SECS_DEFAULT));
        let claim_secs = join.saturating_mul(2).as_secs().max(CLAIM_SECS_MIN);
        Self {
            is_ordered: settings
                .result_backend_transport_options
                .result_chord_ordered,
            chord_secs,
            header_secs: match chord_secs.min(group_secs) {
                0 => 0,
                _ => chord_secs.max(group_secs),
            },
            group_secs,
            claim_secs,
            publish_secs: claim_secs.max(PUBLISH_SECS),
            done_secs: claim_secs.saturating_mul(2).max(DONE_SECS_MIN),
        }
    }
}

impl Counted {
    pub(super) fn claimed(token: &str) -> Self {
        Self::Claimed(Claim {
            token: token.to_owned(),
        })
    }

    /// `left_ms`: how long the other's claim lasts, if it ends by itself.
    pub(super) fn held(left_ms: Option<u64>) -> Self {
        let wait_ms = left_ms.map_or(LOOK_AGAIN_MS, |left| left.clamp(1, LOOK_AGAIN_MS));
        Self::Held(Duration::from_millis(wait_ms))
    }
}

/// The bytes of a part: `[1, task id, state, result]`. What cannot be stored is a failure, as with results.
pub(super) fn write_part(documents: &Documents, part: &Part<'_>) -> Vec<u8> {
    let text = |state: &State, result: Value| {
        Value::from(vec![
            Value::from(1),
            Value::from(part.task_id),
            Value::from(state.as_str()),
            result,
        ])
    };
    let exception = match documents.write_value(&text(&part.state, part.result.clone())) {
        Ok(bytes) => return bytes,
        Err(exception) => exception,
    };
    let (id, why) = (shown(part.task_id), exception.display());
    log::error!(task_id = &*id; "cannot count the result of {id}, counting a failure instead: {why}");
    let failure = text(&State::Failure, exception.to_value());
    let bytes = documents.write_value(&failure);
    bytes.unwrap_or_else(|_| failure.to_string().into_bytes())
}

/// # Errors
/// It is no part, or the settings accept none.
pub(super) fn read_part(
    documents: &Documents,
    key: &str,
    bytes: &[u8],
) -> Result<PartResult, Error> {
    let value = documents.read_value("part of a chord", key, bytes)?;
    let Value::Array(fields) = value else {
        return Err(no("part of a chord", key));
    };
    match <[Value; 4]>::try_from(fields) {
        Ok([_, Value::String(task_id), Value::String(state), result]) => Ok(PartResult {
            task_id,
            state: State::from(state.as_str()),
            result,
        }),
        _ => Err(no("part of a chord", key)),
    }
}

/// What came of a chord, from its header's saved result.
pub(super) fn read_header(documents: &Documents, key: &str, bytes: &[u8]) -> Parts {
    let tuple = read_group(documents, key, bytes);
    let tree = tuple.and_then(|tuple| {
        let tree = ResultTree::from_tuple(&tuple);
        tree.ok_or_else(|| no("group", key))
    });
    match tree {
        Ok(tree) => Parts::Saved(tree),
        Err(error) => Parts::Unreadable(error.to_string()),
    }
}

/// The bytes of a saved group: `{"result": tuple}`.
///
/// # Errors
/// The serializer has no form for it, or it is too large.
pub(super) fn write_group(documents: &Documents, group_result: &Value) -> Result<Vec<u8>, Error> {
    let document = super::map([("result", group_result.clone())]);
    let written = documents.write_value(&Value::from(document));
    written.map_err(|exception| Error::Reply {
        reply: exception.display(),
    })
}

/// # Errors
/// It is no group, or the settings accept none.
pub(super) fn read_group(documents: &Documents, key: &str, bytes: &[u8]) -> Result<Value, Error> {
    let mut document = documents.read_value("group", key, bytes)?;
    let tuple = document.get_mut("result").map(Value::take);
    tuple.ok_or_else(|| no("group", key))
}

fn no(what: &str, key: &str) -> Error {
    Error::Reply {
        reply: format!("key {key:?} holds no {what}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn group(id: &str, members: Vec<ResultTree>) -> ResultTree {
        let id = id.to_owned();
        ResultTree::Group { id, members }
    }

    fn task(id: &str) -> ResultTree {
        ResultTree::Task(id.to_owned())
    }

    #[test]
    fn celerys_tuples_are_a_tree() {
        let tuple = json!([
            ["g", [["p", null], null]],
            [
                [["t1", null], null],
                [
                    ["g2", [["t2", null], null]],
                    [["a", null], [["b", null], null]]
                ],
                [["e", null], []]
            ]
        ]);
        let inner = group("g2", vec![task("a"), task("b")]);
        let tree = group("g", vec![task("t1"), inner, group("e", Vec::new())]);
        assert_eq!(ResultTree::from_tuple(&tuple), Some(tree));
        for rubbish in [
            json!(null),
            json!("g"),
            json!([]),
            json!([["g", null]]),
            json!([[], null]),
            json!([[1, null], null]),
            json!([["g", null], 1]),
            json!([["g", null], ["t"]]),
        ] {
            assert_eq!(ResultTree::from_tuple(&rubbish), None, "{rubbish}");
        }
    }

    #[test]
    fn the_numbers_are_celerys() {
        let day = 86_400;
        for (expires, chord_expires, join, kept, held) in [
            (Some(86_400.0), None, Some(3.0), [day, day], [6, 21, 300]),
            (Some(86_400.0), Some(60.9), None, [60, day], [10, 21, 300]),
            (
                Some(60.0),
                Some(86_400.0),
                Some(1.0),
                [day, day],
                [5, 21, 300],
            ),
            (Some(60.0), Some(0.0), Some(20.4), [0, 0], [40, 40, 300]),
            (None, Some(60.0), Some(200.0), [60, 0], [400, 400, 800]),
            (None, None, Some(3.0), [0, 0], [6, 21, 300]),
        ] {
            let secs = |secs: Option<f64>| secs.map(Duration::from_secs_f64);
            let rules = Rules::new(&Settings {
                result_expires: secs(expires),
                result_chord_expires: secs(chord_expires),
                result_chord_join_timeout: secs(join),
                ..Settings::default()
            });
            assert_eq!([rules.chord_secs, rules.header_secs], kept);
            let lengths = [rules.claim_secs, rules.publish_secs, rules.done_secs];
            assert_eq!(lengths, held);
        }
    }
}
