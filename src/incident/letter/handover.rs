//! The mails when duty changes hands: one to who comes on, one to who goes off.

use super::{Desk, LINE};
use crate::config::site::Language::{self, En, Vi};
use crate::format;
use crate::incident::handover::Handover;
use crate::incident::life::Incident;
use crate::incident::link::Links;
use crate::incident::words;
use crate::mail::message::{self, one_line, shorten};
use crate::mail::templates::{HandoverRow, HandoverView};
use crate::mail::{About, Draft, Letter, Outgoing};
use jiff::Timestamp;
use lettre::message::Mailbox;

/// Characters of a subject.
const SUBJECT: usize = 60;
/// Incidents that the mail lists; the page has all.
const ROWS: usize = 20;

impl Desk {
    /// The mails of one handover; none if no mail is configured. An error is a text for the log.
    pub(in crate::incident) fn handover(
        &self,
        handover: &Handover<'_>,
        links: &Links,
        now: Timestamp,
    ) -> Vec<Result<Outgoing, String>> {
        let Some(from) = &self.from else { return Vec::new() };
        let on = handover.on.as_ref().map(|id| (id.to_string(), true));
        let off = handover.off.clone().map(|id| (id, false));
        let readers = on.into_iter().chain(off);
        // Who left the configuration has no address any more.
        let known = readers.filter(|(id, _)| self.org.person(id).is_some());
        known.map(|(id, comes_on)| self.handover_mail(handover, &id, comes_on, links, from, now)).collect()
    }

    fn handover_mail(
        &self,
        handover: &Handover<'_>,
        reader: &str,
        comes_on: bool,
        links: &Links,
        from: &Mailbox,
        now: Timestamp,
    ) -> Result<Outgoing, String> {
        let person = self.org.person(reader).ok_or_else(|| format!("{reader} is not in the configuration"))?;
        let language = person.language.unwrap_or(self.site.language);
        let view = self.handover_view(handover, reader, comes_on, links, language, now);
        let (text, html) = self.templates.handover(&view, language).map_err(|error| error.to_string())?;
        let letter = Letter { subject: subject(&view, language), text, html };
        let (agency, since) = (&handover.agency.id, handover.shift.from.unwrap_or(now).as_second());
        let role = if comes_on { "on" } else { "off" };
        let id = format!("duty-{agency}.{since:x}.{:x}.{role}.{reader}", now.as_microsecond());
        let draft = Draft {
            letter: &letter,
            from,
            name: &person.name,
            address: &person.email,
            message_id: &message::message_id(&id, from),
            in_reply_to: None,
            list: "duty",
            date: now,
        };
        let mail = message::outgoing(&draft, format!("duty-{agency}.{reader}"), reader);
        let mail = mail.map_err(|error| error.to_string())?;
        Ok(Outgoing { about: About { agency: agency.to_string(), incident: None }, ..mail })
    }

    fn handover_view(
        &self,
        handover: &Handover<'_>,
        reader: &str,
        comes_on: bool,
        links: &Links,
        language: Language,
        now: Timestamp,
    ) -> HandoverView {
        let date = |at| format::date_time(at, &self.site.timezone);
        let name =
            |id: &str| one_line(&self.org.person(id).map_or_else(|| id.to_owned(), |person| person.name.clone()));
        let other = if comes_on { handover.off.clone() } else { handover.on.as_ref().map(ToString::to_string) };
        let shown = handover.incidents.iter().take(ROWS);
        let left_out = handover.incidents.len().saturating_sub(ROWS);
        HandoverView {
            comes_on,
            agency: one_line(&handover.agency.name),
            other: other.map(|id| name(&id)).unwrap_or_default(),
            from: handover.shift.from.map(date).unwrap_or_default(),
            until: handover.shift.to.map(date).unwrap_or_default(),
            count: handover.incidents.len(),
            unanswered: handover.incidents.iter().filter(|incident| !incident.escalation.is_held(now)).count(),
            rows: shown.map(|incident| self.handover_row(incident, reader, comes_on, links, language, now)).collect(),
            more: super::phrases::more(left_out, None, language),
            url: format!("{}/incidents", self.site.external_url.trim_end_matches('/')),
            site: self.site.name.clone(),
        }
    }

    fn handover_row(
        &self,
        incident: &Incident,
        reader: &str,
        comes_on: bool,
        links: &Links,
        language: Language,
        now: Timestamp,
    ) -> HandoverRow {
        let date = |at| format::date_time(at, &self.site.timezone);
        let is_held = incident.escalation.is_held(now);
        let answered = incident.escalation.acks.last().filter(|_| is_held).map(|ack| {
            let by = self.org.person(&ack.person).map_or(ack.person.as_str(), |person| person.name.as_str());
            let until = incident.escalation.held_until.map(date).unwrap_or_default();
            match language {
                Vi => format!("{} đã tiếp nhận, có hiệu lực đến {until}", one_line(by)),
                En => format!("acknowledged by {} until {until}", one_line(by)),
            }
        });
        let ack_url = links.of(&self.site, incident.id, now);
        HandoverRow {
            what: shorten(&self.headline(incident, language), LINE),
            severity: words::severity(incident.severity, language).into(),
            since: date(incident.opened),
            lasted: format::duration(super::view::between(incident.opened, now), language),
            answered: answered.unwrap_or_default(),
            ack_url: Some(ack_url).filter(|_| comes_on && !is_held).and_then(|url| url(reader)).unwrap_or_default(),
            url: format!("{}/incidents/{}", self.site.external_url.trim_end_matches('/'), incident.id),
        }
    }
}

/// In at most 60 characters: how many incidents are open is said in full, the agency's name gives way.
pub fn subject(view: &HandoverView, language: Language) -> String {
    let (agency, count) = (&view.agency, view.count);
    let open = match (count, language) {
        (0, Vi) => "không có sự cố".into(),
        (0, En) => "no incident is open".into(),
        (_, Vi) => format!("{count} sự cố đang mở"),
        (1, En) => "1 incident is open".into(),
        (_, En) => format!("{count} incidents are open"),
    };
    let (before, after) = match (view.comes_on, language) {
        (true, Vi) => ("[Nhận ca trực] ", format!(": {open}")),
        (true, En) => ("[Duty begins] ", format!(": {open}")),
        (false, Vi) => ("[Hết ca trực] ", format!(": {open}")),
        (false, En) => ("[Duty ends] ", format!(": {open}")),
    };
    let room = SUBJECT.saturating_sub(before.chars().count() + after.chars().count());
    format!("{before}{}{after}", shorten(agency, room))
}
