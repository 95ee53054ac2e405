//! Working days and hours, from the calendar.

use crate::config::organisation::Calendar;
use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, ToSpan};

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

/// Days that a working time is looked for at most: beyond, it is as long as they are.
const LONGEST: i32 = 3_660;

/// The working time between two moments of site time; nothing if the second is not later.
pub(super) fn between(calendar: &Calendar, from: DateTime, to: DateTime) -> SignedDuration {
    let mut total = SignedDuration::ZERO;
    let mut day = from.date();
    for _ in 0..LONGEST {
        if day > to.date() {
            break;
        }
        if is_working_day(calendar, day) {
            let begin = day.to_datetime(calendar.from).max(from);
            let end = day.to_datetime(calendar.to).min(to);
            if begin < end {
                total += end.duration_since(begin);
            }
        }
        let Ok(next) = day.tomorrow() else { break };
        day = next;
    }
    total
}

/// Working days from `first` to `last`, both inclusive.
pub(super) fn days(calendar: &Calendar, first: Date, last: Date) -> u32 {
    let days = first.series(1.day()).take_while(|day| *day <= last).take(LONGEST as usize);
    days.filter(|day| is_working_day(calendar, *day)).count() as u32
}

/// How much of the day's working time is over, from 0 to 1; 0 on other days.
pub(super) fn elapsed_of_day(calendar: &Calendar, at: DateTime) -> f64 {
    if !is_working_day(calendar, at.date()) {
        return 0.0;
    }
    let seconds =
        |time: jiff::civil::Time| f64::from(time.duration_since(jiff::civil::Time::midnight()).as_secs() as i32);
    let (from, to) = (seconds(calendar.from), seconds(calendar.to));
    ((seconds(at.time()) - from) / (to - from)).clamp(0.0, 1.0)
}

/// When a period with this end is over. A date alone (midnight) means the end of its working hours; a day that is not worked
/// moves the end to that of the next working day, as the Civil Code (2015, article 148) has it.
pub(super) fn due(calendar: &Calendar, stated: DateTime) -> DateTime {
    let is_date = stated.time() == jiff::civil::Time::midnight();
    if is_working_day(calendar, stated.date()) {
        return if is_date { stated.date().to_datetime(calendar.to) } else { stated };
    }
    let next = stated.date().series(1.day()).take(367).find(|day| is_working_day(calendar, *day));
    next.map_or(stated, |day| day.to_datetime(calendar.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::organisation::Holiday;
    use jiff::civil::{date, datetime, time};

    fn calendar() -> Calendar {
        let culture_day = date(2026, 11, 24);
        let holiday = Holiday { name: "Ngày Văn hóa Việt Nam".into(), from: culture_day, to: culture_day };
        Calendar {
            from: time(8, 0, 0, 0),
            to: time(16, 0, 0, 0),
            holidays: vec![holiday],
            working: vec![date(2026, 11, 28)],
            ..Calendar::default()
        }
    }

    #[test]
    fn working_time_leaves_out_nights_weekends_and_holidays_and_counts_make_up_days() {
        let hours = |from: DateTime, to: DateTime| between(&calendar(), from, to).as_secs() as f64 / 3_600.0;
        let (friday, monday) = (date(2026, 11, 20), date(2026, 11, 23));
        let rows = [
            (friday.at(15, 0, 0, 0), monday.at(9, 0, 0, 0), 2.0),
            (friday.at(18, 0, 0, 0), monday.at(7, 0, 0, 0), 0.0),
            (monday.at(8, 0, 0, 0), date(2026, 11, 25).at(16, 0, 0, 0), 16.0),
            (date(2026, 11, 27).at(16, 0, 0, 0), date(2026, 11, 29).at(23, 0, 0, 0), 8.0),
            (monday.at(9, 0, 0, 0), friday.at(9, 0, 0, 0), 0.0),
        ];
        for (from, to, expected) in rows {
            assert_eq!(hours(from, to), expected, "{from} to {to}");
        }
        // November 2026: 21 weekdays, less the holiday, and a Saturday.
        assert_eq!(days(&calendar(), date(2026, 11, 1), date(2026, 11, 30)), 21);
        assert_eq!(elapsed_of_day(&calendar(), datetime(2026, 11, 26, 14, 0, 0, 0)), 0.75);
        assert_eq!(elapsed_of_day(&calendar(), datetime(2026, 11, 24, 14, 0, 0, 0)), 0.0);
    }

    #[test]
    fn a_due_date_is_the_end_of_its_day_and_never_a_day_off() {
        let rows = [
            (datetime(2026, 11, 26, 0, 0, 0, 0), datetime(2026, 11, 26, 16, 0, 0, 0)),
            (datetime(2026, 11, 26, 11, 30, 0, 0), datetime(2026, 11, 26, 11, 30, 0, 0)),
            (datetime(2026, 11, 24, 0, 0, 0, 0), datetime(2026, 11, 25, 16, 0, 0, 0)),
            (datetime(2026, 11, 21, 9, 0, 0, 0), datetime(2026, 11, 23, 16, 0, 0, 0)),
            (datetime(2026, 11, 28, 0, 0, 0, 0), datetime(2026, 11, 28, 16, 0, 0, 0)),
        ];
        for (stated, expected) in rows {
            assert_eq!(due(&calendar(), stated), expected, "{stated}");
        }
    }
}
