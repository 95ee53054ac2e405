//! The stored reports: their values, their bytes and the hash of these.

use super::report::{AgencyWeek, Profile, Report};
use super::score::{Measured, Missing};
use super::week::Week;
use crate::config::site::Language;
use crate::store::{Doing, Store, StoreError, Tx, micros};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sqlx::Row;
use std::fmt::Write;

/// A report as it was kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// From the stored values.
    pub report: Report,
    pub language: Language,
    /// The bytes as they were rendered then.
    pub html: String,
    pub sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The row is not what this program writes.
    #[error("the stored report of {0} is damaged: {1}")]
    Damaged(String, String),
}

/// Hexadecimal SHA-256.
pub fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Writes a report for ever. `false` if the week has one already: then nothing was written.
pub async fn keep(
    tx: &mut Tx,
    report: &Report,
    language: Language,
    html: &str,
    zone: &TimeZone,
    now: Timestamp,
) -> Result<bool, StoreError> {
    const DOING: &str = "storing the weekly report";
    let week = report.week.to_string();
    let (from, to) = report.week.range(zone);
    let profile = serde_json::to_string(&report.profile).unwrap_or_default();
    let inserted = sqlx::query(
        "INSERT INTO evaluation_reports (week, from_us, to_us, created_us, language, profile, html, sha256) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (week) DO NOTHING",
    )
    .bind(&week)
    .bind(micros(from))
    .bind(micros(to))
    .bind(micros(now))
    .bind(if language == Language::Vi { "vi" } else { "en" })
    .bind(profile)
    .bind(html)
    .bind(sha256(html))
    .execute(&mut **tx)
    .await
    .doing(DOING)?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    for agency in &report.agencies {
        for (indicator, measured) in &agency.measured {
            sqlx::query(
                "INSERT INTO evaluation_values \
                 (week, agency, indicator, numerator, denominator, value, coverage, excused, missing) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(&week)
            .bind(&agency.id)
            .bind(indicator)
            .bind(finite(measured.numerator))
            .bind(finite(measured.denominator))
            .bind(finite(measured.value))
            .bind(finite(measured.coverage))
            .bind(finite(measured.excused))
            .bind(measured.missing.map_or("", Missing::as_str))
            // On PostgreSQL a NULL real is bound as the shorter of its two types of real: a statement prepared for that
            // would refuse the next row's numbers.
            .persistent(false)
            .execute(&mut **tx)
            .await
            .doing(DOING)?;
        }
    }
    Ok(true)
}

/// SQLite has no NaN: it becomes NULL, which reads the same.
fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

/// The weeks that have a report, latest first.
pub async fn weeks(store: &Store, at_most: u32) -> Result<Vec<Week>, StoreError> {
    // `2026-W47` sorts as text as it does in time.
    let rows: Vec<String> = sqlx::query_scalar("SELECT week FROM evaluation_reports ORDER BY week DESC LIMIT $1")
        .bind(i64::from(at_most))
        .fetch_all(store.reader())
        .await
        .doing("listing the weekly reports")?;
    Ok(rows.iter().filter_map(|week| Week::parse(week)).collect())
}

pub async fn load(store: &Store, week: Week) -> Result<Option<Kept>, ArchiveError> {
    const DOING: &str = "reading a weekly report";
    let name = week.to_string();
    let row = sqlx::query("SELECT language, profile, html, sha256 FROM evaluation_reports WHERE week = $1")
        .bind(&name)
        .fetch_optional(store.reader())
        .await
        .doing(DOING)?;
    let Some(row) = row else { return Ok(None) };
    let profile: String = row.try_get("profile").doing(DOING)?;
    let profile: Profile =
        serde_json::from_str(&profile).map_err(|error| ArchiveError::Damaged(name.clone(), error.to_string()))?;
    let mut agencies: Vec<AgencyWeek> = profile
        .agencies
        .iter()
        .map(|(id, name)| AgencyWeek { id: id.clone(), name: name.clone(), ..AgencyWeek::default() })
        .collect();
    let values = sqlx::query(
        "SELECT agency, indicator, numerator, denominator, value, coverage, excused, missing \
         FROM evaluation_values WHERE week = $1",
    )
    .bind(&name)
    .fetch_all(store.reader())
    .await
    .doing(DOING)?;
    for value in values {
        let agency: String = value.try_get("agency").doing(DOING)?;
        let Some(agency) = agencies.iter_mut().find(|candidate| candidate.id == agency) else { continue };
        let missing: String = value.try_get("missing").doing(DOING)?;
        let measured = Measured {
            numerator: value.try_get("numerator").doing(DOING)?,
            denominator: value.try_get("denominator").doing(DOING)?,
            value: value.try_get("value").doing(DOING)?,
            coverage: value.try_get("coverage").doing(DOING)?,
            excused: value.try_get("excused").doing(DOING)?,
            missing: Missing::parse(&missing),
        };
        agency.measured.insert(value.try_get("indicator").doing(DOING)?, measured);
    }
    let language: String = row.try_get("language").doing(DOING)?;
    Ok(Some(Kept {
        report: Report { week, profile, agencies },
        language: if language == "en" { Language::En } else { Language::Vi },
        html: row.try_get("html").doing(DOING)?,
        sha256: row.try_get("sha256").doing(DOING)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Database;

    #[tokio::test]
    async fn a_stored_report_renders_to_the_same_bytes_and_is_never_overwritten() {
        for database in Database::both().await {
            is_kept_for_ever(&database.store).await;
        }
    }

    async fn is_kept_for_ever(store: &Store) {
        let zone = TimeZone::fixed(jiff::tz::offset(7));
        let report = super::super::report::tests::sample();
        let html = report.html(Language::Vi).unwrap();
        let now = Timestamp::from_second(1_764_000_000).unwrap();
        let mut tx = store.begin().await.unwrap();
        assert!(keep(&mut tx, &report, Language::Vi, &html, &zone, now).await.unwrap());
        assert!(!keep(&mut tx, &report, Language::Vi, "other", &zone, now).await.unwrap());
        tx.commit().await.unwrap();

        let kept = load(store, report.week).await.unwrap().unwrap();
        assert_eq!(kept.report, report);
        assert_eq!(kept.html, html);
        assert_eq!(kept.sha256, sha256(&kept.html));
        assert_eq!(kept.report.html(kept.language).unwrap(), html);
        assert_eq!(weeks(store, 5).await.unwrap(), [report.week]);
        assert!(load(store, report.week.next()).await.unwrap().is_none());
    }
}
