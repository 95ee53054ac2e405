//! The tree that is evaluated: types checked, names resolved, durations in milliseconds.

use super::functions::Function;
use promql_parser::label::Matchers;
use std::sync::Arc;

#[derive(Debug)]
pub enum Node {
    Number(f64),
    String(String),
    /// An instant vector.
    Select(Selector),
    /// A range vector.
    Range {
        selector: Selector,
        range_ms: i64,
    },
    Subquery(Box<Subquery>),
    Negate(Box<Node>),
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call {
        function: Function,
        arguments: Vec<Node>,
        places: Places,
    },
}

/// Where something stands in the text: line and column in bytes, from 1. The default is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl std::fmt::Display for Place {
    /// ` (1:6)`; nothing if it is not known.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 { Ok(()) } else { write!(f, " ({}:{})", self.line, self.column) }
    }
}

/// Where a call and its arguments stand.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub call: Place,
    pub arguments: Vec<Place>,
}

impl Places {
    pub fn argument(&self, position: usize) -> Place {
        self.arguments.get(position).copied().unwrap_or_default()
    }
}

/// What a node evaluates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Scalar,
    String,
    Vector,
    Matrix,
}

impl Node {
    pub fn kind(&self) -> Kind {
        match self {
            Node::Number(_) => Kind::Scalar,
            Node::String(_) => Kind::String,
            Node::Range { .. } | Node::Subquery(_) => Kind::Matrix,
            Node::Select(_) | Node::Aggregate(_) => Kind::Vector,
            Node::Negate(inner) => inner.kind(),
            Node::Binary(binary) => binary.kind,
            Node::Call { function, .. } => function.kind(),
        }
    }

    /// The nodes directly below, in the order of the text.
    pub fn children(&self) -> Vec<&Node> {
        match self {
            Node::Number(_) | Node::String(_) | Node::Select(_) | Node::Range { .. } => Vec::new(),
            Node::Subquery(subquery) => vec![&subquery.inner],
            Node::Negate(inner) => vec![inner],
            Node::Binary(binary) => vec![&binary.left, &binary.right],
            Node::Aggregate(aggregate) => aggregate.parameter.iter().chain([&aggregate.inner]).collect(),
            Node::Call { arguments, .. } => arguments.iter().collect(),
        }
    }
}

#[derive(Debug)]
pub struct Selector {
    /// Counts the selectors of the query.
    pub id: usize,
    /// The metric's name included.
    pub matchers: Matchers,
    pub time: TimeShift,
}

/// `offset` and `@`.
#[derive(Debug, Clone, Copy)]
pub struct TimeShift {
    pub offset_ms: i64,
    pub at: Option<At>,
}

#[derive(Debug, Clone, Copy)]
pub enum At {
    /// Of the whole query.
    Start,
    End,
    Time(i64),
}

impl TimeShift {
    /// The time that is meant when the expression is evaluated at `at_ms` by a query over `[start_ms, end_ms]`.
    pub fn apply(self, at_ms: i64, start_ms: i64, end_ms: i64) -> i64 {
        let base = match self.at {
            None => at_ms,
            Some(At::Start) => start_ms,
            Some(At::End) => end_ms,
            Some(At::Time(time)) => time,
        };
        base.saturating_sub(self.offset_ms)
    }
}

#[derive(Debug)]
pub struct Subquery {
    pub inner: Node,
    pub range_ms: i64,
    /// None takes the query's default.
    pub step_ms: Option<i64>,
    pub time: TimeShift,
}

#[derive(Debug)]
pub struct Binary {
    pub operator: Operator,
    pub left: Node,
    pub right: Node,
    pub kind: Kind,
    /// Comparisons give 0 or 1 instead of filtering.
    pub return_bool: bool,
    pub matching: Matching,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Arithmetic(Arithmetic),
    Comparison(Comparison),
    And,
    Or,
    Unless,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How the elements of two vectors find each other.
#[derive(Debug)]
pub struct Matching {
    pub on: bool,
    /// Sorted; of `on` or `ignoring`.
    pub labels: Vec<String>,
    pub cardinality: Cardinality,
    /// The labels of `group_left` or `group_right`.
    pub include: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    OneToOne,
    ManyToOne,
    OneToMany,
}

#[derive(Debug)]
pub struct Aggregate {
    pub operation: Aggregation,
    pub parameter: Option<Node>,
    pub places: Places,
    pub inner: Node,
    pub without: bool,
    /// Sorted.
    pub labels: Vec<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    Quantile,
    CountValues,
}
