//! Single dossiers: one row a dossier as it stands, the codes alone.
//!
//! Of two rows of one dossier the later holds: by its `updated`, else by the newest time it tells; of two that are equal in
//! that, the one that sorts last. So the order in which rows come, and how often, changes nothing. Each step is counted on
//! its day in the table of counts as well, so rates, paces and indicators need not know which kind of feed there is.

use super::rows::{self, Channel, Outcome, Step};
use super::tables::{self, Change, CountKey};
use crate::feed::{Cells, Names, Need, Reason, Rejection};
use crate::org::Org;
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use jiff::Timestamp;
use sqlx::Row;
use std::collections::BTreeMap;

const READING: &str = "reading dossiers";
const WRITING: &str = "writing dossiers";

/// A code is a few dozen characters.
const MAX_CODE: usize = 100;

/// A dossier as it stands. Times are microseconds, 0 for "not yet".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dossier {
    pub updated_us: i64,
    pub code: String,
    pub agency: String,
    /// May be empty.
    pub procedure: String,
    pub submitted_us: i64,
    pub submitted_channel: Channel,
    pub receipted_us: i64,
    /// As promised; see [`Org::due`].
    pub due_us: i64,
    pub processed_us: i64,
    pub processed_channel: Channel,
    pub paid_us: i64,
    pub paid_channel: Channel,
    pub returned_us: i64,
    pub returned_channel: Channel,
    /// When the citizen was sent a letter of apology.
    pub apology_us: i64,
}

pub(super) const COLUMNS: Names = &[
    ("dossier", Need::Required),
    ("agency", Need::Optional),
    ("procedure", Need::Optional),
    ("channel", Need::Optional),
    ("submitted", Need::Required),
    ("receipted", Need::Optional),
    ("due", Need::Optional),
    ("processed", Need::Optional),
    ("paid", Need::Optional),
    ("returned", Need::Optional),
    ("apology", Need::Optional),
    ("processed_channel", Need::Optional),
    ("paid_channel", Need::Optional),
    ("returned_channel", Need::Optional),
    ("updated", Need::Optional),
];

impl Dossier {
    pub(super) fn parse(cells: &Cells<'_>, org: &Org) -> Result<Dossier, Rejection> {
        let code = cells.required(0)?.into_owned();
        if code.len() > MAX_CODE || code.chars().any(char::is_control) {
            let detail = format!("the dossier's code is longer than {MAX_CODE} bytes or has control characters");
            return Err(Rejection::new(Reason::Missing, detail));
        }
        let submitted = cells.time(4)?;
        let time = |index: usize| rows::updated(cells, index);
        let channel = |index: usize, default: Channel| {
            if cells.text(index)?.is_empty() { Ok(default) } else { Channel::read(cells, index, Reason::Channel) }
        };
        let submitted_channel = channel(3, Channel::Online)?;
        let mut dossier = Dossier {
            updated_us: time(14)?,
            code,
            agency: rows::agency(cells, 1, org, submitted)?,
            procedure: rows::procedure(cells, 2)?,
            submitted_us: micros(submitted),
            submitted_channel,
            receipted_us: time(5)?,
            due_us: time(6)?,
            processed_us: time(7)?,
            processed_channel: channel(11, submitted_channel)?,
            paid_us: time(8)?,
            paid_channel: channel(12, submitted_channel)?,
            returned_us: time(9)?,
            returned_channel: channel(13, submitted_channel)?,
            apology_us: time(10)?,
        };
        if dossier.updated_us == 0 {
            let steps = dossier.steps().map(|(_, at, _)| at);
            dossier.updated_us = steps.into_iter().chain([dossier.apology_us]).max().unwrap_or_default();
        }
        Ok(dossier)
    }

    /// Until its result is there; whether the citizen has come for it is another matter.
    pub fn is_open(&self) -> bool {
        self.processed_us == 0 && self.returned_us == 0
    }

    fn steps(&self) -> [(Step, i64, Channel); 5] {
        [
            (Step::Submitted, self.submitted_us, self.submitted_channel),
            // The slip goes the way the dossier came.
            (Step::Receipted, self.receipted_us, self.submitted_channel),
            (Step::Processed, self.processed_us, self.processed_channel),
            (Step::Paid, self.paid_us, self.paid_channel),
            (Step::Returned, self.returned_us, self.returned_channel),
        ]
    }

    /// The counts it is in.
    fn counts(&self, org: &Org) -> Vec<CountKey<'_>> {
        let taken = self.steps().into_iter().filter(|(_, at, _)| *at != 0);
        taken
            .map(|(step, at, channel)| {
                let (from, to) = org.span_of(org.date(from_micros(at)));
                let outcome = match step {
                    Step::Processed | Step::Returned if self.due_us != 0 => {
                        // The result counts, not the day the citizen came for it.
                        let done = if self.processed_us == 0 { at } else { self.processed_us };
                        if done <= micros(org.due(from_micros(self.due_us))) { Outcome::OnTime } else { Outcome::Late }
                    }
                    _ => Outcome::None,
                };
                let (from_us, to_us) = (micros(from), micros(to));
                CountKey { agency: &self.agency, procedure: &self.procedure, step, channel, outcome, from_us, to_us }
            })
            .collect()
    }
}

/// Writes rows. The same again, or older ones, change nothing.
pub(super) async fn write(tx: &mut Tx, source: &str, rows: &[Dossier], org: &Org) -> Result<(), StoreError> {
    // The last of each code within the batch, and what was known before it.
    let mut latest: BTreeMap<&str, (Option<Dossier>, &Dossier)> = BTreeMap::new();
    for row in rows {
        match latest.get_mut(row.code.as_str()) {
            Some((_, held)) if *held < row => *held = row,
            Some(_) => {}
            None => {
                let known = find(tx, source, &row.code).await?;
                latest.insert(&row.code, (known, row));
            }
        }
    }
    latest.retain(|_, (known, row)| known.as_ref().is_none_or(|known| known < *row));
    let mut changes: BTreeMap<CountKey<'_>, i64> = BTreeMap::new();
    for (known, row) in latest.values() {
        for key in known.iter().flat_map(|known| known.counts(org)) {
            *changes.entry(key).or_default() -= 1;
        }
        for key in row.counts(org) {
            *changes.entry(key).or_default() += 1;
        }
        save(tx, source, row).await?;
    }
    let changes = changes.into_iter().filter(|(_, n)| *n != 0).map(|(key, n)| (key, Change::Add(n))).collect();
    tables::change_dossiers(tx, source, changes).await
}

/// The rows (by index) of dossiers that are known as those of an agency that `may` refuses.
pub(super) async fn foreign(
    tx: &mut Tx,
    source: &str,
    rows: &[&Dossier],
    may: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<usize>, StoreError> {
    let mut found = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        if find(tx, source, &row.code).await?.is_some_and(|known| !may(&known.agency)) {
            found.push(index);
        }
    }
    Ok(found)
}

const FIELDS: &str = "dossier, agency, procedure_code, submitted_us, submitted_channel, receipted_us, due_us, processed_us, \
                      processed_channel, paid_us, paid_channel, returned_us, returned_channel, apology_us, updated_us";

async fn find(tx: &mut Tx, source: &str, code: &str) -> Result<Option<Dossier>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("SELECT {FIELDS} FROM usage_dossiers WHERE source = $1 AND dossier = $2"));
    let row = sqlx::query(sql).bind(source).bind(code).fetch_optional(&mut **tx).await.doing(READING)?;
    row.map(|row| decode(&row)).transpose().doing(READING)
}

async fn save(tx: &mut Tx, source: &str, row: &Dossier) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO usage_dossiers (source, is_open, {FIELDS}) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) \
         ON CONFLICT (source, dossier) DO UPDATE SET is_open = excluded.is_open, agency = excluded.agency, \
         procedure_code = excluded.procedure_code, submitted_us = excluded.submitted_us, \
         submitted_channel = excluded.submitted_channel, receipted_us = excluded.receipted_us, \
         due_us = excluded.due_us, processed_us = excluded.processed_us, processed_channel = excluded.processed_channel, \
         paid_us = excluded.paid_us, paid_channel = excluded.paid_channel, returned_us = excluded.returned_us, \
         returned_channel = excluded.returned_channel, apology_us = excluded.apology_us, updated_us = excluded.updated_us"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(source)
        .bind(i64::from(row.is_open()))
        .bind(&row.code)
        .bind(&row.agency)
        .bind(&row.procedure)
        .bind(row.submitted_us)
        .bind(row.submitted_channel.as_str())
        .bind(row.receipted_us)
        .bind(row.due_us)
        .bind(row.processed_us)
        .bind(row.processed_channel.as_str())
        .bind(row.paid_us)
        .bind(row.paid_channel.as_str())
        .bind(row.returned_us)
        .bind(row.returned_channel.as_str())
        .bind(row.apology_us)
        .bind(row.updated_us)
        .execute(&mut **tx)
        .await
        .doing(WRITING)?;
    Ok(())
}

fn decode(row: &sqlx::any::AnyRow) -> Result<Dossier, sqlx::Error> {
    let channel = |name: &str| {
        // A word of a newer version, at worst.
        row.try_get::<String, _>(name).map(|word| Channel::parse(&word).unwrap_or(Channel::Counter))
    };
    Ok(Dossier {
        updated_us: row.try_get("updated_us")?,
        code: row.try_get("dossier")?,
        agency: row.try_get("agency")?,
        procedure: row.try_get("procedure_code")?,
        submitted_us: row.try_get("submitted_us")?,
        submitted_channel: channel("submitted_channel")?,
        receipted_us: row.try_get("receipted_us")?,
        due_us: row.try_get("due_us")?,
        processed_us: row.try_get("processed_us")?,
        processed_channel: channel("processed_channel")?,
        paid_us: row.try_get("paid_us")?,
        paid_channel: channel("paid_channel")?,
        returned_us: row.try_get("returned_us")?,
        returned_channel: channel("returned_channel")?,
        apology_us: row.try_get("apology_us")?,
    })
}

/// The dossiers of a source whose result is not there yet.
pub async fn open(store: &Store, source: &str) -> Result<Vec<Dossier>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT {FIELDS} FROM usage_dossiers WHERE is_open = 1 AND source = $1 ORDER BY agency, dossier"
    ));
    let rows = sqlx::query(sql).bind(source).fetch_all(store.reader()).await.doing(READING)?;
    rows.iter().map(decode).collect::<Result<_, _>>().doing(READING)
}

/// Whether any row of the source was ever read, and so its open dossiers are known.
pub async fn is_known(store: &Store, source: &str) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM usage_dossiers WHERE source = $1 LIMIT 1) AS first";
    let n: i64 = sqlx::query_scalar(sql).bind(source).fetch_one(store.reader()).await.doing(READING)?;
    Ok(n > 0)
}

/// A time that may not have come.
pub fn moment(us: i64) -> Option<Timestamp> {
    (us != 0).then(|| from_micros(us))
}
