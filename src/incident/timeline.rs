//! What the timeline says of an event, for people, in the site's language.

use super::escalation::Raised;
use super::life::{Event, Incident};
use super::rows::Entry;
use super::settings::Settings;
use super::words;
use crate::config::site::Language::{En, Vi};
use crate::format;
use jiff::Timestamp;

/// The line about one event; `None` for those that others tell: a mail has a line for each of its readers.
pub(super) fn entry(event: &Event, incident: &Incident, settings: &Settings, now: Timestamp) -> Option<Entry> {
    let language = settings.desk.site.language;
    let detail = |fingerprint: &str| {
        let member = incident.members.get(fingerprint);
        member.map(|member| settings.desk.summary(&member.alert, language)).unwrap_or_default()
    };
    let mut who = String::new();
    let (event, detail) = match event {
        Event::Opened => ("opened", String::new()),
        Event::Fired(fingerprint) => ("fired", detail(fingerprint)),
        Event::Ended(fingerprint) => ("ended", detail(fingerprint)),
        Event::Excused(fingerprint) => {
            let excused = incident.members.get(&**fingerprint).and_then(|member| member.excused.as_ref());
            let why = excused.map(|excused| words::excused(excused, language)).unwrap_or_default();
            ("excused", format!("{}: {why}", detail(fingerprint)))
        }
        Event::ExcuseEnded(fingerprint) => ("excuse_ended", detail(fingerprint)),
        Event::Reopened => ("reopened", String::new()),
        Event::Resolved => ("resolved", String::new()),
        Event::Closed => ("closed", String::new()),
        Event::Acknowledged { person, until, .. } => {
            who.clone_from(person);
            let until = until.map(|until| format::date_time(until, &settings.desk.site.timezone));
            let detail = match (until, language) {
                (Some(until), Vi) => format!("đến {until}"),
                (Some(until), En) => format!("until {until}"),
                (None, Vi) => "còn chờ người khác xác nhận".into(),
                (None, En) => "others have to acknowledge too".into(),
            };
            ("acknowledged", detail)
        }
        Event::Dismissed { person, reason } => {
            who.clone_from(person);
            ("dismissed", reason.clone())
        }
        Event::Undeliverable { person, reason } => {
            who.clone_from(person);
            ("undeliverable", reason.clone())
        }
        Event::Worsened => ("worsened", words::severity(incident.severity, language).into()),
        Event::Raised(Raised::Step(index)) => ("escalated", step(*index, language)),
        Event::Raised(Raised::Empty(index)) => ("skipped", step(*index, language)),
        Event::Raised(Raised::Fallback) => ("nobody", super::tell::no_one(language).into()),
        Event::Raised(Raised::Again) => ("reminded", String::new()),
        Event::Raised(Raised::Expired) => ("ack_expired", String::new()),
        Event::Mail(_) => return None,
    };
    Some(Entry { at: now, event: event.into(), person: who, detail })
}

fn step(index: usize, language: crate::config::site::Language) -> String {
    match language {
        Vi => format!("bậc {}", index + 1),
        En => format!("step {}", index + 1),
    }
}
