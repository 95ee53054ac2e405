//! From text to the tree that is evaluated. Everything that is not supported is refused here, by name.

use super::functions::{self, Function};
use super::node::*;
use super::{QueryError, places, text};
use crate::labels::NAME;
use promql_parser::label::{MatchOp, Matcher, Matchers};
use promql_parser::parser::{self, Expr, token};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How old the sample may be that an instant vector takes, unless told otherwise.
const DEFAULT_LOOKBACK: Duration = Duration::from_secs(300);
/// The step of a subquery that names none; Prometheus's default `evaluation_interval`.
const DEFAULT_STEP_MS: i64 = 60_000;
/// Longest range or offset.
const MAX_DURATION_MS: i64 = 100 * 366 * 86_400_000;

/// A parsed, supported expression. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Query {
    text: Arc<str>,
    pub(super) root: Arc<Node>,
    /// How many selectors the tree has.
    pub(super) selectors: usize,
    pub(super) lookback_ms: i64,
    /// Of subqueries that name none.
    pub(super) step_ms: i64,
}

impl Query {
    /// # Errors
    /// `TooLarge` above 16 KiB or 200 levels, `Syntax`, or `Unsupported` with the name of what is not evaluated.
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        let prepared = text::prepare(text)?;
        let (root, selectors) = on_deep_stack(&prepared, || {
            let parsed = parser::parse(&prepared).map_err(|message| refusal(&prepared, message))?;
            let calls = places::calls(text);
            let mut compiler = Compiler { text, selectors: 0, n_calls: 0, calls: &calls };
            let root = compiler.node(parsed, 0)?;
            Ok((root, compiler.selectors))
        })?;
        Ok(Query {
            text: Arc::from(text),
            root: Arc::new(root),
            selectors,
            lookback_ms: DEFAULT_LOOKBACK.as_millis() as i64,
            step_ms: DEFAULT_STEP_MS,
        })
    }

    /// With another age that a sample may have; the default is 5 minutes.
    pub fn with_lookback_delta(mut self, delta: Duration) -> Query {
        self.lookback_ms = i64::try_from(delta.as_millis()).unwrap_or(MAX_DURATION_MS).clamp(1, MAX_DURATION_MS);
        self
    }

    /// With another step for subqueries that name none; the default is a minute.
    pub fn with_default_step(mut self, step: Duration) -> Query {
        self.step_ms = i64::try_from(step.as_millis()).unwrap_or(MAX_DURATION_MS).clamp(1, MAX_DURATION_MS);
        self
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it can be evaluated at several steps: a scalar or an instant vector, and so whether a rule can use it.
    pub fn is_scalar_or_vector(&self) -> bool {
        matches!(self.root.kind(), Kind::Scalar | Kind::Vector)
    }

    /// For each selector, how far before the evaluation time it reads: range, offset, subqueries around it and
    /// lookback. A time fixed with `@` counts as the evaluation time.
    pub fn lookback(&self) -> Vec<(Matchers, Duration)> {
        let mut found = Vec::new();
        self.collect(&self.root, 0, &mut found);
        found
    }

    /// What a plain selector (no `offset`, no `@`) selects; none if the query is anything else.
    pub fn selector(&self) -> Option<Matchers> {
        match &*self.root {
            Node::Select(selector) if selector.time.offset_ms == 0 && selector.time.at.is_none() => {
                Some(selector.matchers.clone())
            }
            _ => None,
        }
    }

    /// The names of the metrics it reads, as far as selectors give them with `=`.
    pub fn metric_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .lookback()
            .into_iter()
            .flat_map(|(matchers, _)| matchers.matchers)
            .filter(|matcher| matcher.name == NAME && matches!(matcher.op, MatchOp::Equal))
            .map(|matcher| matcher.value)
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Whether every selector names with `=` a metric that `known` accepts, and there is one.
    pub fn reads_only(&self, known: &dyn Fn(&str) -> bool) -> bool {
        let selectors = self.lookback();
        let is_known = |matchers: &Matchers| {
            let mut names = matchers.matchers.iter().filter(|m| m.name == NAME && matches!(m.op, MatchOp::Equal));
            names.any(|matcher| known(&matcher.value))
        };
        !selectors.is_empty() && selectors.iter().all(|(matchers, _)| is_known(matchers))
    }

    fn collect(&self, node: &Node, outer_ms: i64, found: &mut Vec<(Matchers, Duration)>) {
        let mut push = |selector: &Selector, own_ms: i64| {
            let back = outer_ms.saturating_add(own_ms).saturating_add(selector.time.offset_ms).max(0);
            found.push((selector.matchers.clone(), Duration::from_millis(back as u64)));
        };
        match node {
            Node::Select(selector) => push(selector, self.lookback_ms),
            Node::Range { selector, range_ms } => push(selector, *range_ms),
            Node::Subquery(subquery) => {
                let outer = outer_ms.saturating_add(subquery.range_ms).saturating_add(subquery.time.offset_ms);
                self.collect(&subquery.inner, outer, found);
            }
            _ => node.children().into_iter().for_each(|child| self.collect(child, outer_ms, found)),
        }
    }
}

/// A text with fewer marks of nesting than this cannot make the parser recurse deeply.
const FLAT: usize = 32;

/// Whether a text is so simple that any thread's stack is enough for it: each level of an expression needs one of these.
fn is_flat(text: &str) -> bool {
    text.bytes().filter(|byte| b" \t\r\n(+-*/%^=!<>[#".contains(byte)).take(FLAT).count() < FLAT
}

/// The parser recurses over chains of operators before their depth can be checked, and panics on durations that no
/// `Duration` holds; so it gets a stack of its own, whatever thread asks. A thread costs more than parsing a plain
/// selector does, which every mail about an incident has, so that is parsed where it is asked.
fn on_deep_stack<T: Send>(text: &str, work: impl FnOnce() -> Result<T, QueryError> + Send) -> Result<T, QueryError> {
    let panicked = |_| QueryError::Syntax("invalid duration".into());
    if is_flat(text) {
        return std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(panicked)?;
    }
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("promql-parse".into())
            .stack_size(16 << 20)
            .spawn_scoped(scope, work)
            .map_err(|error| QueryError::Execution(format!("no thread to parse the query on: {error}")))?
            .join()
            .map_err(panicked)?
    })
}

/// Tells what the parser does not know from what it refuses.
fn refusal(text: &str, message: String) -> QueryError {
    if let Some(name) = message.strip_prefix("unknown function with name '").and_then(|rest| rest.strip_suffix('\''))
        && matches!(name, "range" | "step" | "holt_winters" | "max_of" | "min_of")
    {
        return QueryError::Unsupported(format!("the experimental function {name}"));
    }
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    if let Some(word) = words.find(|word| matches!(*word, "smoothed" | "anchored")) {
        return QueryError::Unsupported(format!("the modifier {word}"));
    }
    QueryError::Syntax(message)
}

struct Compiler<'a> {
    text: &'a str,
    selectors: usize,
    /// Those met so far.
    n_calls: usize,
    /// In the order of the text, in which the tree is walked too.
    calls: &'a [places::Call],
}

impl Compiler<'_> {
    /// Of the next call.
    fn places(&mut self) -> Places {
        let Some(call) = self.calls.get(self.n_calls) else { return Places::default() };
        self.n_calls += 1;
        let place = |offset: &usize| {
            let before = &self.text.as_bytes()[..*offset];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
            Place { line: line as u32, column: column as u32 }
        };
        Places { call: place(&call.start), arguments: call.arguments.iter().map(place).collect() }
    }

    fn node(&mut self, expr: Expr, depth: usize) -> Result<Node, QueryError> {
        if depth > text::MAX_DEPTH {
            return Err(text::too_deep());
        }
        Ok(match expr {
            Expr::Paren(paren) => self.node(*paren.expr, depth + 1)?,
            Expr::NumberLiteral(number) => Node::Number(number.val),
            Expr::StringLiteral(string) => Node::String(string.val),
            Expr::VectorSelector(selector) => Node::Select(self.selector(selector)?),
            Expr::MatrixSelector(matrix) => {
                let range_ms = duration_ms(matrix.range)?;
                Node::Range { selector: self.selector(matrix.vs)?, range_ms: positive(range_ms)? }
            }
            Expr::Subquery(subquery) => Node::Subquery(Box::new(Subquery {
                inner: self.node(*subquery.expr, depth + 1)?,
                range_ms: positive(duration_ms(subquery.range)?)?,
                step_ms: subquery.step.map(|step| duration_ms(step).and_then(positive)).transpose()?,
                time: time_shift(subquery.offset, subquery.at)?,
            })),
            Expr::Unary(unary) => match self.node(*unary.expr, depth + 1)? {
                Node::Number(number) => Node::Number(-number),
                inner => Node::Negate(Box::new(inner)),
            },
            Expr::Binary(binary) => Node::Binary(Box::new(self.binary(binary, depth)?)),
            Expr::Aggregate(aggregate) => Node::Aggregate(Box::new(self.aggregate(aggregate, depth)?)),
            Expr::Call(call) => {
                let function = Function::find(&call.func)?;
                let places = self.places();
                let arguments = call
                    .args
                    .args
                    .into_iter()
                    .map(|argument| self.node(*argument, depth + 1))
                    .collect::<Result<Vec<Node>, _>>()?;
                functions::check(&call.func, &arguments)?;
                Node::Call { function, arguments, places }
            }
            Expr::Extension(_) => return Err(QueryError::Unsupported("an extension node".into())),
        })
    }

    fn selector(&mut self, selector: parser::VectorSelector) -> Result<Selector, QueryError> {
        if !selector.matchers.or_matchers.is_empty() {
            return Err(QueryError::Unsupported("`or` between label matchers".into()));
        }
        let mut matchers = Vec::new();
        if let Some(name) = selector.name {
            if selector.matchers.matchers.iter().any(|matcher| matcher.name == NAME) {
                return Err(QueryError::Syntax(format!("metric name must not be set twice: {name:?}")));
            }
            matchers.push(Matcher::new(MatchOp::Equal, NAME, &name));
        }
        for matcher in selector.matchers.matchers {
            matchers.push(dot_matches_all(matcher)?);
        }
        let id = self.selectors;
        self.selectors += 1;
        Ok(Selector { id, matchers: Matchers::new(matchers), time: time_shift(selector.offset, selector.at)? })
    }

    fn binary(&mut self, binary: parser::BinaryExpr, depth: usize) -> Result<Binary, QueryError> {
        let operator = operator(binary.op.id())?;
        let left = self.node(*binary.lhs, depth + 1)?;
        let right = self.node(*binary.rhs, depth + 1)?;
        let modifier = binary.modifier.unwrap_or_default();
        if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
            return Err(QueryError::Unsupported("the modifier fill".into()));
        }
        let (on, labels) = match modifier.matching {
            Some(parser::LabelModifier::Include(labels)) => (true, labels.labels),
            Some(parser::LabelModifier::Exclude(labels)) => (false, labels.labels),
            None => (false, Vec::new()),
        };
        let (cardinality, include) = match modifier.card {
            parser::VectorMatchCardinality::ManyToOne(labels) => (Cardinality::ManyToOne, labels.labels),
            parser::VectorMatchCardinality::OneToMany(labels) => (Cardinality::OneToMany, labels.labels),
            _ => (Cardinality::OneToOne, Vec::new()),
        };
        let kind =
            if left.kind() == Kind::Scalar && right.kind() == Kind::Scalar { Kind::Scalar } else { Kind::Vector };
        let matching = Matching { on, labels: sorted(labels), cardinality, include };
        Ok(Binary { operator, left, right, kind, return_bool: modifier.return_bool, matching })
    }

    fn aggregate(&mut self, aggregate: parser::AggregateExpr, depth: usize) -> Result<Aggregate, QueryError> {
        let operation = aggregation(aggregate.op)?;
        let places = self.places();
        let parameter = aggregate.param.map(|parameter| self.node(*parameter, depth + 1)).transpose()?;
        let inner = self.node(*aggregate.expr, depth + 1)?;
        let (without, labels) = match aggregate.modifier {
            Some(parser::LabelModifier::Include(labels)) => (false, labels.labels),
            Some(parser::LabelModifier::Exclude(labels)) => (true, labels.labels),
            None => (false, Vec::new()),
        };
        if operation == Aggregation::CountValues
            && let Some(Node::String(label)) = &parameter
            && label.is_empty()
        {
            return Err(QueryError::Syntax("invalid label name \"\"".into()));
        }
        let labels = sorted(labels).iter().map(|label| Arc::from(label.as_str())).collect();
        Ok(Aggregate { operation, parameter, places, inner, without, labels })
    }
}

/// In Prometheus 3 a dot matches line feeds too.
fn dot_matches_all(mut matcher: Matcher) -> Result<Matcher, QueryError> {
    let dotall = |regex: &regex::Regex| {
        let inner = regex.as_str().strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$"));
        text::regex(inner.unwrap_or(regex.as_str()))
    };
    matcher.op = match matcher.op {
        MatchOp::Re(regex) => MatchOp::Re(dotall(&regex)?),
        MatchOp::NotRe(regex) => MatchOp::NotRe(dotall(&regex)?),
        other => other,
    };
    Ok(matcher)
}

fn sorted(mut labels: Vec<String>) -> Vec<String> {
    labels.sort();
    labels.dedup();
    labels
}

fn duration_ms(duration: Duration) -> Result<i64, QueryError> {
    i64::try_from(duration.as_millis())
        .ok()
        .filter(|ms| *ms <= MAX_DURATION_MS)
        .ok_or_else(|| QueryError::Syntax("duration out of range".into()))
}

fn positive(ms: i64) -> Result<i64, QueryError> {
    if ms > 0 { Ok(ms) } else { Err(QueryError::Syntax("duration must be greater than 0".into())) }
}

fn time_shift(offset: Option<parser::Offset>, at: Option<parser::AtModifier>) -> Result<TimeShift, QueryError> {
    let offset_ms = match offset {
        None => 0,
        Some(parser::Offset::Pos(duration)) => duration_ms(duration)?,
        Some(parser::Offset::Neg(duration)) => -duration_ms(duration)?,
    };
    let at = match at {
        None => None,
        Some(parser::AtModifier::Start) => Some(At::Start),
        Some(parser::AtModifier::End) => Some(At::End),
        Some(parser::AtModifier::At(time)) => Some(At::Time(system_time_ms(time)?)),
    };
    Ok(TimeShift { offset_ms, at })
}

fn system_time_ms(time: SystemTime) -> Result<i64, QueryError> {
    let (sign, distance) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (1, after),
        Err(before) => (-1, before.duration()),
    };
    let ms = i64::try_from(distance.as_millis()).ok().filter(|ms| *ms < i64::MAX / 4);
    ms.map(|ms| sign * ms).ok_or_else(|| QueryError::Syntax("timestamp out of bounds for @ modifier".into()))
}

fn operator(id: token::TokenId) -> Result<Operator, QueryError> {
    Ok(match id {
        token::T_ADD => Operator::Arithmetic(Arithmetic::Add),
        token::T_SUB => Operator::Arithmetic(Arithmetic::Subtract),
        token::T_MUL => Operator::Arithmetic(Arithmetic::Multiply),
        token::T_DIV => Operator::Arithmetic(Arithmetic::Divide),
        token::T_MOD => Operator::Arithmetic(Arithmetic::Modulo),
        token::T_POW => Operator::Arithmetic(Arithmetic::Power),
        token::T_ATAN2 => Operator::Arithmetic(Arithmetic::Atan2),
        token::T_EQLC => Operator::Comparison(Comparison::Equal),
        token::T_NEQ => Operator::Comparison(Comparison::NotEqual),
        token::T_LSS => Operator::Comparison(Comparison::Less),
        token::T_LTE => Operator::Comparison(Comparison::LessOrEqual),
        token::T_GTR => Operator::Comparison(Comparison::Greater),
        token::T_GTE => Operator::Comparison(Comparison::GreaterOrEqual),
        token::T_LAND => Operator::And,
        token::T_LOR => Operator::Or,
        token::T_LUNLESS => Operator::Unless,
        _ => return Err(QueryError::Unsupported(format!("the operator {}", token::TokenType::new(id)))),
    })
}

fn aggregation(operation: token::TokenType) -> Result<Aggregation, QueryError> {
    Ok(match operation.id() {
        token::T_SUM => Aggregation::Sum,
        token::T_AVG => Aggregation::Avg,
        token::T_MIN => Aggregation::Min,
        token::T_MAX => Aggregation::Max,
        token::T_COUNT => Aggregation::Count,
        token::T_GROUP => Aggregation::Group,
        token::T_STDDEV => Aggregation::Stddev,
        token::T_STDVAR => Aggregation::Stdvar,
        token::T_TOPK => Aggregation::TopK,
        token::T_BOTTOMK => Aggregation::BottomK,
        token::T_QUANTILE => Aggregation::Quantile,
        token::T_COUNT_VALUES => Aggregation::CountValues,
        _ => return Err(QueryError::Unsupported(format!("the experimental aggregation {operation}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Query::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_evaluated_is_refused_by_name() {
        for (text, expected) in [
            ("limitk(1, up)", "the experimental aggregation limitk is not supported"),
            ("mad_over_time(up[5m])", "the experimental function mad_over_time is not supported"),
            ("histogram_sum(x)", "the native-histogram function histogram_sum is not supported"),
            ("rate(x[5m] smoothed)", "the modifier smoothed is not supported"),
            ("a + fill(0) b", "the modifier fill is not supported"),
            ("info(x)", "the experimental function info is not supported"),
            (r#"{a="1" or b="2"}"#, "`or` between label matchers is not supported"),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn hostile_text_is_an_error_and_no_crash() {
        for text in [
            "x[1e300]".to_owned(),
            "x offset 1e300".into(),
            "(".repeat(60_000),
            format!("{}x", "-".repeat(900)),
            vec!["x"; 300].join("+"),
            "x[NaN]".into(),
            "x[0]".into(),
            "x @ 1e300".into(),
            "".into(),
        ] {
            assert!(Query::parse(&text).is_err(), "{}", &text[..text.len().min(20)]);
        }
        assert!(Query::parse(&vec!["x"; 150].join("+")).is_ok());
    }

    #[test]
    fn it_says_how_far_back_each_selector_reads() {
        let query = Query::parse("up + max_over_time(rate(x{a=\"b\"}[5m] offset 10m)[1h:1m]) - y offset -1h").unwrap();
        let back: Vec<u64> = query.lookback().iter().map(|(_, duration)| duration.as_secs()).collect();
        assert_eq!(back, [300, 3_600 + 300 + 600, 0]);
        assert_eq!(query.metric_names(), ["up", "x", "y"]);
    }
}
