//! Tells when a feed's rows are overdue. The rule is pure; the series and when rows last came stand beside it.

use super::{Feed, FeedError, Place, Polled};
use crate::config::feeds::{Arrival, Expect};
use crate::metrics::columns::feed as columns;
use crate::store::{Doing, StoreError, from_micros, micros};
use futures_util::future::BoxFuture;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sqlx::Row;

/// Days in which the next deadline must come: holidays are not as long.
const HORIZON: usize = 62;

/// A feed whose rows are due at some time.
pub(super) struct Expected {
    pub feed: Box<dyn Feed>,
    pub expect: Expect,
    /// Of the deadlines.
    pub zone: TimeZone,
}

impl Feed for Expected {
    fn id(&self) -> &str {
        self.feed.id()
    }

    fn start(&self, place: &Place) {
        self.feed.start(place);
    }

    fn poll<'a>(&'a mut self, place: &'a Place, now: Timestamp) -> BoxFuture<'a, Result<Polled, FeedError>> {
        Box::pin(async move {
            let polled = self.feed.poll(place, now).await;
            let (since, last) = arrivals(place, self.feed.id(), now).await?;
            let is_working = |date| place.org.is_working_day(date);
            let late = overdue(&self.expect, &self.zone, &is_working, since, last, now);
            let table = place.metrics.table(columns::TABLE);
            let row = table.row(&[place.org.site().as_str(), self.feed.id()]);
            table.set(row, columns::OVERDUE, late.as_secs_f64());
            polled
        })
    }
}

/// When the feed was first seen, which may be now, and when rows last came.
async fn arrivals(place: &Place, feed: &str, now: Timestamp) -> Result<(Timestamp, Option<Timestamp>), StoreError> {
    const DOING: &str = "reading when rows last came";
    let sql = "SELECT since_us, rows_us FROM feed_positions WHERE feed = $1";
    if let Some(row) = sqlx::query(sql).bind(feed).fetch_optional(place.store.reader()).await.doing(DOING)? {
        let since: i64 = row.try_get("since_us").doing(DOING)?;
        let last: i64 = row.try_get("rows_us").doing(DOING)?;
        return Ok((from_micros(since), (last > 0).then(|| from_micros(last))));
    }
    let mut tx = place.store.begin().await?;
    note(&mut tx, feed, false, now).await?;
    tx.commit().await?;
    Ok((now, None))
}

/// Notes that the feed was seen, and with `came` that rows were written.
pub(super) async fn note(tx: &mut crate::store::Tx, feed: &str, came: bool, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO feed_positions (feed, mapping, position, kept_file, kept_bytes, since_us, rows_us) \
         VALUES ($1, '', '', '', 0, $2, $3) ON CONFLICT (feed) DO UPDATE SET \
         rows_us = CASE WHEN excluded.rows_us > 0 THEN excluded.rows_us ELSE feed_positions.rows_us END",
    )
    .bind(feed)
    .bind(micros(now))
    .bind(if came { micros(now) } else { 0 })
    .execute(&mut **tx)
    .await
    .doing("writing when rows came")?;
    Ok(())
}

/// How long rows are overdue; zero while they are not. `since`: when the feed was first seen.
fn overdue(
    expect: &Expect,
    zone: &TimeZone,
    is_working: &dyn Fn(Date) -> bool,
    since: Timestamp,
    last: Option<Timestamp>,
    now: Timestamp,
) -> SignedDuration {
    let due = match expect {
        Expect::Every(every) => {
            let every = SignedDuration::try_from(*every).unwrap_or(SignedDuration::MAX);
            last.unwrap_or(since).checked_add(every).ok()
        }
        Expect::By { time, days } => {
            let counts = |date: Date| match days {
                Arrival::Working => is_working(date),
                Arrival::Weekdays(days) => days.contains(&date.weekday()),
            };
            let deadlines = |from: Date| {
                let days = from.series(jiff::Span::new().days(1)).take(HORIZON).filter(|date| counts(*date));
                days.filter_map(|date| zone.to_timestamp(date.to_datetime(*time)).ok())
            };
            let after = |at: Timestamp| {
                let date = at.to_zoned_datetime(zone.clone()).date();
                deadlines(date).find(|deadline| *deadline > at)
            };
            match last {
                None => after(since),
                Some(last) => {
                    let date = last.to_zoned_datetime(zone.clone()).date();
                    let begin = date.checked_sub(jiff::Span::new().days(31)).unwrap_or(Date::MIN);
                    let before = deadlines(begin).take_while(|deadline| *deadline <= last).last();
                    // What comes soon after a deadline was late; what comes long after it is early for the next.
                    let met = match (before, after(last)) {
                        (Some(before), Some(next)) if last.duration_since(before) * 2 < next.duration_since(before) => {
                            Some(before)
                        }
                        (_, next) => next,
                    };
                    met.and_then(after)
                }
            }
        }
    };
    due.map_or(SignedDuration::ZERO, |due| now.duration_since(due).max(SignedDuration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::Weekday;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn rows_are_overdue_from_their_deadline_on_and_no_weekend_counts() {
        let zone = TimeZone::fixed(jiff::tz::offset(7));
        let is_working = |date: Date| !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        let by = Expect::By { time: jiff::civil::time(9, 0, 0, 0), days: Arrival::Working };
        let every = Expect::Every(std::time::Duration::from_secs(3_600));
        // 2026-11-23 is a Monday. Columns: since, last, now, hours overdue.
        let rows = [
            ("never came, not yet due", &by, "23T08:00", None, "23T08:59", 0),
            ("never came", &by, "23T08:00", None, "23T11:00", 2),
            ("first seen after the deadline", &by, "23T10:00", None, "24T08:00", 0),
            ("came at night", &by, "20T08:00", Some("23T02:00"), "23T12:00", 0),
            ("came at night, the next is missing", &by, "20T08:00", Some("23T02:00"), "24T12:00", 3),
            ("came late, the next is missing", &by, "20T08:00", Some("23T11:00"), "24T12:00", 3),
            ("came in the evening for the next day", &by, "20T08:00", Some("23T22:00"), "24T12:00", 0),
            ("missing for two days", &by, "20T08:00", Some("23T02:00"), "25T09:00", 24),
            ("Friday's came, it is Sunday", &by, "20T08:00", Some("27T02:00"), "29T12:00", 0),
            ("Friday's came, Monday's did not", &by, "20T08:00", Some("27T02:00"), "30T10:00", 1),
            ("every hour, in time", &every, "23T08:00", Some("23T08:30"), "23T09:30", 0),
            ("every hour, late", &every, "23T08:00", Some("23T08:30"), "23T12:30", 3),
            ("every hour, never", &every, "23T08:00", None, "23T10:00", 1),
        ];
        let moment = |text: &str| at(&format!("2026-11-{text}:00+07:00"));
        for (name, expect, since, last, now, hours) in rows {
            let late = overdue(expect, &zone, &is_working, moment(since), last.map(moment), moment(now));
            assert_eq!(late.as_hours(), hours, "{name}");
        }
    }
}
