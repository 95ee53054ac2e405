//! `usage: targets`: how many dossiers an agency is to reach in a month, quarter or year, and from when to when that holds.
//!
//! The list stands in the configuration or in a data file of its own, which a registry of hundreds of communes is.

use crate::config::Id;
use crate::config::decode::{self, Context, Section};
use crate::config::node::{Node, Place};
use jiff::civil::Date;

/// What an agency is to reach, again in every period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The label value `target`. Several targets of one id and agency follow each other in time.
    pub id: Id,
    pub name: String,
    pub agency: Id,
    /// A step of a dossier (`submitted` …).
    pub step: &'static str,
    /// `online` or `counter`; both without it.
    pub channel: Option<&'static str>,
    /// Dossiers in the period.
    pub goal: u64,
    pub every: Period,
    /// Both inclusive.
    pub from: Option<Date>,
    pub to: Option<Date>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    Month,
    Quarter,
    Year,
}

impl Period {
    /// The first and the last day of the period that holds `day`.
    pub fn around(self, day: Date) -> (Date, Date) {
        let months = match self {
            Period::Month => 1,
            Period::Quarter => 3,
            Period::Year => 12,
        };
        let first = (day.month() - 1) / months * months + 1;
        let last = first + months - 1;
        let start = Date::new(day.year(), first, 1).unwrap_or(day);
        let end = Date::new(day.year(), last, 1).map_or(day, Date::last_of_month);
        (start, end)
    }
}

impl Target {
    /// Whether it holds on a day.
    pub fn holds(&self, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day <= to)
    }
}

const STEPS: [(&str, &str); 5] = [
    ("submitted", "submitted"),
    ("receipted", "receipted"),
    ("processed", "processed"),
    ("paid", "paid"),
    ("returned", "returned"),
];

/// A list, or the path of a file that holds one under `targets`.
pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Target>> {
    if node.as_text().is_none() {
        return list(cx, node);
    }
    let file = decode::readable_file(cx, node)?;
    let root = Node::read_file(&file, cx.problems)?;
    // Ids are those of the configuration; places those of the data file.
    let mut inner = Context::new(&file, cx.problems, cx.zone.clone());
    inner.agencies.clone_from(&cx.agencies);
    let section = Section::open(&mut inner, &root, "targets file", &["targets"], &[])?;
    section.required(&mut inner, "targets", list)
}

fn list(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Target>> {
    let places: Vec<Place> = node.as_sequence().unwrap_or_default().iter().map(|node| node.place).collect();
    // Wrong ones keep their place in the list until what follows each other was compared.
    let mut elements = places.iter();
    let read = decode::list(|cx: &mut Context<'_>, node| {
        let place = elements.next().copied().unwrap_or(node.place);
        Some((place, target(cx, node)))
    })(cx, node)?;
    let sound: Vec<(Place, Target)> = read.into_iter().filter_map(|(place, target)| Some((place, target?))).collect();
    for (index, (place, target)) in sound.iter().enumerate() {
        let same = |other: &Target| other.id == target.id && other.agency == target.agency;
        if let Some((earlier, _)) = sound[..index].iter().find(|(_, other)| same(other) && overlap(other, target)) {
            let Target { id, agency, .. } = target;
            let message =
                format!("target: \"{id}\" of {agency} holds at the same time as the one on line {}", earlier.line);
            cx.error(*place, message);
        }
    }
    Some(sound.into_iter().map(|(_, target)| target).collect())
}

fn overlap(a: &Target, b: &Target) -> bool {
    let begins = |target: &Target| target.from.unwrap_or(Date::MIN);
    let ends = |target: &Target| target.to.unwrap_or(Date::MAX);
    begins(a) <= ends(b) && begins(b) <= ends(a)
}

fn target(cx: &mut Context<'_>, node: &Node) -> Option<Target> {
    const KEYS: &[&str] = &["id", "name", "agency", "step", "channel", "goal", "every", "from", "to"];
    let section = Section::open(cx, node, "target", KEYS, &[])?;
    let id = section.required(cx, "id", decode::id);
    let name = section.optional(cx, "name", decode::name);
    let agency = section.required(cx, "agency", decode::agency);
    let step = section.optional(cx, "step", decode::choice(&STEPS)).unwrap_or("submitted");
    let channel = section.optional(cx, "channel", decode::choice(&[("online", "online"), ("counter", "counter")]));
    let goal = section.required(cx, "goal", decode::integer(1..=1_000_000_000));
    let periods = [("month", Period::Month), ("quarter", Period::Quarter), ("year", Period::Year)];
    let every = section.required(cx, "every", decode::choice(&periods));
    let from = section.optional(cx, "from", decode::date);
    let to = section.optional(cx, "to", decode::date);
    if let (Some(first), Some(last), Some(node)) = (from, to, section.get("to"))
        && last < first
    {
        cx.error(node.place, format!("to: {last} is before from ({first})"));
        return None;
    }
    let id = id?;
    let name = name.unwrap_or_else(|| id.to_string());
    Some(Target { id, name, agency: agency?, step, channel, goal: goal?, every: every?, from, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn periods_are_those_of_the_calendar() {
        let rows = [
            (Period::Month, date(2026, 2, 14), date(2026, 2, 1), date(2026, 2, 28)),
            (Period::Month, date(2024, 2, 29), date(2024, 2, 1), date(2024, 2, 29)),
            (Period::Quarter, date(2026, 11, 26), date(2026, 10, 1), date(2026, 12, 31)),
            (Period::Quarter, date(2026, 1, 1), date(2026, 1, 1), date(2026, 3, 31)),
            (Period::Year, date(2026, 11, 26), date(2026, 1, 1), date(2026, 12, 31)),
        ];
        for (period, day, first, last) in rows {
            assert_eq!(period.around(day), (first, last), "{period:?} around {day}");
        }
    }
}
