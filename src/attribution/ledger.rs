//! The ledger: a handle on what is held in memory (`book.rs`) and its rows in the state database.

use super::book::{Book, Change};
use super::maintenance::Window;
use super::overrides::{self, Override};
use super::rewrite::rewrite;
use super::roll::Member;
use super::track::{Piece, Sight, Stretch, Verdict};
use super::{Cause, Excuse, Graph, State, Subject, SubjectKind};
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Subjects whose rows change in one statement: bounds its length.
const ROWS: usize = 1_000;

/// Rows that ended so shortly before the last heartbeat are taken up again: their causes may still change.
const RECENT_US: i64 = 2 * 3_600 * 1_000_000;

/// One stretch of time in which a subject was in one state, because of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    pub subject: Subject,
    pub agency: String,
    pub from: Timestamp,
    /// Exclusive; `None` while it lasts.
    pub until: Option<Timestamp>,
    pub state: State,
    /// The cause that counts: a person's, else the automatic one. Of time that was up: `own`.
    pub cause: String,
    /// The cause that the graph gave.
    pub automatic_cause: String,
    /// What the automatic cause is named after: the dependency's id, the maintenance's reason, or nothing.
    pub by: String,
    /// What was seen.
    pub reason: String,
    /// The person's judgement, if one counts.
    pub overridden: Option<Override>,
}

/// A handle on the ledger; cheap to clone. [`Ledger::observe`] never waits; [`Ledger::flush`] writes.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    book: Arc<Mutex<Book>>,
    /// Who writes rows; one at a time, so that the book knows what the database holds.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The right to write rows.
pub(super) struct Turn<'l>(#[expect(dead_code, reason = "held")] tokio::sync::MutexGuard<'l, ()>);

impl Ledger {
    /// A handle that only reads, beside a daemon that may be running: it takes nothing up and closes nothing.
    pub fn reader(store: Store) -> Ledger {
        Ledger { store, book: Arc::default(), turn: Arc::default() }
    }

    /// Takes up the ledger where the last run left it: what happened since its last [`Ledger::heartbeat`] is unknown.
    pub async fn resume(store: Store) -> Result<Ledger, StoreError> {
        const DOING: &str = "resuming the attribution ledger";
        let alive: Option<i64> = sqlx::query_scalar("SELECT alive_us FROM daemon_heartbeat WHERE id = 1")
            .fetch_optional(store.reader())
            .await
            .doing(DOING)?;
        let ledger = Ledger::reader(store.clone());
        let announced = ledger.announced(alive.unwrap_or(i64::MIN)).await?;
        ledger.lock().announced = announced;
        // One after the other: the rows of a large fleet take more than what is made of them.
        let mut rows = sqlx::query(
            "SELECT subject_kind, subject, agency, from_us, until_us, state, cause, blamed, reason FROM ledger_intervals \
             WHERE until_us IS NULL OR until_us > $1 ORDER BY subject_kind, subject, from_us",
        )
        .bind(alive.map_or(i64::MAX, |alive_us| alive_us.saturating_sub(RECENT_US)))
        .fetch(store.reader());
        while let Some(row) = rows.try_next().await.doing(DOING)? {
            let kind: String = row.try_get("subject_kind").doing(DOING)?;
            let Some(kind) = SubjectKind::parse(&kind) else { continue };
            let subject = Subject { kind, id: row.try_get::<String, _>("subject").doing(DOING)?.into() };
            ledger.lock().take_up(subject, read_piece(&row).doing(DOING)?);
        }
        ledger.lock().resume(alive, RECENT_US);
        // Of a fleet two rows a device are written, all over the table.
        store.expect_much(true).await?;
        let written = ledger.flush().await;
        store.expect_much(false).await?;
        written.map(|()| ledger)
    }

    /// Notes that `subject` was seen in `state` at `at`. Costs little when that is what it was before, but has to be told
    /// all the same: it ends the excuse of what is still down after its dependency recovered.
    pub fn observe(&self, subject: &Subject, agency: &str, state: State, at: Timestamp, reason: &str) {
        self.lock().observe(subject, agency, state, micros(at), reason);
    }

    /// Ends the intervals of subjects that `keep` refuses: they were removed from the configuration.
    pub fn retain(&self, at: Timestamp, keep: impl Fn(&Subject) -> bool) {
        let mut book = self.lock();
        let subjects = book.roll.iter().map(|member| &member.subject);
        let gone: Vec<Subject> = subjects.filter(|subject| !keep(subject)).cloned().collect();
        for subject in gone {
            book.end(&subject, micros(at));
        }
    }

    /// Since when `subject` has been in which state.
    pub fn current(&self, subject: &Subject) -> Option<(State, Timestamp)> {
        let book = self.lock();
        let last = book.roll.get(subject)?.track.last().filter(|last| last.until_us.is_none())?;
        Some((last.sight.state, from_micros(last.from_us)))
    }

    /// Takes a new graph into use: at start and at every reload. What is recorded keeps its cause, but for the last
    /// minutes, which a dependency's state may still change.
    pub fn set_graph(&self, graph: Graph) {
        self.lock().set_graph(graph);
    }

    /// Settles causes as time passes: set-backs, tails, the beginning and end of maintenance. Called at every tick of the
    /// history. Never waits; the next [`Ledger::flush`] writes what follows from it.
    pub fn tick(&self, now: Timestamp) {
        self.lock().tick(micros(now));
    }

    /// Who answers for a subject, if the configuration or the inventory knows it or it was ever seen in this run.
    pub fn agency_of(&self, subject: &Subject) -> Option<String> {
        let book = self.lock();
        let member = book.roll.get(subject)?;
        let seen = || member.track.last().map(|last| &last.sight.agency);
        member.node().map(|node| &node.agency).or_else(seen).map(|agency| agency.to_string())
    }

    /// Why `subject` is not to blame for what is wrong with it at `now`; `None` when it is. After the recovery of its
    /// dependency it stays excused until it was checked again. A dependency is not excused by itself.
    pub fn excuse(&self, subject: &Subject, now: Timestamp) -> Option<Excuse> {
        self.lock().excuse(subject, micros(now))
    }

    /// Why nobody at a site is to blame at `now`: what the site needs is down, or it or its agency is maintained.
    pub fn excuse_for_site(&self, site: &str, now: Timestamp) -> Option<Excuse> {
        self.lock().excuse_for_site(site, micros(now))
    }

    /// No subject has an excuse, whatever the time: most of the time this is so, and quickly told.
    pub fn excuses_nothing(&self) -> bool {
        self.lock().excuses_nothing()
    }

    /// Every subject that is excused at `now`, with its agency.
    pub fn excuses(&self, now: Timestamp) -> Vec<(Subject, String, Excuse)> {
        self.lock().excuses(micros(now))
    }

    /// Another number whenever an excuse may have changed, as of the last [`Ledger::tick`].
    pub fn excuses_version(&self) -> u64 {
        self.lock().version
    }

    /// Writes what was observed since the last flush. On an error nothing is lost: the next flush writes it.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let turn = self.take_turn().await;
        self.flush_in(&turn).await
    }

    pub(super) async fn take_turn(&self) -> Turn<'_> {
        Turn(self.turn.lock().await)
    }

    pub(super) async fn flush_in(&self, _turn: &Turn<'_>) -> Result<(), StoreError> {
        let (changes, dirty, now_us) = {
            let mut book = self.lock();
            let (changes, dirty) = book.take_changes();
            (changes, dirty, book.now_us)
        };
        let written = if changes.is_empty() { Ok(()) } else { self.write(&changes).await };
        let mut book = self.lock();
        match written {
            Ok(()) => book.written(changes, &dirty, now_us),
            Err(_) => book.not_written(dirty),
        }
        written
    }

    /// Notes in the database that the daemon is alive, so that the next start knows since when it was not.
    pub async fn heartbeat(&self, now: Timestamp) -> Result<(), StoreError> {
        self.flush().await?;
        let mut tx = self.store.begin().await?;
        sqlx::query(
            "INSERT INTO daemon_heartbeat (id, alive_us) VALUES (1, $1) \
             ON CONFLICT (id) DO UPDATE SET alive_us = excluded.alive_us",
        )
        .bind(micros(now))
        .execute(&mut *tx)
        .await
        .doing("writing the heartbeat")?;
        tx.commit().await
    }

    /// The intervals of `kind` that touch `[from, to)`, by subject and time, with persons' overrides applied.
    pub async fn intervals(
        &self,
        kind: SubjectKind,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Interval>, StoreError> {
        const DOING: &str = "reading the attribution ledger";
        self.flush().await?;
        let rows = sqlx::query(
            "SELECT subject, agency, from_us, until_us, state, cause, blamed, reason FROM ledger_intervals \
             WHERE subject_kind = $1 AND from_us < $2 AND (until_us IS NULL OR until_us > $3) \
             ORDER BY subject, from_us",
        )
        .bind(kind.as_str())
        .bind(micros(to))
        .bind(micros(from))
        .fetch_all(self.store.reader())
        .await
        .doing(DOING)?;
        let overrides = self.overrides_of(kind, from, to).await?;
        let mut intervals = Vec::with_capacity(rows.len());
        for row in &rows {
            let interval = read_interval(kind, row).doing(DOING)?;
            match overrides.get(&*interval.subject.id) {
                Some(overrides) => intervals.extend(overrides::apply(interval, overrides)),
                None => intervals.push(interval),
            }
        }
        Ok(intervals)
    }

    async fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        // In the order of the table: its pages are many times what a database holds in memory.
        let mut changes: Vec<&Change> = changes.iter().collect();
        changes.sort_unstable_by_key(|change| (change.subject.kind.as_str(), &*change.subject.id));
        for some in changes.chunks(ROWS) {
            let changes = some.iter().map(|change| (&change.subject, &*change.old, &*change.new));
            rewrite(&mut tx, changes).await?;
        }
        tx.commit().await
    }

    /// Applies a window to the downtime that the database holds.
    pub(super) async fn overlay_recorded(&self, tx: &mut Tx, window: &Window, now_us: i64) -> Result<(), StoreError> {
        const DOING: &str = "attributing recorded downtime to a maintenance";
        let rows = sqlx::query(
            "SELECT subject_kind, subject, agency, from_us, until_us, state, cause, blamed, reason FROM ledger_intervals \
             WHERE state = 'down' AND from_us < $1 AND (until_us IS NULL OR until_us > $2)",
        )
        .bind(window.to_us)
        .bind(window.from_us)
        .fetch_all(&mut **tx)
        .await
        .doing(DOING)?;
        for row in &rows {
            let kind: String = row.try_get("subject_kind").doing(DOING)?;
            let Some(kind) = SubjectKind::parse(&kind) else { continue };
            let subject = Subject { kind, id: row.try_get::<String, _>("subject").doing(DOING)?.into() };
            let old = [read_piece(row).doing(DOING)?];
            if self.lock().covers(window, &subject, &old[0].verdict.sight.agency) {
                let new = window.overlay(&old, now_us);
                rewrite(tx, [(&subject, &old[..], &new[..])]).await?;
            }
        }
        Ok(())
    }

    /// The window is in the database, and so is what follows from it.
    pub(super) fn announce(&self, window: Window, now_us: i64) {
        let mut book = self.lock();
        let Book { roll, graph, verdicts, .. } = &mut *book;
        for Member { subject, track, node } in roll.iter_mut() {
            let node = node.as_deref();
            let is_covered = |piece: &Piece| graph.covers(&window, subject, &piece.verdict.sight.agency, node);
            let course = track.course();
            if !course.written.iter().any(is_covered) {
                continue;
            }
            let laid = course.written.iter().flat_map(|piece| match is_covered(piece) {
                true => window.overlay(std::slice::from_ref(piece), now_us),
                false => vec![piece.clone()],
            });
            let pooled = laid.map(|Piece { from_us, until_us, verdict }| {
                let verdict = verdicts.share(Arc::unwrap_or_clone(verdict));
                Piece { from_us, until_us, verdict }
            });
            let written = pooled.collect();
            track.change(|course| course.written = written);
        }
        book.announced.push(window);
        book.widen();
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Book> {
        // A panic elsewhere cannot leave a half-made change behind: rows follow from stretches, and those are pushed whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_piece(row: &AnyRow) -> Result<Piece, sqlx::Error> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let state = State::parse(&text("state")?).unwrap_or(State::Unknown);
    let sight = Sight { state, agency: text("agency")?.into(), reason: text("reason")?.into() };
    let cause = Cause::parse(&text("cause")?).unwrap_or(Cause::Unknown);
    let verdict = Verdict { sight: Arc::new(sight), cause, by: text("blamed")?.into() };
    Ok(Piece { from_us: row.try_get("from_us")?, until_us: row.try_get("until_us")?, verdict: Arc::new(verdict) })
}

fn read_interval(kind: SubjectKind, row: &AnyRow) -> Result<Interval, sqlx::Error> {
    let piece = read_piece(row)?;
    let Verdict { sight, cause, by } = &*piece.verdict;
    Ok(Interval {
        subject: Subject { kind, id: row.try_get::<String, _>("subject")?.into() },
        agency: sight.agency.to_string(),
        from: from_micros(piece.from_us),
        until: piece.until_us.map(from_micros),
        state: sight.state,
        cause: cause.to_string(),
        automatic_cause: cause.to_string(),
        by: by.to_string(),
        reason: sight.reason.to_string(),
        overridden: None,
    })
}

impl Book {
    /// Takes up a row of the database; rows of one subject come in the order of time.
    fn take_up(&mut self, subject: Subject, piece: Piece) {
        let Verdict { sight, cause, by } = Arc::unwrap_or_clone(piece.verdict);
        let sight = self.sights.share(Arc::unwrap_or_clone(sight));
        let verdict = self.verdicts.share(Verdict { sight: sight.clone(), cause, by });
        let Piece { from_us, until_us, .. } = piece;
        self.roll.member(&subject).track.change(|course| {
            match course.stretches.last_mut() {
                // Rows that only differ in their cause were one observation. That the last of them has another cause shows
                // that it was looked at again.
                Some(last) if last.until_us == Some(from_us) && last.sight == sight => {
                    (last.until_us, last.seen_us) = (until_us, from_us);
                }
                _ => course.stretches.push(Stretch { from_us, until_us, seen_us: from_us, sight }),
            }
            course.written.push(Piece { from_us, until_us, verdict });
        });
    }
}
