//! Tables of what Python's own functions give.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use celeriac_protocol::{
    Limits, Serializer, binding, deserialize,
    json::{self, to_python_string},
    repr, serialize, timestamp,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{check_all, fixture};

#[derive(Deserialize)]
struct Json {
    value: Value,
    text: String,
}

#[derive(Deserialize)]
struct Repr {
    value: Value,
    repr: String,
    str: String,
    saferepr: String,
    argsrepr: String,
}

#[derive(Deserialize)]
struct Time {
    text: String,
    utc: String,
}

#[derive(Deserialize)]
struct Printable {
    ranges: Vec<[u32; 2]>,
}

#[derive(Deserialize)]
struct Binding {
    key: String,
    member: String,
}

#[test]
fn json_is_written_as_python_writes_it() {
    let lines = fixture::<Json>("json");
    check_all(
        "json",
        lines.iter().map(|line| {
            (
                line.text.clone(),
                to_python_string(&line.value),
                line.text.clone(),
            )
        }),
    );
}

#[test]
fn values_are_shown_as_python_shows_them() {
    let lines = fixture::<Repr>("repr");
    let named = |line: &Repr, ours: String, recorded: &str| {
        (line.value.to_string(), ours, recorded.to_owned())
    };
    check_all(
        "repr",
        lines
            .iter()
            .map(|line| named(line, repr::repr_value(&line.value), &line.repr)),
    );
    check_all(
        "str",
        lines
            .iter()
            .map(|line| named(line, repr::str_value(&line.value), &line.str)),
    );
    check_all(
        "saferepr",
        lines
            .iter()
            .map(|line| named(line, repr::saferepr(&line.value), &line.saferepr)),
    );
    check_all(
        "argsrepr",
        lines.iter().map(|line| {
            let args = line
                .value
                .as_array()
                .cloned()
                .unwrap_or_else(|| vec![line.value.clone()]);
            named(line, repr::repr_args(&args), &line.argsrepr)
        }),
    );
    let dicts = lines
        .iter()
        .filter_map(|line| Some((line, line.value.as_object()?)));
    check_all(
        "kwargsrepr",
        dicts.map(|(line, map)| named(line, repr::repr_kwargs(map), &line.saferepr)),
    );
}

#[test]
fn characters_are_escaped_where_python_escapes_them() {
    let [recorded] = &fixture::<Printable>("printable")[..] else {
        panic!("one line expected")
    };
    for c in recorded
        .ranges
        .iter()
        .flat_map(|[first, last]| *first..=*last)
        .filter_map(char::from_u32)
    {
        let shown = repr::repr_value(&Value::String(format!("a{c}")));
        assert!(
            shown.contains(c),
            "{c:?} (U+{:04x}) is printable in Python, ours is {shown}",
            u32::from(c)
        );
    }
    // Unicode versions only ever add printable characters, so these stay what they are.
    for c in [
        '\0', '\u{7f}', '\u{85}', '\u{a0}', '\u{ad}', '\u{200b}', '\u{2028}', '\u{3000}',
        '\u{e000}', '\u{feff}',
    ] {
        let shown = repr::repr_value(&Value::String(c.to_string()));
        assert!(
            shown.starts_with("'\\"),
            "{c:?} is not printable in Python, ours is {shown}"
        );
    }
}

#[test]
fn times_mean_what_they_mean_to_celery() {
    let lines = fixture::<Time>("timestamps");
    let ours = |text: &str| {
        timestamp::parse(text).map_or_else(|err| err.to_string(), timestamp::isoformat)
    };
    check_all(
        "times",
        lines
            .iter()
            .map(|line| (line.text.clone(), ours(&line.text), line.utc.clone())),
    );
}

#[test]
fn bindings_have_kombus_keys_and_members() {
    for line in fixture::<Binding>("bindings") {
        let read = binding::Binding::parse(&line.member).unwrap();
        assert_eq!(read.to_member(), line.member);
        if line.key.ends_with(".pidbox") {
            assert_eq!(
                (read.routing_key.as_str(), read.pattern.as_str()),
                ("", ""),
                "{}",
                line.key
            );
            continue;
        }
        // Celery names the exchange of a queue after it.
        assert_eq!(read, binding::Binding::direct(&read.queue, &read.queue));
        let keys = [
            binding::binding_key(&read.queue),
            binding::permanent_binding_key(&read.queue),
        ];
        assert!(keys.contains(&line.key), "{}", line.key);
    }
}

#[derive(Deserialize)]
struct PythonValue {
    text: String,
    repr: String,
    saferepr: String,
    argsrepr: String,
}

#[test]
fn what_json_has_no_word_for_is_read_written_and_shown_as_python_does() {
    let lines = fixture::<PythonValue>("python_values");
    let read = |line: &PythonValue| json::parse("value", line.text.as_bytes()).unwrap();
    let named = |line: &PythonValue, ours: String, recorded: &str| {
        (line.text.clone(), ours, recorded.to_owned())
    };
    let written = lines
        .iter()
        .map(|line| named(line, to_python_string(&read(line)), &line.text));
    check_all("json", written);
    let shown = lines
        .iter()
        .map(|line| named(line, repr::repr_value(&read(line)), &line.repr));
    check_all("repr", shown);
    let shown = lines
        .iter()
        .map(|line| named(line, repr::saferepr(&read(line)), &line.saferepr));
    check_all("saferepr", shown);
    let shown = lines
        .iter()
        .map(|line| named(line, repr::repr_args(&[read(line)]), &line.argsrepr));
    check_all("argsrepr", shown);
}

#[derive(Deserialize)]
struct Serialized {
    content_type: String,
    content_encoding: String,
    payload: String,
    text: String,
}

#[test]
fn msgpack_and_yaml_are_read_as_python_reads_them() {
    let lines = fixture::<Serialized>("serialized");
    let serializer = |line: &Serialized| Serializer::named(&line.content_type).unwrap();
    let value = |serializer, payload: &[u8]| {
        deserialize(&Limits::default(), "value", serializer, payload)
            .map_or_else(|err| err.to_string(), |value| to_python_string(&value))
    };
    let read = lines.iter().map(|line| {
        assert_eq!(serializer(line).content_encoding(), line.content_encoding);
        let payload = BASE64.decode(&line.payload).unwrap();
        (
            line.text.clone(),
            value(serializer(line), &payload),
            line.text.clone(),
        )
    });
    check_all("read", read);
    let again = lines.iter().map(|line| {
        let plain = json::parse("value", line.text.as_bytes()).unwrap();
        let payload = serialize(serializer(line), &plain).unwrap();
        (
            line.text.clone(),
            value(serializer(line), &payload),
            line.text.clone(),
        )
    });
    check_all("written and read", again);
    let msgpack = lines
        .iter()
        .filter(|line| serializer(line) == Serializer::Msgpack);
    let bytes = msgpack.map(|line| {
        let plain = json::parse("value", line.text.as_bytes()).unwrap();
        let payload = serialize(Serializer::Msgpack, &plain).unwrap();
        (
            line.text.clone(),
            BASE64.encode(payload),
            line.payload.clone(),
        )
    });
    check_all("msgpack, byte for byte", bytes);
}
