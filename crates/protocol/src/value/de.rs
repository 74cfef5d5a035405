//! The deserializer of [`super::from_value`].
//!
//! Plain values are read as serde_json reads them; only what it cannot know is decided here. Which type is asked for
//! decides what a special value or a tag becomes; a type that takes anything gets the map that stands for it.

use serde::{
    Deserializer,
    de::{
        Error as _, Expected, IntoDeserializer, Unexpected, Visitor,
        value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Number, Value};

use crate::{
    Map, json,
    special::{RAW_VALUE, Special},
    tagged::PythonObject,
};

pub(super) struct PythonValue(pub(super) Value);

impl PythonValue {
    /// The error of a value that is no such type, shown as Python shows it where it is not plain.
    fn mismatch(self, expected: &dyn Expected) -> Result<Value, Error> {
        let shown = match (Special::of(&self.0), PythonObject::of(&self.0)) {
            (Some(Special::Nan), _) => "NaN".to_owned(),
            (Some(Special::Infinity), _) => "Infinity".to_owned(),
            (Some(Special::NegativeInfinity), _) => "-Infinity".to_owned(),
            (Some(Special::Integer(digits)), _) => digits,
            (Some(Special::Text(_)), _) => crate::repr::repr_value(&self.0),
            (None, Some(object)) => object.repr(),
            (None, None) => return Ok(self.0),
        };
        Err(Error::invalid_type(Unexpected::Other(&shown), expected))
    }

    /// Reads a plain value as serde_json does.
    fn plain<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        read: impl FnOnce(Value, V) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        if !self.0.is_object() {
            return read(self.0, visitor);
        }
        let value = self.mismatch(&visitor)?;
        read(value, visitor)
    }
}

fn list<'de, V: Visitor<'de>>(items: Vec<Value>, visitor: V) -> Result<V::Value, Error> {
    let length = items.len();
    let mut items = SeqDeserializer::new(items.into_iter().map(PythonValue));
    let read = visitor.visit_seq(&mut items)?;
    match items.end() {
        Ok(()) => Ok(read),
        Err::<_, Error>(_) => Err(Error::invalid_length(length, &"fewer elements in array")),
    }
}

fn object<'de, V: Visitor<'de>>(map: Map, visitor: V) -> Result<V::Value, Error> {
    let length = map.len();
    let mut entries = MapDeserializer::new(entries(map));
    let read = visitor.visit_map(&mut entries)?;
    match entries.end() {
        Ok(()) => Ok(read),
        Err::<_, Error>(_) => Err(Error::invalid_length(length, &"fewer elements in map")),
    }
}

fn entries(map: Map) -> impl Iterator<Item = (MapKey, PythonValue)> {
    map.into_iter()
        .map(|(key, value)| (MapKey(key), PythonValue(value)))
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty,)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let Some(Special::Integer(digits)) = Special::of(&self.0) else {
                return self.plain(visitor, |value, visitor| value.$method(visitor));
            };
            match digits.parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(Error::invalid_value(Unexpected::Other(&digits), &visitor)),
            }
        }
    )* };
}

macro_rules! floats {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match Special::of(&self.0).and_then(|special| special.as_f64()) {
                Some(float) => visitor.visit_f64(float),
                None => self.plain(visitor, |value, visitor| value.$method(visitor)),
            }
        }
    )* };
}

macro_rules! texts {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match PythonObject::of(&self.0).as_ref().and_then(PythonObject::text) {
                Some(text) => visitor.visit_str(text),
                None => self.plain(visitor, |value, visitor| value.$method(visitor)),
            }
        }
    )* };
}

macro_rules! bytes {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match PythonObject::of(&self.0) {
                Some(PythonObject::Bytes(bytes)) => visitor.visit_byte_buf(bytes.into_owned()),
                _ => self.plain(visitor, |value, visitor| value.$method(visitor)),
            }
        }
    )* };
}

macro_rules! as_serde_json {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.plain(visitor, |value, visitor| value.$method(visitor))
        }
    )* };
}

impl<'de> Deserializer<'de> for PythonValue {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => list(items, visitor),
            Value::Object(map) => object(map, visitor),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    integers! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_i128 visit_i128 i128,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_u128 visit_u128 u128,
    }

    floats! { deserialize_f32 deserialize_f64 }

    texts! { deserialize_str deserialize_string deserialize_char }

    bytes! { deserialize_bytes deserialize_byte_buf }

    as_serde_json! { deserialize_bool deserialize_unit }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == RAW_VALUE {
            // This type asks for the text.
            let text = json::to_python_string(&self.0);
            return visitor.visit_map(MapDeserializer::new(std::iter::once((RAW_VALUE, text))));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(PythonObject::Bytes(bytes)) = PythonObject::of(&self.0) {
            return visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied()));
        }
        match self.mismatch(&visitor)? {
            Value::Array(items) => list(items, visitor),
            other => other.deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => object(map, visitor),
            other => other.deserialize_map(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => list(items, visitor),
            Value::Object(map) => object(map, visitor),
            other => other.deserialize_struct(name, fields, visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) if map.len() == 1 => {
                MapAccessDeserializer::new(MapDeserializer::new(entries(map)))
                    .deserialize_enum(name, variants, visitor)
            }
            other => other.deserialize_enum(name, variants, visitor),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

impl IntoDeserializer<'_, Error> for PythonValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A key: a number or a boolean where the type has such keys.
struct MapKey(String);

macro_rules! key_types {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse::<Number>() {
                Ok(number) => number.$method(visitor),
                Err(_) => Err(Error::custom("invalid value: expected key to be a number in quotes")),
            }
        }
    )* };
}

impl<'de> Deserializer<'de> for MapKey {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &*self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => visitor.visit_string(self.0),
        }
    }

    key_types! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        Value::String(self.0).deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for MapKey {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
