//! ISO weeks in site time: how they are written, when they begin and end, when their evaluation is due.

use jiff::Timestamp;
use jiff::civil::{Date, ISOWeekDate, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};
use std::fmt;

/// A week, Monday to Sunday, of the ISO calendar. Written `2026-W47`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Week {
    monday: Date,
}

impl Week {
    pub fn containing(date: Date) -> Week {
        let back = i64::from(date.weekday().since(Weekday::Monday));
        Week { monday: date.saturating_sub(back.days()) }
    }

    /// Reads `2026-W47`; `None` if it is not written so or the year has no such week.
    pub fn parse(text: &str) -> Option<Week> {
        let (year, week) = text.split_once("-W")?;
        let digits = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(week, 2) {
            return None;
        }
        let date = ISOWeekDate::new(year.parse().ok()?, week.parse().ok()?, Weekday::Monday).ok()?.date();
        Some(Week { monday: date })
    }

    pub fn previous(self) -> Week {
        Week { monday: self.monday.saturating_sub(days(7)) }
    }

    pub fn next(self) -> Week {
        Week { monday: self.monday.saturating_add(days(7)) }
    }

    pub fn monday(self) -> Date {
        self.monday
    }

    pub fn sunday(self) -> Date {
        self.monday.saturating_add(days(6))
    }

    /// From the first midnight (inclusive) to the last (exclusive), in the site's time.
    pub fn range(self, zone: &TimeZone) -> (Timestamp, Timestamp) {
        (moment(self.monday, Time::midnight(), zone), moment(self.next().monday, Time::midnight(), zone))
    }

    /// When the week is evaluated: the first `day` at `time` after its end.
    pub fn due(self, day: Weekday, time: Time, zone: &TimeZone) -> Timestamp {
        let after = i64::from(day.since(Weekday::Monday));
        moment(self.next().monday.saturating_add(days(after)), time, zone)
    }

    /// The latest week whose evaluation is due at `now`.
    pub fn latest_due(now: Timestamp, day: Weekday, time: Time, zone: &TimeZone) -> Week {
        let mut week = Week::containing(now.to_zoned_datetime(zone.clone()).date()).previous();
        while week.due(day, time, zone) > now {
            week = week.previous();
        }
        week
    }
}

impl fmt::Display for Week {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.monday.iso_week_date();
        write!(f, "{:04}-W{:02}", date.year(), date.week())
    }
}

fn days(count: i64) -> Span {
    count.days()
}

/// The moment of a wall-clock time; one that the zone skips or repeats is taken as the zone's rules suggest.
fn moment(date: Date, time: Time, zone: &TimeZone) -> Timestamp {
    zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, time};

    fn saigon() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(7))
    }

    #[test]
    fn weeks_are_read_as_they_are_written() {
        for text in ["2026-W47", "2020-W53", "2027-W01"] {
            assert_eq!(Week::parse(text).map(|week| week.to_string()).as_deref(), Some(text));
        }
        for bad in ["2026-47", "2026-W54", "2021-W53", "2026-W00", "26-W01", "2026-W7", "+026-W47", "2026-W47x", ""] {
            assert_eq!(Week::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_week_runs_from_monday_to_monday_in_site_time() {
        let week = Week::parse("2026-W47").unwrap();
        assert_eq!((week.monday(), week.sunday()), (date(2026, 11, 16), date(2026, 11, 22)));
        let (from, to) = week.range(&saigon());
        assert_eq!(from, "2026-11-15T17:00:00Z".parse().unwrap());
        assert_eq!(to, "2026-11-22T17:00:00Z".parse().unwrap());
        assert_eq!(Week::containing(date(2026, 11, 22)), week);
        assert_eq!(Week::containing(date(2026, 11, 23)), week.next());
        // A zone with summer time has a week of 167 hours.
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let (from, to) = Week::parse("2026-W13").unwrap().range(&berlin);
        assert_eq!(to.duration_since(from).as_hours(), 167);
    }

    #[test]
    fn a_week_is_due_at_the_first_scheduled_time_after_its_end() {
        let rows = [
            // now (UTC), day, latest week due
            ("2026-11-22T23:59:59Z", Weekday::Monday, "2026-W46"),
            ("2026-11-23T00:00:00Z", Weekday::Monday, "2026-W47"),
            ("2026-11-29T12:00:00Z", Weekday::Monday, "2026-W47"),
            ("2026-11-28T23:00:00Z", Weekday::Sunday, "2026-W46"),
            ("2026-11-29T00:00:00Z", Weekday::Sunday, "2026-W47"),
        ];
        for (now, day, expected) in rows {
            let week = Week::latest_due(now.parse().unwrap(), day, time(7, 0, 0, 0), &saigon());
            assert_eq!(week.to_string(), expected, "{now}");
        }
    }
}
