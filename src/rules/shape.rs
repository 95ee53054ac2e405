//! What an expression tells about its results without being evaluated.

use crate::promql::Query;
use promql_parser::label::MatchOp;
use promql_parser::parser::token::{T_BOTTOMK, T_LOR, T_TOPK};
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self, BinaryExpr, Expr, LabelModifier, VectorMatchCardinality, VectorSelector};

/// The query whose result tells whether a subject's data are there at all: comparisons give their left side, `and` and
/// `unless` too, `absent(x)` gives x. `ioc_service_up == 0 unless …` becomes `ioc_service_up`: a service that is in it
/// and not in the alert's result is known to be well; one that is in neither is unknown.
pub(super) fn presence(text: &str) -> Option<Query> {
    let expression = parser::parse(text).ok()?;
    Query::parse(&strip(expression).to_string()).ok()
}

fn strip(expression: Expr) -> Expr {
    match expression {
        Expr::Binary(binary) => strip_binary(binary),
        Expr::Paren(mut paren) => {
            paren.expr = Box::new(strip(*paren.expr));
            Expr::Paren(paren)
        }
        Expr::Unary(mut unary) => {
            unary.expr = Box::new(strip(*unary.expr));
            Expr::Unary(unary)
        }
        Expr::Aggregate(mut aggregate) => {
            aggregate.expr = Box::new(strip(*aggregate.expr));
            Expr::Aggregate(aggregate)
        }
        Expr::Call(mut call) => match (call.func.name, call.args.args.first()) {
            ("absent", Some(argument)) => strip((**argument).clone()),
            ("absent_over_time", Some(argument)) => match (**argument).clone() {
                Expr::MatrixSelector(matrix) => Expr::VectorSelector(matrix.vs),
                _ => Expr::Call(call),
            },
            _ => {
                call.args.args = call.args.args.into_iter().map(|argument| Box::new(strip(*argument))).collect();
                Expr::Call(call)
            }
        },
        other => other,
    }
}

fn strip_binary(mut binary: BinaryExpr) -> Expr {
    let filters = binary.op.is_comparison_operator() && !binary.return_bool();
    let both = !filters && (!binary.op.is_set_operator() || binary.op.id() == T_LOR);
    if both {
        binary.lhs = Box::new(strip(*binary.lhs));
        binary.rhs = Box::new(strip(*binary.rhs));
        return Expr::Binary(binary);
    }
    let left_is_scalar = binary.lhs.value_type() == ValueType::Scalar;
    let side = if filters && left_is_scalar { binary.rhs } else { binary.lhs };
    strip(*side)
}

/// Whether the results may carry the label; false only where they surely do not.
pub fn may_carry(text: &str, label: &str) -> bool {
    may_carry_where(text, label, &|_| true)
}

/// As [`may_carry`], if only the metrics that `have` says have the label.
pub fn may_carry_where(text: &str, label: &str, have: &dyn Fn(&str) -> bool) -> bool {
    parser::parse(text).map_or(true, |expression| Carried { label, have }.by(&expression))
}

/// A label, and the metrics that have it.
struct Carried<'a> {
    label: &'a str,
    have: &'a dyn Fn(&str) -> bool,
}

impl Carried<'_> {
    fn by(&self, expression: &Expr) -> bool {
        match expression {
            Expr::Aggregate(aggregate) => match &aggregate.modifier {
                _ if matches!(aggregate.op.id(), T_TOPK | T_BOTTOMK) => self.by(&aggregate.expr),
                None => false,
                Some(LabelModifier::Include(labels)) => self.among(labels) && self.by(&aggregate.expr),
                Some(LabelModifier::Exclude(labels)) => !self.among(labels) && self.by(&aggregate.expr),
            },
            Expr::Binary(binary) => self.by_binary(binary),
            Expr::Paren(paren) => self.by(&paren.expr),
            Expr::Unary(unary) => self.by(&unary.expr),
            Expr::Subquery(subquery) => self.by(&subquery.expr),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => false,
            Expr::Call(call) => match call.func.name {
                "label_replace" | "label_join" => true,
                "absent" | "absent_over_time" => match call.args.args.first().map(|argument| &**argument) {
                    Some(Expr::VectorSelector(selector)) => has_equal(&selector.matchers, self.label),
                    Some(Expr::MatrixSelector(matrix)) => has_equal(&matrix.vs.matchers, self.label),
                    _ => false,
                },
                _ => call.args.args.iter().any(|argument| self.by(argument)),
            },
            Expr::VectorSelector(selector) => self.by_selector(selector),
            Expr::MatrixSelector(matrix) => self.by_selector(&matrix.vs),
            Expr::Extension(_) => true,
        }
    }

    fn by_selector(&self, selector: &VectorSelector) -> bool {
        selector.name.as_deref().is_none_or(self.have)
    }

    fn by_binary(&self, binary: &BinaryExpr) -> bool {
        let left = || self.by(&binary.lhs);
        let right = || self.by(&binary.rhs);
        if binary.lhs.value_type() == ValueType::Scalar {
            return right();
        }
        if binary.rhs.value_type() == ValueType::Scalar {
            return left();
        }
        let Some(modifier) = &binary.modifier else { return left() || binary.op.id() == T_LOR && right() };
        match &modifier.card {
            VectorMatchCardinality::ManyToMany => left() || binary.op.id() == T_LOR && right(),
            VectorMatchCardinality::ManyToOne(labels) => left() || self.among(labels),
            VectorMatchCardinality::OneToMany(labels) => right() || self.among(labels),
            VectorMatchCardinality::OneToOne => match &modifier.matching {
                Some(LabelModifier::Include(labels)) => self.among(labels) && left(),
                Some(LabelModifier::Exclude(labels)) => !self.among(labels) && left(),
                None => left(),
            },
        }
    }

    fn among(&self, labels: &promql_parser::label::Labels) -> bool {
        labels.labels.iter().any(|name| name == self.label)
    }
}

fn has_equal(matchers: &promql_parser::label::Matchers, label: &str) -> bool {
    matchers.matchers.iter().any(|matcher| matcher.name == label && matches!(matcher.op, MatchOp::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_drops_what_filters() {
        let rows = [
            ("up == 0 unless on (a) (hang > 0)", "up"),
            ("5 < up", "up"),
            ("max by (a) (up * on (b) group_left (v) info) == 0", "max by (a) (up * on (b) group_left (v) info)"),
            ("count by (a) (up == 0) >= 3", "count by (a) (up)"),
            ("a > 1 or b > 2", "a or b"),
            ("absent(up{x=\"1\"})", "up{x=\"1\"}"),
            ("time() - x > 300", "time() - x"),
            ("up == bool 0", "up == bool 0"),
        ];
        for (text, expected) in rows {
            let found = presence(text).map(|query| query.text().to_owned()).unwrap_or_default();
            let normal = parser::parse(expected).expect("an expression").to_string();
            assert_eq!(found, normal, "{text}");
        }
    }

    #[test]
    fn a_label_that_is_aggregated_away_is_not_carried() {
        let rows = [
            ("up == 0", true),
            ("sum(up) > 1", false),
            ("sum by (agency) (up) > 1", true),
            ("sum by (site) (up) > 1", false),
            ("sum without (agency) (up) > 1", false),
            ("vector(1)", false),
            ("vector(time()) > 1", false),
            ("a * on (site) group_left (agency) b", true),
            ("a / on (site) b", false),
            ("absent(up{agency=\"x\"})", true),
            ("absent(up)", false),
            ("up and on () sum(x) > 1", true),
        ];
        for (text, expected) in rows {
            assert_eq!(may_carry(text, "agency"), expected, "{text}");
        }
        let of_sites = |metric: &str| !metric.starts_with("site:");
        let rows = [
            ("site:a >= 3 and site:a / site:b > 0.5", false),
            ("count by (x) (a) or site:b * 0", false),
            ("site:a or a", true),
        ];
        for (text, expected) in rows {
            assert_eq!(may_carry_where(text, "agency", &of_sites), expected, "{text}");
        }
    }
}
