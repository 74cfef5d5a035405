//! The names of the keys in Redis.
//!
//! Counterpart: `kombu/transport/redis.py::Channel` @ 5.7.0 (`_q_for_pri`, `keyprefix_queue`,
//! `unacked_*_key`, `global_keyprefix`).

use celeriac_protocol::binding::{self, Binding};

use crate::app::settings::BrokerTransportOptions;

/// Key names under one set of transport options.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    options: BrokerTransportOptions,
}

impl Keys {
    pub(crate) fn new(options: BrokerTransportOptions) -> Self {
        Self { options }
    }

    pub(crate) fn unacked(&self) -> String {
        self.prefixed(&self.options.unacked_key)
    }

    pub(crate) fn unacked_index(&self) -> String {
        self.prefixed(&self.options.unacked_index_key)
    }

    pub(crate) fn unacked_mutex(&self) -> String {
        self.prefixed(&self.options.unacked_mutex_key)
    }

    /// The hash of who lives: worker → how often it has said so.
    pub(crate) fn workers(&self) -> String {
        self.beside_unacked("workers")
    }

    /// The hash of what runs and is acknowledged afterwards: claim → message id.
    pub(crate) fn started(&self) -> String {
        self.beside_unacked("started")
    }

    /// The hash of what has killed: message id → how many of its starts ended in the death of the worker.
    pub(crate) fn deaths(&self) -> String {
        self.beside_unacked("deaths")
    }

    /// The hash of what nobody has known so far: message id → first seen, and how often.
    pub(crate) fn unknown(&self) -> String {
        self.beside_unacked("unknown")
    }

    /// The lock of who takes over from a dead worker.
    pub(crate) fn takeover(&self) -> String {
        self.beside_unacked("takeover")
    }

    /// Who watches the lists of these queues for the others.
    pub(crate) fn lookout(&self, queues: &[String]) -> String {
        self.beside_unacked(&format!("lookout.{}", in_one_word(queues)))
    }

    /// The list whose token calls the next one to watch.
    pub(crate) fn relief(&self, queues: &[String]) -> String {
        self.beside_unacked(&format!("relief.{}", in_one_word(queues)))
    }

    /// What is ours stands beside what is kombu's: workers that share `unacked` share this too.
    fn beside_unacked(&self, what: &str) -> String {
        self.prefixed(&format!("{}_{what}", self.options.unacked_key))
    }

    /// Where messages go that nobody can run.
    pub(crate) fn dead(&self, queue: &str) -> String {
        self.prefixed(&format!("{queue}.dead"))
    }

    /// The list in which messages of this priority wait: the highest step that is not above it.
    pub(crate) fn list(&self, queue: &str, priority: i64) -> String {
        let step = binding::priority_step(priority, &self.options.priority_steps);
        self.step_list(queue, step)
    }

    /// All lists of these queues, in the order in which they are looked at: lowest step first
    /// (0 is the most urgent), the queues in the given order within a step.
    pub(crate) fn lists(&self, queues: &[String]) -> Vec<String> {
        let steps = self.options.priority_steps.iter();
        let of_step = |step| queues.iter().map(move |queue| self.step_list(queue, step));
        steps.copied().flat_map(of_step).collect()
    }

    /// The sets that hold the bindings of an exchange: all of them, and those that never expire.
    pub(crate) fn bindings(&self, exchange: &str) -> [String; 2] {
        [
            self.prefixed(&binding::binding_key(exchange)),
            self.prefixed(&binding::permanent_binding_key(exchange)),
        ]
    }

    /// The member that binds a queue to the direct exchange of its own name.
    pub(crate) fn binding_member(&self, queue: &str) -> String {
        self.direct_member(queue, queue)
    }

    /// The member that binds a queue to a direct exchange by this routing key.
    pub(crate) fn direct_member(&self, routing_key: &str, queue: &str) -> String {
        let member = Binding::direct(routing_key, queue).to_member();
        member.replace(binding::SEP, &self.options.sep)
    }

    /// The member that binds a queue to a fanout exchange.
    pub(crate) fn fanout_member(&self, queue: &str) -> String {
        self.direct_member("", queue)
    }

    /// Until when the bindings of each exchange are kept, where they may expire.
    pub(crate) fn binding_deadlines(&self) -> String {
        self.prefixed("_kombu.binding_deadlines")
    }

    /// The channel of a fanout exchange.
    pub(crate) fn channel(&self, exchange: &str, database: i64) -> String {
        let prefix = &self.options.fanout_prefix;
        let prefix = prefix.replace("{db}", &database.to_string());
        self.prefixed(&format!("{prefix}{exchange}"))
    }

    /// Reads such a member; `None` if it is none.
    pub(crate) fn parse_binding(&self, member: &str) -> Option<Binding> {
        Binding::parse(&member.replace(&self.options.sep, binding::SEP)).ok()
    }

    fn step_list(&self, queue: &str, step: u8) -> String {
        let name = binding::priority_queue(queue, step);
        self.prefixed(&name.replace(binding::SEP, &self.options.sep))
    }

    fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.options.global_keyprefix)
    }
}

/// The same for workers that take from the same queues.
fn in_one_word(queues: &[String]) -> String {
    let mut sorted = queues.to_vec();
    sorted.sort_unstable();
    sorted.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new(BrokerTransportOptions::default())
    }

    #[test]
    fn a_priority_goes_to_the_step_at_or_below_it() {
        let keys = keys();
        assert_eq!(keys.list("q", 0), "q");
        assert_eq!(keys.list("q", 2), "q");
        assert_eq!(keys.list("q", 3), "q\u{6}\u{16}3");
        assert_eq!(keys.list("q", 255), "q\u{6}\u{16}9");
    }

    #[test]
    fn lists_are_ordered_by_step_then_by_queue() {
        let queues = ["a".to_owned(), "b".to_owned()];
        let keys = keys();
        let names = keys.lists(&queues);
        assert_eq!(names[..4], ["a", "b", "a\u{6}\u{16}3", "b\u{6}\u{16}3"]);
        assert_eq!(names.len(), 8);
    }

    #[test]
    fn the_prefix_stands_before_every_key() {
        let keys = Keys::new(BrokerTransportOptions {
            global_keyprefix: "p:".to_owned(),
            ..BrokerTransportOptions::default()
        });
        assert_eq!(keys.list("q", 0), "p:q");
        assert_eq!(keys.unacked(), "p:unacked");
        assert_eq!(keys.dead("q"), "p:q.dead");
        assert_eq!(keys.bindings("x")[1], "p:_kombu.binding_permanent.x");
    }
}
