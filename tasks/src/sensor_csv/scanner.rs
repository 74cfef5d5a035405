//! Bytes to records: the strict and bounded half of reading CSV.
//!
//! The `csv` crate is forgiving: it joins text behind a closing quote, takes a stray quote literally, and holds a record of
//! any size. So it never sees raw bytes: this scanner finds the records first and hands it well-formed ones only.
//!
//! Duties:
//! 1. find where records end (LF, CRLF or CR outside of quotes), skip empty lines, count lines, drop a byte order mark;
//! 2. refuse quotes that do not fit, bytes that are not UTF-8, records over [`MAX_RECORD_BYTES`];
//! 3. SHA-256 and size of *all* bytes, also of those behind a fatal error.
//!
//! Keeps: memory stays at about two records, whatever the file holds (one line of 2 GB, a quote never closed).

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::violation::{Reason, Violation};

/// Longest record, in bytes. A real one has about 150; an unclosed quote must not swallow the whole file into memory.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// Bytes asked of the input at a time.
const READ_BYTES: usize = 256 << 10;

/// What the scanner found next.
#[derive(Debug)]
pub(crate) enum Scanned {
    /// A well-formed record, to be read through [`Read`]; it begins on this line.
    Record {
        /// Line on which the record begins, from 1.
        line: u64,
        /// The record holds a NUL character.
        has_nul: bool,
    },
    /// A record that is passed over.
    Flawed(Violation),
    /// Nothing more.
    End,
}

/// Hash and size of everything that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) sha256: [u8; 32],
    pub(crate) size_bytes: u64,
}

/// Where in a field the scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Bare,
    Quoted,
    /// Right behind a quote inside a quoted field: it closes the field, or is the first of a doubled one.
    QuoteSeen,
}

/// How far the current record has been scanned; kept while more bytes are fetched.
#[derive(Debug)]
struct Progress {
    place: Place,
    /// Bytes of the record scanned so far.
    scanned: usize,
    /// Line breaks inside quotes so far.
    lines: u64,
    has_nul: bool,
    flaw: Option<&'static str>,
}

impl Progress {
    const START: Self = Self {
        place: Place::FieldStart,
        scanned: 0,
        lines: 0,
        has_nul: false,
        flaw: None,
    };
}

/// Finds records in a stream of bytes; as [`Read`] it yields the record last found, ended by one LF.
#[derive(Debug)]
pub(crate) struct Scanner<R> {
    input: R,
    buffer: Vec<u8>,
    /// `buffer[start..end]` is read and not yet scanned past.
    start: usize,
    end: usize,
    at_eof: bool,
    is_first_read: bool,
    /// Line on which the next record begins.
    line: u64,
    /// `buffer[record.0..record.1]` is what [`Read`] still has to yield, then one LF.
    record: (usize, usize),
    owes_newline: bool,
    hash: Sha256,
    size_bytes: u64,
}

impl<R: Read> Scanner<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            at_eof: false,
            is_first_read: true,
            line: 1,
            record: (0, 0),
            owes_newline: false,
            hash: Sha256::new(),
            size_bytes: 0,
        }
    }

    /// Moves on to the next record that is not empty.
    ///
    /// # Errors
    /// Whatever the input returns.
    pub(crate) fn advance(&mut self) -> io::Result<Scanned> {
        loop {
            let mut progress = Progress::START;
            let Some(break_bytes) = self.scan(&mut progress)? else {
                return self.give_up();
            };
            let body = (self.start, self.start + progress.scanned);
            let line = self.line;
            self.start = body.1 + break_bytes;
            self.line += progress.lines + u64::from(break_bytes > 0);
            if body.0 == body.1 {
                if break_bytes == 0 {
                    return Ok(Scanned::End);
                }
                continue;
            }
            return Ok(self.judge(body, line, &progress));
        }
    }

    /// Reads what is left, so that the hash covers all bytes.
    ///
    /// # Errors
    /// Whatever the input returns.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        while !self.at_eof {
            self.start = self.end;
            self.fill()?;
        }
        Ok(Digest {
            sha256: self.hash.finalize().into(),
            size_bytes: self.size_bytes,
        })
    }

    fn judge(&mut self, body: (usize, usize), line: u64, progress: &Progress) -> Scanned {
        let bytes = &self.buffer[body.0..body.1];
        // Before the quotes: that it is no text says more about a gzip file than what its bytes look like.
        if std::str::from_utf8(bytes).is_err() {
            return Scanned::Flawed(
                Violation::of_line(line, Reason::Encoding, "text in UTF-8").text(bytes),
            );
        }
        if let Some(rule) = progress.flaw {
            return Scanned::Flawed(Violation::of_line(line, Reason::Malformed, rule).text(bytes));
        }
        self.record = body;
        self.owes_newline = true;
        Scanned::Record {
            line,
            has_nul: progress.has_nul,
        }
    }

    /// The record is longer than the limit: what follows cannot be told apart any more.
    fn give_up(&mut self) -> io::Result<Scanned> {
        let rule = format!("at most {MAX_RECORD_BYTES} bytes in a record (is a quote not closed?)");
        let violation = Violation::of_line(self.line, Reason::Malformed, rule)
            .text(&self.buffer[self.start..self.end]);
        while !self.at_eof {
            self.start = self.end;
            self.fill()?;
        }
        self.start = self.end;
        Ok(Scanned::Flawed(violation))
    }

    /// Scans to the end of the record at `start`: the length of its line break (0 at the end of the file), or `None`
    /// when the record is too long.
    fn scan(&mut self, progress: &mut Progress) -> io::Result<Option<usize>> {
        loop {
            let bytes = &self.buffer[self.start..self.end];
            if let Some(break_bytes) = scan_bytes(bytes, self.at_eof, progress) {
                return Ok((progress.scanned <= MAX_RECORD_BYTES).then_some(break_bytes));
            }
            if self.at_eof {
                if progress.place == Place::Quoted {
                    progress.flaw = Some("every quote closed");
                }
                return Ok((progress.scanned <= MAX_RECORD_BYTES).then_some(0));
            }
            if progress.scanned > MAX_RECORD_BYTES {
                return Ok(None);
            }
            self.fill()?;
        }
    }

    /// Fetches more bytes behind `end`, making room first.
    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < READ_BYTES / 2 {
            self.buffer.resize(self.buffer.len() + READ_BYTES, 0);
        }
        let count = self.read_input()?;
        if self.is_first_read && (self.end >= BOM.len() || self.at_eof) {
            self.is_first_read = false;
            if self.buffer[..self.end].starts_with(BOM) {
                self.start = BOM.len();
            }
        } else if self.is_first_read && count > 0 {
            // Fewer than three bytes so far: the mark may still come.
            return self.fill();
        }
        Ok(())
    }

    fn read_input(&mut self) -> io::Result<usize> {
        let count = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.hash.update(&self.buffer[self.end..self.end + count]);
        self.size_bytes += count as u64;
        self.end += count;
        self.at_eof = count == 0;
        Ok(count)
    }
}

/// UTF-8's byte order mark, as Excel writes it.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Bytes that mean something to the scan; all others are passed over.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    special[b'"' as usize] = true;
    special[b',' as usize] = true;
    special[b'\n' as usize] = true;
    special[b'\r' as usize] = true;
    special[0] = true;
    special
};

/// Scans on in `bytes` (the record from its start): the length of the line break that ends it, or `None` when more bytes
/// are needed to say.
fn scan_bytes(bytes: &[u8], at_eof: bool, progress: &mut Progress) -> Option<usize> {
    let mut at = progress.scanned;
    while let Some(&byte) = bytes.get(at) {
        if !SPECIAL[usize::from(byte)] {
            match progress.place {
                Place::FieldStart => progress.place = Place::Bare,
                Place::QuoteSeen => {
                    progress.flaw = progress.flaw.or(Some("nothing behind a closing quote"));
                    progress.place = Place::Bare;
                }
                Place::Bare | Place::Quoted => {}
            }
            at += 1;
            continue;
        }
        let break_bytes = match (byte, bytes.get(at + 1)) {
            (b'\r', None) if !at_eof => {
                progress.scanned = at;
                return None;
            }
            (b'\r', Some(b'\n')) => 2,
            (b'\r' | b'\n', _) => 1,
            _ => 0,
        };
        if break_bytes > 0 {
            if progress.place != Place::Quoted {
                progress.scanned = at;
                return Some(break_bytes);
            }
            progress.lines += 1;
            at += break_bytes;
            continue;
        }
        step(byte, progress);
        at += 1;
    }
    progress.scanned = at;
    None
}

/// Takes a quote, a comma or a NUL into account.
fn step(byte: u8, progress: &mut Progress) {
    progress.place = match (byte, progress.place) {
        (b'"', Place::FieldStart | Place::QuoteSeen) => Place::Quoted,
        (b'"', Place::Quoted) => Place::QuoteSeen,
        (b'"', Place::Bare) => {
            progress.flaw = progress.flaw.or(Some("quotes only around a whole field"));
            Place::Bare
        }
        (b',', Place::FieldStart | Place::Bare | Place::QuoteSeen) => Place::FieldStart,
        (_, place) => {
            progress.has_nul |= byte == 0;
            if place == Place::QuoteSeen {
                progress.flaw = progress.flaw.or(Some("nothing behind a closing quote"));
            }
            if place == Place::Quoted {
                Place::Quoted
            } else {
                Place::Bare
            }
        }
    };
}

/// Yields the record last found and then one LF, however the record ended in the file.
impl<R: Read> Read for Scanner<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let (start, end) = self.record;
        let count = (end - start).min(target.len());
        target[..count].copy_from_slice(&self.buffer[start..start + count]);
        self.record.0 += count;
        if self.owes_newline && count < target.len() {
            target[count] = b'\n';
            self.owes_newline = false;
            return Ok(count + 1);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Yields its bytes in small pieces.
    struct Drip<'b>(&'b [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(target.len());
            target[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    /// Line and text of every record; flawed ones as `!reason`.
    fn records(bytes: &[u8], drip: usize) -> (Vec<(u64, String)>, Digest) {
        let mut scanner = Scanner::new(Drip(bytes, drip));
        let mut found = Vec::new();
        loop {
            match scanner.advance().expect("memory does not fail") {
                Scanned::End => break,
                Scanned::Flawed(violation) => {
                    found.push((
                        violation.line.unwrap_or(0),
                        format!("!{}", violation.reason.as_str()),
                    ));
                }
                Scanned::Record { line, .. } => {
                    let mut text = vec![0; 2 << 20];
                    let count = scanner.read(&mut text).expect("memory does not fail");
                    found.push((line, String::from_utf8_lossy(&text[..count]).into_owned()));
                }
            }
        }
        (found, scanner.finish().expect("memory does not fail"))
    }

    fn check(bytes: &[u8], expected: &[(u64, &str)]) {
        let expected: Vec<(u64, String)> = expected
            .iter()
            .map(|(line, text)| (*line, (*text).to_owned()))
            .collect();
        for drip in [1, 2, 3, 7, 1 << 20] {
            let (found, digest) = records(bytes, drip);
            assert_eq!(
                found,
                expected,
                "{:?} in pieces of {drip}",
                String::from_utf8_lossy(bytes)
            );
            let sha256: [u8; 32] = Sha256::digest(bytes).into();
            assert_eq!(
                digest,
                Digest {
                    sha256,
                    size_bytes: bytes.len() as u64
                }
            );
        }
    }

    #[test]
    fn lines_end_in_lf_crlf_cr_or_nothing() {
        check(
            b"a,b\nc\r\nd\re",
            &[(1, "a,b\n"), (2, "c\n"), (3, "d\n"), (4, "e\n")],
        );
        check(b"", &[]);
        check(b"\xef\xbb\xbfa\n", &[(1, "a\n")]);
        check(b"\xef\xbb", &[(1, "!encoding")]);
    }

    #[test]
    fn empty_lines_are_skipped_and_counted() {
        check(b"\n\r\na\n\n\nb\n\n", &[(3, "a\n"), (6, "b\n")]);
    }

    #[test]
    fn line_breaks_in_quotes_belong_to_the_field() {
        check(b"\"a\nb\r\nc\"\nd\n", &[(1, "\"a\nb\r\nc\"\n"), (4, "d\n")]);
        check(
            b"\"a\"\"\n\"\"b\",\"\"\nd",
            &[(1, "\"a\"\"\n\"\"b\",\"\"\n"), (3, "d\n")],
        );
    }

    #[test]
    fn quotes_that_do_not_fit_are_malformed_and_the_next_record_is_read() {
        check(b"a\"b\nc\n", &[(1, "!malformed"), (2, "c\n")]);
        check(b"\"a\"b\nc\n", &[(1, "!malformed"), (2, "c\n")]);
        check(b"\"a\" ,b\nc\n", &[(1, "!malformed"), (2, "c\n")]);
        check(b"a\n\"b,c\nd\n", &[(1, "a\n"), (2, "!malformed")]);
    }

    #[test]
    fn bytes_that_are_not_utf8_spoil_their_record_only() {
        check(
            b"a\nb\xff\nc\n",
            &[(1, "a\n"), (2, "!encoding"), (3, "c\n")],
        );
    }

    #[test]
    fn a_record_over_the_limit_ends_the_scan_but_not_the_hash() {
        let mut bytes = b"a\n\"".to_vec();
        bytes.resize(5 << 20, b'x');
        let (found, digest) = records(&bytes, 1 << 20);
        assert_eq!(found, [(1, "a\n".to_owned()), (2, "!malformed".to_owned())]);
        assert_eq!(digest.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }

    #[test]
    fn a_record_of_exactly_the_limit_is_read() {
        let mut bytes = vec![b'x'; MAX_RECORD_BYTES];
        bytes.extend(b"\nb");
        assert_eq!(records(&bytes, 1 << 20).0.len(), 2);
        bytes.insert(0, b'x');
        assert_eq!(records(&bytes, 1 << 20).0, [(1, "!malformed".to_owned())]);
    }

    #[test]
    fn memory_stays_small_for_one_endless_line() {
        let mut scanner = Scanner::new(io::repeat(b'x').take(200 << 20));
        assert!(matches!(scanner.advance(), Ok(Scanned::Flawed(_))));
        assert!(
            scanner.buffer.capacity() < 4 * MAX_RECORD_BYTES,
            "{}",
            scanner.buffer.capacity()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_records(
            bytes in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..60),
            drip in 1_usize..9,
        ) {
            prop_assert_eq!(records(&bytes, drip), records(&bytes, 1 << 20));
        }
    }
}
