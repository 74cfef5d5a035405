//! `LOG_DIR/errors.log`: one line for each file that went wrong, for people with `tail` and `grep`.
//!
//! Python counterpart: `log_error` of the seed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};

use super::error::Error;

/// Appends `<time> <message>` as one line, in one write, so that lines of several workers never mix. Line breaks in
/// `message` are escaped. The directory is made if it is not there.
///
/// # Errors
/// Of the disk.
pub(crate) fn log_error(log_dir: &Path, time: DateTime<Utc>, message: &str) -> Result<(), Error> {
    let path = log_dir.join("errors.log");
    let failed = |error| Error::of_disk(format!("cannot write {}", path.display()), error);
    std::fs::create_dir_all(log_dir).map_err(failed)?;
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .map_err(failed)?;
    let time = time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let message = message.replace('\n', "\\n").replace('\r', "\\r");
    file.write_all(format!("{time} {message}\n").as_bytes())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_the_next_comes_below() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let log_dir = temporary.path().join("logs");
        log_error(&log_dir, DateTime::UNIX_EPOCH, "Quarantined a\nb.csv: bad").expect("room");
        log_error(&log_dir, DateTime::UNIX_EPOCH, "second").expect("room");
        let text = std::fs::read_to_string(log_dir.join("errors.log")).expect("it is there");
        let time = "1970-01-01T00:00:00.000000Z";
        assert_eq!(
            text,
            format!("{time} Quarantined a\\nb.csv: bad\n{time} second\n")
        );
    }
}
