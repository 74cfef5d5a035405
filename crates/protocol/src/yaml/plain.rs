//! What a text without quotes means: YAML 1.1 by PyYAML's rules, in which `yes` is true and `1e5` a string.
//!
//! Counterpart: PyYAML's `resolver.py` and `constructor.py` (`SafeConstructor`).

use std::sync::LazyLock;

use chrono::NaiveDate;
use regex::{Captures, Regex};
use serde_json::Value;

use crate::{special, tagged::PythonObject};

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant")
}

static FLOAT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?",
        r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ))
});

static INTEGER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+",
        r"|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$"
    ))
});

static TIMESTAMP: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"^(?P<year>[0-9]{4})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})",
        r"(?:(?:[Tt]|[ \t]+)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]*))?",
        r"(?:[ \t]*(?P<zone>Z|(?P<sign>[-+])(?P<hours>[0-9]{1,2})(?::(?P<minutes>[0-9]{2}))?))?)?$"
    ))
});

/// The value of a plain scalar; an error says what is wrong with it.
pub(super) fn resolve(text: &str) -> Result<Value, String> {
    if let Some(value) = null(text).or_else(|| boolean(text)) {
        return Ok(value);
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return Ok(Value::from(text));
    }
    if INTEGER.is_match(text) {
        return integer(text);
    }
    if FLOAT.is_match(text) {
        return float(text);
    }
    match TIMESTAMP.captures(text) {
        // A date alone has two digits for each part.
        Some(parts) if parts.name("hour").is_some() || text.len() == 10 => timestamp(text, &parts),
        _ => Ok(Value::from(text)),
    }
}

pub(super) fn null(text: &str) -> Option<Value> {
    matches!(text, "" | "~" | "null" | "Null" | "NULL").then_some(Value::Null)
}

pub(super) fn boolean(text: &str) -> Option<Value> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(Value::Bool(true))
        }
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(Value::Bool(false))
        }
        _ => None,
    }
}

fn signed(text: &str) -> (&str, String) {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix(['-', '+']) {
        Some(digits) if plain.starts_with('-') => ("-", digits.to_owned()),
        Some(digits) => ("", digits.to_owned()),
        None => ("", plain),
    };
    (sign, digits)
}

pub(super) fn integer(text: &str) -> Result<Value, String> {
    let wrong = || format!("{text} is no whole number that can be read");
    let (sign, digits) = signed(text);
    let number = if let Some(digits) = digits.strip_prefix("0b") {
        i128::from_str_radix(digits, 2)
    } else if let Some(digits) = digits.strip_prefix("0x") {
        i128::from_str_radix(digits, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        i128::from_str_radix(&digits, 8)
    } else if digits.contains(':') {
        return sixties(&digits)
            .filter(|number| number.abs() < 1e15)
            .and_then(|number| format!("{sign}{number:.0}").parse::<i64>().ok())
            .map(Value::from)
            .ok_or_else(wrong);
    } else if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(whole(sign, &digits));
    } else {
        return Err(wrong());
    };
    number
        .map(|number| whole(sign, &number.to_string()))
        .map_err(|_not| wrong())
}

/// Minus nought is nought.
fn whole(sign: &str, digits: &str) -> Value {
    match digits {
        "0" => Value::from(0),
        digits => special::integer(&format!("{sign}{digits}")),
    }
}

/// `1:30` is ninety.
fn sixties(digits: &str) -> Option<f64> {
    digits.split(':').try_fold(0.0, |sum, part| {
        Some(sum * 60.0 + part.parse::<f64>().ok()?)
    })
}

pub(super) fn float(text: &str) -> Result<Value, String> {
    let (sign, digits) = signed(text);
    let number = match digits.to_ascii_lowercase().as_str() {
        ".inf" => Some(f64::INFINITY),
        ".nan" => Some(f64::NAN),
        digits if digits.contains(':') => sixties(digits),
        digits => digits.parse().ok(),
    };
    let number = number.ok_or_else(|| format!("{text} is no number"))?;
    Ok(special::float(if sign == "-" { -number } else { number }))
}

/// A date, or a time, naive without an offset.
pub(super) fn time(text: &str) -> Result<Value, String> {
    match TIMESTAMP.captures(text) {
        Some(parts) => timestamp(text, &parts),
        None => Err(format!("{text} is no time")),
    }
}

fn timestamp(text: &str, parts: &Captures<'_>) -> Result<Value, String> {
    let wrong = || format!("{text} is no time");
    let part = |name| parts.name(name).map_or("", |part| part.as_str());
    let number = |name| part(name).parse::<u32>().unwrap_or(0);
    let year = part("year").parse().unwrap_or(0);
    let date = NaiveDate::from_ymd_opt(year, number("month"), number("day")).filter(|_| year > 0);
    let date = date.ok_or_else(wrong)?;
    if parts.name("hour").is_none() {
        return Ok(PythonObject::Date(date.to_string().into()).to_value());
    }
    let (hour, minute, second) = (number("hour"), number("minute"), number("second"));
    let time = date.and_hms_opt(hour, minute, second).ok_or_else(wrong)?;
    let mut iso = time.format("%Y-%m-%dT%H:%M:%S").to_string();
    let micros: String = part("fraction")
        .chars()
        .chain("000000".chars())
        .take(6)
        .collect();
    if micros != "000000" {
        iso.extend([".", &micros]);
    }
    match part("sign") {
        "" if part("zone").is_empty() => {}
        "" => iso.push_str("+00:00"),
        sign => {
            let (hours, minutes) = (number("hours"), number("minutes"));
            if hours > 23 || minutes > 59 {
                return Err(wrong());
            }
            iso.push_str(&format!("{sign}{hours:02}:{minutes:02}"));
        }
    }
    Ok(PythonObject::DateTime(iso.into()).to_value())
}
