//! Any text is refused as a query, or evaluates or fails for its data; it never panics and never takes the memory.

use ioc_watch::promql::{self, Labels, Limits, Query, Run, Runs, STALE_NAN_BITS, Series, Storage};
use promql_parser::label::{Matcher, Matchers};
use std::sync::LazyLock;

/// Where the samples begin, in milliseconds.
const START: i64 = 1_700_000_000_000;
const TICK: i64 = 15_000;
/// A thousandth of the daemon's limits is reached by the same paths, and by a subquery of many steps a thousand times sooner.
const LIMITS: Limits = Limits { read: 50_000, held: 20_000, deadline: None };

/// A handful of series over ten minutes: a counter with a reset, gauges with gaps, a classic histogram.
struct Small {
    ticks: Vec<i64>,
    series: Vec<(Labels, Vec<Run>)>,
}

impl Storage for Small {
    fn select<'s>(&'s self, matchers: &Matchers, _: i64, _: i64, each: &mut dyn FnMut(Series<'s>)) {
        let all = |list: &[Matcher], labels: &Labels| list.iter().all(|m| m.is_match(labels.get(&m.name)));
        for (labels, runs) in &self.series {
            let is_wanted = if matchers.or_matchers.is_empty() {
                all(&matchers.matchers, labels)
            } else {
                matchers.or_matchers.iter().any(|list| all(list, labels))
            };
            if is_wanted {
                each(Series { labels: labels.view(), ticks: &self.ticks, runs: Runs::Kept(runs) });
            }
        }
    }
}

static SMALL: LazyLock<Small> = LazyLock::new(|| {
    let labels = |pairs: &[(&str, &str)]| Labels::new(pairs.iter().copied());
    let run = |from, value| Run { from, value };
    let stale = f64::from_bits(STALE_NAN_BITS);
    let mut series = vec![
        (labels(&[("__name__", "c_total"), ("a", "x")]), vec![run(0, 1.0), run(7, 9.0), run(20, 2.0)]),
        (labels(&[("__name__", "c_total"), ("a", "y")]), vec![run(3, 5.0), run(30, stale)]),
        (labels(&[("__name__", "g"), ("a", "x")]), vec![run(0, -1.5), run(5, f64::NAN), run(9, f64::INFINITY)]),
        (labels(&[("__name__", "g"), ("a", "y"), ("b", "z")]), vec![run(1, 0.0), run(2, stale), run(15, 1e300)]),
    ];
    for (le, value) in [("0.1", 3.0), ("1", 7.0), ("+Inf", 8.0)] {
        series.push((labels(&[("__name__", "h_bucket"), ("le", le)]), vec![run(0, 0.0), run(4, value)]));
    }
    Small { ticks: (0..40).map(|tick| START + tick * TICK).collect(), series }
});

pub fn run(text: &str) {
    let Ok(query) = Query::parse(text) else { return };
    let _ = query.lookback();
    let _ = promql::instant_within(&*SMALL, &query, START + 39 * TICK, LIMITS);
}
