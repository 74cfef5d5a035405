//! A record as Celery's line: `[2026-11-23 17:43:36,694: INFO/MainProcess] message`.
//!
//! Other teams' log rules parse these lines. The keys of a record that its message does not show
//! follow it as `key=value`; the engine's lines, whose wording is Celery's, stay as they are.

use std::io::{self, Write};

use chrono::{DateTime, Local, Utc};
use log::Record;
use log::kv::{Error, Key, Value, VisitSource};

use super::level::{Level, SEVERITY};

/// Where the engine's lines in Celery's wording come from.
const CELERY_LINES: &str = "celeriac::log_lines";

/// Writes one line (or more, where the message has more).
pub(super) fn write(
    out: &mut impl Write,
    record: &Record<'_>,
    at: DateTime<Utc>,
    process: &str,
    is_coloured: bool,
) -> io::Result<()> {
    let level = Level::of(record);
    let time = at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S,%3f");
    let (start, end) = if is_coloured { colour(level) } else { ("", "") };
    let message = record.args().to_string();
    let keys = keys(record, &message);
    writeln!(
        out,
        "{start}[{time}: {}/{process}] {message}{keys}{end}",
        level.name()
    )
}

/// Celery's colours.
fn colour(level: Level) -> (&'static str, &'static str) {
    const RESET: &str = "\u{1b}[0m";
    match level {
        Level::Debug => ("\u{1b}[1;34m", RESET),
        Level::Info => ("", ""),
        Level::Warning => ("\u{1b}[1;33m", RESET),
        Level::Error => ("\u{1b}[1;31m", RESET),
        Level::Critical => ("\u{1b}[1;35m", RESET),
    }
}

fn keys(record: &Record<'_>, message: &str) -> String {
    let mut keys = Keys {
        message,
        text: String::new(),
    };
    if !record.target().starts_with(CELERY_LINES) {
        // Keys never refuses a pair.
        drop(record.key_values().visit(&mut keys));
    }
    keys.text
}

struct Keys<'a> {
    message: &'a str,
    text: String,
}

impl<'kvs> VisitSource<'kvs> for Keys<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let value = value.to_string();
        if key.as_str() == SEVERITY || (!value.is_empty() && self.message.contains(&value)) {
            return Ok(());
        }
        self.text.push_str(&format!(" {key}="));
        if value.is_empty() || value.contains([' ', '"', '\n']) {
            self.text.push_str(&format!("{value:?}"));
        } else {
            self.text.push_str(&value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(record: &Record<'_>, is_coloured: bool, expected: &str) {
        let at = DateTime::<Utc>::from_timestamp_millis(1_795_000_000_007).unwrap();
        let time = at
            .with_timezone(&Local)
            .format("%Y-%m-%d %H:%M:%S")
            .to_string();
        let mut out = Vec::new();
        write(&mut out, record, at, "ForkPoolWorker-2", is_coloured).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.replace(&time, "TIME"), expected);
    }

    #[test]
    fn a_record_is_celerys_line() {
        let record = Record::builder()
            .level(log::Level::Info)
            .args(format_args!("Task t[1] received"))
            .build();
        check(
            &record,
            false,
            "[TIME,007: INFO/ForkPoolWorker-2] Task t[1] received\n",
        );
        check(
            &record,
            true,
            "[TIME,007: INFO/ForkPoolWorker-2] Task t[1] received\n",
        );
    }

    #[test]
    fn levels_have_celerys_names_and_colours() {
        let record = Record::builder()
            .level(log::Level::Warn)
            .args(format_args!("look"))
            .build();
        check(
            &record,
            false,
            "[TIME,007: WARNING/ForkPoolWorker-2] look\n",
        );
        check(
            &record,
            true,
            "\u{1b}[1;33m[TIME,007: WARNING/ForkPoolWorker-2] look\u{1b}[0m\n",
        );
        let critical = [(SEVERITY, "CRITICAL")];
        let record = Record::builder()
            .level(log::Level::Error)
            .key_values(&critical)
            .args(format_args!("the end"))
            .build();
        check(
            &record,
            false,
            "[TIME,007: CRITICAL/ForkPoolWorker-2] the end\n",
        );
    }

    #[test]
    fn keys_that_the_message_does_not_show_follow_it() {
        let pairs = [("file", "a b.csv"), ("rows", "12"), ("topic", "events")];
        let record = Record::builder()
            .level(log::Level::Info)
            .key_values(&pairs)
            .args(format_args!("sent to events"))
            .build();
        check(
            &record,
            false,
            "[TIME,007: INFO/ForkPoolWorker-2] sent to events file=\"a b.csv\" rows=12\n",
        );
        let celerys = record.to_builder().target("celeriac::log_lines").build();
        check(
            &celerys,
            false,
            "[TIME,007: INFO/ForkPoolWorker-2] sent to events\n",
        );
    }
}
