//! Classic histograms: series with an `le` label.

use super::super::element::{Element, Name};
use super::super::keys::{Index, Key};
use super::super::node::Place;
use super::super::notes::Notebook;
use super::super::number;

struct Bucket {
    upper: f64,
    count: f64,
}

/// `place` is that of the elements in the query.
pub fn quantile<'s>(q: f64, elements: Vec<Element<'s>>, notes: &Notebook, place: Place) -> Vec<Element<'s>> {
    each_histogram(elements, (notes, place), |element, buckets| {
        let (value, was_fixed) = bucket_quantile(q, buckets);
        if was_fixed {
            notes.monotonicity(element.get("__name__"), place);
        }
        value
    })
}

pub fn fraction<'s>(
    lower: f64,
    upper: f64,
    elements: Vec<Element<'s>>,
    notes: &Notebook,
    place: Place,
) -> Vec<Element<'s>> {
    each_histogram(elements, (notes, place), |_, buckets| bucket_fraction(lower, upper, buckets))
}

/// Groups by all labels but `le`, the name among them.
fn each_histogram<'s>(
    elements: Vec<Element<'s>>,
    (notes, place): (&Notebook, Place),
    compute: impl Fn(&Element<'s>, Vec<Bucket>) -> f64,
) -> Vec<Element<'s>> {
    let key = Key::Except(&["le"]);
    let mut index = Index::with_capacity(elements.len() / 8);
    let mut histograms: Vec<(Element<'s>, Vec<Bucket>)> = Vec::new();
    for element in elements {
        let Some(upper) = number::parse(element.get("le")) else {
            notes.bucket(element.get("__name__"), element.get("le"), place);
            continue;
        };
        let bucket = Bucket { upper, count: element.value };
        let hash = key.hash(&element);
        let same = |group: u32| {
            let other = &histograms[group as usize].0;
            key.same(other, &element) && other.get("__name__") == element.get("__name__")
        };
        match index.find(hash, same) {
            Some(group) => histograms[group as usize].1.push(bucket),
            None => {
                index.insert(hash);
                histograms.push((element, vec![bucket]));
            }
        }
    }
    let finish = |(element, buckets): (Element<'s>, Vec<Bucket>)| Element {
        labels: element.labels.view().filter(|name| name != "le").into(),
        name: element.name.max(Name::Dropped),
        value: compute(&element, buckets),
    };
    histograms.into_iter().map(finish).collect()
}

/// Sorts, adds up buckets of one bound, and checks that the last is +Inf.
fn prepare(mut buckets: Vec<Bucket>) -> Option<Vec<Bucket>> {
    buckets.sort_by(|a, b| number::ascending(a.upper, b.upper));
    if buckets.last()?.upper != f64::INFINITY {
        return None;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
    Some(buckets)
}

/// The value, and whether counts that shrank were levelled for it.
fn bucket_quantile(q: f64, buckets: Vec<Bucket>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if !(0.0..=1.0).contains(&q) {
        return (if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, false);
    }
    let Some(mut buckets) = prepare(buckets) else { return (f64::NAN, false) };
    let was_fixed = make_monotonic(&mut buckets);
    (interpolate(q, &buckets), was_fixed)
}

fn interpolate(q: f64, buckets: &[Bucket]) -> f64 {
    let [.., before_last, last] = buckets else { return f64::NAN };
    if last.count == 0.0 {
        return f64::NAN;
    }
    let rank = q * last.count;
    let position = buckets[..buckets.len() - 1].iter().position(|bucket| bucket.count >= rank);
    let Some(position) = position else { return before_last.upper };
    let bucket = &buckets[position];
    if position == 0 {
        if bucket.upper <= 0.0 {
            return bucket.upper;
        }
        return bucket.upper * (rank / bucket.count);
    }
    let below = &buckets[position - 1];
    below.upper + (bucket.upper - below.upper) * ((rank - below.count) / (bucket.count - below.count))
}

/// Counts that shrink by a rounding error, or because buckets were scraped at different times, are levelled.
/// Whether some shrank by more than a rounding error.
fn make_monotonic(buckets: &mut [Bucket]) -> bool {
    let mut before = f64::NEG_INFINITY;
    let mut was_fixed = false;
    for bucket in buckets {
        was_fixed |= bucket.count < before && !nearly_equal(before, bucket.count);
        if bucket.count < before || (bucket.count != before && nearly_equal(before, bucket.count)) {
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    was_fixed
}

fn nearly_equal(a: f64, b: f64) -> bool {
    const TOLERANCE: f64 = 1e-12;
    let (difference, size) = ((a - b).abs(), a.abs() + b.abs());
    if a == 0.0 || b == 0.0 || size < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / size.min(f64::MAX) < TOLERANCE
}

fn bucket_fraction(lower: f64, upper: f64, buckets: Vec<Bucket>) -> f64 {
    let Some(buckets) = prepare(buckets) else { return f64::NAN };
    let count = buckets.last().map_or(0.0, |last| last.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, &buckets).min(count) - rank_of(lower, &buckets).min(count)) / count
}

/// How many observations are below the value, by linear interpolation in its bucket; there is none in
/// a bucket of infinite width.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let mut below = 0.0;
    // The first bucket begins at 0 unless it ends below.
    let mut start = if buckets.first().is_some_and(|first| first.upper > 0.0) { 0.0 } else { f64::NEG_INFINITY };
    for bucket in buckets {
        if start >= value {
            return below;
        }
        if bucket.upper > value {
            if start.is_infinite() {
                return bucket.count;
            }
            if bucket.upper.is_infinite() {
                return below;
            }
            return below + (bucket.count - below) * (value - start) / (bucket.upper - start);
        }
        below = bucket.count;
        start = bucket.upper;
    }
    below
}
