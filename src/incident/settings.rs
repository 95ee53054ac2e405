//! What the incident stage goes by: the configuration as of the last reload, and what follows from it for one incident.

use super::address::Severity;
use super::letter::{self, Desk, Evidence, EvidenceLines};
use super::life::{Incident, Rules, Timing};
use super::stage::Incidents;
use super::who::{self, Role};
use crate::alert::Alert;
use crate::config::escalation::{Policy, Step};
use crate::config::incidents::Inhibit;
use crate::config::site::Language;
use crate::config::webhooks::Webhook;
use crate::config::{Config, Id};
use crate::org::Org;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Evidence that is not there by then is left out: the mail is more urgent.
const EVIDENCE_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Settings {
    pub desk: Desk,
    pub evidence: Arc<dyn Evidence>,
    pub group_by: Vec<String>,
    pub timing: Timing,
    pub resolve_timeout: SignedDuration,
    pub policies: Vec<Policy>,
    pub inhibit: Arc<[Inhibit]>,
    pub webhooks: Arc<[Webhook]>,
}

impl Settings {
    pub fn new(config: &Config, org: Arc<Org>, evidence: Arc<dyn Evidence>) -> Settings {
        let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let incidents = &config.incidents;
        let timing = Timing {
            group_wait: signed(incidents.group_wait),
            group_interval: signed(incidents.group_interval),
            reopen_within: signed(incidents.reopen_within),
            flapping: incidents.flapping,
        };
        Settings {
            desk: Desk::new(config, org),
            evidence,
            group_by: incidents.group_by.clone(),
            timing,
            resolve_timeout: signed(incidents.resolve_timeout),
            policies: config.escalation.clone(),
            inhibit: incidents.inhibit.clone().into(),
            webhooks: config.webhooks.clone().into(),
        }
    }

    /// Asks something of the rules for an incident at `now`. `coming` is an alert of its group, for an incident that has
    /// none yet.
    pub fn with_rules<R>(
        &self,
        incident: &Incident,
        coming: Option<&Alert>,
        now: Timestamp,
        ask: impl FnOnce(&Rules<'_>) -> R,
    ) -> R {
        let labels = self.labels(incident, coming);
        let policy = |severity: Severity| {
            let mut labels = labels.clone();
            labels.insert("severity".into(), severity.as_str().into());
            Policy::for_incident(&self.policies, &labels)
        };
        let names = |step: Option<&Step>| {
            self.called(incident, step, now).into_iter().map(|(person, _)| person.to_string()).collect()
        };
        let working = |at| self.desk.org.next_working_time(at);
        ask(&Rules { timing: self.timing, policy: &policy, names: &names, working: &working })
    }

    /// Whom a step of an incident's policy names; of none, those who are told for want of anybody.
    pub fn called(&self, incident: &Incident, step: Option<&Step>, now: Timestamp) -> Vec<(Id, Role)> {
        let (org, agency, area) = (&self.desk.org, &incident.agency, incident.area);
        match step {
            Some(step) => who::resolve(org, &step.notify, agency, area, now),
            None => who::fallback(org, agency, area, now),
        }
    }

    /// What policies are chosen by.
    pub fn labels(&self, incident: &Incident, coming: Option<&Alert>) -> BTreeMap<String, String> {
        let alert = incident.members.values().map(|member| &member.alert).next().or(coming);
        let grouped = alert.into_iter().flat_map(|alert| {
            self.group_by.iter().map(|name| (name.clone(), alert.label(name).to_owned())).filter(|(_, v)| !v.is_empty())
        });
        let own = [("agency", incident.agency.as_str()), ("area", incident.area.as_str())];
        grouped.chain(own.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
    }

    pub async fn evidence_lines(&self, incident: &Incident, now: Timestamp) -> EvidenceLines {
        let alerts: Vec<Alert> = incident.members.values().map(|member| member.alert.clone()).collect();
        let first = letter::first_alert(incident).cloned();
        let ask = async {
            let curve = match &first {
                Some(alert) => self.evidence.curve(alert, now).await.map(|curve| {
                    let picture = curve.png(alert.starts_at);
                    (curve, picture)
                }),
                None => None,
            };
            EvidenceLines {
                curve,
                vi: self.evidence.of(&alerts, Language::Vi, now).await,
                en: self.evidence.of(&alerts, Language::En, now).await,
                affected: BTreeMap::new(),
            }
        };
        tokio::time::timeout(EVIDENCE_WITHIN, ask).await.unwrap_or_default()
    }
}

/// How alerts become incidents, for those who ask as they would ask Alertmanager.
#[derive(Debug, Clone)]
pub struct Routing {
    pub group_by: Vec<String>,
    pub group_wait: SignedDuration,
    pub group_interval: SignedDuration,
    pub resolve_timeout: SignedDuration,
    pub inhibit: Arc<[Inhibit]>,
}

impl Incidents {
    pub fn routing(&self) -> Routing {
        let settings = self.settings();
        Routing {
            group_by: settings.group_by.clone(),
            group_wait: settings.timing.group_wait,
            group_interval: settings.timing.group_interval,
            resolve_timeout: settings.resolve_timeout,
            inhibit: settings.inhibit.clone(),
        }
    }

    /// How long an alert from outside without an end fires if it is not posted again.
    pub fn resolve_timeout(&self) -> SignedDuration {
        self.settings().resolve_timeout
    }
}
