//! Which of several daemons on one PostgreSQL leads: a lease in the database, judged by the database's clock.
//!
//! Two rows. The *term* (`leadership.epoch`) is what [`super::Store::begin`] of a fenced store looks at: it shares a
//! lock on it until its commit, so a term that began without it cannot be followed by its writes. The *lease*
//! (`leadership_lease`) says until when the term lasts; renewing it touches nothing that a long transaction holds.
//!
//! A new term waits for the transactions of the old one. If the old leader stands still in the middle of one (stopped,
//! swapped out, cut off), its connections are ended by the database: they carry a mark. The mark needs no more than the
//! rights of the role that all daemons share.
//!
//! These statements are PostgreSQL's alone; nothing here runs on SQLite.

use super::{Doing, Store, StoreError};
use sqlx::{AnyPool, Row};
use std::time::Duration;

/// How long a term lasts without being renewed.
pub const LASTS: Duration = Duration::from_secs(9);
/// How often the leader renews it.
pub const RENEW: Duration = Duration::from_secs(2);
/// How long a daemon that was not heard of counts as missing rather than gone, in microseconds: a week.
const MISSED_US: i64 = 7 * 24 * 3_600 * 1_000_000;
/// Of a daemon that runs: it says so as often as it asks for the lease.
const SEEN_US: i64 = 30_000_000;
/// How long a new term waits for the old one's transactions before their connections are ended.
const PATIENCE: &str = "SET LOCAL lock_timeout = '1s'";
/// SQLSTATE of a statement that [`PATIENCE`] ended.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// Microseconds since 1970 by the database's clock, within a transaction too.
const NOW: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// The lease as one daemon sees it.
pub struct Lease {
    /// One connection of its own: renewing never waits for a free one.
    pool: AnyPool,
    /// The mark of this daemon's connections.
    holder: String,
    /// For people, and the same after a restart.
    name: String,
}

/// The lease as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    pub epoch: i64,
    /// Who holds it; empty if nobody ever did.
    pub name: String,
    pub expires_us: i64,
    pub is_expired: bool,
    /// The mark of the holder's connections.
    pub holder: String,
}

/// The daemons on this database but for the leader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Others {
    pub standing_by: i64,
    /// Neither heard of nor stopped properly.
    pub missing: i64,
}

impl Lease {
    /// `None` with SQLite, where only one daemon runs. `name` says which daemon it is.
    pub async fn open(store: &Store, name: &str) -> Result<Option<Lease>, StoreError> {
        let Some(server) = &store.server else { return Ok(None) };
        let pool = super::connect(&server.url, &server.shown, &server.setup(), 1).await?;
        Ok(Some(Lease { pool, holder: server.mark.clone(), name: name.to_string() }))
    }

    /// The name of this daemon.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says that this daemon runs, and reads the lease.
    pub async fn look(&self) -> Result<Standing, StoreError> {
        const DOING: &str = "reading who leads";
        self.attend().await?;
        let text =
            format!("SELECT epoch, holder, name, expires_us, {NOW} AS now_us FROM leadership_lease WHERE id = 1");
        let row = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_one(&self.pool).await.doing(DOING)?;
        let (expires_us, now_us): (i64, i64) =
            (row.try_get("expires_us").doing(DOING)?, row.try_get("now_us").doing(DOING)?);
        Ok(Standing {
            epoch: row.try_get("epoch").doing(DOING)?,
            name: row.try_get("name").doing(DOING)?,
            holder: row.try_get("holder").doing(DOING)?,
            expires_us,
            is_expired: expires_us <= now_us,
        })
    }

    /// Begins a new term if the lease still stands as `seen` and is over; `None` if somebody was faster. With
    /// `by_own_clock` it need not be over: it was not renewed for longer than it lasts by the caller's own clock, so the
    /// database's was set back.
    pub async fn take(&self, seen: &Standing, by_own_clock: bool) -> Result<Option<i64>, StoreError> {
        match self.try_take(seen, by_own_clock).await {
            Err(StoreError::Sql(_, error)) if is_locked(&error) => {}
            other => return other,
        }
        tracing::warn!(leader = seen.name, "the last leader stands still in a transaction; its connections are ended");
        // In two steps: a condition that ends connections may be asked before the one that says which.
        sqlx::query(
            "WITH past AS MATERIALIZED (SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
             AND application_name = $1 AND pid <> pg_backend_pid()) SELECT COUNT(pg_terminate_backend(pid)) FROM past",
        )
        .bind(&seen.holder)
        .fetch_one(&self.pool)
        .await
        .doing("ending the connections of the last leader")?;
        self.try_take(seen, by_own_clock).await
    }

    async fn try_take(&self, seen: &Standing, by_own_clock: bool) -> Result<Option<i64>, StoreError> {
        const DOING: &str = "beginning a term";
        let mut tx = self.pool.begin().await.doing(DOING)?;
        sqlx::query(PATIENCE).execute(&mut *tx).await.doing(DOING)?;
        // Waits for the transactions of the old term; those that begin now wait for this one and then see its number.
        sqlx::query("SELECT epoch FROM leadership WHERE id = 1 FOR UPDATE").fetch_one(&mut *tx).await.doing(DOING)?;
        let text = format!(
            "UPDATE leadership_lease SET epoch = epoch + 1, holder = $1, name = $2, expires_us = {NOW} + $3 \
             WHERE id = 1 AND epoch = $4 AND (expires_us <= {NOW} OR expires_us = $5) RETURNING epoch"
        );
        let epoch: Option<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(text))
            .bind(&self.holder)
            .bind(&self.name)
            .bind(LASTS.as_micros() as i64)
            .bind(seen.epoch)
            .bind(if by_own_clock { seen.expires_us } else { -1 })
            .fetch_optional(&mut *tx)
            .await
            .doing(DOING)?;
        let Some(epoch) = epoch else { return Ok(None) };
        sqlx::query("UPDATE leadership SET epoch = $1 WHERE id = 1")
            .bind(epoch)
            .execute(&mut *tx)
            .await
            .doing(DOING)?;
        tx.commit().await.doing(DOING)?;
        Ok(Some(epoch))
    }

    /// Lets the term last longer; `false` if another began. One that ran out is still this daemon's while nobody else
    /// took it.
    pub async fn renew(&self, epoch: i64) -> Result<bool, StoreError> {
        let text = format!("UPDATE leadership_lease SET expires_us = {NOW} + $1 WHERE id = 1 AND epoch = $2");
        let renewed = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(LASTS.as_micros() as i64)
            .bind(epoch)
            .execute(&self.pool)
            .await
            .doing("renewing the lead")?;
        self.attend().await?;
        Ok(renewed.rows_affected() > 0)
    }

    /// Gives the lead back, for another to take at once, and says that this daemon is stopped for good reason.
    pub async fn release(&self, epoch: Option<i64>) -> Result<(), StoreError> {
        const DOING: &str = "giving the lead back";
        if let Some(epoch) = epoch {
            sqlx::query("UPDATE leadership_lease SET expires_us = 0 WHERE id = 1 AND epoch = $1")
                .bind(epoch)
                .execute(&self.pool)
                .await
                .doing(DOING)?;
        }
        sqlx::query("DELETE FROM daemons WHERE name = $1").bind(&self.name).execute(&self.pool).await.doing(DOING)?;
        Ok(())
    }

    /// The daemons beside this one.
    pub async fn others(&self) -> Result<Others, StoreError> {
        const DOING: &str = "counting the daemons in reserve";
        let text = format!(
            "SELECT COUNT(CASE WHEN seen_us > {NOW} - $1 THEN 1 END) AS near, COUNT(*) AS known FROM daemons \
             WHERE name <> $2 AND seen_us > {NOW} - $3"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(SEEN_US)
            .bind(&self.name)
            .bind(MISSED_US)
            .fetch_one(&self.pool)
            .await
            .doing(DOING)?;
        let (near, known): (i64, i64) = (row.try_get("near").doing(DOING)?, row.try_get("known").doing(DOING)?);
        Ok(Others { standing_by: near, missing: known - near })
    }

    async fn attend(&self) -> Result<(), StoreError> {
        let text = format!(
            "INSERT INTO daemons (name, seen_us) VALUES ($1, {NOW}) \
             ON CONFLICT (name) DO UPDATE SET seen_us = excluded.seen_us"
        );
        let said = sqlx::query(sqlx::AssertSqlSafe(text)).bind(&self.name).execute(&self.pool).await;
        said.map(drop).doing("saying that this daemon runs")
    }
}

fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
