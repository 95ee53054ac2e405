//! What there is to ask for: series, label names and values, and what the metrics mean.

use super::AppState;
use super::access::Identity;
use super::query::{Visible, read, truncate};
use super::query_form::Form;
use super::query_json::{Answer, Failure, Json};
use crate::promql::{Labels, LabelsRef, Storage};
use axum::Extension;
use axum::extract::{Path, State};
use prometheus::proto::MetricType;
use promql_parser::label::Matchers;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Of one answer; more are cut off, and the answer says so.
const MAX_SERIES: usize = 100_000;
/// As of a query.
const MAX_TIME: Duration = Duration::from_secs(10);

pub(super) async fn series(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    form: Form,
) -> Result<Answer, Failure> {
    if form.all("match[]").next().is_none() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    let limit = form.limit()?.unwrap_or(MAX_SERIES).min(MAX_SERIES);
    let (selectors, interval) = (form.selectors()?, form.interval()?);
    read(&state, identity, MAX_TIME, move |visible, _| {
        let mut found: BTreeSet<Labels> = BTreeSet::new();
        each(visible, &selectors, interval, &mut |labels| {
            found.insert(labels.to_labels());
        });
        let mut found: Vec<Labels> = found.into_iter().collect();
        let is_truncated = truncate(&mut found, limit);
        let mut json = Json::default();
        json.list(&found, Json::labels);
        Ok(finish(json, is_truncated))
    })
    .await
}

pub(super) async fn names(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    form: Form,
) -> Result<Answer, Failure> {
    texts(&state, identity, &form, |labels, found| {
        for (name, _) in labels.iter() {
            if !found.contains(name) {
                found.insert(name.to_owned());
            }
        }
    })
    .await
}

pub(super) async fn values(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
    form: Form,
) -> Result<Answer, Failure> {
    let name = unescape(&name);
    if name.is_empty() {
        return Err(Failure::bad_data("invalid label name: \"\""));
    }
    texts(&state, identity, &form, move |labels, found| {
        let value = labels.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value);
        if let Some(value) = value.filter(|value| !found.contains(*value)) {
            found.insert(value.to_owned());
        }
    })
    .await
}

/// The texts that `collect` takes from the label sets, sorted.
async fn texts(
    state: &AppState,
    identity: Identity,
    form: &Form,
    mut collect: impl FnMut(LabelsRef<'_>, &mut BTreeSet<String>) + Send + 'static,
) -> Result<Answer, Failure> {
    let limit = form.limit()?.unwrap_or(MAX_SERIES).min(MAX_SERIES);
    let (mut selectors, interval) = (form.selectors()?, form.interval()?);
    if selectors.is_empty() {
        selectors.push(Matchers::empty());
    }
    read(state, identity, MAX_TIME, move |visible, _| {
        let mut found = BTreeSet::new();
        each(visible, &selectors, interval, &mut |labels| collect(labels, &mut found));
        let mut found: Vec<String> = found.into_iter().collect();
        let is_truncated = truncate(&mut found, limit);
        let mut json = Json::default();
        json.texts(&found);
        Ok(finish(json, is_truncated))
    })
    .await
}

fn each(visible: &Visible<'_>, selectors: &[Matchers], (from, to): (i64, i64), take: &mut dyn FnMut(LabelsRef<'_>)) {
    for matchers in selectors {
        visible.select(matchers, from, to, &mut |series| {
            if series.has_samples(from, to) {
                take(series.labels);
            }
        });
    }
}

fn finish(json: Json, is_truncated: bool) -> Answer {
    let answer = Answer::new(json);
    if is_truncated { answer.truncated() } else { answer }
}

/// `U__http_2e_status` stands for `http.status`, as in Prometheus: names of any characters in a path.
fn unescape(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut whole = String::new();
    while let Some((before, after)) = rest.split_once('_') {
        whole.push_str(before);
        if let Some(after) = after.strip_prefix('_') {
            whole.push('_');
            rest = after;
            continue;
        }
        let code = after
            .split_once('_')
            .and_then(|(digits, rest)| Some((char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, rest)));
        // What is not an escape is a name of its own.
        let Some((character, after)) = code else { return name.to_owned() };
        whole.push(character);
        rest = after;
    }
    whole.push_str(rest);
    whole
}

/// Type and help of every family, as a scrape would give them.
pub(super) async fn metadata(State(state): State<AppState>, form: Form) -> Result<Answer, Failure> {
    let number = |name: &str| match form.get(name) {
        "" => Ok(None),
        text => text.parse::<i64>().map(Some).map_err(|_| Failure::bad_data(&format!("{name} must be a number"))),
    };
    // A limit below zero is none; there is one entry a metric, so the limit of those cuts nothing.
    let limit = number("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    number("limit_per_metric")?;
    let wanted = form.get("metric");
    let mut families: BTreeMap<String, (&str, String)> = BTreeMap::new();
    for family in state.metrics().tables().iter().flat_map(|table| table.families()) {
        families.insert(family.name.into(), (family.kind.as_str(), family.help.into()));
    }
    for family in state.metrics().own.gather() {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::SUMMARY => "summary",
            MetricType::HISTOGRAM => "histogram",
            MetricType::UNTYPED => "unknown",
        };
        families.insert(family.name().into(), (kind, family.help().into()));
    }
    let mut json = Json::default();
    json.raw("{");
    let wanted = families.iter().filter(|(name, _)| wanted.is_empty() || name.as_str() == wanted);
    for (index, (name, (kind, help))) in wanted.take(limit).enumerate() {
        json.raw(if index > 0 { "," } else { "" });
        json.text(name);
        json.raw(":[");
        json.map([("type", *kind), ("help", help.as_str()), ("unit", "")]);
        json.raw("]");
    }
    json.raw("}");
    Ok(Answer::new(json))
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escaped_names_are_read_as_prometheus_escapes_them() {
        let rows = [
            ("agency", "agency"),
            ("__name__", "__name__"),
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U__n_1ed9_i", "nội"),
            ("U__a_zz_", "U__a_zz_"),
            ("U__a_2e", "U__a_2e"),
        ];
        for (text, expected) in rows {
            assert_eq!(unescape(text), expected);
        }
    }
}
