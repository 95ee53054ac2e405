//! Working days and hours, from the calendar.

use crate::config::organisation::Calendar;
use jiff::civil::{Date, DateTime};

/// A working weekday or make-up day that is no holiday.
pub(super) fn is_working_day(calendar: &Calendar, date: Date) -> bool {
    let is_worked = calendar.days.contains(&date.weekday()) || calendar.working.contains(&date);
    is_worked && !calendar.holidays.iter().any(|holiday| holiday.from <= date && date <= holiday.to)
}

/// Within the hours (the end exclusive) of a working day, in site time.
pub(super) fn is_working_time(calendar: &Calendar, at: DateTime) -> bool {
    calendar.from <= at.time() && at.time() < calendar.to && is_working_day(calendar, at.date())
}
