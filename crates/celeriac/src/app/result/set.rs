//! Several results: any, or those of a group.
//!
//! Counterpart: `celery/result.py` (`ResultSet`, `GroupResult`) @ 5.7.0.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use celeriac_protocol::state::State;
use futures_util::future::{BoxFuture, try_join_all};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{AsyncResult, ResultError, ResultNode, error, parents};
use crate::app::App;
use crate::transport::Error;

/// Results that are waited for together.
#[derive(Debug, Clone, Default)]
pub struct ResultSet {
    results: Vec<ResultNode>,
}

impl ResultSet {
    /// A set of these, in this order.
    pub fn new<R: Into<ResultNode>>(results: impl IntoIterator<Item = R>) -> Self {
        let mut set = Self::default();
        results.into_iter().for_each(|result| set.add(result));
        set
    }

    /// Adds one, unless it is there.
    pub fn add(&mut self, result: impl Into<ResultNode>) {
        let result = result.into();
        if self.results.iter().all(|there| there.id() != result.id()) {
            self.results.push(result);
        }
    }

    /// All of them, in order.
    pub fn results(&self) -> &[ResultNode] {
        &self.results
    }

    /// The tasks, also those of the groups in it.
    pub fn tasks(&self) -> Vec<AsyncResult> {
        self.results.iter().flat_map(ResultNode::tasks).collect()
    }

    /// Waits for all of them at a time and returns their values in order; that of a group is a list. The first that fails
    /// ends it.
    ///
    /// # Cancel safety
    /// Dropped, it waits no more; it can be asked again.
    ///
    /// # Errors
    /// As [`AsyncResult::get`], of the first without a value; the timeout is one for all.
    pub async fn join<T: DeserializeOwned>(
        &self,
        timeout: impl Into<Option<Duration>> + Send,
    ) -> Result<Vec<T>, ResultError> {
        self.typed(self.values(timeout.into()).await?)
    }

    /// Whether all have ended: SUCCESS, FAILURE or REVOKED.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn ready(&self) -> Result<bool, Error> {
        Ok(self.states().await?.iter().flatten().all(State::is_ready))
    }

    /// Whether any has not ended.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn waiting(&self) -> Result<bool, Error> {
        Ok(!self.ready().await?)
    }

    /// Whether all are SUCCESS.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn successful(&self) -> Result<bool, Error> {
        Ok(self.completed_count().await? == self.results.len())
    }

    /// Whether any is FAILURE.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn failed(&self) -> Result<bool, Error> {
        let states = self.states().await?;
        Ok(states
            .iter()
            .flatten()
            .any(|state| *state == State::Failure))
    }

    /// How many are SUCCESS; a group is one.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn completed_count(&self) -> Result<usize, Error> {
        let states = self.states().await?;
        let is_completed =
            |states: &&Vec<State>| states.iter().all(|state| *state == State::Success);
        Ok(states.iter().filter(is_completed).count())
    }

    /// Removes what is stored about them and about what came before them.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn forget(&self) -> Result<(), Error> {
        for result in &self.results {
            result.forget().await?;
        }
        Ok(())
    }

    /// Asks all workers not to start any of the tasks.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn revoke(&self) -> Result<(), Error> {
        let tasks = self.tasks();
        let ids: Vec<&str> = tasks.iter().map(AsyncResult::id).collect();
        match tasks.first() {
            Some(first) => first.app.revoke(&ids).await,
            None => Ok(()),
        }
    }

    /// Lets a task wait for them; see [`AsyncResult::allow_join`].
    #[must_use]
    pub fn allow_join(self) -> Self {
        let results = self.results.into_iter().map(ResultNode::allow_join);
        Self {
            results: results.collect(),
        }
    }

    async fn values(&self, timeout: Option<Duration>) -> Result<Vec<Value>, ResultError> {
        let results = self.results.iter().cloned();
        try_join_all(results.map(|result| async move { result.value(timeout).await })).await
    }

    fn typed<T: DeserializeOwned>(&self, values: Vec<Value>) -> Result<Vec<T>, ResultError> {
        let values = self.results.iter().zip(values);
        let values = values.map(|(result, value)| error::value(result.id(), value));
        values.collect()
    }

    /// Of each the states of its tasks.
    async fn states(&self) -> Result<Vec<Vec<State>>, Error> {
        let results = self.results.iter().cloned();
        try_join_all(results.map(|result| async move { result.states().await })).await
    }
}

/// What comes of a group: a [`ResultSet`] that has an id, and perhaps something that came before it.
#[derive(Debug, Clone)]
pub struct GroupResult {
    id: String,
    app: App,
    set: ResultSet,
    parent: Option<Arc<ResultNode>>,
}

impl Deref for GroupResult {
    type Target = ResultSet;

    fn deref(&self) -> &ResultSet {
        &self.set
    }
}

impl GroupResult {
    pub(super) fn new(
        app: App,
        id: String,
        results: Vec<ResultNode>,
        parent: Option<Arc<ResultNode>>,
    ) -> Self {
        Self {
            id,
            app,
            set: ResultSet { results },
            parent,
        }
    }

    /// The group's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What came before it in a chain.
    pub fn parent(&self) -> Option<&ResultNode> {
        self.parent.as_deref()
    }

    /// As [`ResultSet::join`].
    ///
    /// # Errors
    /// As there; also where what came before it has failed.
    pub async fn join<T: DeserializeOwned>(
        &self,
        timeout: impl Into<Option<Duration>> + Send,
    ) -> Result<Vec<T>, ResultError> {
        match self.value(timeout.into()).await? {
            Value::Array(values) => self.typed(values),
            _ => Ok(Vec::new()),
        }
    }

    /// Saves which results it has, for [`Self::restore`]. It is kept for `result_expires`.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn save(&self) -> Result<(), Error> {
        let tuple = ResultNode::Group(self.clone()).as_tuple();
        self.app.backend().save_group(&self.id, &tuple).await
    }

    /// What was saved under this id, here or in Python; `None`: nothing.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn restore(app: &App, id: &str) -> Result<Option<Self>, Error> {
        let tuple = app.backend().restore_group(id).await?;
        Ok(
            match tuple.and_then(|tuple| app.result_from_tuple(&tuple)) {
                Some(ResultNode::Group(group)) => Some(group),
                _ => None,
            },
        )
    }

    /// Removes what was saved; the results of its tasks stay.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn delete(&self) -> Result<(), Error> {
        self.app.backend().delete_group(&self.id).await
    }

    /// Lets a task wait for it; see [`AsyncResult::allow_join`].
    #[must_use]
    pub fn allow_join(self) -> Self {
        Self {
            set: self.set.allow_join(),
            ..self
        }
    }

    /// The list of values. A type that names itself: groups lie in groups.
    pub(super) fn value(
        &self,
        timeout: Option<Duration>,
    ) -> BoxFuture<'_, Result<Value, ResultError>> {
        let own = async move { Ok(Value::Array(self.set.values(timeout).await?)) };
        Box::pin(parents::followed(self.parent(), own))
    }
}

/// Waits for several tasks at a time and returns their values in the order of the list. The first that fails ends it.
///
/// # Cancel safety
/// Dropped, it waits no more; it can be asked again.
///
/// # Errors
/// That of the first task without a value; the timeout is one for all.
pub async fn join<T: DeserializeOwned>(
    results: &[AsyncResult],
    timeout: impl Into<Option<Duration>> + Send,
) -> Result<Vec<T>, ResultError> {
    let timeout = timeout.into();
    try_join_all(results.iter().map(|result| result.get(timeout))).await
}
