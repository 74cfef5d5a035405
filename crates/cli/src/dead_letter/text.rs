//! How dead letters are shown: a line each, one of them whole, or JSON.
//!
//! What comes from a message must neither end a line nor command a terminal.

use celeriac::App;
use celeriac::protocol::json::to_python_string;
use celeriac::transport::DeadLetter;
use serde_json::{Map, Value, json};

use super::{Request, find_all};
use crate::exit::ExitStatus;
use crate::output;

/// Characters of an id that a line shows; enough to mean one.
const ID_SHOWN: usize = 8;

/// Characters of a task's name and of a reason that a line shows.
const NAME_SHOWN: usize = 60;
const REASON_SHOWN: usize = 200;

/// Prints all of these queues.
pub(super) async fn list(app: &App, request: &Request) -> anyhow::Result<ExitStatus> {
    let mut separator = "[";
    for queue in &request.queues {
        let letters = app.dead_letters(queue);
        let mut pages = letters.pages().await?;
        if !request.is_json {
            output::to_stdout(&format!(
                "{}: {}\n",
                printable(queue),
                counted(letters.count().await?)
            ));
        }
        while let Some(letter) = pages.next().await? {
            if request.is_json {
                let object = to_python_string(&summary(&letter));
                output::to_stdout(&format!("{separator}{object}"));
                separator = ",\n ";
            } else {
                output::to_stdout(&line(&letter));
            }
        }
    }
    if request.is_json {
        output::to_stdout(if separator == "[" { "[]\n" } else { "]\n" });
    }
    Ok(ExitStatus::Ok)
}

/// Prints one of them.
pub(super) async fn show(app: &App, request: &Request) -> anyhow::Result<ExitStatus> {
    for (letter, _) in find_all(app, request).await? {
        output::to_stdout(&whole(&letter, request.is_json));
    }
    Ok(ExitStatus::Ok)
}

/// One letter with its message.
fn whole(letter: &DeadLetter, is_json: bool) -> String {
    let message = letter.message.as_deref();
    let text = message.map(String::from_utf8_lossy);
    if is_json {
        let mut object = summary(letter);
        let is_text = message.is_none_or(|bytes| std::str::from_utf8(bytes).is_ok());
        let latin_1 = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| char::from(*byte))
                .collect::<String>()
        };
        let kept = match is_text {
            true => text.map(std::borrow::Cow::into_owned),
            false => message.map(latin_1),
        };
        object.insert(
            "encoding".to_owned(),
            json!(if is_text { "utf-8" } else { "latin-1" }),
        );
        object.insert("message".to_owned(), json!(kept));
        return to_python_string(&object) + "\n";
    }
    let mut shown = String::new();
    for (name, value) in summary(letter) {
        let value = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => printable(&text),
            other => other.to_string(),
        };
        shown.push_str(&format!("{name:>8}: {value}\n"));
    }
    shown + "\n" + &printable(&text.unwrap_or_default()) + "\n"
}

/// `1 dead letter`, `2 dead letters`.
pub(super) fn counted(count: usize) -> String {
    match count {
        1 => "1 dead letter".to_owned(),
        count => format!("{count} dead letters"),
    }
}

/// The beginning of its id.
pub(super) fn short_id(letter: &DeadLetter) -> String {
    printable(&cut(&letter.id, ID_SHOWN))
}

/// Control characters as escapes.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// Everything but the message.
fn summary(letter: &DeadLetter) -> Map<String, Value> {
    let fields = [
        ("place", json!(letter.index)),
        ("id", json!(letter.id)),
        ("date", json!(letter.date)),
        ("queue", json!(letter.queue)),
        ("worker", json!(letter.worker)),
        ("task", json!(letter.task)),
        ("task_id", json!(letter.task_id)),
        ("reason", json!(letter.reason)),
        ("bytes", json!(letter.message.as_ref().map(Vec::len))),
    ];
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

fn line(letter: &DeadLetter) -> String {
    let second = cut(&letter.date, "2026-11-26T15:20:09".len());
    let task = letter.task.as_deref().unwrap_or("-");
    format!(
        "{:>4}  {:<ID_SHOWN$}  {}  {}  {}  {}\n",
        letter.index,
        short_id(letter),
        printable(&second),
        printable(&cut(&letter.worker, NAME_SHOWN)),
        printable(&cut(task, NAME_SHOWN)),
        printable(&cut(&letter.reason, REASON_SHOWN)),
    )
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_says_stays_on_its_line() {
        assert_eq!(printable("a\n\u{1b}[2Jb"), "a\\n\\u{1b}[2Jb");
        assert_eq!(cut("ünïcode", 3), "ünï");
        assert_eq!(
            (counted(1), counted(0)),
            ("1 dead letter".to_owned(), "0 dead letters".to_owned())
        );
    }
}
