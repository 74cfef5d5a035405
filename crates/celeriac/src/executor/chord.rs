//! A task's part in a chord: it is counted, and whoever counts the last one sends the body.
//!
//! The order is that of promise M6: a part is counted after its result is stored, and a message is acknowledged after its
//! part is counted. A run that comes again counts once, and goes on with what the first one has left.
//!
//! Counterpart: `celery/backends/redis.py` (`on_chord_part_return`) and `celery/backends/base.py`
//! (`chord_error_from_stack`, `_handle_group_chord_error`) @ 5.7.0.

use std::time::Duration;

use celeriac_protocol::canvas::{Canvas, Group, Planner, Signature};
use celeriac_protocol::exception::TaskException;
use celeriac_protocol::message::TaskMessage;
use celeriac_protocol::repr;
use celeriac_protocol::state::State;
use serde_json::Value;
use uuid::Uuid;

use super::record::{Failed, signatures};
use super::{Executor, Request};
use crate::backend::{Claim, Counted, Part, Parts, ResultTree};
use crate::canvas::{self, FollowUp, FollowUps, Ids, Parent};
use crate::failpoint::failpoint;
use crate::handler::FailedChord;
use crate::log_lines::shown;
use crate::transport::{Error, Slot};

/// Between the failure of a header and that of the body. Whoever waits for the body looks first whether what comes before it
/// has failed, and then at the body (`AsyncResult.get`). Were both to fail in between, he would be told of a `ChordError` and
/// not of what was raised. A worker in Python takes longer than that anyhow.
const HEADER_IS_SEEN: Duration = Duration::from_millis(25);

/// The results of a header, or why there are none.
type Joined = Result<Vec<Value>, Box<Failed>>;

/// Where a chord stands among the tasks of this worker.
struct Chord<'a> {
    /// The header's id.
    group: &'a str,
    body: &'a Signature,
    /// The member that is running.
    by: Option<&'a TaskMessage>,
    /// It may have got so far before.
    is_again: bool,
}

/// What has become of a chord that was claimed.
enum Completed {
    /// Its body was sent, or made to fail.
    Over,
    /// The claim is another's by now.
    Lost,
    /// A stop came first.
    Stopped,
}

impl Executor {
    /// Counts the task's part in its chord, if it is in one; `false` when a stop came first.
    pub(super) async fn report(&self, request: &Request, state: State, result: &Value) -> bool {
        let message = request.message();
        let (Some(body), Some(group)) = (&message.embed.chord, &message.headers.group) else {
            return true;
        };
        let part = Part {
            group,
            task_id: &message.headers.id,
            index: message.headers.group_index,
            state,
            result,
            is_again: request.context().is_redelivered(),
        };
        Box::pin(self.count(&part, body, Some(message))).await
    }

    /// Counts a part; where it is the last one, the body follows. `false` when a stop came first.
    pub(super) async fn count(
        &self,
        part: &Part<'_>,
        body: &Signature,
        by: Option<&TaskMessage>,
    ) -> bool {
        failpoint("before_part");
        // The same for each try: an answer may get lost.
        let token = Uuid::new_v4().simple().to_string();
        let count = || self.app.backend().chord_part(part, &token);
        loop {
            let claim = match self.insisting(part.group, count).await {
                None => return false,
                Some(Counted::Over | Counted::Waiting) => {
                    failpoint("after_part");
                    return true;
                }
                // Whoever has claimed it may be dead; then it is ours when the claim ends.
                Some(Counted::Held(left)) => match self.patience.wait(left).await {
                    true => continue,
                    false => return false,
                },
                Some(Counted::Claimed(claim)) => claim,
            };
            failpoint("after_claim");
            let chord = Chord {
                group: part.group,
                body,
                by,
                is_again: part.is_again,
            };
            match Box::pin(self.complete(&chord, &claim)).await {
                Completed::Over => return true,
                Completed::Stopped => return false,
                Completed::Lost => log::warn!(
                    "Chord callback for '{}' not published: dispatch claim is no longer owned by this worker",
                    shown(part.group)
                ),
            }
        }
    }

    /// `celery.chord_unlock` has ended, and the body of its chord must not run.
    pub(super) async fn fail_chord(
        &self,
        request: Request,
        failed: FailedChord,
        runtime: Duration,
    ) {
        let chord = Chord {
            group: &failed.group,
            body: &failed.body,
            by: Some(request.message()),
            is_again: request.context().is_redelivered(),
        };
        let why = Failed::chord(failed.why).because(failed.cause.clone());
        if !self.fail_body(&chord, &why).await {
            return self.give_back(request).await;
        }
        match failed.is_raised {
            true => self.fail(request, failed.cause, None).await,
            false => self.succeed(request, Value::Null, runtime).await,
        }
    }

    /// All parts are there: the body is sent, or fails.
    async fn complete(&self, chord: &Chord<'_>, claim: &Claim) -> Completed {
        let joined = self.insisting(chord.group, || self.joined(chord.group));
        let Some(joined) = joined.await else {
            return Completed::Stopped;
        };
        let parent = chord.by.map(|by| Parent::of(&self.app, by));
        let body = joined.and_then(|results| {
            let body = canvas::body(&self.app, chord.group, chord.body, results, parent.as_ref());
            body.map_err(|error| {
                let cause = error.into_exception().repr();
                Box::new(Failed::chord(format!("Callback error: {cause}")))
            })
        });
        let completed = match body {
            Ok(body) => self.send_body(chord, claim, body).await,
            Err(failed) => {
                let (group, why) = (shown(chord.group), failed.exception.repr());
                log::error!("Chord '{group}' raised: {why}");
                tokio::time::sleep(HEADER_IS_SEEN).await;
                match self.fail_body(chord, &failed).await {
                    true => self.end(chord, claim, false).await,
                    false => None,
                }
            }
        };
        completed.unwrap_or(Completed::Stopped)
    }

    /// `None` when a stop came first.
    async fn send_body(
        &self,
        chord: &Chord<'_>,
        claim: &Claim,
        body: FollowUps,
    ) -> Option<Completed> {
        let backend = self.app.backend();
        let extend = || backend.chord_extend(chord.group, claim);
        if !self.insisting(chord.group, extend).await? {
            return Some(Completed::Lost);
        }
        let sends = self.start_chords(body.actions, chord.is_again).await?;
        // Where one server has both, no crash can come between the two.
        if let Some(posts) = self.insisting(chord.group, || self.posts(&sends)).await? {
            let send = || backend.chord_send(chord.group, claim, &posts);
            if let Some(is_over) = self.insisting(chord.group, send).await? {
                if !is_over {
                    return Some(Completed::Lost);
                }
                failpoint("after_body");
                for sent in &sends {
                    self.app.announce(&sent.message, &sent.queue).await;
                }
                failpoint("after_cleanup");
                return Some(Completed::Over);
            }
        }
        if !self.send_all(sends).await {
            return None;
        }
        failpoint("after_body");
        self.end(chord, claim, true).await
    }

    async fn posts(&self, sends: &[FollowUp]) -> Result<Option<Vec<(Slot, String)>>, Error> {
        let mut posts = Vec::with_capacity(sends.len());
        for send in sends {
            match self.app.post(&send.message, &send.queue).await? {
                Some(post) => posts.push(post),
                None => return Ok(None),
            }
        }
        Ok(Some(posts))
    }

    /// The chord is over; `None` when a stop came first.
    async fn end(&self, chord: &Chord<'_>, claim: &Claim, is_success: bool) -> Option<Completed> {
        let backend = self.app.backend();
        let end = || async {
            match is_success {
                true => backend.chord_done(chord.group, claim).await,
                false => backend
                    .chord_failed(chord.group, claim)
                    .await
                    .map(|()| true),
            }
        };
        if !self.insisting(chord.group, end).await? {
            log::warn!(
                "Chord callback claim for '{}' was lost before cleanup; chord data was left for expiry",
                shown(chord.group)
            );
        }
        failpoint("after_cleanup");
        Some(Completed::Over)
    }

    /// Asks the backend for a chord until it answers; `None` when a stop came first.
    pub(super) async fn insisting<T, F>(&self, group: &str, ask: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let what = || format!("cannot go on with the chord {}", shown(group));
        self.until_answered(what, ask).await
    }

    /// The results of the header in their order, or why there are none.
    async fn joined(&self, group: &str) -> Result<Joined, Error> {
        let parts = match self.app.backend().chord_results(group).await? {
            Parts::Each(parts) => parts,
            Parts::Saved(tree) => return self.join_saved(&tree).await,
            Parts::Unreadable(why) => return Ok(Err(join_error(&why))),
        };
        let results = parts.into_iter().map(|part| match part.state {
            State::Failure | State::Revoked => {
                let cause = exception(part.result);
                Err(Box::new(Failed::dependency(&part.task_id, cause)))
            }
            _ => Ok(part.result),
        });
        Ok(results.collect())
    }

    /// Results in the form of the header. All are stored by the time that the last part is counted, but those of tasks
    /// that ignore theirs.
    async fn join_saved(&self, tree: &ResultTree) -> Result<Joined, Error> {
        let limit = self.app.settings().result_chord_join_timeout;
        let joining = self.values_of(tree);
        let joined = match limit {
            Some(limit) => tokio::time::timeout(limit, joining).await,
            None => Ok(joining.await),
        };
        let joined = joined.unwrap_or_else(|_elapsed| {
            Ok(Err(TaskException::timeout("The operation timed out.")))
        })?;
        Ok(match joined {
            Ok(Value::Array(values)) => Ok(values),
            Ok(value) => Ok(vec![value]),
            Err(exception) => Err(join_error(&exception.repr())),
        })
    }

    async fn values_of(&self, tree: &ResultTree) -> Result<Result<Value, TaskException>, Error> {
        match tree {
            ResultTree::Task(id) => {
                let meta = self.app.backend().wait(id).await?;
                Ok(match meta.status {
                    State::Success => Ok(meta.result),
                    _ => Err(exception(meta.result)),
                })
            }
            ResultTree::Group { members, .. } => {
                let values = members
                    .iter()
                    .map(|member| Box::pin(self.values_of(member)));
                let values = futures_util::future::try_join_all(values).await?;
                Ok(values
                    .into_iter()
                    .collect::<Result<Vec<_>, _>>()
                    .map(Value::Array))
            }
        }
    }

    /// A chord whose header has failed: its body fails without having run.
    async fn fail_body(&self, chord: &Chord<'_>, failed: &Failed) -> bool {
        let options = &chord.body.options;
        let is_told = match Canvas::from_signature(chord.body.clone()) {
            Ok(Canvas::Group(group)) => self.fail_group(group, chord, failed).await,
            _ => self.fail_one(chord, failed).await,
        };
        is_told
            && self
                .fail_all(
                    signatures(options.get("chain")),
                    failed,
                    chord.is_again,
                    chord.by,
                )
                .await
    }

    async fn fail_one(&self, chord: &Chord<'_>, failed: &Failed) -> bool {
        let body = chord.body;
        let id = body.task_id().map(ToOwned::to_owned);
        let id = id.unwrap_or_else(|| Ids::of(chord.group, "body").next());
        let errbacks = signatures(body.options.get("link_error"));
        // They hear of it before the result is there, as in Celery.
        let called = self.call_errbacks(&errbacks, &id, None, failed);
        let failed = match called.await {
            Ok(true) => failed.clone(),
            Ok(false) => return false,
            Err(exception) => Failed::new(exception),
        };
        self.store_unsent(&id, &failed).await
    }

    /// Each task of a group fails with what has made the header fail, and is revoked.
    async fn fail_group(&self, group: Group, chord: &Chord<'_>, failed: &Failed) -> bool {
        let mut ids = Ids::of(chord.group, "body");
        let mut next = || ids.next();
        let lost = Planner::new(self.app.oid(), &mut next).lost(group);
        let original = failed.original();
        for task in &lost.tasks {
            let called = self.call_errbacks(&task.errbacks, &task.id, None, &original);
            let is_told = called.await.unwrap_or_else(|exception| {
                log::error!(
                    "Failed to handle chord error for task {}: {}",
                    shown(&task.id),
                    exception.repr()
                );
                true
            });
            if !is_told || !self.store_unsent(&task.id, &original).await {
                return false;
            }
        }
        if !self.store_unsent(&lost.group, &original).await {
            return false;
        }
        let ids: Vec<&str> = lost.tasks.iter().map(|task| task.id.as_str()).collect();
        self.insisting(chord.group, || self.app.revoke(&ids))
            .await
            .is_some()
    }
}

/// What a part or a result says of its failure.
fn exception(value: Value) -> TaskException {
    let shown = repr::repr_value(&value);
    TaskException::from_value(value).unwrap_or_else(|_| TaskException::builtin("Exception", shown))
}

fn join_error(why: &str) -> Box<Failed> {
    Box::new(Failed::chord(format!("Join error: {why}")))
}
