//! When a feed's rows are due: `expect`.

use crate::config::decode::{self, Context, DAY, MINUTE, Section, WEEKDAYS};
use crate::config::node::Node;
use jiff::civil::{Time, Weekday};
use std::time::Duration;

/// When a feed's rows are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// So long after the ones before, at the latest.
    Every(Duration),
    /// By this time of the day (of the feed's time zone), on these days.
    By { time: Time, days: Arrival },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// The calendar's working days.
    Working,
    Weekdays(Vec<Weekday>),
}

impl Expect {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Expect> {
        let section = Section::open(cx, node, "expect", &["every", "by", "days"], &[])?;
        let every = section.optional(cx, "every", decode::duration(MINUTE..=31 * DAY));
        let by = section.optional(cx, "by", decode::time_of_day);
        let days = section.optional(cx, "days", days);
        match (section.get("every").is_some(), section.get("by").is_some()) {
            (true, false) if section.get("days").is_some() => {
                cx.error(section.place, "expect: \"days\" belongs to \"by\"");
                None
            }
            (true, false) => every.map(Expect::Every),
            (false, true) => by.map(|time| Expect::By { time, days: days.unwrap_or(Arrival::Working) }),
            _ => {
                cx.error(section.place, "expect: expected one of \"every\" and \"by\"");
                None
            }
        }
    }
}

fn days(cx: &mut Context<'_>, node: &Node) -> Option<Arrival> {
    match node.as_text() {
        Some("working") => Some(Arrival::Working),
        Some("all") => Some(Arrival::Weekdays(WEEKDAYS.iter().map(|(_, day)| *day).collect())),
        Some(_) => {
            cx.expected(node, "working, all, or a list such as [mon, fri]");
            None
        }
        None => {
            let days = decode::list(decode::weekday)(cx, node)?;
            if node.as_sequence().is_none_or(<[Node]>::is_empty) {
                cx.expected(node, "working, all, or a list such as [mon, fri]");
                return None;
            }
            Some(Arrival::Weekdays(days))
        }
    }
}
