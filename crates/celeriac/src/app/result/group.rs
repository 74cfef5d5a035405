//! Several results: a tree of them, as a document names it, and waiting for all of a list.
//!
//! Counterpart: `celery/result.py` (`result_from_tuple`, `GroupResult`, `ResultSet.join`) @ 5.7.0.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{AsyncResult, ResultError};
use crate::app::App;

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

/// The results of a group's tasks.
#[derive(Debug, Clone)]
pub struct GroupResult {
    id: String,
    results: Vec<ResultNode>,
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

    /// The tasks in it, depth first.
    fn tasks(&self) -> Vec<AsyncResult> {
        match self {
            Self::Task(result) => vec![result.clone()],
            Self::Group(group) => group.tasks(),
        }
    }
}

impl GroupResult {
    /// The group's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its members.
    pub fn results(&self) -> &[ResultNode] {
        &self.results
    }

    /// Its tasks, also those of the groups in it.
    pub fn tasks(&self) -> Vec<AsyncResult> {
        self.results.iter().flat_map(ResultNode::tasks).collect()
    }

    /// Waits for all of its tasks; see [`join`].
    ///
    /// # Errors
    /// That of the first task without a value.
    pub async fn join<T: DeserializeOwned>(
        &self,
        timeout: impl Into<Option<Duration>> + Send,
    ) -> Result<Vec<T>, ResultError> {
        join(&self.tasks(), timeout).await
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

/// Results as documents name them: `[[id, parent], members]` each, `members` being null for a task. What is not of this
/// form is left out.
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
    if let Some(members) = members.as_array() {
        return Some(ResultNode::Group(GroupResult {
            id: id.to_owned(),
            results: some(app, members, depth),
        }));
    }
    let parent = parent.and_then(|parent| node(app, parent, depth));
    let parent = parent.and_then(|parent| parent.as_task().cloned());
    Some(ResultNode::Task(app.async_result(id).with_parent(parent)))
}

#[cfg(test)]
mod tests {
    use celeriac_protocol::json;

    use super::*;
    use crate::app::Settings;

    #[test]
    fn celerys_tuples_become_a_tree() {
        let settings = Settings {
            broker_url: "memory://tree".to_owned(),
            ..Settings::default()
        };
        let app = App::builder("tree", settings).build().unwrap();
        let tuples = json::parse(
            "children",
            br#"[[["a", [["b", null], null]], null],
                [["g", null], [[["c", null], null], [["h", null], [[["d", null], null]]]]],
                ["old", null], 3, [], ["x"]]"#,
        );
        let nodes = nodes(&app, tuples.unwrap().as_array().unwrap());
        let ids: Vec<&str> = nodes.iter().map(ResultNode::id).collect();
        assert_eq!(ids, ["a", "g", "old"]);
        let parent = nodes[0].as_task().unwrap().parent().unwrap();
        assert_eq!((parent.id(), parent.parent().is_none()), ("b", true));
        let tasks = nodes[1].tasks();
        let ids: Vec<&str> = tasks.iter().map(AsyncResult::id).collect();
        assert_eq!(ids, ["c", "d"]);
    }
}
