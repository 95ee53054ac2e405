//! The tables of usage: rows by period, totals, and what is asked about them.

use super::rows::{Channel, DossierRow, Outcome, Step, UsageRow};
use super::unused::Use;
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use jiff::Timestamp;
use sqlx::Row;
use std::collections::{BTreeMap, HashSet};

const WRITING: &str = "writing usage counts";
const READING: &str = "reading usage counts";

/// What is known of a count.
#[derive(Clone, Copy, Default)]
struct Known {
    /// As it holds.
    value: i64,
    /// The most it ever was: what the total holds.
    counted: i64,
    updated_us: i64,
}

impl Known {
    fn of(row: Option<sqlx::any::AnyRow>) -> Result<Known, sqlx::Error> {
        let Some(row) = row else { return Ok(Known { updated_us: i64::MIN, ..Known::default() }) };
        Ok(Known {
            value: row.try_get("value")?,
            counted: row.try_get("counted")?,
            updated_us: row.try_get("updated_us")?,
        })
    }

    /// After a report of `value`, corrected at `updated_us`. The later correction holds, in whatever order they come; of two
    /// of the same moment the greater. Where a feed does not say, the last one read does.
    fn report(self, value: i64, updated_us: i64) -> Known {
        let counted = self.counted.max(value);
        let is_later = match updated_us.cmp(&self.updated_us) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => updated_us == 0 || value > self.value,
            std::cmp::Ordering::Less => false,
        };
        if is_later { Known { value, counted, updated_us } } else { Known { counted, ..self } }
    }
}

pub(super) async fn write_usage(tx: &mut Tx, app: &str, rows: &[UsageRow]) -> Result<(), StoreError> {
    let mut totals: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for row in rows {
        let users = row.active_users.map(|users| ("", users));
        let event = row.event.as_ref().map(|(event, count)| (event.as_str(), *count));
        for (event, value) in users.into_iter().chain(event) {
            let more = write_count(tx, app, row, event, value).await?;
            if !event.is_empty() {
                *totals.entry((&row.agency, event)).or_default() += more;
            }
        }
    }
    for ((agency, event), more) in totals {
        sqlx::query(
            "INSERT INTO usage_totals (app, agency, event, total) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (app, agency, event) DO UPDATE SET total = usage_totals.total + excluded.total",
        )
        .bind(app)
        .bind(agency)
        .bind(event)
        .bind(more)
        .execute(&mut **tx)
        .await
        .doing(WRITING)?;
    }
    Ok(())
}

/// Writes one count and gives what its total grows by.
async fn write_count(tx: &mut Tx, app: &str, row: &UsageRow, event: &str, value: i64) -> Result<i64, StoreError> {
    let known = sqlx::query(
        "SELECT value, counted, updated_us FROM usage_counts \
         WHERE app = $1 AND agency = $2 AND event = $3 AND from_us = $4 AND to_us = $5",
    )
    .bind(app)
    .bind(&row.agency)
    .bind(event)
    .bind(row.from_us)
    .bind(row.to_us)
    .fetch_optional(&mut **tx)
    .await
    .and_then(Known::of)
    .doing(READING)?;
    let now = known.report(value, row.updated_us);
    sqlx::query(
        "INSERT INTO usage_counts (app, agency, event, from_us, to_us, value, counted, updated_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (app, agency, event, from_us, to_us) \
         DO UPDATE SET value = excluded.value, counted = excluded.counted, updated_us = excluded.updated_us",
    )
    .bind(app)
    .bind(&row.agency)
    .bind(event)
    .bind(row.from_us)
    .bind(row.to_us)
    .bind(now.value)
    .bind(now.counted)
    .bind(now.updated_us)
    .execute(&mut **tx)
    .await
    .doing(WRITING)?;
    Ok(now.counted - known.counted)
}

/// Which count of dossiers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CountKey<'a> {
    pub agency: &'a str,
    pub procedure: &'a str,
    pub step: Step,
    pub channel: Channel,
    pub outcome: Outcome,
    pub from_us: i64,
    pub to_us: i64,
}

/// How a count of dossiers changes.
pub(super) enum Change {
    /// Reported as a whole, corrected then.
    Report { value: i64, updated_us: i64 },
    /// By dossiers that are known one by one.
    Add(i64),
}

pub(super) async fn write_dossiers(tx: &mut Tx, source: &str, rows: &[DossierRow]) -> Result<(), StoreError> {
    let changes = rows.iter().map(|row| {
        let key = CountKey {
            agency: &row.agency,
            procedure: &row.procedure,
            step: row.step,
            channel: row.channel,
            outcome: row.outcome,
            from_us: row.from_us,
            to_us: row.to_us,
        };
        (key, Change::Report { value: row.count, updated_us: row.updated_us })
    });
    change_dossiers(tx, source, changes.collect()).await
}

/// Changes counts one after the other, and the totals with them.
pub(super) async fn change_dossiers(
    tx: &mut Tx,
    source: &str,
    changes: Vec<(CountKey<'_>, Change)>,
) -> Result<(), StoreError> {
    let mut totals: BTreeMap<(&str, Step, Channel, Outcome), i64> = BTreeMap::new();
    for (key, change) in &changes {
        let more = change_dossier(tx, source, key, change).await?;
        *totals.entry((key.agency, key.step, key.channel, key.outcome)).or_default() += more;
    }
    for ((agency, step, channel, outcome), more) in totals {
        sqlx::query(
            "INSERT INTO dossier_totals (agency, step, channel, outcome, total) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (agency, step, channel, outcome) DO UPDATE SET total = dossier_totals.total + excluded.total",
        )
        .bind(agency)
        .bind(step.as_str())
        .bind(channel.as_str())
        .bind(outcome.as_str())
        .bind(more)
        .execute(&mut **tx)
        .await
        .doing(WRITING)?;
    }
    Ok(())
}

/// Writes one count and gives what its total grows by.
async fn change_dossier(tx: &mut Tx, source: &str, key: &CountKey<'_>, change: &Change) -> Result<i64, StoreError> {
    let known = sqlx::query(
        "SELECT value, counted, updated_us FROM dossier_counts WHERE agency = $1 AND source = $2 \
         AND procedure_code = $3 AND step = $4 AND channel = $5 AND outcome = $6 AND from_us = $7 AND to_us = $8",
    )
    .bind(key.agency)
    .bind(source)
    .bind(key.procedure)
    .bind(key.step.as_str())
    .bind(key.channel.as_str())
    .bind(key.outcome.as_str())
    .bind(key.from_us)
    .bind(key.to_us)
    .fetch_optional(&mut **tx)
    .await
    .and_then(Known::of)
    .doing(READING)?;
    let now = match change {
        Change::Report { value, updated_us } => known.report(*value, *updated_us),
        Change::Add(n) => Known { updated_us: 0, ..known }.report(known.value + n, 0),
    };
    sqlx::query(
        "INSERT INTO dossier_counts (agency, source, procedure_code, step, channel, outcome, from_us, to_us, value, \
         counted, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (agency, source, procedure_code, step, channel, outcome, from_us, to_us) \
         DO UPDATE SET value = excluded.value, counted = excluded.counted, updated_us = excluded.updated_us",
    )
    .bind(key.agency)
    .bind(source)
    .bind(key.procedure)
    .bind(key.step.as_str())
    .bind(key.channel.as_str())
    .bind(key.outcome.as_str())
    .bind(key.from_us)
    .bind(key.to_us)
    .bind(now.value)
    .bind(now.counted)
    .bind(now.updated_us)
    .execute(&mut **tx)
    .await
    .doing(WRITING)?;
    Ok(now.counted - known.counted)
}

/// The events that an application has had.
pub(super) async fn events(store: &Store, app: &str) -> Result<HashSet<String>, StoreError> {
    let sql = "SELECT DISTINCT event FROM usage_totals WHERE app = $1";
    let events: Vec<String> = sqlx::query_scalar(sql).bind(app).fetch_all(store.reader()).await.doing(READING)?;
    Ok(events.into_iter().collect())
}

/// Active users of an application in one reported period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveUsers {
    pub app: String,
    pub agency: String,
    pub from: Timestamp,
    pub to: Timestamp,
    pub users: i64,
}

/// The active users of every period that lies in `[from, to]`, by application, agency and time. Periods are as reported
/// (days or weeks), so the caller decides whether to take a mean or a maximum.
pub async fn active_users(store: &Store, from: Timestamp, to: Timestamp) -> Result<Vec<ActiveUsers>, StoreError> {
    let rows = sqlx::query(
        "SELECT app, agency, from_us, to_us, value FROM usage_counts \
         WHERE event = '' AND from_us >= $1 AND to_us <= $2 ORDER BY app, agency, from_us, to_us",
    )
    .bind(micros(from))
    .bind(micros(to))
    .fetch_all(store.reader())
    .await
    .doing(READING)?;
    let decode = |row: &sqlx::any::AnyRow| {
        Ok(ActiveUsers {
            app: row.try_get("app")?,
            agency: row.try_get("agency")?,
            from: from_micros(row.try_get("from_us")?),
            to: from_micros(row.try_get("to_us")?),
            users: row.try_get("value")?,
        })
    };
    rows.iter().map(decode).collect::<Result<_, sqlx::Error>>().doing(READING)
}

/// How many dossiers of an agency took a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DossierCount {
    pub agency: String,
    pub step: String,
    pub channel: String,
    pub outcome: String,
    pub count: i64,
}

/// Dossier counts over the reported periods that lie in `[from, to]`, as last corrected.
pub async fn dossier_counts(store: &Store, from: Timestamp, to: Timestamp) -> Result<Vec<DossierCount>, StoreError> {
    let rows = sqlx::query(
        "SELECT agency, step, channel, outcome, CAST(SUM(value) AS BIGINT) AS n FROM dossier_counts \
         WHERE from_us >= $1 AND to_us <= $2 GROUP BY agency, step, channel, outcome \
         ORDER BY agency, step, channel, outcome",
    )
    .bind(micros(from))
    .bind(micros(to))
    .fetch_all(store.reader())
    .await
    .doing(READING)?;
    rows.iter().map(dossier_count).collect::<Result<_, sqlx::Error>>().doing(READING)
}

fn dossier_count(row: &sqlx::any::AnyRow) -> Result<DossierCount, sqlx::Error> {
    Ok(DossierCount {
        agency: row.try_get("agency")?,
        step: row.try_get("step")?,
        channel: row.try_get("channel")?,
        outcome: row.try_get("outcome")?,
        count: row.try_get("n")?,
    })
}

/// The result under which lost rotations of an access log are counted: they are no lines.
pub(super) const LOST: &str = "";

/// What is known of an application's use.
#[derive(Debug, Clone, Default)]
pub(super) struct Uses {
    pub agencies: BTreeMap<String, AgencyUse>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct AgencyUse {
    /// In the latest period; of several that end together the longest, which has the most users.
    pub users: i64,
    /// The end of the last period with a user.
    pub last: Option<Timestamp>,
}

impl Uses {
    pub fn of(&self, agency: &str) -> Use {
        Use {
            last: self.agencies.get(agency).and_then(|own| own.last),
            since: self.since.unwrap_or(Timestamp::MIN),
            until: self.until.unwrap_or(Timestamp::MIN),
        }
    }
}

/// By application.
pub(super) async fn uses(store: &Store) -> Result<BTreeMap<String, Uses>, StoreError> {
    let sql = "SELECT c.agency, c.app, MAX(c.value) AS users, l.from_us, l.to_us, l.used_us FROM usage_counts c JOIN \
               (SELECT app, agency, MIN(from_us) AS from_us, MAX(to_us) AS to_us, \
               MAX(CASE WHEN value > 0 THEN to_us ELSE 0 END) AS used_us \
               FROM usage_counts WHERE event = '' GROUP BY app, agency) l \
               ON c.app = l.app AND c.agency = l.agency AND c.to_us = l.to_us \
               WHERE c.event = '' GROUP BY c.agency, c.app, l.from_us, l.to_us, l.used_us";
    let mut uses: BTreeMap<String, Uses> = BTreeMap::new();
    for row in sqlx::query(sql).fetch_all(store.reader()).await.doing(READING)? {
        let number = |name: &str| row.try_get::<i64, _>(name).doing(READING);
        let app: String = row.try_get("app").doing(READING)?;
        let known = uses.entry(app).or_default();
        let (from, to, used) = (number("from_us")?, number("to_us")?, number("used_us")?);
        known.since = Some(known.since.map_or(from_micros(from), |since| since.min(from_micros(from))));
        known.until = known.until.max(Some(from_micros(to)));
        let last = (used != 0).then(|| from_micros(used));
        let agency: String = row.try_get("agency").doing(READING)?;
        known.agencies.insert(agency, AgencyUse { users: number("users")?, last });
    }
    Ok(uses)
}

/// How many dossiers took each step in a period, by agency and channel.
#[derive(Debug, Clone, Default)]
pub(super) struct Spread(Vec<DossierCount>);

impl Spread {
    /// Of both channels without one.
    pub fn sum(&self, agency: &str, step: &str, channel: Option<&str>) -> i64 {
        let counts = self.0.iter().filter(|count| count.agency == agency && count.step == step);
        counts.filter(|count| channel.is_none_or(|channel| count.channel == channel)).map(|count| count.count).sum()
    }
}

/// Of one source.
pub(super) async fn spread(store: &Store, source: &str, from: Timestamp, to: Timestamp) -> Result<Spread, StoreError> {
    let sql = "SELECT agency, step, channel, outcome, CAST(SUM(value) AS BIGINT) AS n FROM dossier_counts \
               WHERE from_us >= $1 AND to_us <= $2 AND source = $3 GROUP BY agency, step, channel, outcome";
    let query = sqlx::query(sql).bind(micros(from)).bind(micros(to)).bind(source);
    let rows = query.fetch_all(store.reader()).await.doing(READING)?;
    rows.iter().map(dossier_count).collect::<Result<_, _>>().map(Spread).doing(READING)
}

/// The end of what a source has reported of any step.
pub(super) async fn known_until(store: &Store, source: &str) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT MAX(to_us) FROM dossier_counts WHERE source = $1";
    let until: Option<i64> = sqlx::query_scalar(sql).bind(source).fetch_one(store.reader()).await.doing(READING)?;
    Ok(until.map(from_micros))
}

/// The agencies that a source has reported of.
pub(super) async fn reporting(store: &Store, source: &str) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT DISTINCT agency FROM dossier_counts WHERE source = $1";
    sqlx::query_scalar(sql).bind(source).fetch_all(store.reader()).await.doing(READING)
}

/// By agency: dossiers submitted in periods from `from` on that ended at least `within` before `now`, and receipt slips since
/// `from`. Only of agencies that have ever reported slips: others do not count them.
pub(super) async fn receipts(
    store: &Store,
    source: &str,
    from: Timestamp,
    now: Timestamp,
    within: jiff::SignedDuration,
) -> Result<Vec<(String, i64, i64)>, StoreError> {
    let sql = "SELECT agency, \
               CAST(SUM(CASE WHEN step = 'submitted' AND from_us >= $2 AND to_us <= $3 THEN value ELSE 0 END) AS BIGINT) AS submitted, \
               CAST(SUM(CASE WHEN step = 'receipted' AND from_us >= $2 THEN value ELSE 0 END) AS BIGINT) AS receipted, \
               CAST(SUM(CASE WHEN step = 'receipted' THEN 1 ELSE 0 END) AS BIGINT) AS n_receipts \
               FROM dossier_counts WHERE source = $1 AND step IN ('submitted', 'receipted') GROUP BY agency";
    let before = now.checked_sub(within).unwrap_or(Timestamp::MIN);
    let query = sqlx::query(sql).bind(source).bind(micros(from)).bind(micros(before));
    let mut found = Vec::new();
    for row in query.fetch_all(store.reader()).await.doing(READING)? {
        let number = |name: &str| row.try_get::<i64, _>(name).doing(READING);
        if number("n_receipts")? > 0 {
            found.push((row.try_get("agency").doing(READING)?, number("submitted")?, number("receipted")?));
        }
    }
    Ok(found)
}
