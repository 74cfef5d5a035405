//! What comes of a canvas: a task's result or a group's, and those that came before it.
//!
//! In messages, results and saved groups it is `[[id, parent], members]`: the parent is null or of the same form, the
//! members are null for a task.
//!
//! Counterpart: `celery/result.py` (`result_from_tuple`, `as_tuple`) @ 5.7.0.

use std::sync::Arc;
use std::time::Duration;

use celeriac_protocol::state::State;
use futures_util::future::try_join_all;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{AsyncResult, GroupResult, ResultError, error};
use crate::app::App;
use crate::transport::Error;

/// How deep results may lie in each other; what lies deeper is left out.
const DEPTH_MAX: usize = 128;

/// A task, or a group of tasks.
#[derive(Debug, Clone)]
pub enum ResultNode {
    /// A task.
    Task(AsyncResult),
    /// A group.
    Group(GroupResult),
}

impl From<AsyncResult> for ResultNode {
    fn from(result: AsyncResult) -> Self {
        Self::Task(result)
    }
}

impl From<GroupResult> for ResultNode {
    fn from(result: GroupResult) -> Self {
        Self::Group(result)
    }
}

impl App {
    /// A result from what [`ResultNode::as_tuple`], or Python's `as_tuple()`, has made of it; `None`: it is none.
    pub fn result_from_tuple(&self, tuple: &Value) -> Option<ResultNode> {
        node(self, tuple, DEPTH_MAX)
    }
}

impl ResultNode {
    /// The id of the task, or of the group.
    pub fn id(&self) -> &str {
        match self {
            Self::Task(result) => result.id(),
            Self::Group(group) => group.id(),
        }
    }

    /// The task, if it is one.
    pub fn as_task(&self) -> Option<&AsyncResult> {
        match self {
            Self::Task(result) => Some(result),
            Self::Group(_) => None,
        }
    }

    /// The group, if it is one.
    pub fn as_group(&self) -> Option<&GroupResult> {
        match self {
            Self::Task(_) => None,
            Self::Group(group) => Some(group),
        }
    }

    /// What came before it: the task before it in a chain, the header of a chord.
    pub fn parent(&self) -> Option<&Self> {
        match self {
            Self::Task(result) => result.parent(),
            Self::Group(group) => group.parent(),
        }
    }

    /// Waits for the value of the task, or for the list of those of the group.
    ///
    /// # Cancel safety
    /// Dropped, it waits no more; it can be asked again.
    ///
    /// # Errors
    /// As [`AsyncResult::get`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        timeout: impl Into<Option<Duration>> + Send,
    ) -> Result<T, ResultError> {
        let value = self.value(timeout.into()).await?;
        error::value(self.id(), value)
    }

    /// Whether all tasks of it have ended: SUCCESS, FAILURE or REVOKED.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn ready(&self) -> Result<bool, Error> {
        Ok(self.states().await?.iter().all(State::is_ready))
    }

    /// Whether all tasks of it are SUCCESS.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn successful(&self) -> Result<bool, Error> {
        let states = self.states().await?;
        Ok(states.iter().all(|state| *state == State::Success))
    }

    /// Whether any task of it is FAILURE.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn failed(&self) -> Result<bool, Error> {
        let states = self.states().await?;
        Ok(states.contains(&State::Failure))
    }

    /// Removes what is stored about it and about what came before it.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn forget(&self) -> Result<(), Error> {
        let mut all = Vec::new();
        self.with_all_before(&mut all);
        for result in all {
            result.app.backend().forget(result.id()).await?;
        }
        Ok(())
    }

    /// Lets a task wait for it; see [`AsyncResult::allow_join`].
    #[must_use]
    pub fn allow_join(self) -> Self {
        match self {
            Self::Task(result) => Self::Task(result.allow_join()),
            Self::Group(group) => Self::Group(group.allow_join()),
        }
    }

    /// It and what came before it, as JSON: `[[id, parent], members]`. See [`App::result_from_tuple`].
    pub fn as_tuple(&self) -> Value {
        let parent = self.parent().map(Self::as_tuple);
        let members = self.as_group();
        let members = members.map(|group| group.results().iter().map(Self::as_tuple));
        let members = members.map(Iterator::collect::<Vec<_>>);
        json!([[self.id(), parent], members])
    }

    pub(super) async fn value(&self, timeout: Option<Duration>) -> Result<Value, ResultError> {
        match self {
            Self::Task(result) => result.value(timeout).await,
            Self::Group(group) => group.value(timeout).await,
        }
    }

    /// The tasks in it, depth first.
    pub(super) fn tasks(&self) -> Vec<AsyncResult> {
        match self {
            Self::Task(result) => vec![result.clone()],
            Self::Group(group) => group.tasks(),
        }
    }

    pub(super) async fn states(&self) -> Result<Vec<State>, Error> {
        let tasks = self.tasks().into_iter();
        try_join_all(tasks.map(|task| async move { task.state().await })).await
    }

    fn with_all_before<'a>(&'a self, all: &mut Vec<&'a AsyncResult>) {
        match self {
            Self::Task(result) => all.push(result),
            Self::Group(group) => {
                let members = group.results().iter();
                members.for_each(|member| member.with_all_before(all));
            }
        }
        if let Some(parent) = self.parent() {
            parent.with_all_before(all);
        }
    }
}

/// Results as documents name them. What is not of this form is left out.
pub(super) fn nodes(app: &App, tuples: &[Value]) -> Vec<ResultNode> {
    some(app, tuples, DEPTH_MAX)
}

fn some(app: &App, tuples: &[Value], depth: usize) -> Vec<ResultNode> {
    let nodes = tuples.iter().filter_map(|tuple| node(app, tuple, depth));
    nodes.collect()
}

fn node(app: &App, tuple: &Value, depth: usize) -> Option<ResultNode> {
    let depth = depth.checked_sub(1)?;
    let [named, members] = tuple.as_array()?.as_slice() else {
        return None;
    };
    let (id, parent) = match named {
        Value::Array(both) => (both.first()?.as_str()?, both.get(1)),
        id => (id.as_str()?, None),
    };
    let parent = parent.and_then(|parent| node(app, parent, depth));
    let parent = parent.map(Arc::new);
    Some(match members.as_array() {
        None => ResultNode::Task(app.async_result(id).with_parent(parent)),
        Some(members) => {
            let members = some(app, members, depth);
            ResultNode::Group(GroupResult::new(
                app.clone(),
                id.to_owned(),
                members,
                parent,
            ))
        }
    })
}

#[cfg(test)]
mod tests {
    use celeriac_protocol::json;

    use super::*;
    use crate::app::Settings;

    #[test]
    fn celerys_tuples_become_a_tree_and_back() {
        let settings = Settings {
            broker_url: "memory://tree".to_owned(),
            ..Settings::default()
        };
        let app = App::builder("tree", settings).build().unwrap();
        let tuples = json::parse(
            "children",
            br#"[[["a", [["b", null], null]], null],
                [["g", null], [[["c", null], null], [["h", null], [[["d", null], null]]]]],
                [["body", [["header", [["first", null], null]], [[["e", null], null]]]], null],
                ["old", null], 3, [], ["x"]]"#,
        );
        let tuples = tuples.unwrap();
        let tuples = tuples.as_array().unwrap();
        let nodes = nodes(&app, tuples);
        let ids: Vec<&str> = nodes.iter().map(ResultNode::id).collect();
        assert_eq!(ids, ["a", "g", "body", "old"]);
        let parent = nodes[0].parent().unwrap();
        assert_eq!((parent.id(), parent.parent().is_none()), ("b", true));
        let tasks = nodes[1].tasks();
        let ids: Vec<&str> = tasks.iter().map(AsyncResult::id).collect();
        assert_eq!(ids, ["c", "d"]);
        let header = nodes[2].parent().and_then(ResultNode::as_group).unwrap();
        assert_eq!(header.results()[0].id(), "e");
        assert_eq!(header.parent().map(ResultNode::id), Some("first"));
        let mut all = Vec::new();
        nodes[2].with_all_before(&mut all);
        let ids: Vec<&str> = all.into_iter().map(AsyncResult::id).collect();
        assert_eq!(ids, ["body", "e", "first"]);
        let again: Vec<Value> = nodes[..3].iter().map(ResultNode::as_tuple).collect();
        assert_eq!(again, tuples[..3]);
    }
}
