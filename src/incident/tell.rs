//! One round of mails: whom the events of a step tell, and what the timeline says of it.

use super::escalation::Raised;
use super::letter::subject;
use super::life::{Event, Incident, News};
use super::rows::{self, Entry, Open};
use super::settings::Settings;
use super::stage::{Change, Incidents};
use super::who::Role;
use crate::config::Id;
use crate::config::site::Language;
use crate::store::{StoreError, Tx};
use jiff::Timestamp;

/// Who is told what.
pub(super) struct Telling {
    /// To everybody who was told already.
    pub news: Option<News>,
    /// Whom the escalation calls, as they are called.
    pub called: Vec<(Id, Role)>,
    /// The position of the step that calls them.
    pub step: Option<usize>,
    /// Everybody who was told is reminded.
    pub is_reminder: bool,
}

impl Telling {
    /// What `events` call for; `None`: nobody is told of anything.
    pub fn of(events: &[Event], incident: &Incident, settings: &Settings, now: Timestamp) -> Option<Telling> {
        let mut telling = Telling { news: None, called: Vec::new(), step: None, is_reminder: false };
        for event in events {
            match event {
                Event::Mail(news) => telling.news = Some(*news),
                Event::Raised(Raised::Again) => telling.is_reminder = true,
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
        let is_told = telling.news.is_some() || telling.is_reminder || !telling.called.is_empty();
        is_told.then_some(telling)
    }
}

impl Incidents {
    /// Writes one round of mails; returns what the timeline says of it.
    pub(super) async fn tell(
        &self,
        tx: &mut Tx,
        settings: &Settings,
        open: &mut Open,
        telling: &Telling,
        now: Timestamp,
        change: &mut Change,
    ) -> Result<Vec<Entry>, StoreError> {
        let language = settings.desk.site.language;
        if open.incident.subject.is_empty() {
            open.incident.subject = subject(&open.incident, language);
        }
        let mut evidence = settings.evidence_lines(&open.incident).await;
        if let Some(excuser) = self.excuser.as_ref().filter(|_| telling.news != Some(News::Resolved)) {
            evidence.affected = excuser.affected(&open.incident, now);
        }
        let is_called = |person: &str| telling.called.iter().any(|(id, _)| id.as_str() == person);
        let to_all = telling.news.is_some() || telling.is_reminder;
        let told: Vec<_> = open.told.iter().filter(|told| to_all || is_called(&told.person)).cloned().collect();
        let news = telling.news.unwrap_or(News::Broken);
        if telling.news.is_none() {
            // A round that only calls or reminds has a number of its own: mails are told apart by it.
            open.incident.mails += 1;
        }
        let round = settings.desk.compose(&open.incident, news, &told, &telling.called, &evidence, now);
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
            rows::write_told(tx, open.incident.id, told, now).await?;
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
        self.outbox.enqueue(tx, &round.mails, now).await?;
        change.has_mails |= !round.mails.is_empty();
        open.told.extend(round.newly_told);
        Ok(entries)
    }
}

pub(super) fn no_one(language: Language) -> &'static str {
    match language {
        Language::Vi => "chưa có người chịu trách nhiệm",
        Language::En => "no one responsible",
    }
}
