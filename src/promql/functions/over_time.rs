//! `*_over_time`, `changes` and `resets`: functions whose cost is the number of runs, not of samples.

use super::super::eval::Window;
use super::super::number::{self, Mean, Sum, Variance};
use super::super::view::RangeView;

type Compute = fn(&RangeView<'_>, &Window, &[f64]) -> Option<f64>;

pub fn find(name: &str) -> Option<Compute> {
    Some(match name {
        "avg_over_time" => avg,
        "changes" => changes,
        "count_over_time" => |view, _, _| some_count(view).map(|count| count as f64),
        "first_over_time" => |view, _, _| view.segments().next().map(|segment| segment.value),
        "last_over_time" => |view, _, _| view.segments().last().map(|segment| segment.value),
        "max_over_time" => |view, _, _| extreme(view, |value, best| value > best),
        "min_over_time" => |view, _, _| extreme(view, |value, best| value < best),
        "present_over_time" => |view, _, _| some_count(view).map(|_| 1.0),
        "quantile_over_time" => quantile,
        "resets" => resets,
        "stddev_over_time" => |view, _, _| variance(view).map(f64::sqrt),
        "stdvar_over_time" => |view, _, _| variance(view),
        "sum_over_time" => sum,
        _ => return None,
    })
}

fn some_count(view: &RangeView<'_>) -> Option<u64> {
    let count = view.segments().map(|segment| segment.samples()).sum();
    (count > 0).then_some(count)
}

fn sum(view: &RangeView<'_>, _: &Window, _: &[f64]) -> Option<f64> {
    let (mut sum, mut count) = (Sum::default(), 0);
    for segment in view.segments() {
        sum.add(segment.value * segment.samples() as f64);
        count += segment.samples();
    }
    (count > 0).then(|| sum.value())
}

fn avg(view: &RangeView<'_>, _: &Window, _: &[f64]) -> Option<f64> {
    let mut mean = Mean::default();
    view.segments().for_each(|segment| mean.add(segment.value, segment.samples() as f64));
    mean.has_any().then(|| mean.value())
}

fn variance(view: &RangeView<'_>) -> Option<f64> {
    let mut variance = Variance::default();
    view.segments().for_each(|segment| variance.add(segment.value, segment.samples() as f64));
    variance.has_any().then(|| variance.value())
}

fn extreme(view: &RangeView<'_>, better: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let values = view.segments().map(|segment| segment.value);
    values.reduce(|best, value| if best.is_nan() || better(value, best) { value } else { best })
}

fn quantile(view: &RangeView<'_>, _: &Window, parameters: &[f64]) -> Option<f64> {
    some_count(view)?;
    let mut values: Vec<(f64, u64)> = view.segments().map(|segment| (segment.value, segment.samples())).collect();
    Some(number::quantile(*parameters.first()?, &mut values))
}

fn changes(view: &RangeView<'_>, _: &Window, _: &[f64]) -> Option<f64> {
    count_pairs(view, |before, after| before != after && !(before.is_nan() && after.is_nan()))
}

fn resets(view: &RangeView<'_>, _: &Window, _: &[f64]) -> Option<f64> {
    count_pairs(view, |before, after| after < before)
}

fn count_pairs(view: &RangeView<'_>, counts: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let mut values = view.segments().map(|segment| segment.value);
    let mut before = values.next()?;
    let mut count = 0.0;
    for value in values {
        if counts(before, value) {
            count += 1.0;
        }
        before = value;
    }
    Some(count)
}
