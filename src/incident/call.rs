//! What webhooks are told of an incident: the same rounds as people, as JSON with documented fields.

use super::life::{Incident, Member, News};
use super::settings::Settings;
use super::tell::Telling;
use crate::alert::LabelSet;
use crate::config::webhooks::Webhook;
use crate::mail::{About, Call};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Alerts of one message; what is left out is counted.
const ALERTS: usize = 100;
/// Characters of an annotation.
const ANNOTATION: usize = 2_000;
/// Of the body; raised when a field changes its meaning or goes, not when one is added.
const VERSION: u32 = 1;

/// The body of a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    version: u32,
    /// `broken`, `changed`, `escalated`, `reminder`, `acknowledged` or `resolved`.
    event: &'static str,
    at: Timestamp,
    site: &'a str,
    incident: Head<'a>,
    /// Ids of the persons who were mailed in this round.
    told: &'a [String],
    acknowledged: Vec<Answer<'a>>,
    acknowledged_until: Option<Timestamp>,
    alerts: Vec<Line<'a>>,
    alerts_left_out: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    id: i64,
    url: String,
    agency: &'a str,
    agency_name: &'a str,
    area: &'static str,
    severity: &'static str,
    subject: &'a str,
    opened_at: Timestamp,
    resolved_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    by: &'a str,
    at: Timestamp,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    state: &'static str,
    severity: &'static str,
    labels: &'a LabelSet,
    annotations: BTreeMap<&'a str, String>,
    starts_at: Timestamp,
    resolved_at: Option<Timestamp>,
    /// Why nobody is told of it just now.
    excused: Option<&'static str>,
}

/// The messages of one round about an incident. Each round has a number (`incident.mails`) of its own.
pub(super) fn calls(
    settings: &Settings,
    incident: &Incident,
    telling: &Telling,
    told: &[String],
    now: Timestamp,
) -> Vec<Call> {
    let mut labels = settings.labels(incident, None);
    labels.insert("severity".into(), incident.severity.as_str().into());
    let matching = |webhook: &&Webhook| crate::matcher::all(&webhook.matchers, &labels);
    let webhooks: Vec<&Webhook> = settings.webhooks.iter().filter(matching).collect();
    if webhooks.is_empty() {
        return Vec::new();
    }
    // A body is a struct of texts and numbers, which JSON can say.
    let body = serde_json::to_string(&body(settings, incident, telling, told, now)).unwrap_or_default();
    let opened = incident.opened.as_microsecond();
    let call = |webhook: &Webhook| Call {
        webhook: webhook.id.to_string(),
        thread: format!("incident-{}.webhook.{}", incident.id, webhook.id),
        id: format!("incident-{}.{opened:x}.{}.{}", incident.id, incident.mails, webhook.id),
        body: body.clone(),
        about: About { agency: incident.agency.clone(), incident: Some(incident.id) },
    };
    webhooks.into_iter().map(call).collect()
}

fn body<'a>(
    settings: &'a Settings,
    incident: &'a Incident,
    telling: &Telling,
    told: &'a [String],
    now: Timestamp,
) -> Body<'a> {
    let desk = &settings.desk;
    let mut members: Vec<&Member> = incident.members.values().map(|member| &**member).collect();
    members
        .sort_by_key(|member| (member.resolved.is_some(), std::cmp::Reverse(member.severity), member.alert.starts_at));
    let escalation = &incident.escalation;
    Body {
        version: VERSION,
        event: event(telling),
        at: now,
        site: &desk.site.name,
        incident: Head {
            id: incident.id,
            url: format!("{}/incidents/{}", desk.site.external_url, incident.id),
            agency: &incident.agency,
            agency_name: desk.org.agency(&incident.agency).map_or(&*incident.agency, |agency| agency.name.as_str()),
            area: incident.area.as_str(),
            severity: incident.severity.as_str(),
            subject: &incident.subject,
            opened_at: incident.opened,
            resolved_at: incident.resolved,
        },
        told,
        acknowledged: escalation.acks.iter().map(|ack| Answer { by: &ack.person, at: ack.at }).collect(),
        acknowledged_until: escalation.held_until.filter(|_| escalation.is_held(now)),
        alerts_left_out: members.len().saturating_sub(ALERTS),
        alerts: members.into_iter().take(ALERTS).map(line).collect(),
    }
}

fn line(member: &Member) -> Line<'_> {
    let cut = |text: &str| text.chars().take(ANNOTATION).collect();
    Line {
        state: if member.resolved.is_some() { "resolved" } else { "firing" },
        severity: member.severity.as_str(),
        labels: &member.alert.labels,
        annotations: member.alert.annotations.iter().map(|(name, text)| (name, cut(text))).collect(),
        starts_at: member.alert.starts_at,
        resolved_at: member.resolved,
        excused: member.excused.as_ref().map(|excused| excused.why.as_str()),
    }
}

fn event(telling: &Telling) -> &'static str {
    match telling.news {
        Some(News::Broken) => "broken",
        Some(News::Changed) => "changed",
        Some(News::Resolved) => "resolved",
        None if telling.is_acknowledgement => "acknowledged",
        None if !telling.called.is_empty() => "escalated",
        None => "reminder",
    }
}
