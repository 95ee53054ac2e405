//! PromQL, as Prometheus 3 (left-open ranges), over any [`Storage`]. Knows nothing of this product.
//!
//! Parsing is `promql-parser`'s; limits and the refusal of what is not supported happen in [`Query::parse`], so that a
//! query that parses evaluates or fails for its data, never to something else.

mod labels;

pub use labels::Labels;

use promql_parser::label::Matchers;

/// A parsed, supported expression.
#[derive(Debug, Clone)]
pub struct Query {}

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
}

impl Query {
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        let _ = text;
        todo!()
    }

    pub fn text(&self) -> &str {
        todo!()
    }
}

/// A value held from `ticks[from]` on, until the next run begins; the last run lasts to the end of `ticks`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Index into the series' ticks.
    pub from: u32,
    /// Prometheus's stale NaN (`metrics::STALE_NAN_BITS`) marks ticks without a sample.
    pub value: f64,
}

/// One series as the storage has it: a step function over a tick clock. Every tick of a run is a sample.
#[derive(Clone, Copy)]
pub struct Series<'a> {
    pub labels: &'a Labels,
    /// Times of the ticks in milliseconds since 1970 UTC, ascending.
    pub ticks: &'a [i64],
    /// Ascending by `from`.
    pub runs: &'a [Run],
}

/// What a query reads from.
pub trait Storage {
    /// Calls `each` with every series that matches and may have samples in `(from_ms, to_ms]`.
    fn select(&self, matchers: &Matchers, from_ms: i64, to_ms: i64, each: &mut dyn FnMut(Series<'_>));
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

/// Evaluates at one moment.
pub fn instant(storage: &dyn Storage, query: &Query, at_ms: i64) -> Result<Value, QueryError> {
    let _ = (storage, query, at_ms);
    todo!()
}

/// Evaluates at every step of `[from_ms, to_ms]`.
pub fn range(
    storage: &dyn Storage,
    query: &Query,
    from_ms: i64,
    to_ms: i64,
    step_ms: i64,
) -> Result<Vec<SampleSeries>, QueryError> {
    let _ = (storage, query, from_ms, to_ms, step_ms);
    todo!()
}
