//! What is wrong with a file, where, and a report of it that stays small.
//!
//! Keeps: every violation is counted; the first [`MAX_VIOLATIONS_IN_FULL`] are kept with line, column and offending text
//! (cut), the rest only as a number per reason. A file of 20 million bad rows has a report of some 50 kB.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// Violations kept in full; beyond it they are only counted.
pub const MAX_VIOLATIONS_IN_FULL: usize = 200;

/// Longest offending text kept, in characters; what is cut is marked with an ellipsis.
const MAX_TEXT_CHARS: usize = 80;

/// Why a file is refused. The words are those of `docs/ingest-rules.md`, of the ledger and of `<name>.error.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The header does not name one of the nine columns.
    MissingColumn,
    /// The header names one of the nine columns twice.
    BadHeader,
    /// No bytes, no header, or no rows below it.
    Empty,
    /// Not a finite decimal number.
    BadNumber,
    /// A number outside its range.
    OutOfRange,
    /// Not a boolean word.
    BadBool,
    /// No device, too long a name, or one with a line break.
    BadDevice,
    /// Not unix seconds, or none between 2000 and 2100.
    BadTs,
    /// More or fewer fields than the header has.
    FieldCount,
    /// Quotes that do not fit, or a record longer than the limit.
    Malformed,
    /// Bytes that are not UTF-8.
    Encoding,
    /// A NUL character, which PostgreSQL's text cannot hold.
    Nul,
    /// The file's name is not UTF-8, or no path at all.
    BadName,
    /// The file exists, but this worker may not read it.
    Unreadable,
    /// A directory, FIFO, socket or device.
    NotRegular,
    /// A path that is not below the watch directory, or reaches out of it through a link.
    OutsideRoot,
    /// Larger than a worker accepts.
    TooLarge,
    /// PostgreSQL refused the rows by a constraint that these rules do not know.
    RefusedByDatabase,
}

impl Reason {
    /// The word for it, stable over versions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingColumn => "missing_column",
            Self::BadHeader => "bad_header",
            Self::Empty => "empty",
            Self::BadNumber => "bad_number",
            Self::OutOfRange => "out_of_range",
            Self::BadBool => "bad_bool",
            Self::BadDevice => "bad_device",
            Self::BadTs => "bad_ts",
            Self::FieldCount => "field_count",
            Self::Malformed => "malformed",
            Self::Encoding => "encoding",
            Self::Nul => "nul",
            Self::BadName => "bad_name",
            Self::Unreadable => "unreadable",
            Self::NotRegular => "not_regular",
            Self::OutsideRoot => "outside_root",
            Self::TooLarge => "too_large",
            Self::RefusedByDatabase => "refused_by_database",
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One thing that is wrong.
///
/// As JSON: `{"line": 102, "column": "temp", "reason": "bad_number", "rule": "a finite decimal number", "text": "abc"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Line of the file on which the record begins, from 1; `None` when the file as a whole is meant.
    pub line: Option<u64>,
    /// Column by its name; `None` when the whole record is meant.
    pub column: Option<String>,
    /// The class.
    pub reason: Reason,
    /// What would have been right, for people.
    pub rule: String,
    /// The offending text, at most 80 characters; `None` where there is none to show.
    pub text: Option<String>,
}

impl Violation {
    /// A violation of the file as a whole.
    pub fn of_file(reason: Reason, rule: impl Into<String>) -> Self {
        Self {
            line: None,
            column: None,
            reason,
            rule: rule.into(),
            text: None,
        }
    }

    /// A violation of the record that begins on `line`.
    pub fn of_line(line: u64, reason: Reason, rule: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::of_file(reason, rule)
        }
    }

    /// Names the column.
    pub fn column(mut self, column: &str) -> Self {
        self.column = Some(cut(column.as_bytes()));
        self
    }

    /// Shows the offending bytes, cut and with U+FFFD for what is not UTF-8.
    pub fn text(mut self, text: &[u8]) -> Self {
        self.text = Some(cut(text));
        self
    }
}

/// At most 80 characters of `text`, marked when there was more.
fn cut(text: &[u8]) -> String {
    // Four bytes a character at most: never look at more of a megabyte than can be shown.
    let head = &text[..text.len().min(MAX_TEXT_CHARS * 4 + 4)];
    let shown = String::from_utf8_lossy(head);
    // PostgreSQL's text and jsonb hold no NUL: its picture is shown in its place.
    let mut short: String = shown
        .chars()
        .take(MAX_TEXT_CHARS)
        .map(|c| if c == '\0' { '␀' } else { c })
        .collect();
    if shown.chars().nth(MAX_TEXT_CHARS).is_some() {
        short.push('…');
    }
    short
}

/// All violations of one file: the first few hundred in full, all of them counted.
///
/// As JSON: `{"violations": 20000, "by_reason": {"out_of_range": 20000}, "first": [{…}, …]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many there are.
    pub violations: u64,
    /// How many of each class.
    pub by_reason: BTreeMap<Reason, u64>,
    /// The first [`MAX_VIOLATIONS_IN_FULL`] in the order of the file.
    pub first: Vec<Violation>,
}

impl Report {
    /// A report of a single violation.
    pub fn of(violation: Violation) -> Self {
        let mut report = Self::default();
        report.add(violation);
        report
    }

    /// Counts a violation, and keeps it if there is still room.
    pub fn add(&mut self, violation: Violation) {
        self.add_with(violation.reason, || violation);
    }

    /// As [`add`](Self::add), but the violation is only composed when it is kept.
    pub(crate) fn add_with(&mut self, reason: Reason, compose: impl FnOnce() -> Violation) {
        self.violations += 1;
        *self.by_reason.entry(reason).or_default() += 1;
        if self.first.len() < MAX_VIOLATIONS_IN_FULL {
            self.first.push(compose());
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.violations == 0
    }

    /// One sentence for a log line: `3 violations (bad_number 2, out_of_range 1); first: line 102, column temp: …`.
    pub fn summary(&self) -> String {
        let counts: Vec<String> = self
            .by_reason
            .iter()
            .map(|(reason, n)| format!("{} {n}", reason.as_str()))
            .collect();
        let noun = if self.violations == 1 {
            "violation"
        } else {
            "violations"
        };
        let mut summary = format!("{} {noun} ({})", self.violations, counts.join(", "));
        if let Some(first) = self.first.first() {
            summary.push_str("; first: ");
            summary.push_str(&describe(first));
        }
        summary
    }
}

/// One violation as a phrase: `line 102, column "temp": a finite decimal number, found "abc"`.
pub fn describe(violation: &Violation) -> String {
    let mut place = Vec::new();
    if let Some(line) = violation.line {
        place.push(format!("line {line}"));
    }
    if let Some(column) = &violation.column {
        place.push(format!("column {column:?}"));
    }
    let mut sentence = place.join(", ");
    if !sentence.is_empty() {
        sentence.push_str(": ");
    }
    sentence.push_str(&violation.rule);
    if let Some(text) = &violation.text {
        sentence.push_str(&format!(", found {text:?}"));
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_keeps_the_first_in_full_and_counts_the_rest() {
        let mut report = Report::default();
        for line in 0..20_000 {
            report.add(
                Violation::of_line(line, Reason::OutOfRange, "-50 <= temp <= 50")
                    .column("temp")
                    .text(b"99"),
            );
        }
        assert_eq!(report.violations, 20_000);
        assert_eq!(report.by_reason[&Reason::OutOfRange], 20_000);
        assert_eq!(report.first.len(), MAX_VIOLATIONS_IN_FULL);
    }

    #[test]
    fn long_and_broken_text_is_cut_and_shown() {
        let violation =
            Violation::of_line(1, Reason::BadNumber, "a number").text(&vec![b'x'; 1 << 20]);
        assert_eq!(
            violation.text.map(|text| text.chars().count()),
            Some(MAX_TEXT_CHARS + 1)
        );
        assert_eq!(cut(b"b8:\xff\0"), "b8:\u{fffd}␀");
        assert_eq!(cut("é".repeat(80).as_bytes()), "é".repeat(80));
    }

    #[test]
    fn summary_is_one_line_whatever_the_text() {
        let violation = Violation::of_line(7, Reason::BadDevice, "a device")
            .column("device")
            .text(b"a\nb");
        let summary = Report::of(violation).summary();
        assert_eq!(
            summary,
            "1 violation (bad_device 1); first: line 7, column \"device\": a device, found \"a\\nb\""
        );
    }

    #[test]
    fn json_has_the_documented_shape() {
        let report = Report::of(
            Violation::of_line(2, Reason::BadBool, "true or false")
                .column("light")
                .text(b"maybe"),
        );
        let json = serde_json::to_value(&report).expect("a report is plain data");
        let first = serde_json::json!({"line": 2, "column": "light", "reason": "bad_bool", "rule": "true or false", "text": "maybe"});
        assert_eq!(
            json,
            serde_json::json!({"violations": 1, "by_reason": {"bad_bool": 1}, "first": [first]})
        );
    }
}
