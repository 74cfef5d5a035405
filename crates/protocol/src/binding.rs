//! Names of keys that kombu's Redis transport keeps for queues and exchanges.
//!
//! Counterpart: `kombu/transport/redis.py @ 5.7.0` (`_queue_bind`, `_q_for_pri`, `PRIORITY_STEPS`).

use crate::DecodeError;

/// kombu's separator: the bytes 0x06 0x16, in binding members and in the names of priority lists.
pub const SEP: &str = "\x06\x16";

/// kombu's default `priority_steps`. A step has its own list; 0 is the plain queue and is served first.
pub const PRIORITY_STEPS: [u8; 4] = [0, 3, 6, 9];

/// One member of a binding set: messages to the exchange with this routing key go to this queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The routing key; empty for fanout exchanges.
    pub routing_key: String,
    /// A pattern for topic exchanges; empty for direct ones.
    pub pattern: String,
    /// The queue's name.
    pub queue: String,
}

impl Binding {
    /// The binding of a direct exchange, as Celery makes it for a queue.
    pub fn direct(routing_key: impl Into<String>, queue: impl Into<String>) -> Self {
        Self {
            routing_key: routing_key.into(),
            pattern: String::new(),
            queue: queue.into(),
        }
    }

    /// The member's text: `celery␆␖␆␖celery`.
    pub fn to_member(&self) -> String {
        [self.routing_key.as_str(), &self.pattern, &self.queue].join(SEP)
    }

    /// Reads a member.
    ///
    /// # Errors
    /// [`DecodeError::Field`] when it does not have three parts.
    pub fn parse(member: &str) -> Result<Self, DecodeError> {
        let parts: Vec<&str> = member.split(SEP).collect();
        let [routing_key, pattern, queue] = parts.as_slice() else {
            return Err(DecodeError::Field {
                object: "binding",
                field: "member",
                expected: "three parts separated by 0x06 0x16",
                found: "another number of parts",
            });
        };
        Ok(Self {
            routing_key: (*routing_key).to_owned(),
            pattern: (*pattern).to_owned(),
            queue: (*queue).to_owned(),
        })
    }
}

/// The set with all bindings of an exchange: `_kombu.binding.<exchange>`.
pub fn binding_key(exchange: &str) -> String {
    format!("_kombu.binding.{exchange}")
}

/// The set with the bindings of queues that never expire, new in kombu 5.7: without it, the sweep of an exchange that
/// also has an expiring queue takes these with it.
pub fn permanent_binding_key(exchange: &str) -> String {
    format!("_kombu.binding_permanent.{exchange}")
}

/// The step that serves a message of this priority: the largest one that is not above it.
/// Priorities outside 0 to 9 count as the nearest of these; `steps` are ascending.
pub fn priority_step(priority: i64, steps: &[u8]) -> u8 {
    let priority = u8::try_from(priority.clamp(0, 9)).unwrap_or(0);
    steps
        .iter()
        .copied()
        .take_while(|step| *step <= priority)
        .last()
        .or_else(|| steps.first().copied())
        .unwrap_or(0)
}

/// The list of a queue for one step: the queue itself for 0, else `celery␆␖3`.
pub fn priority_queue(queue: &str, step: u8) -> String {
    if step == 0 {
        queue.to_owned()
    } else {
        format!("{queue}{SEP}{step}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_served_by_the_step_below_it() {
        let steps = |steps: &[u8]| {
            [-1, 0, 2, 3, 5, 6, 9, 10].map(|priority| priority_step(priority, steps))
        };
        assert_eq!(steps(&PRIORITY_STEPS), [0, 0, 0, 3, 3, 6, 9, 9]);
        assert_eq!(steps(&[0]), [0; 8]);
        assert_eq!(steps(&[]), [0; 8]);
    }

    #[test]
    fn a_member_has_three_parts() {
        let binding = Binding::parse("worker.#\x06\x16*\x06\x16q").unwrap();
        assert_eq!(
            (
                binding.routing_key.as_str(),
                binding.pattern.as_str(),
                binding.queue.as_str()
            ),
            ("worker.#", "*", "q")
        );
        assert!(Binding::parse("q").is_err());
        assert!(Binding::parse("a\x06\x16b\x06\x16c\x06\x16d").is_err());
    }
}
