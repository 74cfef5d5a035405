//! The third part of a task message's body: what is to happen after the task.
//!
//! ```json
//! {"callbacks": null, "errbacks": null, "chain": null, "chord": null}
//! ```
//! Counterpart: `celery/app/amqp.py @ 5.7.0` (`as_task_v2`).

use serde_json::Value;

use super::Signature;
use crate::{
    DecodeError, Map,
    fields::Fields,
    key_order::{KeyOrder, Layout},
};

/// The third part of a body: what is to happen after the task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embed {
    /// Sent with the result when the task succeeds (`link`).
    pub callbacks: Option<Vec<Signature>>,
    /// Sent when the task fails (`link_error`).
    pub errbacks: Option<Vec<Signature>>,
    /// The rest of the chain, in reverse: the last one is next.
    pub chain: Option<Vec<Signature>>,
    /// The body of the chord that the task is a part of.
    pub chord: Option<Signature>,
    /// Further keys.
    pub extra: Map,
    /// The order of the keys, as received.
    pub key_order: KeyOrder,
}

pub(crate) const EMBED: Layout = Layout {
    keys: &["callbacks", "errbacks", "chain", "chord"],
    ..Layout::named("embed")
};

impl Embed {
    /// Reads the third part of a body.
    ///
    /// # Errors
    /// One of the four is no signature, or no list of them.
    pub fn from_map(map: Map) -> Result<Self, DecodeError> {
        Self::from_fields(*Fields::new(&EMBED, map))
    }

    pub(crate) fn from_fields(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let callbacks = fields
            .optional::<Vec<Value>>("callbacks")?
            .map(signatures)
            .transpose()?;
        let errbacks = fields
            .optional::<Vec<Value>>("errbacks")?
            .map(signatures)
            .transpose()?;
        let chain = fields
            .optional::<Vec<Value>>("chain")?
            .map(signatures)
            .transpose()?;
        let chord = fields
            .optional::<Value>("chord")?
            .map(Signature::from_value)
            .transpose()?;
        let (extra, key_order) = fields.finish();
        Ok(Self {
            callbacks,
            errbacks,
            chain,
            chord,
            extra,
            key_order,
        })
    }

    /// As it is written: four keys, null where nothing follows.
    pub fn to_map(&self) -> Map {
        let list = |signatures: &Option<Vec<Signature>>| match signatures {
            None => Value::Null,
            Some(signatures) => signatures.iter().map(Signature::to_value).collect(),
        };
        let mut known = Map::new();
        known.insert("callbacks".to_owned(), list(&self.callbacks));
        known.insert("errbacks".to_owned(), list(&self.errbacks));
        known.insert("chain".to_owned(), list(&self.chain));
        known.insert(
            "chord".to_owned(),
            self.chord.as_ref().map_or(Value::Null, Signature::to_value),
        );
        self.key_order.arrange(&EMBED, known, &self.extra)
    }

    /// The next task of the chain, and what is left of the chain for that task to carry.
    pub fn next_in_chain(&self) -> Option<(&Signature, &[Signature])> {
        self.chain.as_ref()?.split_last()
    }
}

fn signatures(values: Vec<Value>) -> Result<Vec<Signature>, DecodeError> {
    values.into_iter().map(Signature::from_value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_chain_nothing_is_next() {
        assert!(Embed::default().next_in_chain().is_none());
        assert!(
            Embed {
                chain: Some(Vec::new()),
                ..Embed::default()
            }
            .next_in_chain()
            .is_none()
        );
    }
}
