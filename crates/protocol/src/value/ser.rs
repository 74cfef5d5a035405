//! The serializer of [`super::to_value`].

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
    },
};
use serde_json::{Error, Value};

use crate::{
    Map, json,
    special::{self, RAW_VALUE},
    tagged::PythonObject,
};

#[derive(Clone, Copy)]
pub(super) struct ToValue;

/// A list that is being made; a variant's name around it.
pub(super) struct List {
    variant: Option<&'static str>,
    items: Vec<Value>,
}

/// An object that is being made; a variant's name around it.
pub(super) struct Object {
    variant: Option<&'static str>,
    map: Map,
    key: Option<String>,
    /// It is a `RawValue`: its one field is the text to read in its place. Known by the type's name, which is in the
    /// program; the key alone may be anybody's.
    is_raw: bool,
}

fn named(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        None => value,
        Some(name) => Value::Object(Map::from_iter([(name.to_owned(), value)])),
    }
}

macro_rules! scalars {
    ($($method:ident $type:ty => $make:expr;)*) => { $(
        fn $method(self, value: $type) -> Result<Value, Error> {
            Ok($make(value))
        }
    )* };
}

impl Serializer for ToValue {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = List;
    type SerializeMap = Object;
    type SerializeStruct = Object;
    type SerializeStructVariant = Object;

    scalars! {
        serialize_bool bool => Value::Bool;
        serialize_i8 i8 => Value::from;
        serialize_i16 i16 => Value::from;
        serialize_i32 i32 => Value::from;
        serialize_i64 i64 => Value::from;
        serialize_i128 i128 => |value: i128| special::integer(&value.to_string());
        serialize_u8 u8 => Value::from;
        serialize_u16 u16 => Value::from;
        serialize_u32 u32 => Value::from;
        serialize_u64 u64 => Value::from;
        serialize_u128 u128 => |value: u128| special::integer(&value.to_string());
        serialize_f32 f32 => |value: f32| special::float(f64::from(value));
        serialize_f64 f64 => special::float;
        serialize_char char => |value: char| Value::String(value.to_string());
        serialize_str &str => Value::from;
        serialize_bytes &[u8] => |bytes: &[u8]| PythonObject::Bytes(bytes.into()).to_value();
        serialize_unit_struct &'static str => |_name| Value::Null;
    }

    fn serialize_none(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Value, Error> {
        Ok(Value::from(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        Ok(named(Some(variant), value.serialize(self)?))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<List, Error> {
        Ok(List {
            variant: None,
            items: Vec::with_capacity(length.unwrap_or(0)),
        })
    }

    fn serialize_tuple(self, length: usize) -> Result<List, Error> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(self, _name: &'static str, length: usize) -> Result<List, Error> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<List, Error> {
        Ok(List {
            variant: Some(variant),
            items: Vec::with_capacity(length),
        })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Object, Error> {
        Ok(Object {
            variant: None,
            map: Map::with_capacity(length.unwrap_or(0)),
            key: None,
            is_raw: false,
        })
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Object, Error> {
        let object = self.serialize_map(Some(length))?;
        Ok(Object {
            is_raw: name == RAW_VALUE,
            ..object
        })
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Object, Error> {
        Ok(Object {
            variant: Some(variant),
            map: Map::with_capacity(length),
            key: None,
            is_raw: false,
        })
    }
}

macro_rules! lists {
    ($($trait:ident $method:ident)*) => { $(
        impl $trait for List {
            type Ok = Value;
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.items.push(value.serialize(ToValue)?);
                Ok(())
            }

            fn end(self) -> Result<Value, Error> {
                Ok(named(self.variant, Value::Array(self.items)))
            }
        }
    )* };
}

lists! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

impl Object {
    fn finish(mut self) -> Result<Value, Error> {
        if self.is_raw
            && let Some(Value::String(raw)) = self.map.get_mut(RAW_VALUE)
        {
            return json::parse("value", raw.as_bytes()).map_err(Error::custom);
        }
        Ok(named(self.variant, Value::Object(self.map)))
    }
}

impl SerializeMap for Object {
    type Ok = Value;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = Some(match key.serialize(ToValue)? {
            Value::String(key) => key,
            Value::Number(key) => key.to_string(),
            Value::Bool(key) => key.to_string(),
            key => match special::token(&key) {
                Some(digits) if !digits.starts_with('"') => digits.to_owned(),
                _ => return Err(Error::custom("key must be a string")),
            },
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().unwrap_or_default();
        self.map.insert(key, value.serialize(ToValue)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Error> {
        self.finish()
    }
}

macro_rules! structs {
    ($($trait:ident)*) => { $(
        impl $trait for Object {
            type Ok = Value;
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.map.insert(key.to_owned(), value.serialize(ToValue)?);
                Ok(())
            }

            fn end(self) -> Result<Value, Error> {
                self.finish()
            }
        }
    )* };
}

structs! { SerializeStruct SerializeStructVariant }
