//! Records to readings: the header by name in any order, fields by the `csv` crate, one record reused for all.
//!
//! Keeps: a header that does not fit ends the reading at once, so that no row is judged by a wrong column.

use std::fmt;
use std::io::{self, Chain, Read};

use csv::{ByteRecord, ReaderBuilder, Terminator};

use super::reading::{self, Reading};
use super::scanner::{Digest, Scanned, Scanner};
use super::schema::COLUMN_NAMES;
use super::violation::{Reason, Report, Violation};

/// Where each of [`COLUMN_NAMES`] stands in a record, and how many fields a record has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) position: [usize; COLUMN_NAMES.len()],
    pub(crate) count: usize,
}

/// What [`SensorReader::read_item`] came to.
#[derive(Debug, PartialEq)]
pub enum Item<'r> {
    /// A row that keeps all rules, and the line on which it begins.
    Row(u64, Reading<'r>),
    /// A record that breaks a rule; the report says which.
    Refused,
    /// The end of the file, or a header that does not fit.
    End,
}

/// Records behind an empty line.
type Lines<R> = Chain<&'static [u8], Scanner<R>>;

/// Reads a sensor file row by row and collects what is wrong with it.
pub struct SensorReader<R> {
    csv: csv::Reader<Lines<R>>,
    record: ByteRecord,
    header: Header,
    report: Report,
}

/// How far the header has come.
enum Header {
    Unread,
    Fits(Columns),
    Refused,
}

impl<R> fmt::Debug for SensorReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SensorReader")
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl<R: Read> SensorReader<R> {
    /// Reads from `input`; it is buffered here.
    pub fn new(input: R) -> Self {
        let csv = ReaderBuilder::new()
            .has_headers(false)
            // Field counts are judged by us: the crate's error would end the reading.
            .flexible(true)
            // The scanner hands on whole records, each ended by one LF.
            .terminator(Terminator::Any(b'\n'))
            .buffer_capacity(64 << 10)
            // The crate would drop a byte order mark at the very beginning, and the scanner has done so: a second one
            // belongs to the header. An empty line is skipped.
            .from_reader(b"\n".chain(Scanner::new(input)));
        Self {
            csv,
            record: ByteRecord::new(),
            header: Header::Unread,
            report: Report::default(),
        }
    }

    /// The next row, or what stands in its place.
    ///
    /// # Errors
    /// Whatever the input returns.
    pub fn read_item(&mut self) -> io::Result<Item<'_>> {
        if matches!(self.header, Header::Unread) {
            self.header = self.read_header()?;
        }
        let Header::Fits(columns) = &self.header else {
            return Ok(Item::End);
        };
        let (line, has_nul) = match scanner(&mut self.csv).advance()? {
            Scanned::End => return Ok(Item::End),
            Scanned::Flawed(violation) => {
                self.report.add(violation);
                return Ok(Item::Refused);
            }
            Scanned::Record { line, has_nul } => (line, has_nul),
        };
        self.csv.read_byte_record(&mut self.record)?;
        if has_nul {
            self.report.add(nul(line, &self.record, columns));
            return Ok(Item::Refused);
        }
        Ok(
            match reading::judge(&self.record, columns, line, &mut self.report) {
                Some(reading) => Item::Row(line, reading),
                None => Item::Refused,
            },
        )
    }

    /// Reads what is left and says what was wrong; a file without a header is [`Reason::Empty`].
    ///
    /// # Errors
    /// Whatever the input returns.
    pub(crate) fn finish(self) -> io::Result<(Digest, Report)> {
        let (_line_end, scanner) = self.csv.into_inner().into_inner();
        Ok((scanner.finish()?, self.report))
    }

    /// As `finish`, for a second reading: the hash of all bytes, or `None` if anything was wrong.
    ///
    /// # Errors
    /// Whatever the input returns.
    pub fn finish_clean(self) -> io::Result<Option<[u8; 32]>> {
        let (digest, report) = self.finish()?;
        Ok(report.is_empty().then_some(digest.sha256))
    }

    fn read_header(&mut self) -> io::Result<Header> {
        let (line, has_nul) = match scanner(&mut self.csv).advance()? {
            Scanned::End => {
                self.report
                    .add(Violation::of_file(Reason::Empty, "a header line"));
                return Ok(Header::Refused);
            }
            Scanned::Flawed(violation) => {
                self.report.add(violation);
                return Ok(Header::Refused);
            }
            Scanned::Record { line, has_nul } => (line, has_nul),
        };
        self.csv.read_byte_record(&mut self.record)?;
        if has_nul {
            self.report
                .add(nul(line, &self.record, &Columns::default()));
            return Ok(Header::Refused);
        }
        let columns = find_columns(&self.record, line, &mut self.report);
        Ok(columns.map_or(Header::Refused, Header::Fits))
    }
}

fn scanner<R: Read>(csv: &mut csv::Reader<Lines<R>>) -> &mut Scanner<R> {
    csv.get_mut().get_mut().1
}

/// The first field with a NUL, by its column if it is one of ours.
fn nul(line: u64, record: &ByteRecord, columns: &Columns) -> Violation {
    let index = record
        .iter()
        .position(|field| field.contains(&0))
        .unwrap_or_default();
    let violation = Violation::of_line(line, Reason::Nul, "no NUL character").text(&record[index]);
    match columns
        .position
        .iter()
        .position(|&position| position == index)
    {
        Some(place) if columns.count > 0 => violation.column(COLUMN_NAMES[place]),
        _ => violation,
    }
}

/// Finds the nine columns; every missing and every doubled one is a violation.
fn find_columns(header: &ByteRecord, line: u64, report: &mut Report) -> Option<Columns> {
    let mut columns = Columns {
        count: header.len(),
        ..Columns::default()
    };
    for (slot, name) in columns.position.iter_mut().zip(COLUMN_NAMES) {
        let mut places =
            (0..header.len()).filter(|&index| reading::trim(&header[index]) == name.as_bytes());
        match (places.next(), places.next()) {
            (None, _) => report.add(
                Violation::of_line(
                    line,
                    Reason::MissingColumn,
                    format!("a column named {name:?}"),
                )
                .column(name),
            ),
            (Some(_), Some(_)) => report.add(
                Violation::of_line(
                    line,
                    Reason::BadHeader,
                    format!("one column named {name:?}, not several"),
                )
                .column(name),
            ),
            (Some(index), None) => *slot = index,
        }
    }
    report.is_empty().then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        let mut reader = SensorReader::new(text.as_bytes());
        while !matches!(reader.read_item(), Ok(Item::End)) {}
        reader
            .finish()
            .map(|(_, report)| report)
            .expect("memory does not fail")
    }

    #[test]
    fn columns_are_found_by_name_in_any_order_among_others() {
        let text = " temp ,note,smoke,motion,lpg,light,humidity,co,\"device\",ts\n1,x,0.5,0,0.25,TRUE,50,0.125,\"a,b\",1594512094\n";
        let mut reader = SensorReader::new(text.as_bytes());
        let want = Reading {
            ts_micros: 1_594_512_094_000_000,
            device: "a,b",
            light: true,
            motion: false,
            metrics: [0.125, 50.0, 0.25, 0.5, 1.0],
        };
        assert_eq!(
            reader.read_item().expect("memory does not fail"),
            Item::Row(2, want)
        );
        assert_eq!(reader.read_item().expect("memory does not fail"), Item::End);
    }

    #[test]
    fn every_missing_and_doubled_column_is_named_and_no_row_is_judged() {
        let report = report("ts,device,co,humidity,light,lpg,motion,motion\nx\n");
        let names: Vec<_> = report
            .first
            .iter()
            .map(|v| (v.reason.as_str(), v.column.as_deref().unwrap_or("")))
            .collect();
        assert_eq!(
            names,
            [
                ("bad_header", "motion"),
                ("missing_column", "smoke"),
                ("missing_column", "temp")
            ]
        );
    }

    #[test]
    fn one_byte_order_mark_is_dropped_and_a_second_one_belongs_to_the_name() {
        for (marks, violations) in [("", 0), ("\u{feff}", 0), ("\u{feff}\u{feff}", 1)] {
            let header = format!("{marks}{}\n", COLUMN_NAMES.join(","));
            let report = report(&header);
            let missing = report.by_reason.get(&Reason::MissingColumn);
            assert_eq!(missing.copied().unwrap_or(0), violations, "{marks:?}");
        }
    }

    #[test]
    fn a_header_that_cannot_be_read_is_no_missing_column() {
        for (text, reason) in [("", "empty"), ("\"ts\n", "malformed"), ("ts,\0\n", "nul")] {
            let report = report(text);
            let reasons: Vec<_> = report
                .by_reason
                .keys()
                .map(|reason| reason.as_str())
                .collect();
            assert_eq!(reasons, [reason], "{text:?}");
        }
    }

    #[test]
    fn a_megabyte_of_columns_is_searched_in_no_time() {
        let header = ",".repeat(500_000) + "\n";
        assert_eq!(report(&header).violations, 9);
    }
}
