//! One round of mails: whom the events of a step tell, and what the timeline says of it.

use super::call;
use super::change::Change;
use super::escalation::Raised;
use super::letter::{Acknowledged, Extra};
use super::life::{Event, Incident, News};
use super::rows::{Entry, Open};
use super::settings::Settings;
use super::stage::Incidents;
use super::who::Role;
use crate::config::Id;
use crate::config::site::Language;
use jiff::Timestamp;
use std::sync::Arc;

/// Who is told what.
#[derive(Default)]
pub(super) struct Telling {
    /// To everybody who was told already.
    pub news: Option<News>,
    /// Whom the escalation calls, as they are called.
    pub called: Vec<(Id, Role)>,
    /// The position of the step that calls them.
    pub step: Option<usize>,
    /// Everybody who was told is reminded.
    pub is_reminder: bool,
    /// The answer of somebody holds no longer.
    pub is_expired: bool,
    /// Everybody who was told is told that somebody answered.
    pub is_acknowledgement: bool,
    /// It lasted so long that it is critical now.
    pub is_worsened: bool,
}

impl Telling {
    /// What `events` call for; `None`: nobody is told of anything.
    pub fn of(events: &[Event], incident: &Incident, settings: &Settings, now: Timestamp) -> Option<Telling> {
        let mut telling = Telling::default();
        for event in events {
            match event {
                Event::Mail(news) => telling.news = Some(*news),
                Event::Raised(Raised::Again) => telling.is_reminder = true,
                Event::Raised(Raised::Expired) => telling.is_expired = true,
                Event::Worsened => telling.is_worsened = true,
                Event::Acknowledged { is_first, .. } => telling.is_acknowledgement = *is_first,
                Event::Raised(Raised::Step(index)) => {
                    telling.step = Some(*index);
                    telling.called.extend(settings.with_rules(incident, None, now, |rules| {
                        let step = (rules.policy)(incident.severity).steps.get(*index);
                        step.map(|step| settings.called(incident, Some(step), now)).unwrap_or_default()
                    }));
                }
                Event::Raised(Raised::Fallback) => telling.called.extend(settings.called(incident, None, now)),
                _ => {}
            }
        }
        // Before the first mail nobody waits to hear of an answer.
        telling.is_acknowledgement &= incident.first_mail.is_some();
        (telling.is_to_all() || !telling.called.is_empty()).then_some(telling)
    }
}

impl Telling {
    /// Everybody who was told gets a mail.
    fn is_to_all(&self) -> bool {
        self.news.is_some() || self.is_reminder || self.is_acknowledgement
    }
}

impl Incidents {
    /// What the mails say of the escalation as it stands.
    fn extra(&self, settings: &Settings, incident: &Incident, telling: &Telling, now: Timestamp) -> Extra {
        let escalation = &incident.escalation;
        let next =
            settings.with_rules(incident, None, now, |rules| escalation.next_steps(&rules.call(incident.severity)));
        let name = |id: &str| settings.desk.org.person(id).map_or_else(|| id.to_owned(), |person| person.name.clone());
        let is_held = escalation.is_held(now);
        let asks = !is_held && !incident.firing().is_empty();
        Extra {
            // Who answers when somebody has answered already finds the page of the incident.
            ack_url: asks.then(|| self.links.of(&settings.desk.site, incident.id, now)),
            next,
            acknowledged: escalation
                .acks
                .iter()
                .map(|ack| Acknowledged {
                    by: name(&ack.person),
                    at: ack.at,
                    until: escalation.held_until.filter(|_| is_held),
                })
                .collect(),
            escalated: telling.step,
            is_reminder: telling.is_reminder,
            is_expired: telling.is_expired,
            is_acknowledgement: telling.is_acknowledgement,
            is_worsened: telling.is_worsened,
            told_before: Vec::new(),
        }
    }

    /// Writes one round of mails; returns what the timeline says of it.
    pub(super) async fn tell(
        &self,
        settings: &Settings,
        open: &mut Open,
        telling: &Telling,
        now: Timestamp,
        change: &mut Change,
    ) -> Vec<Entry> {
        let language = settings.desk.site.language;
        if open.told.is_empty() {
            settings.desk.entitle(Arc::make_mut(&mut open.incident));
        }
        let mut evidence = settings.evidence_lines(&open.incident, now).await;
        if let Some(excuser) = self.excuser.as_ref().filter(|_| telling.news != Some(News::Resolved)) {
            evidence.affected = excuser.affected(&open.incident, now);
        }
        let is_called = |person: &str| telling.called.iter().any(|(id, _)| id.as_str() == person);
        let to_all = telling.is_to_all();
        let told: Vec<_> = open.told.iter().filter(|told| to_all || is_called(&told.person)).cloned().collect();
        let news = telling.news.unwrap_or(News::Broken);
        if telling.news.is_none() {
            // A round that only calls or reminds has a number of its own: mails are told apart by it.
            Arc::make_mut(&mut open.incident).mails += 1;
        }
        let unasked = open.told.iter().filter(|one| !told.contains(one) && !is_called(&one.person));
        let told_before = unasked.map(|told| told.name.clone()).collect();
        let extra = Extra { told_before, ..self.extra(settings, &open.incident, telling, now) };
        let round = settings.desk.compose(&open.incident, news, &told, &telling.called, &evidence, &extra, now);
        let made = |event: &str, person: &str, detail: &str| Entry {
            at: now,
            event: event.into(),
            person: person.into(),
            detail: detail.into(),
        };
        let mut entries = Vec::new();
        if round.is_nobodys && news != News::Resolved {
            entries.push(made("nobody", "", no_one(language)));
        }
        for told in &round.newly_told {
            change.writes.told(open.incident.id, told);
        }
        for mail in &round.mails {
            entries.push(made("mailed", &mail.person, &mail.message_id));
        }
        for failure in &round.failures {
            tracing::error!(incident.id = open.incident.id, error = failure, "a mail could not be made");
            self.metrics.own.emails.with_label_values(&["failed"]).inc();
        }
        if round.mails.is_empty() {
            tracing::warn!(incident.id = open.incident.id, "nobody can be told of an incident");
        }
        let mailed: Vec<String> = round.mails.iter().map(|mail| mail.person.clone()).collect();
        let calls = call::calls(settings, &open.incident, telling, &mailed, now);
        change.writes.mails(round.mails);
        change.writes.calls(calls);
        open.told.extend(round.newly_told);
        entries
    }
}

pub(super) fn no_one(language: Language) -> &'static str {
    match language {
        Language::Vi => "chưa có người chịu trách nhiệm",
        Language::En => "no one responsible",
    }
}
