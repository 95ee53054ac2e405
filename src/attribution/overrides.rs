//! Causes that a person gave instead of the automatic one: kept beside the intervals, applied when they are read.

use super::error::MAX_REASON;
use super::{AttributionError, Cause, Interval, Ledger, State, Subject, SubjectKind};
use crate::store::{Doing, StoreError, from_micros, micros};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row;
use sqlx::any::AnyRow;
use std::collections::HashMap;

/// A judgement to be put on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOverride {
    pub subject: Subject,
    pub from: Timestamp,
    /// Exclusive; after `from`.
    pub to: Timestamp,
    /// [`Cause::Own`] accuses, everything else excuses.
    pub cause: Cause,
    pub reason: String,
    pub who: String,
}

/// A judgement on record. It holds for the downtime of its stretch; where several overlap, the latest holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Override {
    pub id: i64,
    pub subject: Subject,
    pub from: Timestamp,
    pub to: Timestamp,
    pub cause: Cause,
    pub reason: String,
    pub who: String,
    pub created: Timestamp,
    pub withdrawn: Option<Timestamp>,
    pub withdrawn_by: Option<String>,
}

impl Ledger {
    /// Overrides the cause of a subject's downtime in a stretch of time. Returns its number.
    pub async fn add_override(&self, new: NewOverride, now: Timestamp) -> Result<i64, AttributionError> {
        const DOING: &str = "overriding a cause";
        let reason = new.reason.trim();
        if new.to <= new.from {
            return Err(AttributionError::EmptyRange);
        }
        if reason.is_empty() || reason.chars().count() > MAX_REASON {
            return Err(AttributionError::Reason);
        }
        let mut tx = self.store().begin().await?;
        let known: Option<i64> =
            sqlx::query_scalar("SELECT from_us FROM ledger_intervals WHERE subject_kind = $1 AND subject = $2 LIMIT 1")
                .bind(new.subject.kind.as_str())
                .bind(&*new.subject.id)
                .fetch_optional(&mut *tx)
                .await
                .doing(DOING)?;
        if known.is_none() {
            return Err(AttributionError::UnknownSubject(new.subject.id.to_string()));
        }
        let id: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) + 1 FROM ledger_overrides")
            .fetch_one(&mut *tx)
            .await
            .doing(DOING)?;
        sqlx::query(
            "INSERT INTO ledger_overrides \
             (id, subject_kind, subject, from_us, to_us, cause, origin, reason, who, created_us) \
             VALUES ($1, $2, $3, $4, $5, $6, 'person', $7, $8, $9)",
        )
        .bind(id)
        .bind(new.subject.kind.as_str())
        .bind(&*new.subject.id)
        .bind(micros(new.from))
        .bind(micros(new.to))
        .bind(new.cause.as_str())
        .bind(reason)
        .bind(&new.who)
        .bind(micros(now))
        .execute(&mut *tx)
        .await
        .doing(DOING)?;
        tx.commit().await?;
        Ok(id)
    }

    /// The overrides that touch `[from, to)`, of one subject or of all, withdrawn ones too, by number.
    pub async fn overrides(
        &self,
        from: Timestamp,
        to: Timestamp,
        subject: Option<&Subject>,
    ) -> Result<Vec<Override>, StoreError> {
        const DOING: &str = "reading the overrides";
        let rows = sqlx::query(
            "SELECT id, subject_kind, subject, from_us, to_us, cause, reason, who, created_us, withdrawn_us, \
             withdrawn_by FROM ledger_overrides WHERE from_us < $1 AND to_us > $2 ORDER BY id",
        )
        .bind(micros(to))
        .bind(micros(from))
        .fetch_all(self.store().reader())
        .await
        .doing(DOING)?;
        let mut overrides = Vec::new();
        for row in &rows {
            overrides.extend(read(row).doing(DOING)?.filter(|found| subject.is_none_or(|s| *s == found.subject)));
        }
        Ok(overrides)
    }

    /// Takes an override back; it stays on record.
    pub async fn withdraw_override(&self, id: i64, who: &str, now: Timestamp) -> Result<(), AttributionError> {
        const DOING: &str = "withdrawing an override";
        let mut tx = self.store().begin().await?;
        let found = sqlx::query("SELECT withdrawn_us FROM ledger_overrides WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .doing(DOING)?
            .ok_or(AttributionError::NotFound(id))?;
        if found.try_get::<Option<i64>, _>("withdrawn_us").doing(DOING)?.is_some() {
            return Err(AttributionError::Ended(id));
        }
        sqlx::query("UPDATE ledger_overrides SET withdrawn_us = $1, withdrawn_by = $2 WHERE id = $3")
            .bind(micros(now))
            .bind(who)
            .bind(id)
            .execute(&mut *tx)
            .await
            .doing(DOING)?;
        tx.commit().await?;
        Ok(())
    }

    /// The overrides of one kind's subjects that count in `[from, to)`, by subject and number.
    pub(super) async fn overrides_of(
        &self,
        kind: SubjectKind,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<HashMap<String, Vec<Override>>, StoreError> {
        let mut found: HashMap<String, Vec<Override>> = HashMap::new();
        for judgement in self.overrides(from, to, None).await? {
            if judgement.subject.kind == kind && judgement.withdrawn.is_none() {
                found.entry(judgement.subject.id.to_string()).or_default().push(judgement);
            }
        }
        Ok(found)
    }
}

/// A row; `None` if its words are not ours.
fn read(row: &AnyRow) -> Result<Option<Override>, sqlx::Error> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let (Some(kind), Some(cause)) = (SubjectKind::parse(&text("subject_kind")?), Cause::parse(&text("cause")?)) else {
        return Ok(None);
    };
    Ok(Some(Override {
        id: row.try_get("id")?,
        subject: Subject { kind, id: text("subject")?.into() },
        from: from_micros(row.try_get("from_us")?),
        to: from_micros(row.try_get("to_us")?),
        cause,
        reason: text("reason")?,
        who: text("who")?,
        created: from_micros(row.try_get("created_us")?),
        withdrawn: row.try_get::<Option<i64>, _>("withdrawn_us")?.map(from_micros),
        withdrawn_by: row.try_get("withdrawn_by")?,
    }))
}

/// Splits a downtime by the overrides of its subject, which are in the order of their numbers.
pub(super) fn apply(interval: Interval, overrides: &[Override]) -> Vec<Interval> {
    let is_inside = |at: Timestamp| interval.from < at && interval.until.is_none_or(|until| at < until);
    if interval.state != State::Down {
        return vec![interval];
    }
    let mut edges: Vec<Timestamp> =
        overrides.iter().flat_map(|found| [found.from, found.to]).filter(|at| is_inside(*at)).collect();
    edges.push(interval.from);
    edges.sort_unstable();
    edges.dedup();
    let ends = edges[1..].iter().copied().map(Some).chain([interval.until]);
    let parts = edges.iter().zip(ends).map(|(&from, until)| {
        let last = overrides.iter().rev().find(|found| found.from <= from && from < found.to);
        let cause = last.map_or_else(|| interval.automatic_cause.clone(), |found| found.cause.to_string());
        Interval { from, until, cause, overridden: last.cloned(), ..interval.clone() }
    });
    let mut applied: Vec<Interval> = Vec::new();
    for part in parts {
        match applied.last_mut() {
            Some(before) if before.overridden == part.overridden => before.until = part.until,
            _ => applied.push(part),
        }
    }
    applied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_latest_override_holds_where_several_overlap() {
        let subject = Subject { kind: SubjectKind::Service, id: "dvc".into() };
        let interval = |state| Interval {
            subject: subject.clone(),
            agency: "tam-ky".into(),
            from: at(100),
            until: None,
            state,
            cause: "own".into(),
            automatic_cause: "own".into(),
            by: String::new(),
            reason: String::new(),
            overridden: None,
        };
        let judged = |id, from, to, cause| Override {
            id,
            subject: subject.clone(),
            from: at(from),
            to: at(to),
            cause,
            reason: "tra soát".into(),
            who: "it-ioc".into(),
            created: at(500),
            withdrawn: None,
            withdrawn_by: None,
        };
        let overrides = [judged(1, 50, 200, Cause::Maintenance), judged(2, 150, 160, Cause::Own)];
        let parts: Vec<_> = apply(interval(State::Down), &overrides)
            .into_iter()
            .map(|part| (part.from, part.until, part.cause, part.overridden.map(|found| found.id)))
            .collect();
        let expected = [
            (at(100), Some(at(150)), "maintenance".to_string(), Some(1)),
            (at(150), Some(at(160)), "own".to_string(), Some(2)),
            (at(160), Some(at(200)), "maintenance".to_string(), Some(1)),
            (at(200), None, "own".to_string(), None),
        ];
        assert_eq!(parts, expected);
        assert_eq!(apply(interval(State::Up), &overrides), [interval(State::Up)], "only downtime has a cause");
    }
}
