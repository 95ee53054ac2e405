//! What the templates of a rule ask the history with `query`: it has to be kept for them as for the rules themselves.

use super::AlertingRule;
use super::template::{Asked, Template};
use crate::history::Need;
use crate::promql::Query;
use promql_parser::label::Matchers;

fn templates(rule: &AlertingRule) -> impl Iterator<Item = &(String, Template)> {
    rule.labels.iter().chain(&rule.annotations)
}

/// What has to be kept for the rule's templates; nobody is named as its reader.
pub(super) fn needs(rule: &AlertingRule) -> Vec<Need> {
    let asked = templates(rule).flat_map(|(_, template)| template.asked());
    asked.filter_map(|asked| foreseen(&asked)).flatten().collect()
}

/// The names of the rule's labels and annotations with a query of which nobody can tell what it reads.
pub(super) fn unforeseen(rule: &AlertingRule) -> impl Iterator<Item = &str> {
    let is_unforeseen = |template: &Template| template.asked().iter().any(|asked| foreseen(asked).is_none());
    templates(rule).filter(move |(_, template)| is_unforeseen(template)).map(|(name, _)| name.as_str())
}

/// Why a query that stands in the template can never be answered.
pub(super) fn refusal(template: &Template) -> Option<String> {
    template.asked().iter().find_map(|asked| match asked {
        Asked::Query(text) => match Query::parse(text) {
            Ok(query) if query.is_scalar_or_vector() => None,
            Ok(_) => Some(format!("query {text:?} gives neither a vector nor a scalar")),
            Err(error) => Some(format!("query {text:?}: {error}")),
        },
        Asked::Format(_) | Asked::Unknown => None,
    })
}

/// `None` if that cannot be told.
fn foreseen(asked: &Asked) -> Option<Vec<Need>> {
    match asked {
        Asked::Query(text) => Some(Query::parse(text).map(|query| Need::of(&query, "")).unwrap_or_default()),
        Asked::Format(format) => {
            let needs = Need::of(&Query::parse(&example(format)?).ok()?, "");
            needs.into_iter().map(of_whole_metric).collect()
        }
        Asked::Unknown => None,
    }
}

/// Which series of the metric are meant shows only with the alert: all of them, then.
fn of_whole_metric(need: Need) -> Option<Need> {
    let name = need.metric()?;
    // A name that is put in may be any.
    (!name.contains(PUT_IN)).then_some(())?;
    let matchers = need.matchers.matchers.into_iter().filter(|matcher| matcher.name == "__name__").collect();
    Some(Need { matchers: Matchers::new(matchers), ..need })
}

/// What stands in an example for what a `printf` puts in: a text that is also the name of a metric.
const PUT_IN: &str = "ioc_put_in_by_printf";

/// What a format could give. `None` if a range is put in: how long it is shows only with the alert.
fn example(format: &str) -> Option<String> {
    let mut out = String::new();
    let mut in_range = false;
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            in_range = c == '[' || in_range && c != ']';
            out.push(c);
            continue;
        }
        // Flags, width and precision.
        match rest.find(|c| !matches!(c, '0'..='9' | '.' | '+' | '-' | '#' | ' ' | '*' | '[' | ']')) {
            Some('%') => out.push('%'),
            _ if in_range => return None,
            Some('q') => out.push_str(&format!("{PUT_IN:?}")),
            Some('d' | 'f' | 'e' | 'g' | 'x' | 'b' | 'o') => out.push('1'),
            Some(_) => out.push_str(PUT_IN),
            None => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problems;
    use crate::rules::{RuleSet, load_text};
    use std::path::Path;
    use std::time::Duration;

    fn rules(summary: &str) -> (RuleSet, Vec<String>) {
        let text = format!(
            "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n    labels: {{severity: info, area: host}}\n    \
             annotations: {{summary_en: a, description: b, description_en: c, runbook: d, summary: {summary:?}}}\n"
        );
        let mut problems = Problems::default();
        let rules = load_text(Path::new("r.yml"), &text, Duration::from_secs(15), &mut problems);
        (rules, problems.into_sorted().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_templates_ask_for_is_kept_as_for_rules() {
        let week = |metric: &str| vec![(metric.to_owned(), 7 * 24 * 3_600)];
        let rows = [
            ("{{ query \"x{a='1'}[7d]\" }}", week("x"), 0, 1),
            ("{{ with query \"sum(\" }}{{ end }}", Vec::new(), 0, 1),
            ("{{ query \"max_over_time(x{a='1'}[7d])\" | first | value }}", week("x"), 0, 0),
            ("{{ with printf \"max_over_time(x{a='%s'}[7d])\" $labels.a | query }}{{ end }}", week("x"), 0, 0),
            ("{{ range query (printf \"max_over_time(x{a=%q}[%dd])\" $labels.a 7) }}{{ end }}", Vec::new(), 1, 0),
            ("{{ query (printf \"max_over_time(%s[7d])\" $labels.metric) }}", Vec::new(), 1, 0),
            ("{{ query $labels.expression }}", Vec::new(), 1, 0),
            ("{{ define \"q\" }}{{ query \"last_over_time(y[7d])\" }}{{ end }}{{ template \"q\" }}", week("y"), 0, 0),
            ("{{ $value }}", Vec::new(), 0, 0),
        ];
        for (summary, expected, n_unforeseen, n_problems) in rows {
            let (rules, problems) = rules(summary);
            assert_eq!(problems.len(), n_problems, "{summary}: {problems:?}");
            let long = |need: &Need| need.back > Duration::from_secs(2 * 24 * 3_600);
            let needs = rules.needs();
            let found: Vec<_> = needs
                .iter()
                .filter(|need| long(need))
                .map(|need| (need.metric().unwrap_or_default().to_owned(), need.back.as_secs()))
                .collect();
            assert_eq!(found, expected, "{summary}");
            assert_eq!(rules.unforeseen().len(), n_unforeseen, "{summary}");
        }
        let (rules, _) = rules("{{ query $labels.expression }}");
        assert_eq!(rules.unforeseen(), ["summary of the alert A in r.yml"]);
    }
}
