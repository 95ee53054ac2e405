//! Sections `people`, `agencies` and `calendar`: who answers for what. Used through [`crate::org::Org`].

use super::{Id, site::Language};
use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Person {
    pub id: Id,
    /// A role ("Chủ tịch UBND xã …") or a name.
    pub name: String,
    pub email: lettre::Address,
    /// Default: the site's language.
    pub language: Option<Language>,
}

/// A unit that runs IT and has a leader. Ids are never reused; state codes are, so `(code, since)` is unique.
#[derive(Debug, Clone)]
pub struct Agency {
    pub id: Id,
    pub code: Option<String>,
    pub name: String,
    /// Free text: province, department, district, commune, operator …
    pub level: Option<String>,
    pub parent: Option<Id>,
    /// First day it exists, site time.
    pub since: Option<Date>,
    /// First day it no longer exists, site time.
    pub until: Option<Date>,
    pub merged_into: Option<Id>,
    pub leader: Vec<Term>,
    pub deputy: Vec<Term>,
    /// Another leader for one area.
    pub areas: BTreeMap<Area, Id>,
    pub duty: Option<Duty>,
}

/// A person in an office for a time; open ends are unbounded.
#[derive(Debug, Clone)]
pub struct Term {
    pub person: Id,
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
    pub acting: bool,
}

/// A rota: `people` take turns of `rotate`, beginning at `from`; overrides win.
#[derive(Debug, Clone)]
pub struct Duty {
    pub people: Vec<Id>,
    pub rotate: Duration,
    pub from: Timestamp,
    pub overrides: Vec<Term>,
}

/// What an alert, an incident or another leader is about. The label value `area`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    Service,
    Payment,
    Camera,
    Hotspot,
    Usage,
    Host,
    Dependency,
    /// ioc-watch itself.
    Own,
}

impl Area {
    pub const ALL: [Area; 8] = [
        Area::Service,
        Area::Payment,
        Area::Camera,
        Area::Hotspot,
        Area::Usage,
        Area::Host,
        Area::Dependency,
        Area::Own,
    ];

    /// The label value; [`Area::Own`] is `self`.
    pub fn as_str(self) -> &'static str {
        match self {
            Area::Service => "service",
            Area::Payment => "payment",
            Area::Camera => "camera",
            Area::Hotspot => "hotspot",
            Area::Usage => "usage",
            Area::Host => "host",
            Area::Dependency => "dependency",
            Area::Own => "self",
        }
    }

    pub fn parse(text: &str) -> Option<Area> {
        Area::ALL.into_iter().find(|area| area.as_str() == text)
    }
}

/// Working hours and holidays, with the data files merged in.
#[derive(Debug, Clone)]
pub struct Calendar {
    /// Default Monday to Friday.
    pub days: Vec<Weekday>,
    /// Default 07:30.
    pub from: Time,
    /// Default 17:00.
    pub to: Time,
    pub holidays: Vec<Holiday>,
    /// Saturdays (or other days) worked in exchange for a holiday, from the calendar files.
    pub working: Vec<Date>,
}

#[derive(Debug, Clone)]
pub struct Holiday {
    pub name: String,
    pub from: Date,
    /// Inclusive.
    pub to: Date,
}
