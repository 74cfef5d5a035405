//! The second reading of a good file: its rows in PostgreSQL's binary COPY format, piece by piece.
//!
//! Keeps: what is sent is what was judged. The hash of the second reading is handed back, to be compared with the first.
//! Memory: a few pieces of [`PIECE_BYTES`], whatever the size of the file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use super::error::{Error, Stopped};
use crate::sensor_csv::{Item, Reading, SensorReader};

/// Bytes sent at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces on their way between the reading thread and the connection.
pub(crate) const PIECES_IN_FLIGHT: usize = 4;

/// Columns of a row; their order is that of `store::COPY_ROWS`.
const COLUMNS: i16 = 12;

/// Signature, no flags, no header extension (PostgreSQL's documentation of COPY, "Binary Format").
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Microseconds from 1970 to 2000, from where PostgreSQL counts.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Reads an open file from its start, whatever others have read from the same handle; ends when told to.
#[derive(Debug)]
pub(crate) struct FromStart {
    file: Arc<File>,
    offset: u64,
    cancelled: CancellationToken,
}

impl FromStart {
    pub(crate) fn new(file: Arc<File>, cancelled: CancellationToken) -> Self {
        Self {
            file,
            offset: 0,
            cancelled,
        }
    }
}

impl Read for FromStart {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.is_cancelled() {
            return Err(io::Error::other(Stopped));
        }
        let count = self.file.read_at(target, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// What stands in every row of a file.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) file_name: String,
    pub(crate) content_id: i64,
}

/// Encodes all rows of `input` and sends them in pieces. The hash of all bytes read; `None` if a row was refused this
/// time, or the receiver has gone.
///
/// # Errors
/// Of the disk, or [`Error::Cancelled`].
pub(crate) fn encode_rows(
    input: FromStart,
    origin: &Origin,
    pieces: &Sender<Vec<u8>>,
) -> Result<Option<[u8; 32]>, Error> {
    let mut reader = SensorReader::new(input);
    let mut piece = Vec::with_capacity(PIECE_BYTES + 4096);
    piece.extend_from_slice(HEADER);
    loop {
        match reader
            .read_item()
            .map_err(|error| Error::of_disk("cannot read the file again", error))?
        {
            Item::Row(line, reading) => encode_row(&mut piece, line, &reading, origin),
            Item::Refused => return Ok(None),
            Item::End => break,
        }
        if piece.len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES + 4096));
            if pieces.blocking_send(full).is_err() {
                return Ok(None);
            }
        }
    }
    piece.extend_from_slice(&(-1_i16).to_be_bytes());
    if pieces.blocking_send(piece).is_err() {
        return Ok(None);
    }
    reader
        .finish_clean()
        .map_err(|error| Error::of_disk("cannot read the file again", error))
}

fn encode_row(row: &mut Vec<u8>, line: u64, reading: &Reading<'_>, origin: &Origin) {
    row.extend_from_slice(&COLUMNS.to_be_bytes());
    field(
        row,
        &(reading.ts_micros - POSTGRES_EPOCH_MICROS).to_be_bytes(),
    );
    field(row, reading.device.as_bytes());
    field(row, &[u8::from(reading.light)]);
    field(row, &[u8::from(reading.motion)]);
    for value in reading.metrics {
        field(row, &value.to_be_bytes());
    }
    field(row, origin.file_name.as_bytes());
    field(row, &origin.content_id.to_be_bytes());
    field(row, &line.to_be_bytes());
}

fn field(row: &mut Vec<u8>, value: &[u8]) {
    // Names of files and devices, and eight-byte values: far below 2 GiB.
    let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
    row.extend_from_slice(&length.to_be_bytes());
    row.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const CSV: &str =
        "ts,device,co,humidity,light,lpg,motion,smoke,temp\n946684801,d,0.5,50,1,0.25,0,0.125,-1\n";

    fn encode(text: &str, cancelled: bool) -> (Result<Option<[u8; 32]>, Error>, Vec<u8>) {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("room on the disk");
        let token = CancellationToken::new();
        if cancelled {
            token.cancel();
        }
        let (tx, mut rx) = tokio::sync::mpsc::channel(PIECES_IN_FLIGHT);
        let origin = Origin {
            file_name: "f".to_owned(),
            content_id: 7,
        };
        let result = encode_rows(FromStart::new(Arc::new(file), token), &origin, &tx);
        drop(tx);
        (
            result,
            std::iter::from_fn(|| rx.blocking_recv())
                .flatten()
                .collect(),
        )
    }

    #[test]
    fn a_row_is_encoded_as_postgresql_reads_it() {
        let (hash, bytes) = encode(CSV, false);
        assert!(matches!(hash, Ok(Some(_))));
        let mut want = HEADER.to_vec();
        want.extend([0, 12]);
        want.extend([0, 0, 0, 8]);
        want.extend(1_000_000_i64.to_be_bytes());
        want.extend([0, 0, 0, 1, b'd', 0, 0, 0, 1, 1, 0, 0, 0, 1, 0]);
        for value in [0.5_f64, 50.0, 0.25, 0.125, -1.0] {
            want.extend([0, 0, 0, 8]);
            want.extend(value.to_be_bytes());
        }
        want.extend([
            0, 0, 0, 1, b'f', 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
            2,
        ]);
        want.extend([0xff, 0xff]);
        assert_eq!(bytes, want);
    }

    #[test]
    fn a_file_that_turned_bad_is_not_sent_to_its_end() {
        let (hash, bytes) = encode(&CSV.replace("50", "NaN"), false);
        assert!(matches!(hash, Ok(None)));
        assert!(bytes.is_empty());
    }

    #[test]
    fn reading_ends_when_the_engine_stops_it() {
        assert!(matches!(encode(CSV, true).0, Err(Error::Cancelled)));
    }
}
