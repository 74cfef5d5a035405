//! `10/s`, `100/m`, `1000/h`: how many tasks may start in a time.
//!
//! Counterpart: `celery/utils/time.py::rate` and `celery/worker/control.py::rate_limit` @ 5.7.0.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// So many starts in so long, in one worker. Its text is Celery's: `10/s`, `10/m`, `10/h`, `10` (a second).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    count: f64,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// No unit was written.
    None,
    Second,
    Minute,
    Hour,
}

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rate limit; expected a number, or one like \"10/s\", \"100/m\" or \"1000/h\"")]
pub struct RateLimitError(String);

impl RateLimit {
    /// So many a second.
    pub fn per_second(count: u32) -> Self {
        Self::new(count, Unit::Second)
    }

    /// So many a minute.
    pub fn per_minute(count: u32) -> Self {
        Self::new(count, Unit::Minute)
    }

    /// So many an hour.
    pub fn per_hour(count: u32) -> Self {
        Self::new(count, Unit::Hour)
    }

    fn new(count: u32, unit: Unit) -> Self {
        Self {
            count: f64::from(count),
            unit,
        }
    }

    /// The time between two starts; `None` for a rate of nothing, which in Celery is no limit.
    pub(crate) fn interval(self) -> Option<Duration> {
        let unit = match self.unit {
            Unit::None | Unit::Second => 1.0,
            Unit::Minute => 60.0,
            Unit::Hour => 3600.0,
        };
        let is_limit = self.count > 0.0;
        is_limit
            .then(|| Duration::try_from_secs_f64(unit / self.count).ok())
            .flatten()
    }
}

impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<Self, RateLimitError> {
        let wrong = || RateLimitError(text.to_owned());
        let (count, unit) = match text.split_once('/') {
            None => (text, Unit::None),
            Some((count, "s")) => (count, Unit::Second),
            Some((count, "m")) => (count, Unit::Minute),
            Some((count, "h")) => (count, Unit::Hour),
            Some(_) => return Err(wrong()),
        };
        let count: f64 = count.trim().parse().map_err(|_| wrong())?;
        match count.is_finite() && count >= 0.0 {
            true => Ok(Self { count, unit }),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::None => "",
            Unit::Second => "/s",
            Unit::Minute => "/m",
            Unit::Hour => "/h",
        };
        write!(f, "{}{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn celerys_texts_are_rates() {
        for (text, seconds) in [
            ("10/s", 0.1),
            ("10/m", 6.0),
            ("1/h", 3600.0),
            ("4", 0.25),
            ("0.5/s", 2.0),
        ] {
            let rate: RateLimit = text.parse().unwrap();
            assert_eq!(
                rate.interval(),
                Some(Duration::from_secs_f64(seconds)),
                "{text}"
            );
            assert_eq!(rate.to_string(), text);
        }
        assert_eq!("0/s".parse::<RateLimit>().unwrap().interval(), None);
    }

    #[test]
    fn other_texts_are_none() {
        for text in ["", "/s", "10/d", "ten/s", "-1/s", "nan/s", "10/s/s"] {
            let error = text.parse::<RateLimit>().unwrap_err().to_string();
            assert!(error.contains("\"100/m\""), "{error}");
        }
    }
}
