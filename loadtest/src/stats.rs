//! Distributions and the few summaries reports print.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time a distribution can hold, in microseconds; longer ones count as this.
const MICROS_MAX: u64 = 600_000_000;

/// A distribution of times: microsecond steps, three significant digits.
pub struct Times(Histogram<u64>);

impl Times {
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, MICROS_MAX, 3);
        Self(histogram.expect("fixed bounds that the histogram accepts"))
    }

    pub fn record_ns(&mut self, ns: u64) {
        self.0.saturating_record(ns / 1_000);
    }

    pub fn merge(&mut self, other: &Times) {
        // Cannot fail: all distributions have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// How many values lie above `ns`.
    pub fn above_ns(&self, ns: u64) -> u64 {
        let micros = ns / 1_000;
        self.0.iter_recorded().filter(|step| step.value_iterated_to() > micros).map(|s| s.count_at_value()).sum()
    }

    /// Shares of all values, and the ms they lie within, up to one in ten thousand.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let shares = (0..=40).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / 10.0));
        shares.map(|share| (share, self.0.value_at_quantile(share) as f64 / 1_000.0)).collect()
    }

    /// 0 of nothing.
    pub fn p99_micros(&self) -> u64 {
        self.0.value_at_quantile(0.99)
    }

    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        Percentiles {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: if self.0.is_empty() { 0.0 } else { self.0.max() as f64 / 1_000.0 },
        }
    }
}

/// Milliseconds at the usual percentiles. All zero when `count` is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// The middle value, or the mean of the two middle ones; `None` of nothing. NaN is ignored.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let mut times = Times::new();
        (1..=1_000).for_each(|ms| times.record_ns(ms * 1_000_000));
        let percentiles = times.percentiles();
        for (got, want) in
            [(percentiles.p50, 500.0), (percentiles.p99, 990.0), (percentiles.p999, 999.0), (percentiles.max, 1_000.0)]
        {
            assert!((got - want).abs() <= want * 0.002, "{got} instead of {want}");
        }
        assert_eq!(percentiles.count, 1_000);
        assert_eq!(times.above_ns(900_500_000), 100);
    }

    #[test]
    fn merging_adds_up_and_long_times_are_kept() {
        let (mut left, mut right) = (Times::new(), Times::new());
        left.record_ns(1_000_000);
        right.record_ns(u64::MAX);
        left.merge(&right);
        assert_eq!(left.percentiles().count, 2);
        assert!(left.percentiles().max >= 600_000.0);
    }

    #[test]
    fn the_curve_rises_through_the_percentiles() {
        let mut times = Times::new();
        assert!(times.curve().is_empty());
        (1..=1_000).for_each(|ms| times.record_ns(ms * 1_000_000));
        let curve = times.curve();
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        assert!((curve[10].0 - 0.9).abs() < 1e-9 && (curve[10].1 - 900.0).abs() < 2.0, "{:?}", curve[10]);
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        let percentiles = Times::new().percentiles();
        assert_eq!((percentiles.count, percentiles.p50, percentiles.max), (0, 0.0, 0.0));
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, f64::NAN, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }
}
