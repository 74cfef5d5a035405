//! Kinds of the settings that name serializers and compressions, by kombu's names or content types.
//!
//! Counterpart: `kombu/serialization.py::prepare_accept_content` and `kombu/compression.py` @ 5.7.0. Difference: pickle is
//! no value here, because it is never read: it runs code.

use celeriac_protocol::{Accept, Compression, Serializer};
use toml::Value;

use super::kinds::{Kind, is_none, none};

/// One serializer.
pub(crate) struct SerializerName;

impl Kind for SerializerName {
    type Value = Serializer;
    const EXPECTED: &'static str =
        "\"json\", \"msgpack\" or \"yaml\" (pickle runs code: it is neither read nor written)";

    fn read(toml: &Value) -> Option<Serializer> {
        Serializer::named(toml.as_str()?)
    }

    fn write(value: &Serializer) -> Value {
        Value::from(value.name())
    }
}

/// Those that are read, one at least.
pub(crate) struct AcceptedContent;

impl Kind for AcceptedContent {
    type Value = Accept;
    const EXPECTED: &'static str =
        "a list of \"json\", \"msgpack\" and \"yaml\" (pickle runs code: it is never read)";

    fn read(toml: &Value) -> Option<Accept> {
        let names = toml.as_array()?.iter();
        let named: Option<Vec<Serializer>> = names.map(SerializerName::read).collect();
        named
            .filter(|named| !named.is_empty())
            .map(|named| Accept::only(&named))
    }

    fn write(value: &Accept) -> Value {
        let accepted = Serializer::ALL.into_iter().filter(|it| value.takes(*it));
        Value::Array(accepted.map(|it| SerializerName::write(&it)).collect())
    }
}

/// Those that are read, or nothing of its own.
pub(crate) struct AcceptedContentOrNone;

impl Kind for AcceptedContentOrNone {
    type Value = Option<Accept>;
    const EXPECTED: &'static str =
        "a list of \"json\", \"msgpack\" and \"yaml\", or \"none\": as accept_content says";

    fn read(toml: &Value) -> Option<Option<Accept>> {
        match is_none(toml) {
            true => Some(None),
            false => AcceptedContent::read(toml).map(Some),
        }
    }

    fn write(value: &Option<Accept>) -> Value {
        value.map_or_else(none, |accept| AcceptedContent::write(&accept))
    }
}

/// A compression, or none.
pub(crate) struct CompressionName;

impl Kind for CompressionName {
    type Value = Option<Compression>;
    const EXPECTED: &'static str = "\"gzip\", \"bzip2\", \"zstd\", \"brotli\", or \"none\"";

    fn read(toml: &Value) -> Option<Option<Compression>> {
        if is_none(toml) {
            return Some(None);
        }
        Compression::named(toml.as_str()?).map(Some)
    }

    fn write(value: &Option<Compression>) -> Value {
        value.map_or_else(none, |compression| Value::from(compression.name()))
    }
}
