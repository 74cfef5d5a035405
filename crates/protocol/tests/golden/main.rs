//! Golden files: what real Celery wrote (python_interop/record_fixtures.py) passes through the typed structs unchanged,
//! and what is composed here is what Celery composed.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod canvas;
mod compose;
mod control;
mod messages;
mod results;
mod tables;

use serde::de::DeserializeOwned;

/// The lines of one recorded file.
fn fixture<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = format!(
        "{}/../../python_interop/fixtures/{name}.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{path}: {err}"));
    let lines: Vec<T> = text
        .lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|err| panic!("{path}: {err}: {line}"))
        })
        .collect();
    assert!(!lines.is_empty(), "{path} is empty");
    lines
}

/// Compares every case and shows all that differ, from shortly before the first difference.
fn check_all(what: &str, cases: impl IntoIterator<Item = (String, String, String)>) {
    let mut seen = 0;
    let wrong: Vec<String> = cases
        .into_iter()
        .inspect(|_| seen += 1)
        .filter(|(_, ours, recorded)| ours != recorded)
        .map(|(name, ours, recorded)| difference(&name, &ours, &recorded))
        .collect();
    assert!(seen > 0, "{what}: no cases");
    assert!(
        wrong.is_empty(),
        "{what}: {} of {seen} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn difference(name: &str, ours: &str, recorded: &str) -> String {
    let same = ours
        .chars()
        .zip(recorded.chars())
        .take_while(|(a, b)| a == b)
        .count();
    let part = |text: &str| {
        text.chars()
            .skip(same.saturating_sub(60))
            .take(160)
            .collect::<String>()
    };
    format!(
        "{name}, from character {same} on\n  recorded: …{}\n  ours:     …{}",
        part(recorded),
        part(ours)
    )
}
