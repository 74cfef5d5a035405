//! `call NAME`: sends a task and prints its id.
//!
//! Counterpart: `celery/bin/call.py` @ 5.7.0. Beside it: `--priority`. Not here: `--serializer` (it is
//! JSON), `--exchange` and `--routing-key` (on Redis, a queue is named by `--queue`).

use std::time::Duration;

use celeriac::protocol::json;
use celeriac::{SendOptions, clock};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use clap::{Arg, ArgMatches, Command};
use serde_json::{Map, Value};

use crate::output;
use crate::program::{Loaded, Program};

const EXAMPLES: &str = "\
Examples:
  PROGRAM -A APP call proj.add -a '[1, 2]'
  PROGRAM -A APP call proj.add -a '[1, 2]' --queue hipri --countdown 10
  PROGRAM -A APP call proj.report -k '{\"day\": \"2026-11-23\"}' --expires 3600";

/// Forms of a time without an offset; it is then UTC, as in Celery.
const NAIVE_FORMS: [&str; 4] = [
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
];

/// The command's options.
pub(crate) fn clap() -> Command {
    let calling = |id: &'static str| Arg::new(id).long(id).help_heading("Calling Options");
    let routing = |id: &'static str| Arg::new(id).long(id).help_heading("Routing Options");
    Command::new("call")
        .about("Call a task by name")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("name")
                .value_name("NAME")
                .required(true)
                .help("The task's name"),
        )
        .arg(
            calling("args")
                .short('a')
                .value_name("JSON")
                .value_parser(parse_array)
                .help("Positional arguments, a JSON array"),
        )
        .arg(
            calling("kwargs")
                .short('k')
                .value_name("JSON")
                .value_parser(parse_object)
                .help("Keyword arguments, a JSON object"),
        )
        .arg(
            calling("eta")
                .value_name("TIME")
                .value_parser(parse_time)
                .help("Not before this time (ISO 8601; UTC unless it has an offset)"),
        )
        .arg(
            calling("countdown")
                .value_name("SECONDS")
                .allow_negative_numbers(true)
                .value_parser(parse_seconds)
                .help("Not before so many seconds from now"),
        )
        .arg(
            calling("expires")
                .value_name("SECONDS|TIME")
                .allow_negative_numbers(true)
                .value_parser(parse_expiry)
                .help("Not after so many seconds from now, or not after this time"),
        )
        .arg(routing("queue").value_name("QUEUE").help("The queue"))
        .arg(
            routing("priority")
                .value_name("NUMBER")
                .allow_negative_numbers(true)
                .value_parser(parse_priority)
                .help("0 to 255; on Redis the lower goes first"),
        )
}

/// Sends the task.
///
/// # Errors
/// The app cannot be made, or the broker does not take the message.
pub(crate) async fn run(
    program: &Program,
    matches: &ArgMatches,
    loaded: Loaded,
) -> anyhow::Result<()> {
    let app = (program.build_app)(&loaded)?;
    let name = matches
        .get_one::<String>("name")
        .expect("clap has seen to it that there is a name");
    let args = matches
        .get_one::<Array>("args")
        .cloned()
        .unwrap_or_default()
        .0;
    let kwargs = matches
        .get_one::<Map<String, Value>>("kwargs")
        .cloned()
        .unwrap_or_default();
    let options = SendOptions {
        queue: matches.get_one::<String>("queue").cloned(),
        countdown: matches.get_one::<Duration>("countdown").copied(),
        eta: matches.get_one::<DateTime<Utc>>("eta").copied(),
        expires: matches.get_one::<DateTime<Utc>>("expires").copied(),
        priority: matches.get_one::<u8>("priority").copied(),
        ..SendOptions::default()
    };
    let result = app.send_task(name, args, kwargs, options).await?;
    output::to_stdout(&format!("{}\n", result.id()));
    Ok(())
}

/// A type of its own, since clap takes a `Vec` for several values.
#[derive(Clone, Default)]
struct Array(Vec<Value>);

fn parse_array(typed: &str) -> Result<Array, String> {
    match json::parse("the list", typed.as_bytes()).map_err(|error| error.to_string())? {
        Value::Array(items) => Ok(Array(items)),
        _ => Err(format!("{typed} was not an array")),
    }
}

fn parse_object(typed: &str) -> Result<Map<String, Value>, String> {
    match json::parse("the object", typed.as_bytes()).map_err(|error| error.to_string())? {
        Value::Object(members) => Ok(members),
        _ => Err(format!("{typed} was not an object")),
    }
}

fn parse_time(typed: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(typed) {
        return Ok(time.to_utc());
    }
    let naive = NAIVE_FORMS
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(typed, form).ok())
        .or_else(|| {
            NaiveDate::parse_from_str(typed, "%Y-%m-%d")
                .ok()?
                .and_hms_opt(0, 0, 0)
        });
    naive
        .map(|time| time.and_utc())
        .ok_or_else(|| format!("'{typed}' is not a time like 2026-11-23T17:43:36+00:00"))
}

fn parse_seconds(typed: &str) -> Result<Duration, String> {
    let seconds: f64 = typed
        .parse()
        .map_err(|_| format!("'{typed}' is not a valid float."))?;
    // A time that has passed already is now.
    let seconds = if seconds < 0.0 { 0.0 } else { seconds };
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("'{typed}': {error}"))
}

fn parse_expiry(typed: &str) -> Result<DateTime<Utc>, String> {
    if typed.parse::<f64>().is_err() {
        return parse_time(typed);
    }
    let seconds = parse_seconds(typed)?;
    clock::now()
        .checked_add_signed(
            chrono::TimeDelta::from_std(seconds).map_err(|error| error.to_string())?,
        )
        .ok_or_else(|| format!("'{typed}' is too far away"))
}

fn parse_priority(typed: &str) -> Result<u8, String> {
    let number: i64 = typed
        .parse()
        .map_err(|_| format!("'{typed}' is not a valid integer."))?;
    u8::try_from(number).map_err(|_| format!("{typed} is not in the range 0<=x<=255."))
}
