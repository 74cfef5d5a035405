//! YAML as kombu reads and writes it: PyYAML's `safe_load` and `safe_dump`.
//!
//! Counterpart: `kombu/serialization.py @ 5.7.0` (`register_yaml`). Differences, all towards less: an alias of what it is
//! inside of, the merge key `<<`, sets, and ordered maps are refused; so is half a surrogate pair. Keys become texts as
//! Python's JSON makes them (`1` is `"1"`).

mod plain;
mod reader;
mod writer;

pub(crate) use reader::read;
pub(crate) use writer::write;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Limits, json};

    fn read_yaml(text: &str) -> Result<String, String> {
        let value = read(&Limits::default(), "body", text.as_bytes());
        value
            .map(|value| json::to_python_string(&value))
            .map_err(|err| err.to_string())
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            r#"[[], {}, {"callbacks": null, "chain": [{"task": "t", "args": [1, -2, 1.5, true, false]}]}]"#,
            "[NaN, Infinity, -Infinity, 1e-05, 1e+16, 123456789012345678901234567890, -0.0, 18446744073709551615]",
            r#"["yes", "1", "~", "", " a: b ", "<<", "2026-11-23", "\u0000\n\t\"\\\u00e9\ud83d\ude00\u007f\u2028"]"#,
            r#"{"yes": 1, "<<": 2, "": 3, "1": 4, "a: b": 5, "\u0000celeriac": "NaN"}"#,
            r#"[{"__type__": "base64", "__value__": "/w=="}, {"__type__": "bytes", "__value__": "a"}]"#,
            r#"{"__type__": "datetime", "__value__": "2026-11-23T17:43:36.694319+00:00"}"#,
            r#"{"__type__": "datetime", "__value__": "2026-11-23T17:43:36"}"#,
            r#"{"__type__": "datetime", "__value__": "2026-11-23T17:43:36-05:30"}"#,
            r#"{"__type__": "date", "__value__": "2026-11-23"}"#,
            r#""text""#,
        ] {
            let value = json::parse("body", text.as_bytes()).unwrap();
            let written = String::from_utf8(write(&value).unwrap()).unwrap();
            assert_eq!(read_yaml(&written).as_deref(), Ok(text), "{written}");
        }
        let long = json!({"k".repeat(2000): ["x".repeat(5000)]});
        let written = write(&long).unwrap();
        assert_eq!(read(&Limits::default(), "body", &written), Ok(long));
    }

    #[test]
    fn what_pyyaml_cannot_write_is_refused() {
        for (text, reason) in [
            (
                r#"[{"__type__": "decimal", "__value__": "1.5"}]"#,
                "yaml cannot write Decimal('1.5')",
            ),
            (
                r#"{"__type__": "time", "__value__": "17:43:00"}"#,
                "yaml cannot write datetime.time(17, 43)",
            ),
            (
                r#""\ud83d""#,
                "yaml cannot write a string with half a surrogate pair",
            ),
            (
                r#"{"\ud83d": 1}"#,
                "yaml cannot write a key with half a surrogate pair",
            ),
        ] {
            let value = json::parse("body", text.as_bytes()).unwrap();
            assert_eq!(write(&value).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn an_alias_is_what_it_names() {
        assert_eq!(
            read_yaml("- &id001 [1, {a: &x text}]\n- *id001\n- *x\n").as_deref(),
            Ok(r#"[[1, {"a": "text"}], [1, {"a": "text"}], "text"]"#)
        );
        let within = read_yaml("&a [*a]").unwrap_err();
        assert!(
            within.contains("an alias of what it is inside of"),
            "{within}"
        );
    }

    #[test]
    fn a_bomb_of_aliases_stops_at_the_limit() {
        let mut bomb = "- &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let alias = format!("*a{}", level - 1);
            bomb += &format!("- &a{level} [{}]\n", vec![alias; 10].join(", "));
        }
        let limits = Limits {
            values: 10_000,
            ..Limits::default()
        };
        let refused = read(&limits, "body", bomb.as_bytes())
            .unwrap_err()
            .to_string();
        assert_eq!(refused, "the body has more than 10000 values");

        let mut deep = "- &a0 [x]\n".to_owned();
        for level in 1..400 {
            deep += &format!("- &a{level} [*a{}]\n", level - 1);
        }
        let refused = read(&Limits::default(), "body", deep.as_bytes())
            .unwrap_err()
            .to_string();
        assert_eq!(refused, "the body is nested deeper than 300 levels");

        let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read_yaml(&nested).is_err());
        let block = (0..500)
            .map(|depth| format!("{}-\n", " ".repeat(depth)))
            .collect::<String>();
        assert!(read_yaml(&block).is_err());
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_reason() {
        for (text, reason) in [
            ("a: [", "the body is not yaml that can be read: "),
            (
                "--- 1\n--- 2\n",
                "the body is not yaml that can be read: there is a second document",
            ),
            (
                "!!python/object/apply:os.system ['true']",
                "the body is not yaml that can be read: the tag tag:yaml.org,2002:python/object/apply:os.system is not known",
            ),
            (
                "!own x",
                "the body is not yaml that can be read: the tag !own is not known",
            ),
            (
                "!!set {a: null}",
                "the body is not yaml that can be read: the tag tag:yaml.org,2002:set is not known",
            ),
            (
                "{<<: {a: 1}}",
                "the body is not yaml that can be read: the merge key << is not read",
            ),
            (
                "? [a]\n: 1",
                "the body is not yaml that can be read: a key is a list or a map",
            ),
            (
                "2026-11-23: 1",
                "the body is not yaml that can be read: a key is no text",
            ),
            (
                "2026-02-30",
                "the body is not yaml that can be read: 2026-02-30 is no time",
            ),
            ("!!binary '#'", "the body is not yaml that can be read: "),
        ] {
            let refused = read_yaml(text).unwrap_err();
            assert!(refused.starts_with(reason), "{text}: {refused}");
        }
        assert!(read(&Limits::default(), "body", b"\xff").is_err());
        assert_eq!(read_yaml("").as_deref(), Ok("null"));
    }

    /// What PyYAML 6 makes of these.
    #[test]
    fn a_plain_text_means_what_it_means_to_pyyaml() {
        for (text, value) in [
            (
                "[yes, No, ON, off, true, FALSE, y, n, oN]",
                r#"[true, false, true, false, true, false, "y", "n", "oN"]"#,
            ),
            (
                "[~, null, Null, NULL, nULL, ]",
                r#"[null, null, null, null, "nULL"]"#,
            ),
            (
                "[0, -0, 012, 0o12, 09, 0x1F, 0b101, 1_000, +5, 1:30, -190:20:30]",
                r#"[0, 0, 10, "0o12", "09", 31, 5, 1000, 5, 90, -685230]"#,
            ),
            (
                "[1.5, 1., .5, 1e5, 1.0e5, 1.0e+5, 1_0.5, 1:30.5, .inf, -.INF, .NaN, +.inf, 1e-05]",
                r#"[1.5, 1.0, 0.5, "1e5", "1.0e5", 100000.0, 10.5, 90.5, Infinity, -Infinity, NaN, Infinity, "1e-05"]"#,
            ),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            (
                "2026-11-23",
                r#"{"__type__": "date", "__value__": "2026-11-23"}"#,
            ),
            (
                "2026-11-23 17:43:36.69",
                r#"{"__type__": "datetime", "__value__": "2026-11-23T17:43:36.690000"}"#,
            ),
            (
                "2026-11-23t7:43:36Z",
                r#"{"__type__": "datetime", "__value__": "2026-11-23T07:43:36+00:00"}"#,
            ),
            (
                "2026-11-23 17:43:36 -5:30",
                r#"{"__type__": "datetime", "__value__": "2026-11-23T17:43:36-05:30"}"#,
            ),
            (
                "['1', \"yes\", ! 1, !!str 1, !!int '5', !!float 5.0, !!bool no, !!null '']",
                r#"["1", "yes", "1", "1", 5, 5.0, false, null]"#,
            ),
            (
                "!!binary /w==",
                r#"{"__type__": "base64", "__value__": "/w=="}"#,
            ),
            (
                "{1: a, 1.5: b, true: c, null: d, x: !!map {}, y: !!seq []}",
                r#"{"1": "a", "1.5": "b", "true": "c", "null": "d", "x": {}, "y": []}"#,
            ),
            (
                "a: |\n  x\n  y\nb: >\n  x\n  y\n",
                r#"{"a": "x\ny\n", "b": "x y\n"}"#,
            ),
        ] {
            assert_eq!(read_yaml(text).as_deref(), Ok(value), "{text}");
        }
    }
}
