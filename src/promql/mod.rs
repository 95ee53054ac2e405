//! PromQL, as Prometheus 3 (left-open ranges), over any [`Storage`]. Knows nothing of this product.
//!
//! Parsing is `promql-parser`'s; limits and the refusal of what is not supported happen in [`Query::parse`], so that a
//! query that parses evaluates or fails for its data, never to something else. Metric names are dropped late, at the
//! end of the evaluation, as Prometheus does with `promql-delayed-name-removal` (its test suite runs so).
//!
//! | file | what it is |
//! |---|---|
//! | `text` | limits and repairs of the text before it is parsed |
//! | `node`, `compile` | our tree, made from the parser's; refusals |
//! | `eval` | one evaluation: selection, subqueries, steps |
//! | `stream` | the elements of a vector, one by one |
//! | `element`, `collected` | what a node gives at one moment, and what many steps give |
//! | `notes`, `places` | what is told beside the result, and the place in the text that it is about |
//! | `view` | the runs of a series in a window |
//! | `binary`, `aggregate`, `functions` | the operators |

mod aggregate;
mod binary;
mod collected;
mod compile;
mod element;
mod eval;
mod functions;
mod keys;
mod node;
mod notes;
mod number;
mod places;
mod stream;
mod text;
mod view;

pub use crate::labels::{Labels, LabelsRef};
pub use compile::Query;
pub use eval::{instant, instant_within, noted_instant, noted_range, range, range_within};
pub use notes::Notes;
pub use number::format as format_value;
pub use view::{Locator, value_at};

use promql_parser::label::Matchers;
use std::ops::Deref;
use std::time::Instant;

/// Prometheus's staleness marker. As the value of a [`Run`] it means "no sample"; an ordinary NaN is a value.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// What one evaluation may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Samples it may read; as Prometheus's `query.max-samples`.
    pub read: u64,
    /// Samples of results that it may hold at once, so that memory is bounded.
    pub held: u64,
    /// When it is given up.
    pub deadline: Option<Instant>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { read: 50_000_000, held: 20_000_000, deadline: None }
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// Longer or deeper than the limits.
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Syntax(String),
    /// PromQL that this engine does not evaluate, by name.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The data do not fit the expression (many-to-many matching …).
    #[error("{0}")]
    Execution(String),
    /// [`Limits::deadline`] has passed.
    #[error("query timed out in expression evaluation")]
    Timeout,
}

/// A value held from `ticks[from]` on, until the next run begins; the last run lasts to the end of `ticks`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Index into the series' ticks.
    pub from: u32,
    /// [`STALE_NAN_BITS`] marks ticks without a sample.
    pub value: f64,
}

/// One series as the storage has it: a step function over a tick clock. Every tick of a run is a sample; ticks before
/// the first run are none.
#[derive(Clone)]
pub struct Series<'a> {
    pub labels: LabelsRef<'a>,
    /// Times of the ticks in milliseconds since 1970 UTC, ascending. Fastest if many series share one slice.
    pub ticks: &'a [i64],
    /// Ascending by `from`.
    pub runs: Runs<'a>,
}

/// The runs of a series, as its storage has them at hand.
#[derive(Clone)]
pub enum Runs<'a> {
    One([Run; 1]),
    Kept(&'a [Run]),
    /// Made for this query.
    Made(Vec<Run>),
}

impl Deref for Runs<'_> {
    type Target = [Run];

    fn deref(&self) -> &[Run] {
        match self {
            Runs::One(run) => run,
            Runs::Kept(runs) => runs,
            Runs::Made(runs) => runs,
        }
    }
}

impl Series<'_> {
    /// Whether it has a sample in `(from_ms, to_ms]`.
    pub fn has_samples(&self, from_ms: i64, to_ms: i64) -> bool {
        let ticks = Locator::new(from_ms, to_ms).locate(self.ticks);
        view::RangeView::new(self.ticks, &self.runs, ticks).is_some_and(|view| view.segments().next().is_some())
    }
}

/// What a query reads from.
pub trait Storage {
    /// Calls `each` with every series that matches and may have samples in `(from_ms, to_ms]`; runs of other times may be
    /// left out. What it is given lasts for the whole evaluation, so that a range query selects once and not once a step.
    fn select<'s>(&'s self, matchers: &Matchers, from_ms: i64, to_ms: i64, each: &mut dyn FnMut(Series<'s>));

    /// Calls `each` with labels, time and value of the last sample in `(from_ms, to_ms]` of every series that matches,
    /// if its last tick in the window has one. A storage that knows its newest values need not look for them.
    fn select_latest<'s>(
        &'s self,
        matchers: &Matchers,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(LabelsRef<'s>, i64, f64),
    ) {
        let mut locator = Locator::new(from_ms, to_ms);
        self.select(matchers, from_ms, to_ms, &mut |series| {
            let (first, end) = locator.locate(series.ticks);
            if first < end
                && let Some(value) = value_at(&series.runs, end - 1)
            {
                each(series.labels, series.ticks[(end - 1) as usize], value);
            }
        });
    }
}

/// The result of a query at one moment.
#[derive(Debug, Clone)]
pub enum Value {
    Scalar(f64),
    String(String),
    Vector(Vec<Sample>),
    Matrix(Vec<SampleSeries>),
}

#[derive(Debug, Clone)]
pub struct Sample {
    pub labels: Labels,
    pub value: f64,
}

#[derive(Debug, Clone)]
pub struct SampleSeries {
    pub labels: Labels,
    /// Time in milliseconds, value.
    pub samples: Vec<(i64, f64)>,
}

/// Whether a value is the staleness marker.
fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
