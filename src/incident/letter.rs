//! The mails about an incident: in which thread, and what is in them. Who gets one is the caller's to say.
//!
//! Here a round of mails is put together; `view` chooses what a mail says, `phrases` the words of it, `table` makes the
//! attached list. What it looks like stands in the templates of `mail`.

mod extra;
mod handover;
mod headline;
mod phrases;
mod readable;
mod table;
mod view;

use super::address::Severity;
use super::curve::Curve;
use super::life::{Incident, Member, News};
use super::names::Names;
use super::who::{self, Role};
use super::words;
use crate::alert::Alert;
use crate::attribution::SubjectKind;
use crate::config::site::{Language, Site};
use crate::config::{Config, Id};
use crate::mail::message::{self, Part, Parts, one_line, shorten};
use crate::mail::templates::Templates;
use crate::mail::{About, Brief, Draft, Letter, Outgoing};
use crate::org::Org;
use extra::Kind;
pub(super) use extra::{AckUrl, Acknowledged, Extra};
use futures_util::future::BoxFuture;
pub use handover::subject as handover_subject;
use jiff::Timestamp;
use lettre::message::Mailbox;
use readable::readable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Characters of a subject without what stands before it: "Re: [Nghiêm trọng] " makes it 60.
const SUBJECT: usize = 41;
/// Characters of a line that comes from an alert.
const LINE: usize = 300;

/// Adds to a mail what is known elsewhere about its alerts, e.g. the dossiers of payment mismatches. Asked while a
/// transaction is open: an implementation reads through `Store::reader` and never begins one. Dossier codes only, no
/// personal data.
pub trait Evidence: Send + Sync {
    /// What is known about those of `alerts` that fire, as of `now`.
    fn of<'a>(&'a self, alerts: &'a [Alert], language: Language, now: Timestamp) -> BoxFuture<'a, Exhibits>;

    /// The course of the value that an alert is about, until `now`; `None` if it is not known.
    fn curve<'a>(&'a self, _alert: &'a Alert, _now: Timestamp) -> BoxFuture<'a, Option<Curve>> {
        Box::pin(std::future::ready(None))
    }
}

/// What is known about some alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exhibits {
    /// For the mail itself.
    pub lines: Vec<String>,
    /// The whole list, attached as a CSV file: its name (ASCII, without the ending) and its rows, the header first.
    pub table: Option<(String, Vec<Vec<String>>)>,
}

/// Knows nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoEvidence;

impl Evidence for NoEvidence {
    fn of<'a>(&'a self, _: &'a [Alert], _: Language, _: Timestamp) -> BoxFuture<'a, Exhibits> {
        Box::pin(std::future::ready(Exhibits::default()))
    }
}

/// What all mails have in common.
#[derive(Clone)]
pub(super) struct Desk {
    pub org: Arc<Org>,
    pub site: Site,
    /// `None`: no mail is configured.
    pub from: Option<Mailbox>,
    names: Arc<Names>,
    templates: Arc<Templates>,
}

/// Somebody who was told that it broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub person: String,
    pub name: String,
    pub address: String,
    pub language: Language,
    /// Of the first mail, without its mark.
    pub subject: String,
    /// Of the first mail.
    pub message_id: String,
}

/// The mails of one round.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub mails: Vec<Outgoing>,
    /// Who is told for the first time.
    pub newly_told: Vec<Told>,
    pub is_nobodys: bool,
    /// Mails that could not be made, as text: a mistake in the program or an address.
    pub failures: Vec<String>,
}

/// What is known beside the alerts: lines of evidence by language, what else is down because of this, and the course of
/// the value that the first alert is about.
#[derive(Debug, Default)]
pub(super) struct EvidenceLines {
    pub vi: Exhibits,
    pub en: Exhibits,
    pub affected: BTreeMap<SubjectKind, usize>,
    /// With its picture.
    pub curve: Option<(Curve, Vec<u8>)>,
}

struct Recipient {
    told: Told,
    role: Option<Role>,
    is_new: bool,
    /// Called in this round, whether or not told before.
    is_called: bool,
}

/// What one mail is about, for the functions that write it.
struct Occasion<'a> {
    incident: &'a Incident,
    kind: Kind,
    who: &'a who::Addressees,
    recipients: &'a [Recipient],
    recipient: &'a Recipient,
    evidence: &'a EvidenceLines,
    extra: &'a Extra,
    now: Timestamp,
}

impl Desk {
    pub fn new(config: &Config, org: Arc<Org>) -> Desk {
        Desk {
            org,
            site: config.site.clone(),
            from: config.email.as_ref().map(|email| email.from.clone()),
            names: Arc::new(Names::new(config)),
            templates: Arc::new(Templates::of(config)),
        }
    }

    /// Writes the mails about `incident` as it stands after the step that asked for them: to those of `told`, and to
    /// whoever else is called now. Each round needs a number (`incident.mails`) of its own: Message-IDs are made of it.
    #[expect(clippy::too_many_arguments, reason = "a mail says all of this")]
    pub fn compose(
        &self,
        incident: &Incident,
        news: News,
        told: &[Told],
        to: &[(Id, Role)],
        evidence: &EvidenceLines,
        extra: &Extra,
        now: Timestamp,
    ) -> Round {
        let who = who::addressees(&self.org, &incident.agency, incident.area, incident.severity, now);
        let mut round = Round { is_nobodys: who.is_nobodys, ..Round::default() };
        let Some(from) = &self.from else { return round };
        let recipients = self.recipients(incident, told, to, &who, from);
        for recipient in &recipients {
            let kind = Kind::of(news, extra, recipient.is_called, recipient.is_new);
            let occasion =
                Occasion { incident, kind, who: &who, recipients: &recipients, recipient, evidence, extra, now };
            match self.mail(&occasion, from) {
                Ok(mail) => {
                    round.mails.push(mail);
                    if recipient.is_new {
                        round.newly_told.push(recipient.told.clone());
                    }
                }
                Err(error) => round.failures.push(error),
            }
        }
        round
    }

    /// Those of `told`, and whoever else is called now.
    fn recipients(
        &self,
        incident: &Incident,
        told: &[Told],
        to: &[(Id, Role)],
        who: &who::Addressees,
        from: &Mailbox,
    ) -> Vec<Recipient> {
        let role_of = |person: &str| {
            let known = to.iter().chain(&who.to).find(|(id, _)| id.as_str() == person);
            known.map(|(_, role)| *role)
        };
        let mut recipients: Vec<Recipient> = told
            .iter()
            .map(|told| {
                let mut told = told.clone();
                // A person whose address changed is told at the new one; one who left, at the old one.
                if let Some(person) = self.org.person(&told.person) {
                    told.address = person.email.to_string();
                    told.name.clone_from(&person.name);
                }
                let role = role_of(&told.person);
                let is_called = to.iter().any(|(id, _)| id.as_str() == told.person);
                Recipient { told, role, is_new: false, is_called }
            })
            .collect();
        for (id, role) in to {
            if told.iter().any(|told| told.person == id.as_str()) {
                continue;
            }
            let Some(told) = self.newly_told(incident, id, from) else { continue };
            recipients.push(Recipient { told, role: Some(*role), is_new: true, is_called: true });
        }
        recipients
    }

    /// Somebody who is told for the first time, by the mail of this round.
    pub(super) fn newly_told(&self, incident: &Incident, id: &Id, from: &Mailbox) -> Option<Told> {
        let person = self.org.person(id)?;
        let language = person.language.unwrap_or(self.site.language);
        Some(Told {
            person: id.to_string(),
            name: person.name.clone(),
            address: person.email.to_string(),
            language,
            subject: self.subject(incident, language),
            message_id: message_id(incident, id, from),
        })
    }

    fn mail(&self, occasion: &Occasion<'_>, from: &Mailbox) -> Result<Outgoing, String> {
        let Occasion { incident, recipient, now, kind, .. } = *occasion;
        let told = &recipient.told;
        let mut parts = Parts { is_urgent: is_urgent(incident, kind), ..Parts::default() };
        let view = self.view(occasion, &mut parts);
        let (text, html) = self.templates.incident(&view, told.language).map_err(|error| error.to_string())?;
        let mark = words::mark(kind == Kind::Resolved, incident.severity, told.language);
        let re = if recipient.is_new { "" } else { "Re: " };
        let letter = Letter { subject: format!("{re}{mark} {}", told.subject), text, html };
        let brief = self.brief(occasion, &letter.subject);
        let address = told.address.parse().map_err(|_| format!("the address of {} cannot be read", told.person))?;
        let draft = Draft {
            letter: &letter,
            from,
            name: &told.name,
            address: &address,
            message_id: &message_id(incident, &told.person, from),
            in_reply_to: (!recipient.is_new).then_some(told.message_id.as_str()),
            list: "incidents",
            date: now,
        };
        let thread = format!("incident-{}.{}", incident.id, told.person);
        let mail = message::outgoing_with(&draft, thread, &told.person, parts).map_err(|error| error.to_string())?;
        Ok(Outgoing {
            about: About { agency: incident.agency.clone(), incident: Some(incident.id) },
            brief: Some(brief),
            ..mail
        })
    }

    /// What a summary says of a mail, and whether its reader wants that in the digest.
    fn brief(&self, occasion: &Occasion<'_>, subject: &str) -> Brief {
        let Occasion { incident, recipient, now, kind, .. } = *occasion;
        let digest = self.org.person(&recipient.told.person).and_then(|person| person.digest);
        let digest = digest.filter(|_| incident.severity < Severity::Critical);
        Brief {
            name: recipient.told.name.clone(),
            language: recipient.told.language,
            subject: subject.trim_start_matches("Re: ").to_owned(),
            url: format!("{}/incidents/{}", self.site.external_url, incident.id),
            is_urgent: is_urgent(incident, kind),
            digest: digest.map(|time| self.org.next_working_day_at(time, now)),
        }
    }

    /// In one line what the incident is about, with names.
    pub fn headline(&self, incident: &Incident, language: Language) -> String {
        subject_of(incident, LINE, |alert, room| shorten(&self.summary(alert, language), room))
    }

    /// Gives the incident its headline, in the site's language and in English.
    pub fn entitle(&self, incident: &mut Incident) {
        incident.subject = self.headline(incident, self.site.language);
        incident.subject_en = self.headline(incident, Language::En);
    }

    /// The same, as long as a mail's subject may be.
    fn subject(&self, incident: &Incident, language: Language) -> String {
        subject_of(incident, SUBJECT, |alert, room| {
            let line = self.summary(alert, language);
            let called = |label| self.names.called(label, alert.label(label));
            let agency = called("agency").unwrap_or_else(|| alert.label("agency"));
            let names = ["service", "dependency"].map(called);
            headline::fit(&line, alert, agency, &names.into_iter().flatten().collect::<Vec<_>>(), room)
        })
    }

    /// What an alert says of itself, with names.
    pub(super) fn summary(&self, alert: &Alert, language: Language) -> String {
        shorten(&self.names.put_into(&summary(alert, language), |label| alert.label(label)), LINE)
    }
}

/// The same mail made again has the same.
fn message_id(incident: &Incident, person: &str, from: &Mailbox) -> String {
    let opened = incident.opened.as_microsecond();
    message::message_id(&format!("incident-{}.{opened:x}.{}.{person}", incident.id, incident.mails), from)
}

/// Whether the inbox is to show it as important.
fn is_urgent(incident: &Incident, kind: Kind) -> bool {
    incident.severity == Severity::Critical && !matches!(kind, Kind::Resolved | Kind::Acknowledged)
}

impl EvidenceLines {
    fn exhibits(&self, language: Language) -> &Exhibits {
        if language == Language::Vi { &self.vi } else { &self.en }
    }

    fn of(&self, language: Language) -> Vec<String> {
        self.exhibits(language).lines.iter().map(|line| shorten(&one_line(line), LINE)).collect()
    }
}

fn subject_of(incident: &Incident, room: usize, summary: impl Fn(&Alert, usize) -> String) -> String {
    let members = worst_first(incident, false);
    let Some(first) = members.first() else { return String::new() };
    let firing = members.iter().filter(|member| member.resolved.is_none() && !member.is_quiet()).count();
    let others = if firing > 1 { format!(" (+{})", firing - 1) } else { String::new() };
    format!("{}{others}", summary(&first.alert, room - others.len()))
}

/// The alert that the headline is about.
pub(super) fn first_alert(incident: &Incident) -> Option<&Alert> {
    worst_first(incident, incident.resolved.is_some()).first().map(|member| &member.alert)
}

/// What the mail is about first (what fires and is not excused; at the end, what ended), then the worst, then the oldest.
fn worst_first(incident: &Incident, is_over: bool) -> Vec<&Member> {
    let rank = |member: &Member| match (member.resolved, member.is_quiet()) {
        (None, false) => 0,
        (None, true) => 2,
        (Some(_), _) => u8::from(!is_over),
    };
    let mut members: Vec<&Member> = incident.members.values().map(|member| &**member).collect();
    members.sort_by_key(|m| (rank(m), std::cmp::Reverse(m.severity), m.alert.starts_at));
    members
}

pub(super) fn summary(alert: &Alert, language: Language) -> String {
    let given = one_line(annotation(alert, "summary", language));
    if !given.is_empty() {
        return shorten(&readable(&given, language), LINE);
    }
    // An alert from elsewhere: its name and what it is about.
    let about = ["service", "device", "site", "app", "instance", "job"].iter().map(|label| alert.label(label));
    let about: Vec<&str> = about.filter(|value| !value.is_empty()).take(1).collect();
    let name = match alert.label("alertname") {
        "" => "?",
        name => name,
    };
    shorten(&one_line(&std::iter::once(name).chain(about).collect::<Vec<_>>().join(": ")), LINE)
}

/// An annotation in the language, else in the other one.
fn annotation<'a>(alert: &'a Alert, name: &str, language: Language) -> &'a str {
    let get = |name: &str| alert.annotations.get(name).filter(|text| !text.trim().is_empty());
    let english = format!("{name}_en");
    let (first, second) = match language {
        Language::Vi => (name, english.as_str()),
        Language::En => (english.as_str(), name),
    };
    let url = format!("{name}_url");
    get(first).or_else(|| get(second)).or_else(|| get(&url)).unwrap_or("")
}
