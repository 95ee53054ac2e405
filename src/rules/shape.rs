//! What an expression tells about its results without being evaluated.

use crate::promql::Query;
use promql_parser::label::MatchOp;
use promql_parser::parser::token::{T_BOTTOMK, T_LOR, T_TOPK};
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self, BinaryExpr, Expr, LabelModifier, VectorMatchCardinality};

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
    parser::parse(text).map_or(true, |expression| carries(&expression, label))
}

fn carries(expression: &Expr, label: &str) -> bool {
    let has = |labels: &promql_parser::label::Labels| labels.labels.iter().any(|name| name == label);
    match expression {
        Expr::Aggregate(aggregate) => match &aggregate.modifier {
            _ if matches!(aggregate.op.id(), T_TOPK | T_BOTTOMK) => carries(&aggregate.expr, label),
            None => false,
            Some(LabelModifier::Include(labels)) => has(labels) && carries(&aggregate.expr, label),
            Some(LabelModifier::Exclude(labels)) => !has(labels) && carries(&aggregate.expr, label),
        },
        Expr::Binary(binary) => binary_carries(binary, label, &has),
        Expr::Paren(paren) => carries(&paren.expr, label),
        Expr::Unary(unary) => carries(&unary.expr, label),
        Expr::Subquery(subquery) => carries(&subquery.expr, label),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => false,
        Expr::Call(call) => match call.func.name {
            "label_replace" | "label_join" => true,
            "absent" | "absent_over_time" => match call.args.args.first().map(|argument| &**argument) {
                Some(Expr::VectorSelector(selector)) => has_equal(&selector.matchers, label),
                Some(Expr::MatrixSelector(matrix)) => has_equal(&matrix.vs.matchers, label),
                _ => false,
            },
            _ => call.args.args.iter().any(|argument| carries(argument, label)),
        },
        Expr::VectorSelector(_) | Expr::MatrixSelector(_) | Expr::Extension(_) => true,
    }
}

fn has_equal(matchers: &promql_parser::label::Matchers, label: &str) -> bool {
    matchers.matchers.iter().any(|matcher| matcher.name == label && matches!(matcher.op, MatchOp::Equal))
}

fn binary_carries(binary: &BinaryExpr, label: &str, has: &dyn Fn(&promql_parser::label::Labels) -> bool) -> bool {
    let left = || carries(&binary.lhs, label);
    let right = || carries(&binary.rhs, label);
    if binary.lhs.value_type() == ValueType::Scalar {
        return right();
    }
    if binary.rhs.value_type() == ValueType::Scalar {
        return left();
    }
    let Some(modifier) = &binary.modifier else { return left() || binary.op.id() == T_LOR && right() };
    match &modifier.card {
        VectorMatchCardinality::ManyToMany => left() || binary.op.id() == T_LOR && right(),
        VectorMatchCardinality::ManyToOne(labels) => left() || has(labels),
        VectorMatchCardinality::OneToMany(labels) => right() || has(labels),
        VectorMatchCardinality::OneToOne => match &modifier.matching {
            Some(LabelModifier::Include(labels)) => has(labels) && left(),
            Some(LabelModifier::Exclude(labels)) => !has(labels) && left(),
            None => left(),
        },
    }
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
    }
}
