//! Serializers by kombu's names and content types: which are known, which are accepted, and what goes through them.
//!
//! Guarantee M5: what is not accepted is refused before its bytes are looked at, in kombu's words. Pickle is never read: it
//! runs code.
//!
//! Counterpart: `kombu/serialization.py @ 5.7.0`.

use serde_json::Value;

use crate::{DecodeError, Limits, json, msgpack, yaml};

pub(crate) const JSON_CONTENT_TYPE: &str = "application/json";

/// How a body or a result is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Serializer {
    /// JSON with kombu's tags, Celery's default.
    #[default]
    Json,
    /// MessagePack.
    Msgpack,
    /// YAML, as PyYAML's safe loader and dumper have it.
    Yaml,
}

impl Serializer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Json, Self::Msgpack, Self::Yaml];

    /// By kombu's name, or by the content type; `None` for what is not read here.
    pub fn named(name: &str) -> Option<Self> {
        let is_it =
            |serializer: &Self| name == serializer.name() || name == serializer.content_type();
        Self::ALL.into_iter().find(is_it)
    }

    /// kombu's name: `json`, `msgpack`, `yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Msgpack => "msgpack",
            Self::Yaml => "yaml",
        }
    }

    /// The envelope's `content-type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON_CONTENT_TYPE,
            Self::Msgpack => "application/x-msgpack",
            Self::Yaml => "application/x-yaml",
        }
    }

    /// The envelope's `content-encoding`. It is not looked at when one of these is read, as in kombu.
    pub fn content_encoding(self) -> &'static str {
        match self {
            Self::Json | Self::Yaml => "utf-8",
            Self::Msgpack => "binary",
        }
    }
}

/// The setting `accept_content`: what is read of what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    json: bool,
    msgpack: bool,
    yaml: bool,
}

impl Accept {
    /// JSON alone, Celery's default.
    pub const JSON: Self = Self {
        json: true,
        msgpack: false,
        yaml: false,
    };

    /// These serializers alone.
    pub fn only(serializers: &[Serializer]) -> Self {
        let has = |serializer| serializers.contains(&serializer);
        Self {
            json: has(Serializer::Json),
            msgpack: has(Serializer::Msgpack),
            yaml: has(Serializer::Yaml),
        }
    }

    /// Whether this one is.
    pub fn takes(self, serializer: Serializer) -> bool {
        match serializer {
            Serializer::Json => self.json,
            Serializer::Msgpack => self.msgpack,
            Serializer::Yaml => self.yaml,
        }
    }

    /// The serializer of a content type.
    ///
    /// # Errors
    /// [`DecodeError::ContentDisallowed`].
    pub(crate) fn serializer(self, content_type: &str) -> Result<Serializer, DecodeError> {
        let known = Serializer::ALL
            .into_iter()
            .find(|serializer| serializer.content_type() == content_type);
        known
            .filter(|serializer| self.takes(*serializer))
            .ok_or_else(|| DecodeError::ContentDisallowed {
                alias: parenthesized(content_type),
            })
    }
}

impl Default for Accept {
    /// [`Accept::JSON`].
    fn default() -> Self {
        Self::JSON
    }
}

/// `pickle (application/x-python-serialize)`, or the type twice where kombu has no name for it.
fn parenthesized(content_type: &str) -> String {
    let known = Serializer::ALL
        .into_iter()
        .find(|serializer| serializer.content_type() == content_type);
    let name = match (known, content_type) {
        (Some(serializer), _) => serializer.name(),
        (None, "application/x-python-serialize") => "pickle",
        (None, other) => other,
    };
    format!("{name} ({content_type})")
}

/// A value that the serializer cannot write: kombu's `EncodeError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{serializer} cannot write {what}")]
pub struct EncodeError {
    /// The serializer's name.
    pub serializer: &'static str,
    /// What it cannot write.
    pub what: String,
}

/// Writes a value as kombu's `dumps` does.
///
/// # Errors
/// It has something that this serializer has no form for. JSON has one for everything.
pub fn serialize(serializer: Serializer, value: &Value) -> Result<Vec<u8>, EncodeError> {
    match serializer {
        Serializer::Json => Ok(json::to_python_vec(value)),
        Serializer::Msgpack => msgpack::write(value),
        Serializer::Yaml => yaml::write(value),
    }
}

/// Reads a value as kombu's `loads` does, within the limits; `what` names the bytes in errors.
///
/// # Errors
/// The bytes are not of this serializer, or a limit is passed.
pub fn deserialize(
    limits: &Limits,
    what: &'static str,
    serializer: Serializer,
    bytes: &[u8],
) -> Result<Value, DecodeError> {
    match serializer {
        Serializer::Json => json::parse_within(limits, what, bytes),
        Serializer::Msgpack => msgpack::read(limits, what, bytes),
        Serializer::Yaml => yaml::read(limits, what, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kombus_names_and_content_types_are_known() {
        for serializer in Serializer::ALL {
            assert_eq!(Serializer::named(serializer.name()), Some(serializer));
            assert_eq!(
                Serializer::named(serializer.content_type()),
                Some(serializer)
            );
        }
        assert_eq!(Serializer::named("pickle"), None);
    }

    #[test]
    fn what_is_not_accepted_is_refused_in_kombus_words() {
        let refused =
            |accept: Accept, content_type| accept.serializer(content_type).unwrap_err().to_string();
        for (content_type, words) in [
            (
                "application/x-python-serialize",
                "pickle (application/x-python-serialize)",
            ),
            ("application/x-yaml", "yaml (application/x-yaml)"),
            ("application/x-msgpack", "msgpack (application/x-msgpack)"),
            ("text/weird", "text/weird (text/weird)"),
        ] {
            assert_eq!(
                refused(Accept::default(), content_type),
                format!("Refusing to deserialize untrusted content of type {words}")
            );
        }
        let yaml = Accept::only(&[Serializer::Yaml]);
        assert_eq!(yaml.serializer("application/x-yaml"), Ok(Serializer::Yaml));
        assert!(refused(yaml, "application/json").ends_with("json (application/json)"));
        assert!(
            Accept::only(&Serializer::ALL)
                .serializer("application/x-python-serialize")
                .is_err()
        );
    }
}
