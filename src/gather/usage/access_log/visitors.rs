//! How many people used an application on a day, by agency, without knowing who.
//!
//! A visitor is the name they logged in by, else their address with their browser. Neither is kept: what is counted is a
//! hash with a key that is random and of this application and day alone, and of that hash only what a [`Sketch`] keeps. The
//! key stands in the state database while its day is open, so that a restart does not count everybody twice; then it is
//! overwritten and deleted with the sketches. Without it the hashes of two days, or of an address one guesses, cannot be
//! compared any more.
//!
//! Two days are open at a time: lines of a day come until after midnight. Those of a day that is closed count as events,
//! not as users.

use super::sketch::Sketch;
use jiff::civil::Date;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;

/// Open days beside the newest.
const OPEN_BEFORE: i64 = 1;

#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers for the key of a day's visitors")]
pub struct NoRandom;

/// The visitors of one application.
#[derive(Default)]
pub struct Visitors {
    days: BTreeMap<Date, Day>,
    /// This day and those before are over.
    closed: Option<Date>,
    newest: Option<Date>,
    /// The last counts of days that ended since [`Visitors::committed`].
    ended: BTreeMap<(Date, String), i64>,
}

pub struct Day {
    /// Hexadecimal, as it stands in the state database.
    secret: String,
    key: hmac::Key,
    pub agencies: BTreeMap<String, Sketch>,
}

impl Day {
    /// With the key of `secret`.
    pub fn new(secret: String, agencies: BTreeMap<String, Sketch>) -> Day {
        Day { key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), secret, agencies }
    }

    fn random() -> Result<Day, NoRandom> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
        Ok(Day::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect(), BTreeMap::new()))
    }

    pub fn secret(&self) -> &str {
        &self.secret
    }

    fn hash(&self, name: &str, address: &str, agent: &str) -> u64 {
        let mut context = hmac::Context::with_key(&self.key);
        if name.is_empty() {
            context.update(b"a");
            context.update(address.as_bytes());
            context.update(b"\n");
            context.update(agent.as_bytes());
        } else {
            context.update(b"n");
            context.update(name.as_bytes());
        }
        let tag = context.sign();
        tag.as_ref().iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
    }
}

impl Visitors {
    pub fn new(days: BTreeMap<Date, Day>, closed: Option<Date>) -> Visitors {
        Visitors { newest: days.keys().next_back().copied(), days, closed, ended: BTreeMap::new() }
    }

    pub fn closed(&self) -> Option<Date> {
        self.closed
    }

    /// A day that is open.
    pub fn day(&self, day: Date) -> Option<&Day> {
        self.days.get(&day)
    }

    /// How many there were on a day that ended since the last commit.
    pub fn ended(&self, day: Date, agency: &str) -> Option<i64> {
        self.ended.get(&(day, agency.to_owned())).copied()
    }

    /// What ended is kept elsewhere now.
    pub fn committed(&mut self) {
        self.ended.clear();
    }

    /// Counts a visitor; `false` if the day is over. The first of a day ends the days before yesterday, so that what is
    /// counted depends on the lines alone and not on how many were read at once.
    pub fn add(
        &mut self,
        day: Date,
        agency: &str,
        (name, address, agent): (&str, &str, &str),
    ) -> Result<bool, NoRandom> {
        if self.newest < Some(day) {
            self.newest = Some(day);
            self.close_before(day);
        }
        if self.closed.is_some_and(|closed| day <= closed) {
            return Ok(false);
        }
        let open = match self.days.entry(day) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Day::random()?),
        };
        let hash = open.hash(name, address, agent);
        match open.agencies.get_mut(agency) {
            Some(sketch) => sketch.add(hash),
            None => open.agencies.entry(agency.to_owned()).or_default().add(hash),
        }
        Ok(true)
    }

    /// Ends the days that are over on `newest`; whether any was open. Their keys are to be forgotten everywhere.
    pub fn close_before(&mut self, newest: Date) -> bool {
        let Ok(last) = newest.checked_sub(jiff::Span::new().days(OPEN_BEFORE + 1)) else { return false };
        if self.closed.is_none_or(|closed| closed < last) {
            self.closed = Some(last);
        }
        let over: Vec<Date> = self.days.keys().copied().filter(|day| *day <= last).collect();
        for day in &over {
            for (agency, sketch) in self.days.remove(day).into_iter().flat_map(|day| day.agencies) {
                self.ended.insert((*day, agency), sketch.count());
            }
        }
        !over.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const TODAY: Date = date(2026, 11, 26);

    fn count(visitors: &Visitors, day: Date) -> i64 {
        visitors.day(day).and_then(|day| day.agencies.get("tam-ky")).map_or(0, Sketch::count)
    }

    #[test]
    fn a_person_counts_once_a_day_by_name_else_by_address_and_browser() {
        let mut visitors = Visitors::default();
        for (name, address, agent, expected) in [
            ("", "10.20.0.1", "Firefox", 1),
            ("", "10.20.0.1", "Firefox", 1),
            ("", "10.20.0.1", "Chrome", 2),
            ("lan", "10.20.0.1", "Firefox", 3),
            ("lan", "10.20.9.9", "Chrome", 3),
            // No two parts run into each other.
            ("", "10.20.0.1\nF", "irefox", 4),
        ] {
            assert!(visitors.add(TODAY, "tam-ky", (name, address, agent)).unwrap());
            assert_eq!(count(&visitors, TODAY), expected);
        }
    }

    #[test]
    fn the_same_visitor_has_another_hash_every_day_and_a_closed_day_is_forgotten() {
        let mut visitors = Visitors::default();
        let yesterday = TODAY.yesterday().unwrap();
        for day in [yesterday, TODAY] {
            visitors.add(day, "tam-ky", ("", "10.20.0.1", "Firefox")).unwrap();
        }
        assert_ne!(visitors.days[&yesterday].agencies, visitors.days[&TODAY].agencies);
        assert!(!visitors.close_before(TODAY));
        let tomorrow = TODAY.tomorrow().unwrap();
        assert!(visitors.add(tomorrow, "tam-ky", ("", "10.20.0.3", "Firefox")).unwrap());
        assert_eq!(visitors.ended(yesterday, "tam-ky"), Some(1));
        assert!(visitors.day(yesterday).is_none());
        assert!(!visitors.add(yesterday, "tam-ky", ("", "10.20.0.2", "Firefox")).unwrap());
        assert!(visitors.add(TODAY, "tam-ky", ("", "10.20.0.2", "Firefox")).unwrap());
        // An old line ends nothing and opens nothing.
        assert!(!visitors.close_before(date(2020, 1, 1)));
        assert_eq!(visitors.closed(), Some(yesterday));
    }
}
