//! Who answers for what, as of when: agencies, people, duty rotas, working time.
//!
//! Every answer is for a moment that the caller gives; nothing here reads a clock. Who is told of an alert, and in which
//! order, is for `incident`; here is only who holds which office.

mod offices;
mod rota;
mod working_time;

pub use offices::{Ground, Held, Sought, Vacancy, Vacant};
pub use rota::{Keeper, Shift};
pub use working_time::Day;

use crate::config::organisation::{Agency, Area, Calendar, Person, Term};
use crate::config::{Config, Id};
use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::collections::{HashMap, HashSet};
use unicode_normalization::UnicodeNormalization;

/// The organisation, indexed. Made from a valid configuration.
#[derive(Debug)]
pub struct Org {
    agencies: Vec<Agency>,
    people: HashMap<Id, Person>,
    site: Id,
    zone: TimeZone,
    calendar: Calendar,
    /// Positions in `agencies`.
    by_id: HashMap<Id, usize>,
    /// By folded state code; codes are reused, so there may be several.
    by_code: HashMap<String, Vec<usize>>,
    by_name: HashMap<String, Vec<usize>>,
}

/// Who is told about an agency's trouble in one area at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Responsible {
    /// The duty officer of the agency at that time.
    pub duty: Option<Id>,
    /// The agency's leader for the area, or its (acting) head.
    pub leader: Option<Id>,
    pub deputy: Option<Id>,
    /// The nearest agency above, and its leader.
    pub superior: Option<(Id, Id)>,
}

impl Org {
    pub fn new(config: &Config) -> Org {
        let agencies = config.agencies.clone();
        let mut by_code: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, agency) in agencies.iter().enumerate() {
            by_name.entry(fold(&agency.name)).or_default().push(index);
            if let Some(code) = &agency.code {
                by_code.entry(fold(code)).or_default().push(index);
            }
        }
        Org {
            by_id: agencies.iter().enumerate().map(|(index, agency)| (agency.id.clone(), index)).collect(),
            by_code,
            by_name,
            people: config.people.iter().map(|person| (person.id.clone(), person.clone())).collect(),
            site: config.site.agency.clone(),
            zone: config.site.timezone.clone(),
            calendar: config.calendar.clone(),
            agencies,
        }
    }

    pub fn agency(&self, id: &str) -> Option<&Agency> {
        self.by_id.get(id).map(|index| &self.agencies[*index])
    }

    /// In the order of the file.
    pub fn agencies(&self) -> &[Agency] {
        &self.agencies
    }

    pub fn person(&self, id: &str) -> Option<&Person> {
        self.people.get(id)
    }

    /// The site agency.
    pub fn site(&self) -> &Id {
        &self.site
    }

    /// Whether the agency exists at `at`: from its first day to before its last, in site time.
    pub fn exists(&self, agency: &Agency, at: Timestamp) -> bool {
        let today = self.date(at);
        agency.since.is_none_or(|since| since <= today) && agency.until.is_none_or(|until| today < until)
    }

    /// The agency that a feed means by an id, a state code or a name (after NFC and case folding), as of `at`.
    ///
    /// Ids are never reused and mean their agency at any time; a code or name means the agency that bears it at `at`. A
    /// name that two agencies bear at once means neither.
    pub fn resolve(&self, text: &str, at: Timestamp) -> Option<&Id> {
        let folded = fold(text);
        if let Some((id, _)) = self.by_id.get_key_value(folded.as_str()) {
            return Some(id);
        }
        [&self.by_code, &self.by_name].into_iter().find_map(|index| {
            let mut bearers = index.get(&folded)?.iter().map(|i| &self.agencies[*i]).filter(|a| self.exists(a, at));
            let agency = bearers.next()?;
            bearers.next().is_none().then_some(&agency.id)
        })
    }

    /// Who answers for an agency's area at a moment. An agency that does not exist then has nobody of its own; its
    /// superior is found through the agency it was merged into, else through its parent. An agency that is not in the
    /// configuration has nobody at all.
    pub fn responsible(&self, agency: &str, area: Area, at: Timestamp) -> Responsible {
        let Some(agency) = self.agency(agency) else { return Responsible::default() };
        let superior = self.superior(agency, area, at);
        if !self.exists(agency, at) {
            return Responsible { superior, ..Responsible::default() };
        }
        Responsible {
            duty: agency.duty.as_ref().and_then(|duty| rota::on_duty(duty, at)),
            leader: leader(agency, area, at).cloned(),
            deputy: in_office(&agency.deputy, at).cloned(),
            superior,
        }
    }

    /// The nearest existing agency above that has a leader for the area.
    fn superior(&self, agency: &Agency, area: Area, at: Timestamp) -> Option<(Id, Id)> {
        let (above, person) = self.nearest_above(agency, at, |above| leader(above, area, at))?;
        Some((above.id.clone(), person.clone()))
    }

    /// The shift of the agency's duty rota at `at`; `None` if it has no rota, or does not exist then.
    pub fn shift(&self, agency: &str, at: Timestamp) -> Option<Shift> {
        let agency = self.agency(agency).filter(|agency| self.exists(agency, at))?;
        agency.duty.as_ref().map(|duty| rota::shift(duty, at))
    }

    /// The nearest existing agency above of which `ask` finds something.
    fn nearest_above<'o, T>(
        &'o self,
        agency: &'o Agency,
        at: Timestamp,
        ask: impl Fn(&'o Agency) -> Option<T>,
    ) -> Option<(&'o Agency, T)> {
        // The tree of parents has no cycle, but mergers may lead back into it.
        let mut seen: HashSet<&Id> = HashSet::from([&agency.id]);
        let mut current = agency;
        loop {
            let successor = current.merged_into.as_ref().filter(|_| !self.exists(current, at));
            current = self.agency(successor.or(current.parent.as_ref())?)?;
            if !seen.insert(&current.id) {
                return None;
            }
            if let (true, Some(found)) = (self.exists(current, at), ask(current)) {
                return Some((current, found));
            }
        }
    }

    /// The day in site time.
    pub fn date(&self, at: Timestamp) -> Date {
        at.to_zoned_datetime(self.zone.clone()).date()
    }

    /// When a day of site time begins, and when the next does.
    pub fn span_of(&self, date: Date) -> (Timestamp, Timestamp) {
        let begins = |date: Date| self.zone.to_timestamp(date.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX);
        (begins(date), date.tomorrow().map_or(Timestamp::MAX, begins))
    }

    fn civil(&self, at: Timestamp) -> DateTime {
        at.to_zoned_datetime(self.zone.clone()).datetime()
    }

    /// The working time between two moments; nothing if the second is not later.
    pub fn working_time(&self, from: Timestamp, to: Timestamp) -> SignedDuration {
        working_time::between(&self.calendar, self.civil(from), self.civil(to))
    }

    /// Working days from `first` to `last`, both inclusive.
    pub fn working_days(&self, first: Date, last: Date) -> u32 {
        working_time::days(&self.calendar, first, last)
    }

    /// Working days from the start of `first` to `at`, the last by the share of its hours that is over.
    pub fn working_days_until(&self, first: Date, at: Timestamp) -> f64 {
        let at = self.civil(at);
        let whole = at.date().yesterday().map_or(0, |last| self.working_days(first, last));
        f64::from(whole) + if at.date() < first { 0.0 } else { working_time::elapsed_of_day(&self.calendar, at) }
    }

    /// When a period with this stated end is over: a date alone means the end of its working hours, and a day off moves it to
    /// the next working day.
    pub fn due(&self, stated: Timestamp) -> Timestamp {
        let due = working_time::due(&self.calendar, self.civil(stated));
        self.zone.to_timestamp(due).unwrap_or(stated)
    }

    /// Whether `at` is in working hours.
    pub fn is_working_time(&self, at: Timestamp) -> bool {
        working_time::is_working_time(&self.calendar, self.civil(at))
    }

    /// `at` if it is in working hours, else the next moment that is. A calendar without a working day within a year holds
    /// nothing up.
    pub fn next_working_time(&self, at: Timestamp) -> Timestamp {
        if self.is_working_time(at) {
            return at;
        }
        let first = self.date(at);
        let days = (0..=366).filter_map(|days| first.checked_add(jiff::Span::new().days(days)).ok());
        let opens = days.filter(|day| self.is_working_day(*day)).filter_map(|day| {
            let opens = day.to_datetime(self.calendar.from).to_zoned_datetime(self.zone.clone()).ok()?;
            Some(opens.timestamp())
        });
        opens.into_iter().find(|opens| *opens >= at).unwrap_or(at)
    }

    /// The next time after `at` that is `time` on a working day. A calendar without a working day within a year holds
    /// nothing up.
    pub fn next_working_day_at(&self, time: jiff::civil::Time, at: Timestamp) -> Timestamp {
        let first = self.date(at);
        let days = (0..=366).filter_map(|days| first.checked_add(jiff::Span::new().days(days)).ok());
        let times = days
            .filter(|day| self.is_working_day(*day))
            .filter_map(|day| Some(day.to_datetime(time).to_zoned_datetime(self.zone.clone()).ok()?.timestamp()));
        times.into_iter().find(|time| *time > at).unwrap_or(at)
    }

    /// What kind of day `at` lies in.
    pub fn day(&self, at: Timestamp) -> Day<'_> {
        working_time::day(&self.calendar, self.date(at))
    }

    /// Whether `date` is a working day: a working weekday or make-up day that is no holiday.
    pub fn is_working_day(&self, date: Date) -> bool {
        working_time::is_working_day(&self.calendar, date)
    }
}

/// The leader for an area, else the head.
fn leader(agency: &Agency, area: Area, at: Timestamp) -> Option<&Id> {
    agency.areas.get(&area).or_else(|| in_office(&agency.leader, at))
}

fn in_office(terms: &[Term], at: Timestamp) -> Option<&Id> {
    offices::term_in_office(terms, at).map(|term| &term.person)
}

/// Whether a term is running; its end is exclusive.
fn covers(term: &Term, at: Timestamp) -> bool {
    term.from.is_none_or(|from| from <= at) && term.to.is_none_or(|to| at < to)
}

/// How names and codes are compared: NFC, lower case, one space between words.
fn fold(text: &str) -> String {
    let composed: String = text.nfc().collect();
    let words: Vec<&str> = composed.split_whitespace().collect();
    words.join(" ").to_lowercase().nfc().collect()
}

#[cfg(test)]
mod tests;
