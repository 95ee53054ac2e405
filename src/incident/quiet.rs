//! Why people are not told of an alert just now: because it is not its agency's (`excuse.rs`), because somebody silenced
//! it (`silence.rs`), because another alert says it all (`inhibit.rs`); in this order.

use super::excuse::subjects;
use super::letter;
use super::life::{Excused, Excuses, Incident, Member, Why};
use super::settings::Settings;
use super::stage::{Incidents, State};
use crate::alert::Alert;
use crate::matcher;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Changes whenever something may be told, or not told, that was not before.
pub(super) type Version = (Option<u64>, u64, u64);

/// An alert that fires, and what keeps people from being told of it.
#[derive(Debug, Clone)]
pub struct Listed {
    pub alert: Alert,
    /// When a source last posted it.
    pub updated_at: Timestamp,
    /// Ids of silences.
    pub silenced_by: Vec<String>,
    /// Fingerprints of alerts.
    pub inhibited_by: Vec<String>,
    /// The dependency or maintenance that it is excused by.
    pub excused_by: Option<String>,
}

impl Incidents {
    /// What nobody is told of at `now`, of the alerts of an incident and of those that come to it.
    pub(super) fn excuses_of<'a>(
        &self,
        state: &State,
        settings: &Settings,
        incident: &'a Incident,
        coming: impl Iterator<Item = &'a Alert> + Clone,
        now: Timestamp,
    ) -> Excuses {
        let mut excuses = match &self.excuser {
            Some(excuser) => excuser.of(incident, coming.clone(), now),
            None => Excuses::new(),
        };
        let silences = state.silences.active(now);
        if silences.is_empty() && settings.inhibit.is_empty() {
            return excuses;
        }
        for (fingerprint, alert) in subjects(incident, coming) {
            if excuses.contains_key(&*fingerprint) {
                continue;
            }
            let silence = silences.iter().find(|silence| matcher::all(&silence.matchers, &alert.labels));
            let excused = if let Some(silence) = silence {
                Some(Excused { why: Why::Silenced, by: silence.says(), since: silence.starts_at.max(alert.starts_at) })
            } else {
                let source = state.inhibitor.by(&settings.inhibit, alert).next();
                source.map(|source| Excused {
                    why: Why::Inhibited,
                    by: letter::summary(&source.alert, settings.desk.site.language),
                    since: source.alert.starts_at.max(alert.starts_at),
                })
            };
            excuses.extend(excused.map(|excused| (fingerprint.into_owned(), excused)));
        }
        excuses
    }

    /// Whether something of an incident became excused, or no longer is.
    pub(super) fn has_other_excuses(
        &self,
        state: &State,
        settings: &Settings,
        incident: &Incident,
        now: Timestamp,
    ) -> bool {
        let excuses = self.excuses_of(state, settings, incident, std::iter::empty(), now);
        incident.members.iter().filter(|(_, member)| member.resolved.is_none()).any(|(fingerprint, member)| {
            let by = |excused: &Excused| (excused.why, excused.by.clone());
            member.excused.as_ref().map(by) != excuses.get(&**fingerprint).map(by)
        })
    }

    pub(super) fn excuses_version(&self, state: &State, now: Timestamp) -> Version {
        (
            self.excuser.as_ref().map(super::excuse::Excuser::version),
            state.silences.version(now),
            state.inhibitor.version(),
        )
    }

    /// Finds out what inhibits: of what fires, and of what is coming.
    pub(super) fn find_sources(&self, settings: &Settings, coming: &[Alert], now: Timestamp) {
        let mut state = self.state();
        if settings.inhibit.is_empty() && state.inhibitor.version() == 0 {
            return;
        }
        let coming: Vec<(String, &Alert)> = coming.iter().map(|alert| (alert.fingerprint(), alert)).collect();
        let is_coming: BTreeSet<&str> = coming.iter().map(|(fingerprint, _)| fingerprint.as_str()).collect();
        let State { open, recorded, inhibitor, .. } = &mut *state;
        let known =
            open.values().flat_map(|open| open.incident.members.iter()).map(|(key, member)| (&**key, &**member));
        let known = known.chain(recorded.iter().map(|(key, member)| (key.as_str(), member)));
        let known = known
            .filter(|(fingerprint, member)| member.resolved.is_none() && !is_coming.contains(fingerprint))
            .map(|(fingerprint, member)| (fingerprint, &member.alert));
        let firing = coming.iter().filter(|(_, alert)| !alert.is_resolved(now));
        let firing = known.chain(firing.map(|(fingerprint, alert)| (fingerprint.as_str(), *alert)));
        inhibitor.rebuild(&settings.inhibit, firing);
    }

    /// Every alert that fires, recorded ones included, by labels.
    pub fn listed(&self, now: Timestamp) -> Vec<Listed> {
        let settings = self.settings();
        let state = self.state();
        let silences = state.silences.active(now);
        let members = state.open.values().flat_map(|open| open.incident.members.values().map(|member| &**member));
        let firing = members.filter(|member| member.resolved.is_none()).chain(state.recorded.values());
        let listed = |member: &Member| {
            let alert = &member.alert;
            let silenced = silences.iter().filter(|silence| matcher::all(&silence.matchers, &alert.labels));
            let inhibited: BTreeSet<String> =
                state.inhibitor.by(&settings.inhibit, alert).map(|source| source.fingerprint.clone()).collect();
            let is_cause = |excused: &&Excused| matches!(excused.why, Why::Cause(_));
            Listed {
                alert: alert.clone(),
                updated_at: member.updated,
                silenced_by: silenced.map(|silence| silence.id.clone()).collect(),
                inhibited_by: inhibited.into_iter().collect(),
                excused_by: member.excused.as_ref().filter(is_cause).map(|excused| excused.by.clone()),
            }
        };
        let mut alerts: Vec<Listed> = firing.map(listed).collect();
        drop(state);
        alerts.sort_by(|a, b| a.alert.labels.iter().cmp(&b.alert.labels));
        alerts
    }

    /// The labels by which alerts are grouped.
    pub fn group_labels(&self, alert: &Alert) -> BTreeMap<String, String> {
        let settings = self.settings();
        let named = settings.group_by.iter().map(|name| (name.clone(), alert.label(name).to_owned()));
        named.filter(|(_, value)| !value.is_empty()).collect()
    }
}
