//! What will come of a canvas: the ids of its results, and which came before which.
//!
//! A result is written as `[[id, parent], null]`, that of a group as `[[id, parent], [member, …]]`; the parent is null or
//! of the same form.
//!
//! Counterpart: `celery/result.py @ 5.7.0` (`AsyncResult.as_tuple`, `GroupResult.as_tuple`).

use serde_json::Value;

/// How many results that came before a result are written, one inside the other: two levels of JSON for each, of which no
/// more than [`crate::Limits::nesting`] would be read again. Celery writes all of them, and fails at about 1000 levels.
const PARENTS: usize = 100;

/// A result among [`Results`].
pub(super) type Place = usize;

/// All results of a canvas while it is being prepared. They name each other, and change whom they name.
#[derive(Debug, Default)]
pub(super) struct Results {
    all: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    id: String,
    parent: Option<Place>,
    /// `None`: a task.
    members: Option<Vec<Place>>,
}

impl Results {
    pub(super) fn task(&mut self, id: impl Into<String>) -> Place {
        self.add(id.into(), None)
    }

    pub(super) fn group(&mut self, id: impl Into<String>, members: Vec<Place>) -> Place {
        self.add(id.into(), Some(members))
    }

    fn add(&mut self, id: String, members: Option<Vec<Place>>) -> Place {
        self.all.push(Node {
            id,
            parent: None,
            members,
        });
        self.all.len() - 1
    }

    fn node(&self, place: Place) -> Option<&Node> {
        self.all.get(place)
    }

    /// The id of a task; a group has no task id.
    pub(super) fn task_id(&self, place: Place) -> Option<&str> {
        let node = self.node(place)?;
        node.members.is_none().then_some(node.id.as_str())
    }

    pub(super) fn id(&self, place: Place) -> &str {
        self.node(place).map_or("", |node| node.id.as_str())
    }

    pub(super) fn parent(&self, place: Place) -> Option<Place> {
        self.node(place)?.parent
    }

    pub(super) fn set_parent(&mut self, place: Place, parent: Option<Place>) {
        if let Some(node) = self.all.get_mut(place) {
            node.parent = parent;
        }
    }

    /// The first of those that came before.
    pub(super) fn origin(&self, place: Place) -> Place {
        let before = std::iter::successors(Some(place), |place| self.parent(*place));
        // Each names one that was made before or after it, but none itself: were it not so, this ends all the same.
        before.take(self.all.len()).last().unwrap_or(place)
    }

    pub(super) fn is_group(&self, place: Place) -> bool {
        self.members(place).is_some()
    }

    pub(super) fn members(&self, place: Place) -> Option<&[Place]> {
        self.node(place)?.members.as_deref()
    }

    /// As it is written. Of a long chain only the last results are.
    pub(super) fn tuple(&self, place: Place) -> Value {
        self.written(place, PARENTS)
    }

    fn written(&self, place: Place, parents: usize) -> Value {
        let Some(node) = self.node(place) else {
            return Value::Null;
        };
        let inner = |place: Place| self.written(place, parents.saturating_sub(1));
        let parent = node.parent.filter(|_| parents > 0).map(inner);
        let members = node.members.as_ref();
        let members = members.map(|all| all.iter().map(|member| inner(*member)).collect());
        let result = vec![node.id.as_str().into(), parent.unwrap_or_default()];
        Value::Array(vec![Value::Array(result), members.unwrap_or_default()])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use crate::canvas::{Canvas, Planner, Signature};
    use crate::json;

    #[test]
    fn what_comes_of_a_long_chain_can_be_read_again() {
        let task = || Canvas::from(Signature::new("t", Vec::new(), Map::new()));
        let mut count = 0;
        let mut ids = || {
            count += 1;
            format!("id-{count}")
        };
        let chain = Canvas::chain((0..5_000).map(|_| task()));
        let planner = Planner::new("oid", &mut ids);
        let plan = planner.apply(&chain, &[], &Map::new(), Map::new());
        let result = plan.unwrap().result.unwrap();
        let written = json::to_python_vec(&result);
        assert_eq!(json::parse("result", &written), Ok(result));
    }
}
