//! What the timeline says of an event, for people, in the site's language.

use super::escalation::Raised;
use super::life::{Event, Incident};
use super::rows::Entry;
use super::settings::Settings;
use super::words;
use crate::config::site::Language::{self, En, Vi};
use crate::format;
use jiff::Timestamp;

/// Alerts of one step to which the same happened, and which have a line each; of the rest the number is told. Thousands
/// come together when a line fails, and again when they come and go: nobody reads thousands of lines, and the alerts
/// themselves have their own rows.
const SHOWN: usize = 20;

/// The lines about what happened in a step.
pub(super) fn entries(events: &[Event], incident: &Incident, settings: &Settings, now: Timestamp) -> Vec<Entry> {
    let line = |(event, rest): (&Event, Option<usize>)| {
        let entry = entry(event, incident, settings, now)?;
        let detail = rest.map(|rest| more(rest, settings.desk.site.language));
        Some(match detail {
            Some(detail) => Entry { detail, ..entry },
            None => entry,
        })
    };
    condensed(events).into_iter().filter_map(line).collect()
}

/// The events that have a line, and of how many others it tells instead.
fn condensed(events: &[Event]) -> Vec<(&Event, Option<usize>)> {
    let mut totals = [0; N_KINDS];
    events.iter().filter_map(kind).for_each(|kind| totals[kind] += 1);
    let mut counts = [0; N_KINDS];
    let shown = events.iter().filter_map(|event| {
        let Some(kind) = kind(event) else { return Some((event, None)) };
        counts[kind] += 1;
        let (count, total) = (counts[kind], totals[kind]);
        // The last one itself is as short as a line about it.
        if count <= SHOWN || total == SHOWN + 1 {
            return Some((event, None));
        }
        (count == total).then_some((event, Some(total - SHOWN)))
    });
    shown.collect()
}

/// Of what happens to single alerts.
const N_KINDS: usize = 4;

fn kind(event: &Event) -> Option<usize> {
    match event {
        Event::Fired(_) => Some(0),
        Event::Ended(_) => Some(1),
        Event::Excused(_) => Some(2),
        Event::ExcuseEnded(_) => Some(3),
        _ => None,
    }
}

fn more(count: usize, language: Language) -> String {
    let shown = format::integer(i64::try_from(count).unwrap_or(i64::MAX), language);
    match language {
        Vi => format!("và {shown} cảnh báo nữa"),
        En => format!("and {shown} more alerts"),
    }
}

/// The line about one event; `None` for those that others tell: a mail has a line for each of its readers.
fn entry(event: &Event, incident: &Incident, settings: &Settings, now: Timestamp) -> Option<Entry> {
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

fn step(index: usize, language: Language) -> String {
    match language {
        Vi => format!("bậc {}", index + 1),
        En => format!("step {}", index + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_happens_to_thousands_at_once_some_have_a_line_and_the_rest_a_number() {
        let of = |kind: fn(String) -> Event, count: usize| (0..count).map(|n| kind(n.to_string())).collect::<Vec<_>>();
        let events = [of(Event::Fired, 5_000), of(Event::Ended, SHOWN + 1), vec![Event::Reopened]].concat();
        let lines = condensed(&events);
        assert_eq!(lines.len(), SHOWN + 1 + SHOWN + 1 + 1);
        assert_eq!(lines[SHOWN - 1], (&events[SHOWN - 1], None));
        assert_eq!(lines[SHOWN], (&events[4_999], Some(5_000 - SHOWN)));
        assert!(lines[SHOWN + 1..].iter().all(|(_, rest)| rest.is_none()));
        assert_eq!(lines.last(), Some(&(&Event::Reopened, None)));
        assert_eq!(
            (more(4_980, Vi), more(4_980, En)),
            ("và 4.980 cảnh báo nữa".into(), "and 4,980 more alerts".into())
        );
    }
}
