//! The life of one incident: a pure step of (incident, alerts, time) to (incident, what happened).
//!
//! No clock, no database, no people: who is told and how stands in `letter.rs`, what is kept in `rows.rs`. Everything
//! that decides *whether and when* a mail is written is here.
//!
//! While an alert is excused, no new notification about it starts, and none starts until `group_wait` after the excuse
//! ended. What was told stays told: an open incident is marked, and ends only with its own alerts.

use super::address::Severity;
use super::escalation::{Call, Escalation};
pub use super::event::{Event, News};
pub(super) use super::member::merged;
pub use super::member::{Excused, Excuses, Member, Why};
use crate::alert::Alert;
use crate::config::escalation::{Policy, Step};
use crate::config::organisation::Area;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Alerts that ended and were told so are forgotten (in memory, not in the database) above this number an incident.
const KEPT_ENDED: usize = 200;

/// An incident that came back so often within [`FLAPPING_WITHIN`] flaps.
const FLAPS: usize = 3;
const FLAPPING_WITHIN: SignedDuration = SignedDuration::from_hours(1);
/// What flaps is told to be over once it has been quiet for so long.
pub(super) const STEADY: SignedDuration = SignedDuration::from_mins(15);

/// When mails are due.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From the first news to the mail about it.
    pub group_wait: SignedDuration,
    /// Between two mails of one incident.
    pub group_interval: SignedDuration,
    /// How long an ended incident waits for its alerts to come back.
    pub reopen_within: SignedDuration,
    /// Whether it is noted that an incident comes and goes, see [`Incident::is_flapping`].
    pub flapping: bool,
}

/// What a step goes by.
pub struct Rules<'a> {
    pub timing: Timing,
    /// The policy of the incident at a severity.
    pub policy: &'a dyn Fn(Severity) -> &'a Policy,
    /// See [`Call::names`].
    pub names: &'a dyn Fn(Option<&Step>) -> Vec<String>,
    /// See [`Call::working`].
    pub working: &'a dyn Fn(Timestamp) -> Timestamp,
}

impl Rules<'_> {
    pub(super) fn call(&self, severity: Severity) -> Call<'_> {
        Call { policy: (self.policy)(severity), names: self.names, working: self.working }
    }
}

/// An incident that is not closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    pub id: i64,
    /// The values it is grouped by.
    pub key: String,
    pub agency: String,
    pub area: Area,
    /// The highest it had.
    pub severity: Severity,
    /// In one line and the site's language: what the first mail was about, and before it, what came first.
    pub subject: String,
    /// The same in English, whatever the site's language.
    pub subject_en: String,
    pub opened: Timestamp,
    /// When the last of its alerts ended; `None` while one fires.
    pub resolved: Option<Timestamp>,
    /// Since when there is something to tell. While nobody believes that anything fires, the time of the first untold
    /// alert is kept, so that one which comes and goes cannot put the mail off for ever.
    pub changed: Option<Timestamp>,
    pub first_mail: Option<Timestamp>,
    pub last_mail: Option<Timestamp>,
    /// Rounds of mails written.
    pub mails: i64,
    /// By fingerprint. Shared with what the incident was before its last step.
    pub members: BTreeMap<Arc<str>, Arc<Member>>,
    /// When it came back after all its alerts had ended, within the last hour.
    pub flaps: Vec<Timestamp>,
    /// Fingerprints that the last mail called firing.
    pub told: Arc<BTreeSet<String>>,
    pub escalation: Escalation,
}

impl Incident {
    /// An incident without alerts yet; the next [`step`] must bring one.
    pub fn open(id: i64, key: String, agency: String, area: Area, now: Timestamp) -> Incident {
        Incident {
            id,
            key,
            agency,
            area,
            severity: Severity::Info,
            subject: String::new(),
            subject_en: String::new(),
            opened: now,
            resolved: None,
            changed: None,
            first_mail: None,
            last_mail: None,
            mails: 0,
            members: BTreeMap::new(),
            flaps: Vec::new(),
            told: Arc::default(),
            escalation: Escalation::default(),
        }
    }

    /// Itself without its alerts, and without which of them people were told.
    pub(super) fn without_alerts(&self) -> Incident {
        Incident {
            id: self.id,
            key: self.key.clone(),
            agency: self.agency.clone(),
            area: self.area,
            severity: self.severity,
            subject: self.subject.clone(),
            subject_en: self.subject_en.clone(),
            opened: self.opened,
            resolved: self.resolved,
            changed: self.changed,
            first_mail: self.first_mail,
            last_mail: self.last_mail,
            mails: self.mails,
            members: BTreeMap::new(),
            flaps: self.flaps.clone(),
            told: Arc::default(),
            escalation: self.escalation.clone(),
        }
    }

    /// The alerts that fire, worst and oldest first.
    pub fn firing(&self) -> Vec<&Member> {
        let members = self.members.values().map(|member| &**member);
        let mut firing: Vec<&Member> = members.filter(|member| member.resolved.is_none()).collect();
        firing.sort_by_key(|member| (std::cmp::Reverse(member.severity), member.alert.starts_at));
        firing
    }

    fn is_firing(&self) -> bool {
        self.members.values().any(|member| member.resolved.is_none())
    }

    /// Since when and by what all that fires is excused; `None` if something fires that is not.
    pub fn excused(&self) -> Option<&Excused> {
        let firing = || self.members.values().filter(|member| member.resolved.is_none());
        if firing().any(|member| member.excused.is_none()) {
            return None;
        }
        firing().filter_map(|member| member.excused.as_ref()).max_by_key(|excused| excused.since)
    }

    /// What a mail would say now; `None` if it would say what the last one said.
    fn news(&self) -> Option<News> {
        let firing = |fingerprint: &str| self.members.get(fingerprint).is_some_and(|m| m.resolved.is_none());
        let is_told = |fingerprint: &str| self.told.contains(fingerprint);
        // What is excused and was never told does not count.
        let mut counted =
            self.members.iter().filter(|(key, m)| m.resolved.is_none() && (!m.is_quiet() || is_told(key)));
        let is_new = counted.clone().any(|(key, _)| !is_told(key));
        if counted.next().is_none() {
            return (!self.told.is_empty()).then_some(News::Resolved);
        }
        let is_less = self.told.iter().any(|key| !firing(key));
        match (self.first_mail, is_new || is_less) {
            (None, _) => Some(News::Broken),
            (Some(_), true) => Some(News::Changed),
            (Some(_), false) => None,
        }
    }

    /// Something fires that is worse than what people were told.
    fn is_worse(&self) -> bool {
        let Some(known) = self.escalation.severity else { return false };
        let is_untold = |(key, member): (&Arc<str>, &Arc<Member>)| {
            known < member.severity && member.resolved.is_none() && !member.is_quiet() && !self.told.contains(&**key)
        };
        self.members.iter().any(is_untold)
    }

    /// When the mail about `news` is due.
    fn mail_due(&self, news: News, rules: &Rules<'_>) -> Option<Timestamp> {
        let changed = self.changed?;
        // That it is over is told as soon as the interval allows: there is nothing left to collect.
        let collected = match (news, self.resolved) {
            // It is likely to come back: that is one mail less, and one less that it did.
            (News::Resolved, Some(resolved)) if self.is_flapping() => changed.max(later(resolved, STEADY)),
            (News::Resolved, _) => changed,
            _ => later(changed, rules.timing.group_wait),
        };
        let spaced = self.last_mail.filter(|_| news == News::Resolved || !self.is_worse());
        let spaced = spaced.map(|last| later(last, rules.timing.group_interval));
        let due = spaced.map_or(collected, |spaced| spaced.max(collected));
        Some(rules.call(self.severity).allowed(due))
    }

    /// When it becomes critical because it lasts and nobody answers.
    fn critical_due(&self, rules: &Rules<'_>) -> Option<Timestamp> {
        let after = (rules.policy)(self.severity).critical_after;
        let after = after.filter(|_| self.severity < Severity::Critical)?;
        let due = later(self.first_mail?, SignedDuration::try_from(after).ok()?);
        // Asked last: it looks at every alert.
        if !self.is_live() || self.news() == Some(News::Resolved) {
            return None;
        }
        // An answer that holds stops this too.
        let due = self.escalation.held_until.map_or(due, |until| due.max(until));
        Some(rules.call(Severity::Critical).allowed(due))
    }

    /// Its alerts come and go.
    pub fn is_flapping(&self) -> bool {
        self.flaps.len() >= FLAPS
    }

    /// Something fires of which people were told and may be told.
    fn is_live(&self) -> bool {
        !self.told.is_empty() && self.is_firing() && self.excused().is_none()
    }

    /// When the next [`step`] has something to do, if no alert comes before.
    pub fn next_due(&self, rules: &Rules<'_>) -> Option<Timestamp> {
        let timing = &rules.timing;
        let fires_somewhere = |member: &&Arc<Member>| member.resolved.is_none() || member.dismissed.is_some();
        let ends = self.members.values().filter(fires_somewhere).filter_map(|member| member.alert.ends_at);
        let freed = self.members.values().filter(|member| member.resolved.is_none()).filter_map(|member| member.freed);
        let freed = freed.map(|freed| later(freed, timing.group_wait));
        let news = self.news();
        let mail = news.and_then(|news| self.mail_due(news, rules));
        let close = match (self.resolved, news) {
            (Some(resolved), None) if !self.is_dismissed() => Some(later(resolved, timing.reopen_within)),
            _ => None,
        };
        let escalation = self.is_live().then(|| self.escalation.next_due(&rules.call(self.severity))).flatten();
        let critical = self.critical_due(rules);
        ends.chain(freed).chain(mail).chain(close).chain(escalation).chain(critical).min()
    }

    /// The source of one of its alerts still calls firing what a person said is over.
    fn is_dismissed(&self) -> bool {
        self.members.values().any(|member| member.dismissed.is_some())
    }

    /// A clock that was set back must not put mails off by as much.
    fn clamp(&mut self, now: Timestamp) {
        for time in [&mut self.changed, &mut self.first_mail, &mut self.last_mail, &mut self.resolved] {
            *time = time.map(|time| time.min(now));
        }
        self.flaps.iter_mut().for_each(|flap| *flap = (*flap).min(now));
        for member in self.members.values_mut().filter(|member| member.freed.is_some_and(|freed| now < freed)) {
            Arc::make_mut(member).freed = Some(now);
        }
    }

    /// Marks what is excused now, and what no longer is.
    fn excuse(&mut self, excuses: &Excuses, now: Timestamp, timing: &Timing, events: &mut Vec<Event>) {
        let concerns = |fingerprint: &str, member: &Member| {
            member.resolved.is_none() && (member.is_quiet() || excuses.contains_key(fingerprint))
        };
        for (fingerprint, member) in self.members.iter_mut().filter(|(key, member)| concerns(key, member)) {
            let (fingerprint, member) = (&**fingerprint, Arc::make_mut(member));
            match (excuses.get(fingerprint), &mut member.excused) {
                (Some(excuse), None) => {
                    member.excused = Some(excuse.clone());
                    member.freed = None;
                    events.push(Event::Excused(fingerprint.to_owned()));
                }
                // Another dependency went down or came back meanwhile; excused it is all the time.
                (Some(excuse), Some(excused)) => *excused = Excused { since: excused.since, ..excuse.clone() },
                (None, Some(_)) => {
                    member.excused = None;
                    member.freed = Some(now);
                    events.push(Event::ExcuseEnded(fingerprint.to_owned()));
                }
                (None, None) => {}
            }
            if let Some(freed) = member.freed
                && later(freed, timing.group_wait) <= now
            {
                member.freed = None;
                // The wait is over already.
                self.changed.get_or_insert(freed);
            }
        }
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(time)
}

/// Takes in `alerts` of this incident's group, what is excused of all its alerts, and the time, and says what follows.
pub fn step(
    mut incident: Incident,
    alerts: &[(Alert, Severity)],
    excuses: &Excuses,
    now: Timestamp,
    rules: &Rules<'_>,
) -> (Incident, Vec<Event>) {
    let mut events = Vec::new();
    incident.clamp(now);
    incident.flaps.retain(|flap| now < later(*flap, FLAPPING_WITHIN));
    if incident.members.is_empty() {
        events.push(Event::Opened);
    }
    for (alert, severity) in alerts {
        take_in(&mut incident, alert, *severity, now, &mut events);
    }
    for (fingerprint, member) in &mut incident.members {
        let ends = |member: &Member| member.resolved.is_none() || member.dismissed.is_some();
        if !ends(member) || !member.alert.is_resolved(now) {
            continue;
        }
        let member = Arc::make_mut(member);
        if member.resolved.is_none() {
            member.resolved = Some(member.alert.ends_at.unwrap_or(now).min(now));
            events.push(Event::Ended((**fingerprint).to_owned()));
        }
        member.dismissed = None;
    }
    incident.excuse(excuses, now, &rules.timing, &mut events);
    match (incident.is_firing(), incident.resolved) {
        (false, None) => {
            incident.resolved = Some(now);
            events.push(Event::Resolved);
        }
        (true, Some(_)) => {
            incident.resolved = None;
            if rules.timing.flapping {
                incident.flaps.push(now);
            }
            events.push(Event::Reopened);
        }
        _ => {}
    }
    let worsens = incident.critical_due(rules).is_some_and(|due| due <= now);
    if worsens {
        incident.severity = Severity::Critical;
        events.push(Event::Worsened);
    }
    let news = incident.news().or(worsens.then_some(News::Changed));
    match news {
        Some(_) => incident.changed = incident.changed.or(Some(now)),
        None if !incident.told.is_empty() || incident.is_firing() => incident.changed = None,
        None => {}
    }
    let begins = incident.escalation.begun.is_none() || incident.is_worse() || worsens;
    let call = rules.call(incident.severity);
    let mut raised = Vec::new();
    if let Some(news) = news
        && (worsens || incident.mail_due(news, rules).is_some_and(|due| due <= now))
    {
        tell(&mut incident, now);
        events.push(Event::Mail(news));
        if begins && news != News::Resolved {
            raised = incident.escalation.begin(incident.severity, now, &call);
        }
    }
    let is_live = incident.is_live();
    raised.extend(incident.escalation.step(is_live, now, &call));
    events.extend(raised.into_iter().map(Event::Raised));
    let may_close = incident.news().is_none() && !incident.is_dismissed();
    if may_close && incident.resolved.is_some_and(|at| later(at, rules.timing.reopen_within) <= now) {
        events.push(Event::Closed);
    }
    (incident, events)
}

/// `person` answers for the incident. A [`step`] must follow.
pub fn acknowledge(incident: &mut Incident, person: &str, now: Timestamp, rules: &Rules<'_>) -> Event {
    let policy = (rules.policy)(incident.severity);
    let is_first = incident.escalation.acks.iter().all(|ack| ack.person != person);
    let stops = incident.escalation.acknowledge(person, now, policy);
    let until = incident.escalation.held_until.filter(|_| stops);
    Event::Acknowledged { person: person.to_owned(), until, is_first }
}

/// What was written to `person` did not arrive: unless somebody else was told or answered, the next step of the
/// escalation is taken at once. A [`step`] must follow.
pub fn undeliverable(
    incident: &mut Incident,
    person: &str,
    reason: &str,
    now: Timestamp,
    rules: &Rules<'_>,
) -> Vec<Event> {
    let call = rules.call(incident.severity);
    let raised = incident.escalation.undeliverable(person, now, &call);
    let failed = Event::Undeliverable { person: person.to_owned(), reason: reason.to_owned() };
    std::iter::once(failed).chain(raised.into_iter().map(Event::Raised)).collect()
}

/// `person` says that all of it is over, and why. A [`step`] must follow, which ends the incident.
pub fn dismiss(incident: &mut Incident, person: &str, reason: &str, now: Timestamp) -> Event {
    for member in incident.members.values_mut().filter(|member| member.resolved.is_none()) {
        let member = Arc::make_mut(member);
        (member.resolved, member.dismissed) = (Some(now), Some(now));
    }
    Event::Dismissed { person: person.to_owned(), reason: reason.to_owned() }
}

fn take_in(incident: &mut Incident, alert: &Alert, severity: Severity, now: Timestamp, events: &mut Vec<Event>) {
    let fingerprint = alert.fingerprint();
    let ends = alert.is_resolved(now);
    let mut known = incident.members.get_mut(&*fingerprint).map(Arc::make_mut);
    if let Some(member) = &mut known {
        member.updated = now;
    }
    match known {
        // What was never heard firing here was never told either.
        None if ends => return,
        Some(member) if member.resolved.is_some() && ends => {
            member.dismissed = None;
            return;
        }
        // It is the firing that a person said is over.
        Some(member) if member.dismissed.is_some_and(|dismissed| alert.starts_at <= dismissed) => {
            member.alert.ends_at = alert.ends_at;
            return;
        }
        Some(member) if ends => {
            // An end that lies before this firing belongs to an earlier one.
            if alert.ends_at.is_some_and(|end| end < member.alert.starts_at) {
                return;
            }
            member.alert.ends_at = alert.ends_at;
        }
        Some(member) => {
            let fires_again = member.resolved.take().is_some();
            if fires_again {
                (member.excused, member.freed, member.dismissed) = (None, None, None);
            }
            member.alert = if fires_again { alert.clone() } else { merged(&member.alert, alert) };
            if fires_again {
                events.push(Event::Fired(fingerprint));
            }
        }
        None => {
            events.push(Event::Fired(fingerprint.clone()));
            let member = Member { updated: now, ..Member::new(alert.clone(), severity) };
            incident.members.insert(fingerprint.into(), Arc::new(member));
        }
    }
    incident.severity = incident.severity.max(severity);
}

/// Notes that everybody is told now how things stand. What a mail only mentions as excused is not told: its end needs
/// no mail, and the end of its excuse is news.
fn tell(incident: &mut Incident, now: Timestamp) {
    let told = &incident.told;
    let are_told = incident
        .members
        .iter()
        .filter(|(key, member)| member.resolved.is_none() && (!member.is_quiet() || told.contains(&***key)))
        .map(|(fingerprint, _)| (**fingerprint).to_owned());
    incident.told = Arc::new(are_told.collect());
    incident.first_mail = incident.first_mail.or(Some(now));
    incident.last_mail = Some(now);
    incident.changed = None;
    incident.mails += 1;
}

/// Forgets the oldest alerts that ended and were told so, above a bound. Called after the mails were written.
pub fn forget_ended(incident: &mut Incident) {
    let mut ended: Vec<(Timestamp, Arc<str>)> = incident
        .members
        .iter()
        .filter(|(_, member)| member.resolved.is_some() && member.dismissed.is_none())
        .filter(|(key, _)| !incident.told.contains(&***key))
        .filter_map(|(key, member)| Some((member.resolved?, key.clone())))
        .collect();
    if ended.len() <= KEPT_ENDED {
        return;
    }
    ended.sort();
    for (_, key) in &ended[..ended.len() - KEPT_ENDED] {
        incident.members.remove(key);
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
