//! Working days and hours, from the calendar.

use crate::config::organisation::Calendar;
use jiff::civil::{Date, DateTime};

/// What kind of day it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day<'a> {
    Working,
    /// Worked in exchange for a holiday.
    MakeUp,
    /// By name.
    Holiday(&'a str),
    /// Not one of the days of the week that are worked.
    Weekend,
}

/// A holiday wins over what it falls on.
pub(super) fn day(calendar: &Calendar, date: Date) -> Day<'_> {
    let holiday = calendar.holidays.iter().find(|holiday| holiday.from <= date && date <= holiday.to);
    match holiday {
        Some(holiday) => Day::Holiday(&holiday.name),
        None if calendar.days.contains(&date.weekday()) => Day::Working,
        None if calendar.working.contains(&date) => Day::MakeUp,
        None => Day::Weekend,
    }
}

/// A working weekday or make-up day that is no holiday.
pub(super) fn is_working_day(calendar: &Calendar, date: Date) -> bool {
    matches!(day(calendar, date), Day::Working | Day::MakeUp)
}

/// Within the hours (the end exclusive) of a working day, in site time.
pub(super) fn is_working_time(calendar: &Calendar, at: DateTime) -> bool {
    calendar.from <= at.time() && at.time() < calendar.to && is_working_day(calendar, at.date())
}
