//! Statistics per device and metric.
//!
//! Keeps: what a naive computation and pandas find, to within 1e-9. The median is exact, so all values are held: 8 bytes
//! each, 40 bytes a row. Two passes over the held values (a compensated sum, then squares of differences) are as sound as
//! Welford's method and need no division per value.

use std::collections::HashMap;

use super::reading::Reading;
use super::schema::METRICS;

/// The statistics of one metric of one device: a row of `aggregated_metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The device's name.
    pub device: String,
    /// Name of the metric.
    pub metric: &'static str,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (divided by n - 1); `None` for a single row.
    pub std_dev: Option<f64>,
    /// The middle value; for an even count the mean of the two middle ones.
    pub median: f64,
    /// How many values.
    pub count: u64,
}

/// Collects readings, then computes the statistics.
#[derive(Debug, Default)]
pub struct Aggregator {
    devices: HashMap<Box<str>, [Vec<f64>; METRICS.len()]>,
}

impl Aggregator {
    /// Takes one reading in.
    pub fn add(&mut self, reading: &Reading<'_>) {
        let values = match self.devices.get_mut(reading.device) {
            Some(values) => values,
            None => self.devices.entry(reading.device.into()).or_default(),
        };
        for (values, value) in values.iter_mut().zip(reading.metrics) {
            values.push(value);
        }
    }

    /// How many devices were seen.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// The statistics, by device and then in the order of the metrics.
    pub fn finish(self) -> Vec<Aggregate> {
        let mut devices: Vec<_> = self.devices.into_iter().collect();
        devices.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut aggregates = Vec::with_capacity(devices.len() * METRICS.len());
        for (device, metrics) in devices {
            for (metric, values) in METRICS.iter().zip(metrics) {
                aggregates.extend(aggregate(&device, metric.name, values));
            }
        }
        aggregates
    }
}

/// `None` for no values: a device has as many as it has rows.
fn aggregate(device: &str, metric: &'static str, mut values: Vec<f64>) -> Option<Aggregate> {
    let min = values.iter().copied().reduce(f64::min)?;
    let max = values.iter().copied().reduce(f64::max)?;
    let count = values.len() as u64;
    // Rounding may carry a mean of equal values past them.
    let mean = (sum(values.iter().copied()) / count as f64).clamp(min, max);
    let std_dev = (count > 1).then(|| {
        let squares = sum(values.iter().map(|value| (value - mean) * (value - mean)));
        (squares / (count - 1) as f64).sqrt()
    });
    let median = median(&mut values);
    Some(Aggregate {
        device: device.to_owned(),
        metric,
        min,
        max,
        mean,
        std_dev,
        median,
        count,
    })
}

/// Neumaier's sum: the error does not grow with the number of values.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut total, mut lost) = (0.0_f64, 0.0_f64);
    for value in values {
        let next = total + value;
        lost += if total.abs() >= value.abs() {
            (total - next) + value
        } else {
            (value - next) + total
        };
        total = next;
    }
    total + lost
}

/// The middle of at least one value; reorders them.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let is_even = values.len().is_multiple_of(2);
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    match below.iter().copied().reduce(f64::max) {
        Some(lower) if is_even => f64::midpoint(lower, upper),
        _ => upper,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(device: &str, value: f64) -> Reading<'_> {
        Reading {
            ts_micros: 0,
            device,
            light: false,
            motion: false,
            metrics: [value; 5],
        }
    }

    fn of(values: &[f64]) -> Aggregate {
        aggregate("d", "temp", values.to_vec()).expect("there are values")
    }

    #[test]
    fn one_row_has_no_deviation() {
        let one = of(&[22.7]);
        assert_eq!(
            (
                one.min,
                one.max,
                one.mean,
                one.std_dev,
                one.median,
                one.count
            ),
            (22.7, 22.7, 22.7, None, 22.7, 1)
        );
    }

    #[test]
    fn deviation_is_that_of_a_sample_and_the_even_median_lies_between() {
        let four = of(&[4.0, 1.0, 2.0, 3.0]);
        assert_eq!((four.mean, four.median, four.count), (2.5, 2.5, 4));
        assert_eq!(four.std_dev, Some((5.0_f64 / 3.0).sqrt()));
        assert_eq!(of(&[9.0, 1.0, 2.0]).median, 2.0);
    }

    #[test]
    fn equal_values_have_themselves_as_mean_and_no_spread() {
        let same = of(&[0.1; 3]);
        assert_eq!(
            (same.mean, same.std_dev, same.median),
            (0.1, Some(0.0), 0.1)
        );
    }

    #[test]
    fn sum_does_not_lose_the_small_beside_the_large() {
        assert_eq!(sum([1e16, 1.0, 1.0, -1e16].into_iter()), 2.0);
    }

    #[test]
    fn devices_come_in_order_with_all_metrics() {
        let mut aggregator = Aggregator::default();
        for device in ["b", "a", "b"] {
            aggregator.add(&reading(device, 1.0));
        }
        assert_eq!(aggregator.devices(), 2);
        let rows = aggregator.finish();
        let keys: Vec<_> = rows
            .iter()
            .map(|row| (row.device.as_str(), row.metric, row.count))
            .collect();
        assert_eq!(keys[0], ("a", "co", 1));
        assert_eq!(keys[9], ("b", "temp", 2));
        assert_eq!(keys.len(), 10);
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * a.abs().max(1.0)
    }

    proptest! {
        #[test]
        fn equals_a_naive_computation(values in proptest::collection::vec(-50.0_f64..50.0, 1..200)) {
            let got = of(&values);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let n = values.len();
            let mean = values.iter().sum::<f64>() / n as f64;
            let median = if n % 2 == 1 { sorted[n / 2] } else { (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0 };
            prop_assert_eq!((got.min, got.max, got.count), (sorted[0], sorted[n - 1], n as u64));
            prop_assert!(close(got.mean, mean));
            prop_assert!(close(got.median, median));
            match got.std_dev {
                None => prop_assert_eq!(n, 1),
                Some(deviation) => {
                    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
                    prop_assert!(close(deviation, (squares / (n - 1) as f64).sqrt()));
                }
            }
        }
    }
}
