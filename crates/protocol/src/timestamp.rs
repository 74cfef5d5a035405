//! Times as Celery writes them: ISO 8601 with Python's habits.
//!
//! Counterpart: `datetime.isoformat` and `celery/utils/time.py @ 5.7.0` (`maybe_iso8601`). A time without an offset is
//! UTC, Celery's default; `enable_utc = False` on the other side is not known here.

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, Utc};

/// What is wrong with a time's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TimestampError(pub(crate) &'static str);

/// As Python's `isoformat()` of an aware UTC time: `2026-11-23T17:43:36.694319+00:00`, without the fraction when that
/// is zero. Digits beyond microseconds are cut.
pub fn isoformat(time: DateTime<Utc>) -> String {
    let fraction = match time.timestamp_subsec_micros() {
        0 => SecondsFormat::Secs,
        _ => SecondsFormat::Micros,
    };
    time.to_rfc3339_opts(fraction, false)
}

/// Reads every form that Celery and Python's `isoformat` write, of any version: with `T` or a space, with or without
/// seconds, fraction and offset (`Z`, `+00:00`, `-0530`, `+02`). A date alone is its midnight.
///
/// # Errors
/// The text is no such time, or the time does not exist.
pub fn parse(text: &str) -> Result<DateTime<Utc>, TimestampError> {
    let mut cursor = Cursor(text.as_bytes());
    let date = cursor.date()?;
    if cursor.0.is_empty() {
        return Ok(date.and_time(NaiveTime::MIN).and_utc());
    }
    if !(cursor.skip(b'T') || cursor.skip(b't') || cursor.skip(b' ')) {
        return Err(TimestampError("expected 'T' after the date"));
    }
    let local = NaiveDateTime::new(date, cursor.time()?);
    let offset = cursor.offset()?;
    if !cursor.0.is_empty() {
        return Err(TimestampError("unexpected characters after the time"));
    }
    local
        .checked_sub_signed(offset)
        .map(|utc| utc.and_utc())
        .ok_or(TimestampError("out of range"))
}

/// What is left of the text.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn skip(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn digits(&mut self, count: usize) -> Result<u32, TimestampError> {
        const MISSING: TimestampError = TimestampError("expected digits");
        let (digits, rest) = self.0.split_at_checked(count).ok_or(MISSING)?;
        let text = std::str::from_utf8(digits)
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        self.0 = rest;
        text.and_then(|text| text.parse().ok()).ok_or(MISSING)
    }

    fn starts_with_digit(&self) -> bool {
        self.0.first().is_some_and(u8::is_ascii_digit)
    }

    fn date(&mut self) -> Result<NaiveDate, TimestampError> {
        let year = i32::try_from(self.digits(4)?).unwrap_or(i32::MAX);
        let dashed = self.skip(b'-');
        let month = self.digits(2)?;
        if dashed && !self.skip(b'-') {
            return Err(TimestampError("expected a day"));
        }
        let day = self.digits(2)?;
        NaiveDate::from_ymd_opt(year, month, day).ok_or(TimestampError("no such date"))
    }

    fn time(&mut self) -> Result<NaiveTime, TimestampError> {
        let hour = self.digits(2)?;
        let colons = self.skip(b':');
        let minute = if colons || self.starts_with_digit() {
            self.digits(2)?
        } else {
            0
        };
        let has_seconds = if colons {
            self.skip(b':')
        } else {
            self.starts_with_digit()
        };
        let second = if has_seconds { self.digits(2)? } else { 0 };
        let micro = if has_seconds && (self.skip(b'.') || self.skip(b',')) {
            self.fraction()?
        } else {
            0
        };
        NaiveTime::from_hms_micro_opt(hour, minute, second, micro)
            .ok_or(TimestampError("no such time of day"))
    }

    /// Microseconds; further digits are cut, as Python does.
    fn fraction(&mut self) -> Result<u32, TimestampError> {
        let mut micro = 0;
        let mut scale = 100_000;
        if !self.starts_with_digit() {
            return Err(TimestampError("expected digits of a fraction"));
        }
        while self.starts_with_digit() {
            micro += self.digits(1)? * scale;
            scale /= 10;
        }
        Ok(micro)
    }

    fn offset(&mut self) -> Result<Duration, TimestampError> {
        if self.0.is_empty() || self.skip(b'Z') || self.skip(b'z') {
            return Ok(Duration::zero());
        }
        let sign = if self.skip(b'+') {
            1
        } else if self.skip(b'-') {
            -1
        } else {
            return Err(TimestampError("expected an offset such as +00:00"));
        };
        let hours = self.digits(2)?;
        let minutes = if self.skip(b':') || self.starts_with_digit() {
            self.digits(2)?
        } else {
            0
        };
        let seconds = if self.skip(b':') || self.starts_with_digit() {
            self.digits(2)?
        } else {
            0
        };
        if hours > 23 || minutes > 59 || seconds > 59 {
            return Err(TimestampError("no such offset"));
        }
        Ok(Duration::seconds(
            sign * i64::from(hours * 3600 + minutes * 60 + seconds),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "expected digits"),
            ("soon", "expected digits"),
            ("2026-13-01T00:00:00", "no such date"),
            ("2026-02-29T00:00:00", "no such date"),
            ("2026-11-2", "expected digits"),
            ("2026-11", "expected a day"),
            ("2026-11-23x10:00", "expected 'T' after the date"),
            ("2026-11-23T25:00:00", "no such time of day"),
            ("2026-11-23T10:00:00.", "expected digits of a fraction"),
            ("2026-11-23T10:00:00+25:00", "no such offset"),
            (
                "2026-11-23T10:00:00 Europe",
                "expected an offset such as +00:00",
            ),
            (
                "2026-11-23T10:00:00Zulu",
                "unexpected characters after the time",
            ),
            ("2026-11-23T10:00:00+é0:00", "expected digits"),
        ] {
            assert_eq!(parse(text).map_err(|err| err.0), Err(reason), "{text}");
        }
    }

    #[test]
    fn digits_beyond_microseconds_are_cut() {
        let time = parse("2026-11-23T10:00:00.1234567899Z").unwrap();
        assert_eq!(isoformat(time), "2026-11-23T10:00:00.123456+00:00");
        let time = parse("2026-11-23T10:00:00.0000001Z").unwrap();
        assert_eq!(isoformat(time), "2026-11-23T10:00:00+00:00");
    }
}
