//! The rules and their alerts, as Prometheus lists them.

use super::AppState;
use super::access::Identity;
use super::query_form::Form;
use super::query_json::{Answer, Failure, Json, scientific};
use crate::rules::{AlertView, GroupView, Health, RuleKind, RuleView};
use axum::Extension;
use axum::extract::State;
use jiff::Timestamp;
use promql_parser::label::Matchers;
use std::time::Duration;

pub(super) async fn alerts(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
) -> Result<Answer, Failure> {
    let groups = groups(&state, &identity).await?;
    let alerts = groups.iter().flat_map(|group| &group.rules).flat_map(RuleView::alerts);
    let mut json = Json::default();
    json.raw("{\"alerts\":");
    json.list(alerts, alert);
    json.raw("}");
    Ok(Answer::new(json))
}

pub(super) async fn rules(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    form: Form,
) -> Result<Answer, Failure> {
    let wanted = Wanted::new(&form)?;
    let mut groups = groups(&state, &identity).await?;
    let pages = Pages::new(&form)?;
    if let Some(token) = &pages.from {
        let first = groups.iter().position(|group| token_of(group) == *token).ok_or_else(|| {
            let message = format!("invalid group_next_token '{token}'. were rule groups changed?");
            Failure::parameter("group_next_token", &message)
        })?;
        groups.drain(..first);
    }
    for group in &mut groups {
        group.rules.retain(|rule| wanted.wants(group.name.as_str(), &group.file.to_string_lossy(), rule));
    }
    groups.retain(|group| !group.rules.is_empty());
    let next = pages.size.and_then(|size| groups.get(size)).map(token_of);
    groups.truncate(pages.size.unwrap_or(usize::MAX));
    let mut json = Json::default();
    json.raw("{\"groups\":");
    json.list(&groups, |json, group| write_group(json, group, wanted.exclude_alerts));
    if let Some(next) = next {
        json.raw(",\"groupNextToken\":");
        json.text(&next);
    }
    json.raw("}");
    Ok(Answer::new(json))
}

/// All groups with the alerts that somebody sees. What a rule failed of may name the series of others.
async fn groups(state: &AppState, identity: &Identity) -> Result<Vec<GroupView>, Failure> {
    let board = state.rules().clone();
    // It waits while a group is evaluated.
    let groups = tokio::task::spawn_blocking(move || board.groups()).await;
    let mut groups = groups.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "listing the rules panicked");
        Failure::internal("the rules cannot be listed")
    })?;
    if identity.visible().is_some() {
        for rule in groups.iter_mut().flat_map(|group| &mut group.rules) {
            rule.last_error = None;
            if let RuleKind::Alerting { alerts, .. } = &mut rule.kind {
                alerts.retain(|alert| identity.sees(alert.labels.get("agency").unwrap_or("")));
            }
        }
    }
    Ok(groups)
}

/// What a reader asks for.
struct Wanted {
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    selectors: Vec<Matchers>,
    alerting: bool,
    recording: bool,
    exclude_alerts: bool,
}

impl Wanted {
    fn new(form: &Form) -> Result<Wanted, Failure> {
        let list = |name: &str| form.all(name).map(str::to_owned).collect();
        let kind = form.get("type").to_ascii_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(Failure::parameter("type", &format!("not supported value {kind:?}")));
        }
        let exclude_alerts = match form.get("exclude_alerts").to_ascii_lowercase().as_str() {
            "" | "false" | "f" | "0" => false,
            "true" | "t" | "1" => true,
            _ => return Err(Failure::parameter("exclude_alerts", "must be true or false")),
        };
        Ok(Wanted {
            names: list("rule_name[]"),
            groups: list("rule_group[]"),
            files: list("file[]"),
            selectors: form.selectors()?,
            alerting: kind != "record",
            recording: kind != "alert",
            exclude_alerts,
        })
    }

    fn wants(&self, group: &str, file: &str, rule: &RuleView) -> bool {
        let within = |list: &[String], text: &str| list.is_empty() || list.iter().any(|item| item == text);
        let is_alerting = matches!(rule.kind, RuleKind::Alerting { .. });
        let matches = |matchers: &Matchers| {
            let label = |name: &str| rule.labels.iter().find(|(own, _)| own == name).map_or("", |(_, text)| text);
            matchers.matchers.iter().all(|matcher| matcher.is_match(label(&matcher.name)))
        };
        within(&self.names, &rule.name)
            && within(&self.groups, group)
            && within(&self.files, file)
            && (if is_alerting { self.alerting } else { self.recording })
            && (self.selectors.is_empty() || self.selectors.iter().any(matches))
    }
}

/// Which of the groups, page by page.
struct Pages {
    size: Option<usize>,
    from: Option<String>,
}

impl Pages {
    fn new(form: &Form) -> Result<Pages, Failure> {
        let (size, from) = (form.get("group_limit"), form.get("group_next_token"));
        if size.is_empty() && !from.is_empty() {
            let message = "group_limit needs to be present in order to paginate over the groups";
            return Err(Failure::parameter("group_next_token", message));
        }
        let size = match size {
            "" => None,
            text => Some(text.parse().ok().filter(|size| *size > 0).ok_or_else(|| {
                Failure::parameter("group_limit", "group_limit needs to be a valid number, greater than 0")
            })?),
        };
        Ok(Pages { size, from: Some(from.to_owned()).filter(|from| !from.is_empty()) })
    }
}

/// Names a group for the next page.
fn token_of(group: &GroupView) -> String {
    format!("{};{}", group.file.display(), group.name)
}

fn write_group(json: &mut Json, group: &GroupView, exclude_alerts: bool) {
    json.raw("{\"name\":");
    json.text(&group.name);
    json.raw(",\"file\":");
    json.text(&group.file.to_string_lossy());
    json.raw(&format!(",\"interval\":{},\"limit\":{},\"rules\":", group.interval.as_secs_f64(), group.limit));
    json.list(&group.rules, |json, rule| write_rule(json, rule, exclude_alerts));
    evaluated(json, group.duration, group.evaluated);
    json.raw("}");
}

fn write_rule(json: &mut Json, rule: &RuleView, exclude_alerts: bool) {
    json.raw("{\"name\":");
    json.text(&rule.name);
    json.raw(",\"query\":");
    json.text(&rule.query);
    json.raw(",\"labels\":");
    json.map(rule.labels.iter().map(|(name, text)| (name, text)));
    json.raw(match rule.health {
        Health::Unknown => ",\"health\":\"unknown\"",
        Health::Ok => ",\"health\":\"ok\"",
        Health::Failing => ",\"health\":\"err\"",
    });
    if let Some(error) = &rule.last_error {
        json.raw(",\"lastError\":");
        json.text(error);
    }
    match &rule.kind {
        RuleKind::Recording => json.raw(",\"type\":\"recording\""),
        RuleKind::Alerting { hold, keep_firing_for, annotations, alerts } => {
            let (hold, keep) = (hold.as_secs_f64(), keep_firing_for.as_secs_f64());
            json.raw(&format!(",\"type\":\"alerting\",\"state\":\"{}\",\"duration\":{hold}", rule.state()));
            json.raw(&format!(",\"keepFiringFor\":{keep},\"annotations\":"));
            json.map(annotations.iter().map(|(name, text)| (name, text)));
            json.raw(",\"alerts\":");
            json.list(alerts.iter().filter(|_| !exclude_alerts), alert);
        }
    }
    evaluated(json, rule.duration, rule.evaluated);
    json.raw("}");
}

fn evaluated(json: &mut Json, duration: Duration, at: Option<Timestamp>) {
    json.raw(&format!(",\"evaluationTime\":{},\"lastEvaluation\":", duration.as_secs_f64()));
    match at {
        Some(at) => json.text(&at.to_string()),
        // Go's zero time.
        None => json.raw("\"0001-01-01T00:00:00Z\""),
    }
}

fn alert(json: &mut Json, alert: &AlertView) {
    json.raw("{\"labels\":");
    json.map(&alert.labels);
    json.raw(",\"annotations\":");
    json.map(&alert.annotations);
    json.raw(&format!(",\"state\":\"{}\",\"activeAt\":\"{}\"", alert.state(), alert.active_at));
    if let Some(since) = alert.keep_firing_since {
        json.raw(&format!(",\"keepFiringSince\":\"{since}\""));
    }
    json.raw(&format!(",\"value\":\"{}\"}}", scientific(alert.value)));
}
