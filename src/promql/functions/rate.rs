//! `rate` and its relatives, and linear regression.

use super::super::eval::Window;
use super::super::number::Sum;
use super::super::view::RangeView;

type Compute = fn(&RangeView<'_>, &Window, &[f64]) -> Option<f64>;

pub fn find(name: &str) -> Option<Compute> {
    Some(match name {
        "delta" => |view, window, _| extrapolated(view, window, false),
        "deriv" => |view, _, _| {
            let (origin, _) = view.samples().next()?;
            regression(view, origin).map(|(slope, _)| slope)
        },
        "idelta" => |view, _, _| last_two(view, false),
        "increase" => |view, window, _| extrapolated(view, window, true),
        "irate" => |view, _, _| last_two(view, true),
        "predict_linear" => |view, window, parameters| {
            let (slope, intercept) = regression(view, window.at_ms)?;
            Some(slope * parameters.first()? + intercept)
        },
        "rate" => |view, window, _| {
            let seconds = (window.to_ms - window.from_ms) as f64 / 1000.0;
            extrapolated(view, window, true).map(|increase| increase / seconds)
        },
        _ => return None,
    })
}

/// The difference between the last and the first sample, extended to the window's borders as far as the distance of
/// the samples suggests. A counter is not extended below zero, and its resets are added.
fn extrapolated(view: &RangeView<'_>, window: &Window, is_counter: bool) -> Option<f64> {
    let mut segments = view.segments();
    let first = segments.next()?;
    let mut last = first;
    let mut samples = first.samples();
    let mut resets = 0.0;
    for segment in segments {
        if is_counter && segment.value < last.value {
            resets += last.value;
        }
        samples += segment.samples();
        last = segment;
    }
    if samples < 2 {
        return None;
    }
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let (first_ms, last_ms) = (view.time(first.first), view.time(last.end - 1));
    let difference = last.value - first.value + resets;
    let sampled = seconds(last_ms - first_ms);
    let distance = sampled / (samples - 1) as f64;
    let threshold = distance * 1.1;
    let mut to_start = seconds(first_ms - window.from_ms);
    let mut to_end = seconds(window.to_ms - last_ms);
    if to_start >= threshold {
        to_start = distance / 2.0;
    }
    if is_counter && difference > 0.0 && first.value >= 0.0 {
        to_start = to_start.min(sampled * (first.value / difference));
    }
    if to_end >= threshold {
        to_end = distance / 2.0;
    }
    Some(difference * ((sampled + to_start + to_end) / sampled))
}

/// From the last two samples: their difference, or for a counter their rate.
fn last_two(view: &RangeView<'_>, is_rate: bool) -> Option<f64> {
    let mut before = None;
    let mut last = None;
    for segment in view.segments() {
        before = if segment.samples() > 1 { Some((view.time(segment.end - 2), segment.value)) } else { last };
        last = Some((view.time(segment.end - 1), segment.value));
    }
    let ((before_ms, before), (last_ms, last)) = (before?, last?);
    if !is_rate {
        return Some(last - before);
    }
    let difference = if last < before { last } else { last - before };
    Some(difference / ((last_ms - before_ms) as f64 / 1000.0))
}

/// Slope per second and value at `origin_ms` of the line of least squares.
fn regression(view: &RangeView<'_>, origin_ms: i64) -> Option<(f64, f64)> {
    let mut samples = view.samples();
    let (_, first) = samples.next()?;
    samples.next()?;
    let mut segments = view.segments();
    if segments.all(|segment| segment.value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let (mut count, mut x, mut y, mut xy, mut xx) =
        (0.0, Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for (time, value) in view.samples() {
        let seconds = (time - origin_ms) as f64 / 1000.0;
        count += 1.0;
        x.add(seconds);
        y.add(value);
        xy.add(seconds * value);
        xx.add(seconds * seconds);
    }
    let (x, y) = (x.value(), y.value());
    let covariance = xy.value() - x * y / count;
    let variance = xx.value() - x * x / count;
    let slope = covariance / variance;
    Some((slope, y / count - slope * x / count))
}
