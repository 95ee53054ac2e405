//! The tables of access logs: places, open days, lines by result; and what a read adds to the counts of usage.

use super::sketch::Sketch;
use super::tail::Mark;
use super::tally::Tally;
use super::visitors::{Day, Visitors};
use crate::config::Id;
use crate::gather::usage::tables::LOST;
use crate::org::Org;
use crate::store::{Doing, Store, StoreError, Tx, micros};
use jiff::civil::Date;
use sqlx::Row;
use std::collections::BTreeMap;

const READING: &str = "reading the place in an access log";
const WRITING: &str = "writing the counts of an access log";

/// What is kept beside the place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Of the file of rejected lines, and its length.
    pub rejected_day: String,
    pub rejected_bytes: u64,
    /// Users of this day and those before are not counted any more.
    pub closed: Option<Date>,
}

pub async fn load(store: &Store, app: &Id) -> Result<(Kept, Option<Mark>), StoreError> {
    let sql = "SELECT inode, written_us, previous_inode, offset_bytes, head, line, is_skipping, rejected_day, rejected_bytes, closed_day \
               FROM access_logs WHERE app = $1";
    let row = sqlx::query(sql).bind(app.as_str()).fetch_optional(store.reader()).await.doing(READING)?;
    let Some(row) = row else { return Ok((Kept::default(), None)) };
    // Written from unsigned numbers; the bits of an inode come back as they went.
    let number = |name: &str| row.try_get::<i64, _>(name).map(|n| n as u64);
    let decode = || {
        let mark = Mark {
            inode: number("inode")?,
            written_us: row.try_get("written_us")?,
            previous: number("previous_inode")?,
            offset: number("offset_bytes")?,
            head: row.try_get("head")?,
            line: number("line")?,
            is_skipping: number("is_skipping")? == 1,
        };
        let closed: String = row.try_get("closed_day")?;
        let kept = Kept {
            rejected_day: row.try_get("rejected_day")?,
            rejected_bytes: number("rejected_bytes")?,
            closed: closed.parse().ok(),
        };
        Ok((kept, Some(mark)))
    };
    decode().doing(READING)
}

/// The days that are open, with their keys and sketches.
pub async fn days(store: &Store, app: &Id) -> Result<BTreeMap<Date, Day>, StoreError> {
    let sql = "SELECT day, agency, sketch FROM access_log_users WHERE app = $1";
    let rows = sqlx::query(sql).bind(app.as_str()).fetch_all(store.reader()).await.doing(READING)?;
    let mut sketches: BTreeMap<String, BTreeMap<String, Sketch>> = BTreeMap::new();
    for row in rows {
        let text: String = row.try_get("sketch").doing(READING)?;
        // One that is damaged begins anew: too few users are better than none at all.
        let sketch = Sketch::decode(&text).unwrap_or_default();
        let day: String = row.try_get("day").doing(READING)?;
        sketches.entry(day).or_default().insert(row.try_get("agency").doing(READING)?, sketch);
    }
    let sql = "SELECT day, secret FROM access_log_days WHERE app = $1";
    let rows = sqlx::query(sql).bind(app.as_str()).fetch_all(store.reader()).await.doing(READING)?;
    let mut days = BTreeMap::new();
    for row in rows {
        let day: String = row.try_get("day").doing(READING)?;
        let secret: String = row.try_get("secret").doing(READING)?;
        if let Ok(date) = day.parse() {
            days.insert(date, Day::new(secret, sketches.remove(&day).unwrap_or_default()));
        }
    }
    Ok(days)
}

/// Adds what a read came to.
pub async fn count(tx: &mut Tx, app: &Id, tally: &Tally, visitors: &Visitors, org: &Org) -> Result<(), StoreError> {
    let mut totals: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for ((day, agency, event), n) in &tally.events {
        add_count(tx, app, agency, event, org.span_of(*day), *n).await?;
        *totals.entry((agency, event)).or_default() += n;
    }
    for ((agency, event), n) in totals {
        sqlx::query(
            "INSERT INTO usage_totals (app, agency, event, total) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (app, agency, event) DO UPDATE SET total = usage_totals.total + excluded.total",
        )
        .bind(app.as_str())
        .bind(agency)
        .bind(event)
        .bind(n)
        .execute(&mut **tx)
        .await
        .doing(WRITING)?;
    }
    for (day, agency) in &tally.visited {
        if let Some(open) = visitors.day(*day) {
            let Some(sketch) = open.agencies.get(agency) else { continue };
            save_users(tx, app, agency, org.span_of(*day), sketch.count()).await?;
            save_sketch(tx, app, *day, agency, (open.secret(), sketch)).await?;
        } else if let Some(users) = visitors.ended(*day, agency) {
            save_users(tx, app, agency, org.span_of(*day), users).await?;
        }
    }
    for (result, n) in &tally.lines {
        add_lines(tx, app, result.as_str(), *n).await?;
    }
    Ok(())
}

async fn add_count(
    tx: &mut Tx,
    app: &Id,
    agency: &str,
    event: &str,
    (from, to): (jiff::Timestamp, jiff::Timestamp),
    n: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO usage_counts (app, agency, event, from_us, to_us, value, counted) VALUES ($1, $2, $3, $4, $5, $6, $6) \
         ON CONFLICT (app, agency, event, from_us, to_us) DO UPDATE SET \
         value = usage_counts.value + excluded.value, counted = usage_counts.counted + excluded.counted",
    )
    .bind(app.as_str())
    .bind(agency)
    .bind(event)
    .bind(micros(from))
    .bind(micros(to))
    .bind(n)
    .execute(&mut **tx)
    .await
    .doing(WRITING)?;
    Ok(())
}

async fn save_users(
    tx: &mut Tx,
    app: &Id,
    agency: &str,
    (from, to): (jiff::Timestamp, jiff::Timestamp),
    users: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO usage_counts (app, agency, event, from_us, to_us, value, counted) VALUES ($1, $2, '', $3, $4, $5, $5) \
         ON CONFLICT (app, agency, event, from_us, to_us) DO UPDATE SET value = excluded.value, \
         counted = CASE WHEN usage_counts.counted > excluded.counted THEN usage_counts.counted ELSE excluded.counted END",
    )
    .bind(app.as_str())
    .bind(agency)
    .bind(micros(from))
    .bind(micros(to))
    .bind(users)
    .execute(&mut **tx)
    .await
    .doing(WRITING)?;
    Ok(())
}

/// What a day's users are counted from, while it is open.
async fn save_sketch(
    tx: &mut Tx,
    app: &Id,
    day: Date,
    agency: &str,
    (secret, sketch): (&str, &Sketch),
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO access_log_days (app, day, secret) VALUES ($1, $2, $3) ON CONFLICT (app, day) DO NOTHING")
        .bind(app.as_str())
        .bind(day.to_string())
        .bind(secret)
        .execute(&mut **tx)
        .await
        .doing(WRITING)?;
    sqlx::query(
        "INSERT INTO access_log_users (app, day, agency, sketch) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (app, day, agency) DO UPDATE SET sketch = excluded.sketch",
    )
    .bind(app.as_str())
    .bind(day.to_string())
    .bind(agency)
    .bind(sketch.encode())
    .execute(&mut **tx)
    .await
    .doing(WRITING)?;
    Ok(())
}

async fn add_lines(tx: &mut Tx, app: &Id, result: &str, n: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO access_log_lines (app, result, total) VALUES ($1, $2, $3) \
         ON CONFLICT (app, result) DO UPDATE SET total = access_log_lines.total + excluded.total",
    )
    .bind(app.as_str())
    .bind(result)
    .bind(n)
    .execute(&mut **tx)
    .await
    .doing(WRITING)?;
    Ok(())
}

/// Keeps the place, and forgets the days that are over.
pub async fn save(tx: &mut Tx, app: &Id, kept: &Kept, mark: &Mark, lost: bool) -> Result<(), StoreError> {
    if lost {
        add_lines(tx, app, LOST, 1).await?;
    }
    sqlx::query(
        "INSERT INTO access_logs (app, inode, written_us, previous_inode, offset_bytes, head, line, is_skipping, \
         rejected_day, rejected_bytes, closed_day) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '') \
         ON CONFLICT (app) DO UPDATE SET inode = excluded.inode, written_us = excluded.written_us, \
         previous_inode = excluded.previous_inode, offset_bytes = excluded.offset_bytes, head = excluded.head, line = excluded.line, \
         is_skipping = excluded.is_skipping, rejected_day = excluded.rejected_day, \
         rejected_bytes = excluded.rejected_bytes",
    )
    .bind(app.as_str())
    .bind(mark.inode as i64)
    .bind(mark.written_us)
    .bind(mark.previous as i64)
    .bind(mark.offset as i64)
    .bind(&mark.head)
    .bind(mark.line as i64)
    .bind(i64::from(mark.is_skipping))
    .bind(&kept.rejected_day)
    .bind(kept.rejected_bytes as i64)
    .execute(&mut **tx)
    .await
    .doing(WRITING)?;
    close(tx, app, kept.closed).await
}

/// Overwrites and deletes the keys and sketches of the days that are over.
pub async fn close(tx: &mut Tx, app: &Id, closed: Option<Date>) -> Result<(), StoreError> {
    const DOING: &str = "forgetting who used an application";
    let Some(closed) = closed.map(|day| day.to_string()) else { return Ok(()) };
    // As long as a key: SQLite writes it over the old one in place.
    let nothing = "0".repeat(64);
    let sql = "UPDATE access_log_days SET secret = $3 WHERE app = $1 AND day <= $2";
    sqlx::query(sql).bind(app.as_str()).bind(&closed).bind(nothing).execute(&mut **tx).await.doing(DOING)?;
    for sql in [
        "DELETE FROM access_log_days WHERE app = $1 AND day <= $2",
        "DELETE FROM access_log_users WHERE app = $1 AND day <= $2",
        "UPDATE access_logs SET closed_day = $2 WHERE app = $1 AND closed_day < $2",
    ] {
        sqlx::query(sql).bind(app.as_str()).bind(&closed).execute(&mut **tx).await.doing(DOING)?;
    }
    Ok(())
}
