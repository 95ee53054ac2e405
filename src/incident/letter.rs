//! The mails about an incident: who gets one, in which thread, and what it says.

use super::address::Severity;
use super::life::{Incident, Member, News};
use super::who::{self, Role};
use super::words;
use crate::alert::Alert;
use crate::attribution::SubjectKind;
use crate::config::site::{Language, Site};
use crate::config::{Config, Id};
use crate::format;
use crate::mail::message::{self, one_line, shorten};
use crate::mail::templates::{self, IncidentView, RowView};
use crate::mail::{Draft, Letter, Outgoing};
use crate::org::Org;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use lettre::message::Mailbox;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Alerts a mail lists.
const ROWS: usize = 20;
/// Characters of a subject without its mark: with it about 60.
const SUBJECT: usize = 46;
/// Characters of a line that comes from an alert.
const LINE: usize = 300;
/// Characters of a description.
const DESCRIPTION: usize = 2_000;

/// Adds to a mail what is known elsewhere about its alerts, e.g. the dossiers of payment mismatches. Asked while a
/// transaction is open: an implementation reads through `Store::reader` and never begins one. Dossier codes only, no
/// personal data.
pub trait Evidence: Send + Sync {
    fn lines<'a>(&'a self, alerts: &'a [Alert], language: Language) -> BoxFuture<'a, Vec<String>>;
}

/// Knows nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoEvidence;

impl Evidence for NoEvidence {
    fn lines<'a>(&'a self, _: &'a [Alert], _: Language) -> BoxFuture<'a, Vec<String>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// What all mails have in common.
#[derive(Clone)]
pub(super) struct Desk {
    pub org: Arc<Org>,
    pub site: Site,
    /// `None`: no mail is configured.
    pub from: Option<Mailbox>,
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

/// What is known beside the alerts: lines of evidence by language, and what else is down because of this.
#[derive(Debug, Default)]
pub(super) struct EvidenceLines {
    pub vi: Vec<String>,
    pub en: Vec<String>,
    pub affected: BTreeMap<SubjectKind, usize>,
}

struct Recipient {
    told: Told,
    role: Option<Role>,
    is_new: bool,
}

impl Desk {
    pub fn new(config: &Config, org: Arc<Org>) -> Desk {
        Desk { org, site: config.site.clone(), from: config.email.as_ref().map(|email| email.from.clone()) }
    }

    /// Writes the mails about `incident` as it stands after the step that asked for them.
    pub fn compose(
        &self,
        incident: &Incident,
        news: News,
        told: &[Told],
        to: &[(Id, Role)],
        evidence: &EvidenceLines,
        now: Timestamp,
    ) -> Round {
        let who = who::addressees(&self.org, &incident.agency, incident.area, incident.severity, now);
        let mut round = Round { is_nobodys: who.is_nobodys, ..Round::default() };
        let Some(from) = &self.from else { return round };
        let recipients = self.recipients(incident, told, to, from);
        for recipient in &recipients {
            let view = self.view(incident, news, &who, &recipients, recipient.told.language, evidence, now);
            match self.mail(incident, news, recipient, &view, from, now) {
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
    fn recipients(&self, incident: &Incident, told: &[Told], to: &[(Id, Role)], from: &Mailbox) -> Vec<Recipient> {
        let role_of = |person: &str| to.iter().find(|(id, _)| id.as_str() == person).map(|(_, role)| *role);
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
                Recipient { told, role, is_new: false }
            })
            .collect();
        for (id, role) in to {
            if told.iter().any(|told| told.person == id.as_str()) {
                continue;
            }
            let Some(person) = self.org.person(id) else { continue };
            let language = person.language.unwrap_or(self.site.language);
            let opened = incident.opened.as_microsecond();
            let local = format!("incident-{}.{opened:x}.{}.{id}", incident.id, incident.mails);
            let told = Told {
                person: id.to_string(),
                name: person.name.clone(),
                address: person.email.to_string(),
                language,
                subject: subject(incident, language),
                message_id: message::message_id(&local, from),
            };
            recipients.push(Recipient { told, role: Some(*role), is_new: true });
        }
        recipients
    }

    fn mail(
        &self,
        incident: &Incident,
        news: News,
        recipient: &Recipient,
        view: &IncidentView,
        from: &Mailbox,
        now: Timestamp,
    ) -> Result<Outgoing, String> {
        let told = &recipient.told;
        let (text, html) = templates::incident(view, told.language).map_err(|error| error.to_string())?;
        let mark = words::mark(news == News::Resolved, incident.severity, told.language);
        let re = if recipient.is_new { "" } else { "Re: " };
        let letter = Letter { subject: format!("{re}{mark} {}", told.subject), text, html };
        let opened = incident.opened.as_microsecond();
        let local = format!("incident-{}.{opened:x}.{}.{}", incident.id, incident.mails, told.person);
        let address = told.address.parse().map_err(|_| format!("the address of {} cannot be read", told.person))?;
        let draft = Draft {
            letter: &letter,
            from,
            name: &told.name,
            address: &address,
            message_id: &message::message_id(&local, from),
            in_reply_to: (!recipient.is_new).then_some(told.message_id.as_str()),
            list: "incidents",
            date: now,
        };
        let thread = format!("incident-{}.{}", incident.id, told.person);
        message::outgoing(&draft, thread, &told.person).map_err(|error| error.to_string())
    }

    #[expect(clippy::too_many_arguments, reason = "a mail says all of this")]
    fn view(
        &self,
        incident: &Incident,
        news: News,
        who: &who::Addressees,
        recipients: &[Recipient],
        language: Language,
        evidence: &EvidenceLines,
        now: Timestamp,
    ) -> IncidentView {
        let date = |time| format::date_time(time, &self.site.timezone);
        let name = |id: &str| self.org.person(id).map_or_else(|| id.to_string(), |person| person.name.clone());
        let agency_name = |id: &str| self.org.agency(id).map_or_else(|| id.to_string(), |agency| agency.name.clone());
        let members = worst_first(incident, news == News::Resolved);
        let firing = members.iter().filter(|member| member.resolved.is_none()).count();
        let n_named = members.iter().filter(|m| m.resolved.is_none() && !m.is_quiet()).count();
        let first = members.first().map(|member| &member.alert);
        let relevant = |member: &&&Member| news == News::Resolved || member.resolved.is_none();
        let since = members.iter().filter(relevant).map(|m| m.alert.starts_at).min().unwrap_or(incident.opened);
        let until = incident.resolved.unwrap_or(now);
        let (told, lines) = (told_names(recipients, language), evidence.of(language));
        IncidentView {
            news: match news {
                News::Broken => "broken",
                News::Changed => "changed",
                News::Resolved => "resolved",
            },
            headline: first.map_or_else(String::new, |alert| summary(alert, language)),
            others: others(news, if news == News::Broken { n_named } else { firing }, members.len(), language),
            description: first
                .map(|alert| shorten(annotation(alert, "description", language), DESCRIPTION))
                .unwrap_or_default(),
            since: date(since),
            // It may be over for its readers while something excused, of which they were not told, still fires.
            until: if news == News::Resolved { date(until) } else { String::new() },
            lasted: format::duration(between(since, until), language),
            severity: words::severity(incident.severity, language).into(),
            is_critical: incident.severity == Severity::Critical,
            agency: agency_name(&incident.agency),
            area: words::area(incident.area, language).into(),
            leader: who.leader.as_ref().map(|id| name(id)).unwrap_or_default(),
            superior: who
                .superior
                .as_ref()
                .map(|(agency, id)| format!("{} ({})", name(id), agency_name(agency)))
                .unwrap_or_default(),
            is_nobodys: who.is_nobodys,
            told,
            rows: if members.len() > 1 {
                members.iter().take(ROWS).map(|member| row(member, date, language, now)).collect()
            } else {
                Vec::new()
            },
            more: more(members.len().saturating_sub(ROWS), language),
            evidence: lines,
            affected: evidence
                .affected
                .iter()
                .map(|(kind, count)| words::counted(*count, *kind, language))
                .collect::<Vec<_>>()
                .join(", "),
            runbook: first
                .map(|alert| runbook(annotation(alert, "runbook", language), &self.site.external_url))
                .unwrap_or_default(),
            url: format!("{}/incidents/{}", self.site.external_url, incident.id),
            site: self.site.name.clone(),
        }
    }
}

impl EvidenceLines {
    fn of(&self, language: Language) -> Vec<String> {
        let lines = if language == Language::Vi { &self.vi } else { &self.en };
        lines.iter().map(|line| shorten(&one_line(line), LINE)).collect()
    }
}

/// In one line what the incident is about.
pub(super) fn subject(incident: &Incident, language: Language) -> String {
    let members = worst_first(incident, false);
    let Some(first) = members.first() else { return String::new() };
    let firing = members.iter().filter(|member| member.resolved.is_none() && !member.is_quiet()).count();
    let others = if firing > 1 { format!(" (+{})", firing - 1) } else { String::new() };
    format!("{}{others}", shorten(&summary(&first.alert, language), SUBJECT - others.len()))
}

/// What the mail is about first (what fires and is not excused; at the end, what ended), then the worst, then the oldest.
fn worst_first(incident: &Incident, is_over: bool) -> Vec<&Member> {
    let rank = |member: &Member| match (member.resolved, member.is_quiet()) {
        (None, false) => 0,
        (None, true) => 2,
        (Some(_), _) => u8::from(!is_over),
    };
    let mut members: Vec<&Member> = incident.members.values().collect();
    members.sort_by_key(|m| (rank(m), std::cmp::Reverse(m.severity), m.alert.starts_at));
    members
}

pub(super) fn summary(alert: &Alert, language: Language) -> String {
    let given = one_line(annotation(alert, "summary", language));
    if !given.is_empty() {
        return shorten(&given, LINE);
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
    let get = |name: &str| alert.annotations.get(name).map(String::as_str).filter(|text| !text.trim().is_empty());
    let english = format!("{name}_en");
    let (first, second) = match language {
        Language::Vi => (name, english.as_str()),
        Language::En => (english.as_str(), name),
    };
    let url = format!("{name}_url");
    get(first).or_else(|| get(second)).or_else(|| get(&url)).unwrap_or("")
}

/// Where the instructions are. The shipped rules give a path of this site, which a mail must name in full; anything that
/// is neither such a path nor an address stays as it is and is shown as text.
fn runbook(given: &str, external_url: &str) -> String {
    let given = one_line(given);
    // `//host` and, to some readers, `/\host` lead to another host.
    if given.starts_with('/') && !given.starts_with("//") && !given.contains('\\') {
        return format!("{}{given}", external_url.trim_end_matches('/'));
    }
    given
}

fn row(member: &Member, date: impl Fn(Timestamp) -> String, language: Language, now: Timestamp) -> RowView {
    let until = member.resolved.unwrap_or(now);
    let lasted = format::duration(between(member.alert.starts_at, until), language);
    let state = words::state(member.resolved.is_some(), language);
    let why = member.excused.as_ref().filter(|_| member.resolved.is_none());
    let why = why.map(|excused| format!("; {}", shorten(&one_line(&words::excused(excused, language)), LINE)));
    RowView {
        what: summary(&member.alert, language),
        since: date(member.alert.starts_at),
        state: format!("{state} ({lasted}){}", why.unwrap_or_default()),
    }
}

fn told_names(recipients: &[Recipient], language: Language) -> Vec<String> {
    let role = |role| match (role, language) {
        (Role::Duty, Language::Vi) => "cán bộ trực",
        (Role::Duty, Language::En) => "duty officer",
        (Role::Leader, Language::Vi) => "lãnh đạo phụ trách",
        (Role::Leader, Language::En) => "responsible leader",
        (Role::Superior, Language::Vi) => "cấp trên",
        (Role::Superior, Language::En) => "superior",
        (Role::Site, Language::Vi) => "đơn vị vận hành",
        (Role::Site, Language::En) => "operating agency",
        (Role::Deputy, Language::Vi) => "cấp phó",
        (Role::Deputy, Language::En) => "deputy",
        (Role::Named, Language::Vi) => "được chỉ định",
        (Role::Named, Language::En) => "named by the policy",
    };
    recipients
        .iter()
        .map(|recipient| match recipient.role {
            Some(known) => format!("{} ({})", recipient.told.name, role(known)),
            None => recipient.told.name.clone(),
        })
        .collect()
}

fn others(news: News, firing: usize, all: usize, language: Language) -> String {
    match (news, language) {
        (News::Broken, _) if firing < 2 => String::new(),
        (News::Broken, Language::Vi) => format!("và {} cảnh báo khác", firing - 1),
        (News::Broken, Language::En) => format!("and {} more", firing - 1),
        (News::Changed, Language::Vi) => {
            format!("Cập nhật: {firing} cảnh báo đang xảy ra, {} đã khắc phục", all - firing)
        }
        (News::Changed, Language::En) => format!("Update: {firing} firing, {} resolved", all - firing),
        (News::Resolved, _) if all - firing < 2 => String::new(),
        // What still fires is excused, and its readers were never told of it.
        (News::Resolved, Language::Vi) if firing > 0 => format!("{} cảnh báo đã kết thúc", all - firing),
        (News::Resolved, Language::En) if firing > 0 => format!("{} alerts have ended", all - firing),
        (News::Resolved, Language::Vi) => format!("Tất cả {all} cảnh báo đã kết thúc"),
        (News::Resolved, Language::En) => format!("All {all} alerts have ended"),
    }
}

fn more(left_out: usize, language: Language) -> String {
    match (left_out, language) {
        (0, _) => String::new(),
        (n, Language::Vi) => format!("và {} nữa", format::integer(i64::try_from(n).unwrap_or(i64::MAX), language)),
        (n, Language::En) => format!("and {} more", format::integer(i64::try_from(n).unwrap_or(i64::MAX), language)),
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_of_this_site_is_completed_in_a_runbook() {
        let rows = [
            ("/runbooks/service-down", "https://ioc.example/runbooks/service-down"),
            (" /runbooks/service-down\n", "https://ioc.example/runbooks/service-down"),
            ("https://wiki.example/a", "https://wiki.example/a"),
            ("http://wiki.example/a", "http://wiki.example/a"),
            ("//elsewhere.example/a", "//elsewhere.example/a"),
            ("/\\elsewhere.example/a", "/\\elsewhere.example/a"),
            ("javascript:alert(1)", "javascript:alert(1)"),
            ("gọi 0235", "gọi 0235"),
            ("", ""),
        ];
        for (given, expected) in rows {
            assert_eq!(runbook(given, "https://ioc.example"), expected, "{given:?}");
            assert_eq!(runbook(given, "https://ioc.example/"), expected, "{given:?} with a slash");
        }
    }
}
