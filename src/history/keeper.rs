//! The past that outlives a restart, in the state database: what is kept for long is written every few minutes and read
//! back at the start. What was not written, and the time until the daemon runs again, is a gap: every series ends at
//! the moment the history is taken up again, and goes on when it is sampled.

use super::codec::{HOUR, hour_of, read_changes, read_ticks};
use super::unsaved::{Book, Changes, ClockEntry, Entry, Unsaved, unsaved};
use super::{History, Inner, Owner};
use crate::metrics::Metrics;
use crate::promql::Labels;
use crate::store::{Doing, Store, StoreError, Tx};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use sqlx::Row;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Rows of one statement: three parameters each, far below what the databases allow.
const ROWS: usize = 200;
/// Series of one transaction: other rooms wait for it to write.
const SERIES: usize = 2_000;

/// Writes what the history keeps for long to the state database. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    history: Arc<History>,
    store: Store,
    metrics: Arc<Metrics>,
    book: Arc<Mutex<Book>>,
}

impl Keeper {
    /// Takes the history up where the last run left it; its retention must be set. What the database has of a time after
    /// `now` (the clock was wrong) is left out and deleted.
    pub async fn resume(
        history: Arc<History>,
        store: Store,
        metrics: Arc<Metrics>,
        now: Timestamp,
    ) -> Result<Keeper, StoreError> {
        let now_ms = now.as_millisecond();
        forget_future(&store, now_ms).await?;
        let mut book = Book::default();
        let clocks = read_clocks(&store, now_ms, &mut book).await?;
        let series = read_series(&store, &mut book).await?;
        let mut loader = Loader { history: &history, clocks, book: &mut book, series, now_ms };
        loader.begin();
        loader.load(&store).await?;
        loader.end();
        metrics.own.history_kept_series.set(book.series.len() as i64);
        if !book.series.is_empty() {
            let n_series = book.series.len();
            tracing::info!(history.series = n_series, "took up the past of {n_series} series");
        }
        Ok(Keeper { history, store, metrics, book: Arc::new(Mutex::new(book)) })
    }

    /// Writes what is new. After an error the next call writes it again.
    pub async fn write(&self) -> Result<(), StoreError> {
        let mut book = self.book.clone().lock_owned().await;
        let history = self.history.clone();
        // A comparison per series: milliseconds for tens of thousands.
        let compared = tokio::task::spawn_blocking(move || {
            let unsaved = unsaved(&history.read().inner, &mut book);
            (book, unsaved)
        });
        let (mut book, unsaved) = compared.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let done = self.write_new(&mut book, unsaved).await;
        let own = &self.metrics.own;
        own.history_writes.with_label_values(&[if done.is_ok() { "ok" } else { "failed" }]).inc();
        own.history_kept_series.set(book.series.len() as i64);
        let until = book.clocks.values().map(|clock| clock.until).max().unwrap_or(0);
        own.history_kept_until.set(until as f64 / 1_000.0);
        done
    }

    async fn write_new(&self, book: &mut Book, unsaved: Unsaved) -> Result<(), StoreError> {
        if unsaved.is_empty() {
            return Ok(());
        }
        for changes in unsaved.changes.chunks(SERIES) {
            let mut tx = self.store.begin().await?;
            write_changes(&mut tx, changes).await?;
            tx.commit().await?;
        }
        let mut tx = self.store.begin().await?;
        write_ticks(&mut tx, &unsaved).await?;
        delete(&mut tx, &unsaved).await?;
        tx.commit().await?;
        book.saved(unsaved);
        Ok(())
    }
}

async fn write_changes(tx: &mut Tx, changes: &[Changes]) -> Result<(), StoreError> {
    const DOING: &str = "writing the history";
    let new: Vec<&Changes> = changes.iter().filter(|changes| changes.is_new).collect();
    for rows in new.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO history_series (id, owner, labels) VALUES {} \
             ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, labels = excluded.labels",
            triples(rows.len())
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for row in rows {
            query = query.bind(row.id).bind(&row.owner).bind(json(&row.labels));
        }
        query.execute(&mut **tx).await.doing(DOING)?;
    }
    let hours = changes.iter().flat_map(|changes| changes.hours.iter().map(|(hour, runs)| (changes.id, *hour, runs)));
    for rows in hours.collect::<Vec<_>>().chunks(ROWS) {
        let sql = format!(
            "INSERT INTO history_runs (series, hour, runs) VALUES {} \
             ON CONFLICT (series, hour) DO UPDATE SET runs = excluded.runs",
            triples(rows.len())
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (id, hour, runs) in rows {
            query = query.bind(*id).bind(*hour).bind(*runs);
        }
        query.execute(&mut **tx).await.doing(DOING)?;
    }
    Ok(())
}

async fn write_ticks(tx: &mut Tx, unsaved: &Unsaved) -> Result<(), StoreError> {
    for ticks in &unsaved.ticks {
        for (hour, text) in &ticks.hours {
            sqlx::query(
                "INSERT INTO history_clocks (owner, hour, ticks) VALUES ($1, $2, $3) \
                 ON CONFLICT (owner, hour) DO UPDATE SET ticks = excluded.ticks",
            )
            .bind(&ticks.owner)
            .bind(*hour)
            .bind(text)
            .execute(&mut **tx)
            .await
            .doing("writing the history's clocks")?;
        }
    }
    Ok(())
}

async fn delete(tx: &mut Tx, unsaved: &Unsaved) -> Result<(), StoreError> {
    const DOING: &str = "deleting from the history what is older than it is kept";
    for id in &unsaved.gone {
        for sql in ["DELETE FROM history_runs WHERE series = $1", "DELETE FROM history_series WHERE id = $1"] {
            sqlx::query(sql).bind(*id).execute(&mut **tx).await.doing(DOING)?;
        }
    }
    for (id, hour) in &unsaved.outlived {
        let query = sqlx::query("DELETE FROM history_runs WHERE series = $1 AND hour < $2").bind(*id).bind(*hour);
        query.execute(&mut **tx).await.doing(DOING)?;
    }
    for (owner, hour) in &unsaved.outlived_ticks {
        let query = sqlx::query("DELETE FROM history_clocks WHERE owner = $1 AND hour < $2").bind(owner).bind(*hour);
        query.execute(&mut **tx).await.doing(DOING)?;
    }
    for owner in &unsaved.stopped {
        let query = sqlx::query("DELETE FROM history_clocks WHERE owner = $1").bind(owner);
        query.execute(&mut **tx).await.doing(DOING)?;
    }
    Ok(())
}

/// `($1, $2, $3), ($4, $5, $6), …`
fn triples(count: usize) -> String {
    let rows: Vec<String> =
        (0..count).map(|row| format!("(${}, ${}, ${})", row * 3 + 1, row * 3 + 2, row * 3 + 3)).collect();
    rows.join(", ")
}

fn json(labels: &Labels) -> String {
    let map: BTreeMap<&str, &str> = labels.iter().collect();
    serde_json::to_string(&map).unwrap_or_else(|_| "{}".to_owned())
}

/// Rows that begin after now. What is later within the present hour is left out when it is read, and written over.
async fn forget_future(store: &Store, now_ms: i64) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let mut n_rows = 0;
    for sql in ["DELETE FROM history_clocks WHERE hour > $1", "DELETE FROM history_runs WHERE hour > $1"] {
        let query = sqlx::query(sql).bind(hour_of(now_ms));
        let done = query.execute(&mut *tx).await.doing("deleting from the history what is later than now")?;
        n_rows += done.rows_affected();
    }
    tx.commit().await?;
    if n_rows > 0 {
        tracing::warn!(rows = n_rows, "the history was later than now and is left out: was the clock wrong?");
    }
    Ok(())
}

/// The ticks by owner.
async fn read_clocks(store: &Store, now_ms: i64, book: &mut Book) -> Result<BTreeMap<String, Vec<i64>>, StoreError> {
    const DOING: &str = "reading the history's clocks";
    let mut clocks: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut rows =
        sqlx::query("SELECT owner, hour, ticks FROM history_clocks ORDER BY owner, hour").fetch(store.reader());
    while let Some(row) = rows.try_next().await.doing(DOING)? {
        let owner: String = row.try_get("owner").doing(DOING)?;
        let hour: i64 = row.try_get("hour").doing(DOING)?;
        let text: String = row.try_get("ticks").doing(DOING)?;
        let Some(ticks) = BASE64.decode(text).ok().and_then(|bytes| read_ticks(hour, &bytes)) else {
            tracing::warn!(owner, hour, "an hour of the history's clock is damaged and left out");
            continue;
        };
        book.clocks.entry(owner.clone()).or_insert(ClockEntry { hour, until: hour * HOUR });
        clocks.entry(owner).or_default().extend(ticks.into_iter().filter(|tick| *tick <= now_ms));
    }
    for (owner, ticks) in &clocks {
        if let (Some(clock), Some(last)) = (book.clocks.get_mut(owner), ticks.last()) {
            clock.until = *last;
        }
    }
    Ok(clocks)
}

/// The series by id, with their owners.
async fn read_series(store: &Store, book: &mut Book) -> Result<HashMap<i64, (String, Labels)>, StoreError> {
    const DOING: &str = "reading the history's series";
    let mut series: HashMap<i64, (String, Labels)> = HashMap::new();
    let mut newest: HashMap<Labels, i64> = HashMap::new();
    let mut rows = sqlx::query("SELECT id, owner, labels FROM history_series ORDER BY id").fetch(store.reader());
    while let Some(row) = rows.try_next().await.doing(DOING)? {
        let id: i64 = row.try_get("id").doing(DOING)?;
        let owner: String = row.try_get("owner").doing(DOING)?;
        let labels: String = row.try_get("labels").doing(DOING)?;
        book.next_id = book.next_id.max(id);
        let Ok(map) = serde_json::from_str::<BTreeMap<String, String>>(&labels) else {
            tracing::warn!(id, "a series of the history is damaged and left out");
            book.garbage.push(id);
            continue;
        };
        let labels = Labels::new(&map);
        // A series that was not written to its end stands there twice; the later was written whole.
        if let Some(older) = newest.insert(labels.clone(), id) {
            series.remove(&older);
            book.garbage.push(older);
        }
        series.insert(id, (owner, labels));
    }
    Ok(series)
}

/// Fills the history.
struct Loader<'a> {
    history: &'a History,
    clocks: BTreeMap<String, Vec<i64>>,
    book: &'a mut Book,
    series: HashMap<i64, (String, Labels)>,
    now_ms: i64,
}

impl Loader<'_> {
    /// The clocks.
    fn begin(&mut self) {
        let mut inner = self.history.write();
        for (owner, ticks) in &self.clocks {
            let clock = clock_of(&mut inner, owner);
            for tick in ticks {
                // Ascending as they were written; what a damaged row repeats is passed over.
                let _ = inner.store.tick(clock, *tick);
            }
        }
    }

    /// The changes. What nobody needs any more, or no tick is left of, is deleted with the next writing.
    async fn load(&mut self, store: &Store) -> Result<(), StoreError> {
        const DOING: &str = "reading the history";
        let mut rows =
            sqlx::query("SELECT series, hour, runs FROM history_runs ORDER BY series, hour").fetch(store.reader());
        let mut unknown = HashSet::new();
        while let Some(row) = rows.try_next().await.doing(DOING)? {
            let id: i64 = row.try_get("series").doing(DOING)?;
            let hour: i64 = row.try_get("hour").doing(DOING)?;
            let text: String = row.try_get("runs").doing(DOING)?;
            let Some((owner, labels)) = self.series.get(&id) else {
                unknown.insert(id);
                continue;
            };
            let entry = self.book.series.entry(labels.clone()).or_insert_with(|| Entry {
                id,
                owner: owner.clone(),
                hours: Vec::new(),
            });
            entry.hours.push(hour);
            match BASE64.decode(text).ok().and_then(|bytes| read_changes(hour, &bytes)) {
                Some(changes) => self.history.take_up(owner, labels, &changes),
                None => tracing::warn!(series = %labels, hour, "an hour of the history is damaged and left out"),
            }
        }
        self.book.garbage.extend(unknown.into_iter().filter(|id| !self.series.contains_key(id)));
        Ok(())
    }

    /// Ends what was going on: whether it still is will be seen.
    fn end(&mut self) {
        let mut inner = self.history.write();
        let inner = &mut *inner;
        for owner in self.clocks.keys() {
            let clock = clock_of(inner, owner);
            if let Some(tick) = inner.store.tick_or_again(clock, self.now_ms) {
                inner.store.end_all(clock, tick);
            }
        }
        inner.store.trim();
    }
}

/// The clock of an owner; the sampler's for "".
fn clock_of(inner: &mut Inner, owner: &str) -> super::series::ClockId {
    if owner.is_empty() {
        return inner.sampler.clock();
    }
    if let Some(known) = inner.owners.get(owner) {
        return known.clock;
    }
    let clock = inner.store.add_clock();
    inner.owners.insert(owner.to_owned(), Owner { clock, series: Vec::new() });
    clock
}

impl History {
    /// Adds changes of a series that were written by an earlier run.
    fn take_up(&self, owner: &str, labels: &Labels, changes: &[(i64, f64)]) {
        let mut inner = self.write();
        let inner = &mut *inner;
        let clock = clock_of(inner, owner);
        let Some(first) = inner.store.ticks(clock).first().copied() else { return };
        let Some(id) = inner.store.find_or_add(clock, labels, &inner.retention) else { return };
        for (time, value) in changes {
            let tick = if *time < first {
                // What held when the clock that is left begins.
                Some(0)
            } else {
                inner.store.ticks(clock).binary_search(time).ok().map(|tick| tick as u32)
            };
            if let Some(tick) = tick {
                inner.store.push(id, tick, *value);
            }
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
