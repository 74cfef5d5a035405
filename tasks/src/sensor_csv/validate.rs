//! The whole file: hashed, judged and aggregated in one reading.
//!
//! Python counterpart: `validate_and_transform_data(file_path)` of the seed. Deliberate difference: it returns a verdict
//! and moves nothing; whoever calls it decides what becomes of the file.

use std::io::{self, Read};

use super::aggregate::{Aggregate, Aggregator};
use super::reader::{Item, SensorReader};
use super::violation::{Reason, Report, Violation};

/// A file that was read to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// SHA-256 of all its bytes.
    pub sha256: [u8; 32],
    /// How many bytes were read.
    pub size_bytes: u64,
    /// What the rules say of it.
    pub judgement: Judgement,
}

/// Whether a file keeps the rules.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// It does: this is to be loaded.
    Good(Summary),
    /// It does not: none of it is to be loaded.
    Bad(Report),
}

/// What a good file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Rows of data.
    pub rows: u64,
    /// Devices among them.
    pub devices: u64,
    /// Statistics per device and metric.
    pub aggregates: Vec<Aggregate>,
}

/// Reads a file to its end: hash, verdict and statistics.
///
/// # Errors
/// Whatever `input` returns; a file that breaks the rules is no error but [`Judgement::Bad`].
pub fn validate_and_transform_data<R: Read>(input: R) -> io::Result<Checked> {
    let mut reader = SensorReader::new(input);
    let mut rows = 0;
    // Dropped at the first violation: a bad file has no statistics, and needs no memory for them.
    let mut aggregator = Some(Aggregator::default());
    loop {
        match reader.read_item()? {
            Item::Row(_, reading) => {
                rows += 1;
                if let Some(aggregator) = &mut aggregator {
                    aggregator.add(&reading);
                }
            }
            Item::Refused => aggregator = None,
            Item::End => break,
        }
    }
    let (digest, mut report) = reader.finish()?;
    if report.is_empty() && rows == 0 {
        report.add(Violation::of_file(
            Reason::Empty,
            "at least one row below the header",
        ));
    }
    let judgement = match aggregator {
        Some(aggregator) if report.is_empty() => Judgement::Good(Summary {
            rows,
            devices: aggregator.devices() as u64,
            aggregates: aggregator.finish(),
        }),
        _ => Judgement::Bad(report),
    };
    Ok(Checked {
        sha256: digest.sha256,
        size_bytes: digest.size_bytes,
        judgement,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "ts,device,co,humidity,light,lpg,motion,smoke,temp\n";
    const ROW: &str = "1.5945120943859746E9,b8:27,0.005,51.0,false,0.0077,false,0.02,22.7\n";

    fn check(text: &[u8]) -> Judgement {
        validate_and_transform_data(text)
            .expect("memory does not fail")
            .judgement
    }

    fn reasons(text: &str) -> Vec<&'static str> {
        match check(text.as_bytes()) {
            Judgement::Good(_) => Vec::new(),
            Judgement::Bad(report) => report
                .by_reason
                .keys()
                .map(|reason| reason.as_str())
                .collect(),
        }
    }

    #[test]
    fn a_good_file_is_counted_and_aggregated() {
        let Judgement::Good(summary) = check(format!("{HEADER}{ROW}{ROW}").as_bytes()) else {
            panic!("refused");
        };
        assert_eq!(
            (summary.rows, summary.devices, summary.aggregates.len()),
            (2, 1, 5)
        );
    }

    #[test]
    fn a_file_without_rows_is_empty() {
        assert_eq!(reasons(""), ["empty"]);
        assert_eq!(reasons("\n\n"), ["empty"]);
        assert_eq!(reasons(HEADER), ["empty"]);
        assert_eq!(reasons(&format!("{HEADER}x\n")), ["field_count"]);
    }

    #[test]
    fn all_kinds_of_violations_are_collected() {
        let text = format!(
            "{HEADER}{}{}1,2\n{}",
            ROW.replace("22.7", "NaN"),
            ROW.replace("false", "no"),
            ROW.replace("b8", "b\"8")
        );
        assert_eq!(
            reasons(&text),
            ["bad_number", "bad_bool", "field_count", "malformed"]
        );
    }

    #[test]
    fn one_bad_row_among_good_ones_refuses_the_file() {
        assert_eq!(
            reasons(&format!(
                "{HEADER}{ROW}{}{ROW}",
                ROW.replace("51.0", "100.1")
            )),
            ["out_of_range"]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic_and_have_their_hash(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), with_header: bool) {
            if with_header {
                bytes.splice(0..0, HEADER.bytes());
            }
            let checked = validate_and_transform_data(bytes.as_slice()).expect("memory does not fail");
            prop_assert_eq!(checked.size_bytes, bytes.len() as u64);
        }
    }
}
