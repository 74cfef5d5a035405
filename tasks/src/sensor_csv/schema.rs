//! The columns of a sensor file: names, types and ranges, written once.
//!
//! Rules: `docs/ingest-rules.md`, "Columns".

/// A measured quantity: a number with an inclusive range, aggregated per device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Name of the CSV column, and `metric` in `aggregated_metrics`.
    pub name: &'static str,
    /// Smallest value allowed.
    pub min: f64,
    /// Largest value allowed.
    pub max: f64,
}

impl Metric {
    const fn new(name: &'static str, min: f64, max: f64) -> Self {
        Self { name, min, max }
    }

    /// Whether `value` lies in the range, both ends included. NaN does not.
    pub fn contains(&self, value: f64) -> bool {
        self.min <= value && value <= self.max
    }
}

/// The five metrics, in the order in which [`Reading::metrics`](super::Reading) holds them.
pub const METRICS: [Metric; 5] = [
    Metric::new("co", 0.0, 1.0),
    Metric::new("humidity", 0.0, 100.0),
    Metric::new("lpg", 0.0, 1.0),
    Metric::new("smoke", 0.0, 1.0),
    Metric::new("temp", -50.0, 50.0),
];

/// The nine columns which a header must name, each once, in any order.
pub const COLUMN_NAMES: [&str; 9] = [
    "ts",
    "device",
    METRICS[0].name,
    METRICS[1].name,
    "light",
    METRICS[2].name,
    "motion",
    METRICS[3].name,
    METRICS[4].name,
];

/// Place of the instant in [`COLUMN_NAMES`].
pub(crate) const TS: usize = 0;
/// Place of the device's name.
pub(crate) const DEVICE: usize = 1;
/// Place of the light switch.
pub(crate) const LIGHT: usize = 4;
/// Place of the motion detector.
pub(crate) const MOTION: usize = 6;
/// Places of the [`METRICS`].
pub(crate) const METRIC_PLACES: [usize; METRICS.len()] = [2, 3, 5, 7, 8];

/// Longest name of a device, in characters.
pub(crate) const MAX_DEVICE_CHARS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_the_nine_of_the_public_data_set() {
        let want = [
            "ts", "device", "co", "humidity", "light", "lpg", "motion", "smoke", "temp",
        ];
        assert_eq!(COLUMN_NAMES, want);
        assert_eq!(
            [TS, DEVICE, LIGHT, MOTION].map(|place| want[place]),
            ["ts", "device", "light", "motion"]
        );
        assert_eq!(
            METRIC_PLACES.map(|place| want[place]),
            METRICS.map(|metric| metric.name)
        );
    }

    #[test]
    fn ranges_include_their_ends_and_refuse_nan() {
        let temp = METRICS[4];
        assert!(temp.contains(-50.0) && temp.contains(50.0));
        assert!(!temp.contains(50.000_001) && !temp.contains(-50.1) && !temp.contains(f64::NAN));
    }
}
