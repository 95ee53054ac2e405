//! Section `calendar` and the calendar files it names: holidays and make-up working days.

use super::Problems;
use super::decode::{self, Context, Section};
use super::glob;
use super::lunar;
use super::node::Node;
use super::organisation::{Calendar, Holiday};
use jiff::civil::{Date, Weekday, time};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A holiday longer than this many days is taken for a mistyped date.
const LONGEST_HOLIDAY: i32 = 31;

impl Default for Calendar {
    fn default() -> Calendar {
        use Weekday::{Friday, Monday, Thursday, Tuesday, Wednesday};
        Calendar {
            days: vec![Monday, Tuesday, Wednesday, Thursday, Friday],
            from: time(7, 30, 0, 0),
            to: time(17, 0, 0, 0),
            holidays: Vec::new(),
            working: Vec::new(),
        }
    }
}

impl Calendar {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Calendar> {
        let section = Section::open(cx, node, "calendar", &["working_hours", "files", "holidays"], &[])?;
        let mut calendar = Calendar::default();
        section.optional(cx, "working_hours", |cx, node| working_hours(cx, node, &mut calendar));
        let files = section.optional(cx, "files", decode::list(glob::files)).unwrap_or_default();
        let files: BTreeSet<PathBuf> = files.into_iter().flatten().collect();
        for file in files {
            read_file(cx.problems, &file, &cx.zone, &mut calendar);
        }
        calendar.holidays.extend(section.optional(cx, "holidays", decode::list(Holiday::decode)).unwrap_or_default());
        Some(calendar)
    }
}

fn working_hours(cx: &mut Context<'_>, node: &Node, calendar: &mut Calendar) -> Option<()> {
    let section = Section::open(cx, node, "working_hours", &["days", "from", "to"], &[])?;
    if let Some(days) = section.optional(cx, "days", decode::list(decode::weekday)) {
        calendar.days = days;
    }
    let from = section.optional(cx, "from", decode::time_of_day);
    let to = section.optional(cx, "to", decode::time_of_day);
    calendar.from = from.unwrap_or(calendar.from);
    calendar.to = to.unwrap_or(calendar.to);
    let all_read = from.is_some() == section.get("from").is_some() && to.is_some() == section.get("to").is_some();
    if all_read && calendar.to <= calendar.from {
        cx.error(section.place, "working_hours: \"to\" is not after \"from\"");
    }
    if section.get("days").is_some_and(|node| node.as_sequence().is_some_and(<[Node]>::is_empty)) {
        cx.error(section.place, "working_hours: \"days\" is empty, so nobody would ever work");
    }
    Some(())
}

/// A data file: `holidays`, and `working` days in exchange.
fn read_file(problems: &mut Problems, file: &std::path::Path, zone: &jiff::tz::TimeZone, calendar: &mut Calendar) {
    let Some(node) = Node::read_file(file, problems) else { return };
    let mut cx = Context::new(file, problems, zone.clone());
    let Some(section) = Section::open(&mut cx, &node, "calendar file", &["holidays", "working"], &[]) else { return };
    let holidays = section.required(&mut cx, "holidays", decode::list(Holiday::decode)).unwrap_or_default();
    let working: Vec<Date> = section.optional(&mut cx, "working", decode::list(decode::date)).unwrap_or_default();
    for (index, date) in working.iter().enumerate() {
        let is_holiday = holidays.iter().any(|holiday| holiday.from <= *date && *date <= holiday.to);
        let place = section.get("working").and_then(Node::as_sequence).and_then(|nodes| nodes.get(index));
        if is_holiday {
            let place = place.map_or(section.place, |node| node.place);
            cx.error(place, format!("working: {date} is a holiday of this file"));
        }
    }
    check_lunar(&mut cx, section.get("holidays"), &holidays);
    calendar.holidays.extend(holidays);
    calendar.working.extend(working);
}

/// What a holiday that goes by the moon is called, and its day in a year.
const LUNAR: [(&str, fn(i16) -> Option<Date>); 2] =
    [("Tết Nguyên đán", lunar::new_year), ("Giỗ Tổ Hùng Vương", lunar::hung_kings)];

/// The dates of these holidays are worked out anew every year, by hand: a slip would make a working day of Tết.
fn check_lunar(cx: &mut Context<'_>, node: Option<&Node>, holidays: &[Holiday]) {
    let nodes = node.and_then(Node::as_sequence).unwrap_or_default();
    for holiday in holidays {
        let known = LUNAR.iter().find(|(name, _)| holiday.name.starts_with(name));
        let Some((name, Some(day))) = known.map(|(name, day)| (name, day(holiday.from.year()))) else { continue };
        if holiday.from <= day && day <= holiday.to {
            continue;
        }
        let dated = holiday.from.to_string();
        let is_it = |node: &&Node| node.get("from").and_then(Node::as_text) == Some(dated.as_str());
        let place = nodes.iter().find(is_it).and_then(|node| node.get("from")).map(|node| node.place);
        if let Some(place) = place {
            cx.error(place, format!("from: {name} of {} falls on {day} by the moon at UTC+7", day.year()));
        }
    }
}

impl Holiday {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Holiday> {
        let section = Section::open(cx, node, "holiday", &["name", "from", "to"], &[])?;
        let name = section.required(cx, "name", decode::name);
        let from = section.required(cx, "from", decode::date);
        // One day needs no second date.
        let to = if section.get("to").is_some() { section.optional(cx, "to", decode::date) } else { from };
        let (name, from, to) = (name?, from?, to?);
        let place = section.get("to").map_or(section.place, |node| node.place);
        if to < from {
            cx.error(place, format!("to: {to} is before from ({from})"));
            return None;
        }
        let days = from.until(to).map_or(i32::MAX, |span| span.get_days()) + 1;
        if days > LONGEST_HOLIDAY {
            cx.error(place, format!("to: {days} days of holiday, at most {LONGEST_HOLIDAY} are allowed"));
            return None;
        }
        Some(Holiday { name, from, to })
    }
}
