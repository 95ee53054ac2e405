//! Who holds an office at a moment, and on what ground; or why nobody does.

use super::{Org, covers, rota};
use crate::config::Id;
use crate::config::escalation::Office;
use crate::config::organisation::{Agency, Area, Term};
use jiff::Timestamp;
use jiff::civil::Date;

/// Somebody in an office, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub agency: Id,
    pub office: Office,
    pub person: Id,
    pub ground: Ground,
}

/// Why somebody holds an office.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ground {
    /// The leader for one area.
    Area,
    /// A term of office; open ends are unbounded.
    Term { from: Option<Timestamp>, to: Option<Timestamp>, acting: bool },
    /// A turn of the duty rota. `to` is `None` where the rota has one person and nobody takes over.
    Turn { from: Timestamp, to: Option<Timestamp> },
    /// Somebody stands in on the duty rota.
    Override { from: Timestamp, to: Timestamp },
}

/// Why nobody holds an office.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vacancy {
    /// The agency does not exist at that time: its first day, its first day no more, what it was merged into.
    NotThen { since: Option<Date>, until: Option<Date>, merged_into: Option<Id> },
    /// The office is not filled: nobody is named, or no term runs.
    Unfilled,
    /// The duty rota begins later.
    NotBegun(Timestamp),
    /// The rota says that nobody is on duty for a time.
    Gap { from: Timestamp, to: Timestamp },
}

/// An office that was asked for and is held by nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacant {
    pub agency: Id,
    pub office: Office,
    pub why: Vacancy,
}

/// What was found on the way to somebody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sought {
    pub held: Option<Held>,
    /// Offices asked before, in that order.
    pub vacant: Vec<Vacant>,
}

impl Org {
    /// Who holds an office of the agency (`up` 0), or of the one `up` levels above it.
    ///
    /// Of the agency itself the office is meant, or nobody. Above, the level is meant exactly, and somebody there: the
    /// office, else who stands in for it (the deputy for the leader, the leader for the deputy and for a duty officer);
    /// if that agency has none of them, the next one above that has.
    pub fn seek(&self, agency: &str, up: u8, office: Office, area: Area, at: Timestamp) -> Sought {
        let mut sought = Sought::default();
        let Some(own) = self.agency(agency) else { return sought };
        let Some(levels_between) = up.checked_sub(1) else {
            self.ask(own, office, area, at, &mut sought);
            return sought;
        };
        let mut current = own;
        for _ in 0..levels_between {
            match self.nearest_above(current, at, |above| Some(&above.id)) {
                Some((above, _)) => current = above,
                None => return sought,
            }
        }
        let offices = [office, if office == Office::Leader { Office::Deputy } else { Office::Leader }];
        while let Some((above, _)) = self.nearest_above(current, at, |above| Some(&above.id)) {
            if offices.into_iter().any(|office| self.ask(above, office, area, at, &mut sought)) {
                break;
            }
            current = above;
            // The way up ends: mergers that lead in a circle would be walked for ever.
            if sought.vacant.len() > 2 * self.agencies.len() {
                break;
            }
        }
        sought
    }

    /// The person alone.
    pub fn holder(&self, agency: &str, up: u8, office: Office, area: Area, at: Timestamp) -> Option<Id> {
        self.seek(agency, up, office, area, at).held.map(|held| held.person)
    }

    /// Notes who holds the office, or that nobody does; whether somebody does.
    fn ask(&self, agency: &Agency, office: Office, area: Area, at: Timestamp, sought: &mut Sought) -> bool {
        let found = if self.exists(agency, at) {
            held(agency, office, area, at)
        } else {
            let (since, until, merged_into) = (agency.since, agency.until, agency.merged_into.clone());
            Err(Vacancy::NotThen { since, until, merged_into })
        };
        match found {
            Ok((person, ground)) => {
                sought.held = Some(Held { agency: agency.id.clone(), office, person, ground });
                true
            }
            Err(why) => {
                sought.vacant.push(Vacant { agency: agency.id.clone(), office, why });
                false
            }
        }
    }
}

fn held(agency: &Agency, office: Office, area: Area, at: Timestamp) -> Result<(Id, Ground), Vacancy> {
    let of_term = |terms: &[Term]| {
        let term = term_in_office(terms, at).ok_or(Vacancy::Unfilled)?;
        let Term { person, from, to, acting } = term;
        Ok((person.clone(), Ground::Term { from: *from, to: *to, acting: *acting }))
    };
    match office {
        Office::Duty => rota::shift(agency.duty.as_ref().ok_or(Vacancy::Unfilled)?, at).into_holder(),
        Office::Leader => match agency.areas.get(&area) {
            Some(person) => Ok((person.clone(), Ground::Area)),
            None => of_term(&agency.leader),
        },
        Office::Deputy => of_term(&agency.deputy),
    }
}

/// The term that counts: an acting one wins over the regular one while it lasts; of several, the one begun last.
pub(super) fn term_in_office(terms: &[Term], at: Timestamp) -> Option<&Term> {
    let running = terms.iter().filter(|term| covers(term, at));
    running.max_by_key(|term| (term.acting, term.from.unwrap_or(Timestamp::MIN)))
}
