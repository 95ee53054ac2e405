//! What the mail about an incident says: from the incident to the ready texts that a template puts in order.

use super::readable::readable;
use super::{Desk, Extra, Kind, LINE, Occasion, Part, Parts, Recipient, annotation, phrases, worst_first};
use crate::config::site::Language;
use crate::format;
use crate::incident::address::Severity;
use crate::incident::life::{Incident, Member};
use crate::incident::words;
use crate::mail::message::{one_line, shorten};
use crate::mail::templates::{AcknowledgedView, IncidentView, NextView, RowView};
use jiff::Timestamp;
use std::time::Duration;

/// Alerts a mail lists; if there are more, all of them are attached.
const ROWS: usize = 20;
/// Characters of a description.
const DESCRIPTION: usize = 2_000;
/// Steps to come that a mail lists.
const NEXT: usize = 4;

impl Desk {
    /// What the mail says; what is attached to it goes into `parts`.
    pub(super) fn view(&self, occasion: &Occasion<'_>, parts: &mut Parts) -> IncidentView {
        let Occasion { incident, kind, who, recipients, recipient, evidence, extra, now } = *occasion;
        let language = recipient.told.language;
        let is_over = kind == Kind::Resolved;
        let date = |time| format::date_time(time, &self.site.timezone);
        let agency_name = |id: &str| self.org.agency(id).map_or_else(|| id.to_string(), |agency| agency.name.clone());
        let members = worst_first(incident, is_over);
        let firing = members.iter().filter(|member| member.resolved.is_none()).count();
        let n_named = members.iter().filter(|m| m.resolved.is_none() && !m.is_quiet()).count();
        let first = members.first().map(|member| &member.alert);
        let relevant = |member: &&&Member| is_over || member.resolved.is_none();
        let since = members.iter().filter(relevant).map(|m| m.alert.starts_at).min().unwrap_or(incident.opened);
        let until = incident.resolved.unwrap_or(now);
        let n_firing = if matches!(kind, Kind::Changed | Kind::Resolved) { firing } else { n_named };
        let more = self.rest(&members, incident.id, language, now, parts);
        if let Some((name, rows)) = &evidence.exhibits(language).table {
            let (name, content_type) = (format!("{name}.csv"), "text/csv; charset=utf-8");
            parts.attached.push(Part { name, content_type, bytes: format::csv(rows) });
        }
        let (curve, curve_says) = self.picture(occasion, parts);
        IncidentView {
            curve,
            curve_says,
            news: kind.as_str(),
            headline: first.map_or_else(String::new, |alert| self.summary(alert, language)),
            others: others(incident, phrases::others(kind, n_firing, members.len(), language), kind, language),
            description: first
                .map(|alert| shorten(&readable(annotation(alert, "description", language), language), DESCRIPTION))
                .unwrap_or_default(),
            since: date(since),
            // It may be over for its readers while something excused, of which they were not told, still fires.
            until: if is_over { date(until) } else { String::new() },
            lasted: format::duration(between(since, until), language),
            severity: words::severity(incident.severity, language).into(),
            is_critical: incident.severity == Severity::Critical,
            agency: agency_name(&incident.agency),
            area: words::area(incident.area, language).into(),
            leader: who.leader.as_ref().map(|id| self.name(id)).unwrap_or_default(),
            superior: who
                .superior
                .as_ref()
                .map(|(agency, id)| format!("{} ({})", self.name(id), agency_name(agency)))
                .unwrap_or_default(),
            is_nobodys: who.is_nobodys,
            told: told_names(recipients, extra, language),
            is_expired: extra.is_expired,
            is_worsened: extra.is_worsened,
            acknowledged: self.acknowledged(extra),
            next: if is_over { Vec::new() } else { self.next(extra) },
            ack_url: extra
                .ack_url
                .as_ref()
                .filter(|_| !is_over)
                .and_then(|url| url(&recipient.told.person))
                .unwrap_or_default(),
            rows: if members.len() > 1 {
                members.iter().take(ROWS).map(|member| self.row(member, language, now)).collect()
            } else {
                Vec::new()
            },
            more,
            evidence: evidence.of(language),
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

    /// Puts the picture of the value's course into the mail: its address and what it shows. Who only hears that somebody
    /// answered needs none.
    fn picture(&self, occasion: &Occasion<'_>, parts: &mut Parts) -> (String, String) {
        const NAME: &str = "curve.png";
        let wanted = occasion.evidence.curve.as_ref().filter(|_| occasion.kind != Kind::Acknowledged);
        let Some((curve, picture)) = wanted else { return (String::new(), String::new()) };
        parts.inline.push(Part { name: NAME.into(), content_type: "image/png", bytes: picture.clone() });
        (format!("cid:{NAME}"), curve.says(occasion.recipient.told.language, &self.site.timezone))
    }

    /// A person's name.
    fn name(&self, id: &str) -> String {
        self.org.person(id).map_or_else(|| id.to_string(), |person| person.name.clone())
    }

    /// Attaches the whole list if the mail does not show it, and says so.
    fn rest(
        &self,
        members: &[&Member],
        incident: i64,
        language: Language,
        now: Timestamp,
        parts: &mut Parts,
    ) -> String {
        if members.len() <= ROWS {
            return String::new();
        }
        let name = phrases::file_name(incident, language);
        let more = phrases::more(members.len() - ROWS, Some(&name), language);
        let bytes = self.table(members, language, now);
        parts.attached.push(Part { name, content_type: "text/csv; charset=utf-8", bytes });
        more
    }

    fn acknowledged(&self, extra: &Extra) -> Vec<AcknowledgedView> {
        let date = |time| format::date_time(time, &self.site.timezone);
        let all = extra.acknowledged.iter();
        all.map(|ack| AcknowledgedView {
            by: shorten(&one_line(&ack.by), LINE),
            at: date(ack.at),
            until: ack.until.map(date).unwrap_or_default(),
        })
        .collect()
    }

    fn next(&self, extra: &Extra) -> Vec<NextView> {
        let named = extra.next.iter().filter(|(_, people)| !people.is_empty()).take(NEXT);
        named
            .map(|(at, people)| NextView {
                at: format::date_time(*at, &self.site.timezone),
                who: people.iter().map(|id| self.name(id)).collect::<Vec<_>>().join(", "),
            })
            .collect()
    }

    fn row(&self, member: &Member, language: Language, now: Timestamp) -> RowView {
        let until = member.resolved.unwrap_or(now);
        let lasted = format::duration(between(member.alert.starts_at, until), language);
        let state = words::state(member.resolved.is_some(), language);
        let why = member.excused.as_ref().filter(|_| member.resolved.is_none());
        let why = why.map(|excused| format!("; {}", shorten(&one_line(&words::excused(excused, language)), LINE)));
        RowView {
            what: self.summary(&member.alert, language),
            since: format::date_time(member.alert.starts_at, &self.site.timezone),
            state: format!("{state} ({lasted}){}", why.unwrap_or_default()),
        }
    }
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

/// What stands beside the headline, and that it comes and goes.
fn others(incident: &Incident, others: String, kind: Kind, language: Language) -> String {
    if !incident.is_flapping() || matches!(kind, Kind::Acknowledged | Kind::Resolved) {
        return others;
    }
    let flapping = phrases::flapping(incident.flaps.len(), language);
    if others.is_empty() { flapping } else { format!("{others}; {flapping}") }
}

fn told_names(recipients: &[Recipient], extra: &Extra, language: Language) -> Vec<String> {
    let now = recipients.iter().map(|recipient| match recipient.role {
        Some(known) => format!("{} ({})", recipient.told.name, phrases::role(known, language)),
        None => recipient.told.name.clone(),
    });
    extra.told_before.iter().map(|name| one_line(name)).chain(now).collect()
}

pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
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
