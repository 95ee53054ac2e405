//! The week before: intervals in the ledger, so that there is a scorecard to read from the first minute.

use super::PORTALS;
use super::devices::Script;
use crate::attribution::{State, SubjectKind};
use crate::config;
use crate::evaluation::Week;
use crate::store::{Store, Tx, micros};
use anyhow::{Context, anyhow};
use jiff::{SignedDuration, Timestamp};
use std::path::Path;

/// Hours of downtime in the week, by portal.
const PORTAL_HOURS_DOWN: [i64; 3] = [1, 9, 0];

/// Writes the week before now, unless the state database already knows it.
pub async fn write(config_file: &Path, script: &Script) -> anyhow::Result<()> {
    let config = config::load(config_file).map_err(|problems| anyhow!("{}", crate::cli::check::report(&problems)))?;
    let store = Store::open(&config.state, &config.data_dir).await?;
    let known: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM ledger_intervals").fetch_one(store.reader()).await?;
    if known == 0 {
        let zone = &config.site.timezone;
        let week = Week::containing(Timestamp::now().to_zoned_datetime(zone.clone()).date()).previous();
        let (from, to) = week.range(zone);
        let mut tx = store.begin().await?;
        for ((id, _, agency), hours) in PORTALS.iter().zip(PORTAL_HOURS_DOWN) {
            let subject = Past { kind: SubjectKind::Service, id, agency };
            subject.write(&mut tx, from, to, SignedDuration::from_hours(hours)).await?;
        }
        for (number, device) in script.devices.iter().enumerate() {
            let kind = if device.kind == "camera" { SubjectKind::Camera } else { SubjectKind::Hotspot };
            let subject = Past { kind, id: &device.id, agency: &device.agency };
            // Every seventh device spent two days without power.
            let hours = if number.is_multiple_of(7) { 48 } else { 0 };
            subject.write(&mut tx, from, to, SignedDuration::from_hours(hours)).await?;
        }
        tx.commit().await?;
    }
    store.close().await;
    Ok(())
}

struct Past<'a> {
    kind: SubjectKind,
    id: &'a str,
    agency: &'a str,
}

impl Past<'_> {
    /// Up all week, except for `down` in its middle.
    async fn write(&self, tx: &mut Tx, from: Timestamp, to: Timestamp, down: SignedDuration) -> anyhow::Result<()> {
        let begin = from + SignedDuration::from_hours(50);
        let end = begin + down;
        let parts = [(from, begin, State::Up), (begin, end, State::Down), (end, to, State::Up)];
        for (from, until, state) in parts.into_iter().filter(|(from, until, _)| from < until) {
            sqlx::query(
                "INSERT INTO ledger_intervals \
                 (subject_kind, subject, agency, from_us, until_us, state, cause, origin, reason) \
                 VALUES ($1, $2, $3, $4, $5, $6, 'own', 'auto', 'demo')",
            )
            .bind(self.kind.as_str())
            .bind(self.id)
            .bind(self.agency)
            .bind(micros(from))
            .bind(micros(until))
            .bind(state.as_str())
            .execute(&mut **tx)
            .await
            .context("inserting an interval")?;
        }
        Ok(())
    }
}
