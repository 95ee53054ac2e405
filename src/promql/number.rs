//! Numbers as Prometheus writes and adds them.

/// As Go's `FormatFloat(v, 'f', -1, 64)`.
pub fn format(value: f64) -> String {
    if value.is_infinite() { if value > 0.0 { "+Inf".into() } else { "-Inf".into() } } else { value.to_string() }
}

/// Reads a float as Go's `ParseFloat` does, as far as `le` labels go.
pub fn parse(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// Kahan's summation, in Neumaier's form.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    sum: f64,
    compensation: f64,
}

impl Sum {
    pub fn add(&mut self, value: f64) {
        let total = self.sum + value;
        // Which of the two is larger is anybody's guess: two selections cost less than a branch.
        let sum_is_larger = self.sum.abs() >= value.abs();
        let larger = if sum_is_larger { self.sum } else { value };
        let smaller = if sum_is_larger { value } else { self.sum };
        let lost = (larger - total) + smaller;
        self.compensation = if total.is_infinite() { 0.0 } else { self.compensation + lost };
        self.sum = total;
    }

    pub fn value(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.compensation }
    }

    fn scale(&mut self, factor: f64) {
        self.sum *= factor;
        self.compensation *= factor;
    }
}

/// The mean of weighted values; when their sum overflows it goes on incrementally.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mean {
    sum: Sum,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// Adds `value` as many times as `weight` says.
    pub fn add(&mut self, value: f64, weight: f64) {
        let before = self.count;
        self.count += weight;
        if !self.incremental {
            let mut next = self.sum;
            next.add(value * weight);
            if !next.sum.is_infinite() || value.is_infinite() || self.sum.sum.is_infinite() {
                self.sum = next;
                return;
            }
            self.incremental = true;
            if before > 0.0 {
                self.sum.scale(1.0 / before);
            }
        }
        self.sum.scale(before / self.count);
        self.sum.add(value * (weight / self.count));
    }

    pub fn has_any(self) -> bool {
        self.count > 0.0
    }

    pub fn value(self) -> f64 {
        if self.incremental { self.sum.value() } else { self.sum.value() / self.count }
    }
}

/// Variance of weighted values, by Welford.
#[derive(Debug, Clone, Copy, Default)]
pub struct Variance {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Variance {
    pub fn add(&mut self, value: f64, weight: f64) {
        self.count += weight;
        let delta = value - self.mean.value();
        // Not `delta * weight / count`: equal values must have a mean that equals them.
        self.mean.add(delta * (weight / self.count));
        self.squares.add(weight * delta * (value - self.mean.value()));
    }

    pub fn has_any(self) -> bool {
        self.count > 0.0
    }

    pub fn value(self) -> f64 {
        self.squares.value() / self.count
    }
}

/// The φ-quantile of values with multiplicities; sorts them. NaN is the smallest.
pub fn quantile(q: f64, values: &mut [(f64, u64)]) -> f64 {
    let count: u64 = values.iter().map(|(_, weight)| weight).sum();
    if count == 0 || q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    values.sort_by(|(a, _), (b, _)| ascending(*a, *b));
    let rank = q * (count - 1) as f64;
    let lower = rank.floor() as u64;
    let upper = (lower + 1).min(count - 1);
    let weight = rank - rank.floor();
    nth(values, lower) * (1.0 - weight) + nth(values, upper) * weight
}

fn nth(values: &[(f64, u64)], mut index: u64) -> f64 {
    for (value, weight) in values {
        if index < *weight {
            return *value;
        }
        index -= weight;
    }
    f64::NAN
}

/// Ascending, NaN first.
pub fn ascending(a: f64, b: f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_what_plain_addition_loses() {
        let mut sum = Sum::default();
        for value in [1.0, 1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.value(), 2.0);
    }

    #[test]
    fn means_survive_overflow() {
        let mut mean = Mean::default();
        mean.add(f64::MAX, 3.0);
        mean.add(f64::MAX, 1.0);
        assert_eq!(mean.value(), f64::MAX);
        mean.add(f64::INFINITY, 1.0);
        assert_eq!(mean.value(), f64::INFINITY);
    }

    #[test]
    fn quantiles_interpolate_over_multiplicities() {
        assert_eq!(quantile(0.5, &mut [(4.0, 1), (1.0, 2), (3.0, 1)]), 2.0);
        assert_eq!(quantile(0.0, &mut [(4.0, 1), (f64::NEG_INFINITY, 0)]), 4.0);
    }
}
