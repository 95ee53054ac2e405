//! Who answers for what, as of when: agencies, people, duty rotas, working time.

use crate::config::organisation::{Agency, Area, Person};
use crate::config::{Config, Id};
use jiff::Timestamp;

/// The organisation, indexed. Made from a valid configuration.
#[derive(Debug)]
pub struct Org {}

/// Who is told about an agency's trouble in one area at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let _ = config;
        todo!()
    }

    pub fn agency(&self, id: &str) -> Option<&Agency> {
        let _ = id;
        todo!()
    }

    /// In the order of the file.
    pub fn agencies(&self) -> &[Agency] {
        todo!()
    }

    pub fn person(&self, id: &str) -> Option<&Person> {
        let _ = id;
        todo!()
    }

    /// The site agency.
    pub fn site(&self) -> &Id {
        todo!()
    }

    /// The agency that a feed means by an id, a state code or a name (after NFC and case folding), as of `at`.
    pub fn resolve(&self, text: &str, at: Timestamp) -> Option<&Id> {
        let _ = (text, at);
        todo!()
    }

    pub fn responsible(&self, agency: &str, area: Area, at: Timestamp) -> Responsible {
        let _ = (agency, area, at);
        todo!()
    }

    /// Whether `at` is in working hours.
    pub fn is_working_time(&self, at: Timestamp) -> bool {
        let _ = at;
        todo!()
    }

    /// Whether `date` is a working day: a working weekday or make-up day that is no holiday.
    pub fn is_working_day(&self, date: jiff::civil::Date) -> bool {
        let _ = date;
        todo!()
    }
}
