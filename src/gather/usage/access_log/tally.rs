//! What the lines of one read come to: pure counting, before anything is written.

use super::line::{self, Request};
use super::tail::MAX_LINE;
use super::visitors::{NoRandom, Visitors};
use crate::config::usage::AccessLog;
use crate::feed::{Reason, RejectedRow, Rejection};
use crate::org::Org;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What became of a line. The label value `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineResult {
    Counted,
    /// Not a person's: a robot, a monitor, a path or network that is left out.
    Excluded,
    /// Of no agency that is known here.
    Unattributed,
    /// Counted as an event, not as a user: its day is closed.
    Late,
    /// Kept under `rejected/`.
    Unreadable,
}

impl LineResult {
    pub const ALL: [LineResult; 5] =
        [LineResult::Counted, LineResult::Excluded, LineResult::Unattributed, LineResult::Late, LineResult::Unreadable];

    pub fn as_str(self) -> &'static str {
        match self {
            LineResult::Counted => "counted",
            LineResult::Excluded => "excluded",
            LineResult::Unattributed => "unattributed",
            LineResult::Late => "late",
            LineResult::Unreadable => "unreadable",
        }
    }
}

/// Lines with times outside these bounds are not believed: each day is a row in the database.
const FUTURE: SignedDuration = SignedDuration::from_hours(1);
const PAST: SignedDuration = SignedDuration::from_hours(400 * 24);

/// Unreadable lines of one read that are kept; the others are only counted.
const MAX_KEPT: usize = 1_000;
/// Of an unreadable line, what is kept.
const MAX_RAW: usize = 4 * 1024;

/// What one read came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub lines: BTreeMap<LineResult, i64>,
    /// By day, agency and event.
    pub events: BTreeMap<(Date, String, String), i64>,
    /// Days and agencies that had a visitor.
    pub visited: BTreeSet<(Date, String)>,
    /// By reason.
    pub rejected: BTreeMap<&'static str, i64>,
    /// The newest line's time.
    pub newest: Option<Timestamp>,
}

/// Reads lines of one log.
pub struct Counter<'a> {
    pub log: &'a AccessLog,
    pub robots: &'a Regex,
    pub org: &'a Org,
    pub now: Timestamp,
    pub visitors: &'a mut Visitors,
    pub tally: Tally,
    pub kept: Vec<RejectedRow>,
}

impl Counter<'_> {
    /// Counts whole lines, `first` being the number of the first.
    pub fn lines(&mut self, first: u64, bytes: &[u8]) -> Result<(), NoRandom> {
        for (line, number) in bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n').zip(first..) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > MAX_LINE {
                self.too_long(number, line);
                continue;
            }
            match line::parse(&self.log.format, self.log.agency_field.as_ref(), line).and_then(|r| self.believe(r)) {
                Ok(request) => {
                    let result = self.request(&request)?;
                    self.note(result);
                }
                Err(rejection) => self.reject(number, line, rejection),
            }
        }
        Ok(())
    }

    pub fn too_long(&mut self, number: u64, start: &[u8]) {
        let rejection = Rejection::new(Reason::Fields, format!("longer than {MAX_LINE} bytes"));
        self.reject(number, start, rejection);
    }

    fn reject(&mut self, line: u64, raw: &[u8], rejection: Rejection) {
        self.note(LineResult::Unreadable);
        *self.tally.rejected.entry(rejection.reason.as_str()).or_default() += 1;
        if self.kept.len() < MAX_KEPT {
            let raw = raw[..raw.len().min(MAX_RAW)].to_vec();
            self.kept.push(RejectedRow { line, rejection, raw });
        }
    }

    fn note(&mut self, result: LineResult) {
        *self.tally.lines.entry(result).or_default() += 1;
    }

    fn believe<'r>(&self, request: Request<'r>) -> Result<Request<'r>, Rejection> {
        let age = self.now.duration_since(request.time);
        if age < -FUTURE || age > PAST {
            let detail = format!("{} is more than an hour ahead, or more than 400 days ago", request.time);
            return Err(Rejection::new(Reason::Time, detail));
        }
        Ok(request)
    }

    fn request(&mut self, request: &Request<'_>) -> Result<LineResult, NoRandom> {
        let time = request.time;
        self.tally.newest = self.tally.newest.max(Some(time));
        let address: Option<IpAddr> = request.address.parse().ok();
        if self.is_excluded(request, address) {
            return Ok(LineResult::Excluded);
        }
        let Some(agency) = self.agency(request, address) else { return Ok(LineResult::Unattributed) };
        let day = self.org.date(time);
        self.event(day, &agency, &format!("status_{}xx", (request.status / 100).min(9)));
        if request.status >= 400 {
            // Who only met errors, as one who tries doors does, used nothing.
            return Ok(LineResult::Counted);
        }
        let log = self.log;
        for (name, _) in log.events.iter().filter(|(_, pattern)| pattern.is_match(&request.path)) {
            self.event(day, &agency, name);
        }
        let who = (&*request.user, &*request.address, &*request.agent);
        if !self.visitors.add(day, &agency, who)? {
            return Ok(LineResult::Late);
        }
        self.tally.visited.insert((day, agency));
        Ok(LineResult::Counted)
    }

    fn event(&mut self, day: Date, agency: &str, event: &str) {
        *self.tally.events.entry((day, agency.to_owned(), event.to_owned())).or_default() += 1;
    }

    fn is_excluded(&self, request: &Request<'_>, address: Option<IpAddr>) -> bool {
        let AccessLog { exclude_agents, exclude_paths, exclude_networks, .. } = self.log;
        address.is_some_and(|address| exclude_networks.iter().any(|network| network.contains(address)))
            || self.robots.is_match(&request.agent)
            || exclude_agents.iter().any(|pattern| pattern.is_match(&request.agent))
            || exclude_paths.iter().any(|pattern| pattern.is_match(&request.path))
    }

    /// As the line says, else by network, else the one for the rest.
    fn agency(&self, request: &Request<'_>, address: Option<IpAddr>) -> Option<String> {
        let named = match &*request.agency {
            "" => None,
            text => self.org.resolve(text, request.time),
        };
        let by_network = || {
            // The longest prefix stands first.
            let found = self.log.agency_of.iter().find(|(network, _)| address.is_some_and(|a| network.contains(a)));
            found.map(|(_, agency)| agency)
        };
        named.or_else(by_network).or(self.log.other.as_ref()).map(ToString::to_string)
    }
}
