//! Brings the payment metrics in line with the state database, which alone knows: so they survive a restart.

use super::classify::Kind;
use super::mismatch::{Tally, tallies};
use crate::feed::Place;
use crate::metrics::columns::{payment_mismatch as mismatch, payment_records as records};
use crate::store::{Doing, StoreError, micros};
use sqlx::Row;
use std::collections::HashMap;

const DOING: &str = "reading payment totals";

/// Sets every payment series. Each agency has each kind, zero if nothing is open: alerts can then resolve.
pub(super) async fn refresh(place: &Place) -> Result<(), StoreError> {
    let open = read_open(place).await?;
    let totals = read_totals(place).await?;
    let table = place.metrics.table(mismatch::TABLE);
    let agencies: Vec<&str> = place.org.agencies().iter().map(|agency| agency.id.as_str()).collect();
    for agency in &agencies {
        for kind in Kind::ALL {
            let key = (agency.to_string(), kind.as_str().to_string());
            let (opened, resolved) = totals.get(&key).copied().unwrap_or_default();
            let now = open.get(&key).copied();
            let (count, amount, oldest_us) = now.unwrap_or_default();
            let row = table.row(&[agency, kind.as_str()]);
            table.update(row, |cells| {
                cells.set(mismatch::OPEN, count as f64);
                cells.set(mismatch::AMOUNT, amount as f64);
                cells.set(mismatch::OPENED, opened as f64);
                cells.set(mismatch::RESOLVED, resolved as f64);
                if count > 0 {
                    cells.set(mismatch::OLDEST, oldest_us as f64 / 1e6);
                } else {
                    cells.clear(mismatch::OLDEST);
                }
            });
        }
    }
    table.retain(|labels| agencies.contains(&labels[0]));
    let table = place.metrics.table(records::TABLE);
    let sql = "SELECT agency, side, status, records FROM payment_record_totals";
    for row in sqlx::query(sql).fetch_all(place.store.reader()).await.doing(DOING)? {
        let text = |name: &str| row.try_get::<String, _>(name).doing(DOING);
        let (agency, side, status) = (text("agency")?, text("side")?, text("status")?);
        if agencies.contains(&agency.as_str()) {
            let count: i64 = row.try_get("records").doing(DOING)?;
            table.set(table.row(&[&agency, &side, &status]), records::RECORDS, count as f64);
        }
    }
    table.retain(|labels| agencies.contains(&labels[0]));
    Ok(())
}

/// Count, amount and oldest by agency and kind.
type ByKind<T> = HashMap<(String, String), T>;

async fn read_open(place: &Place) -> Result<ByKind<(i64, i64, i64)>, StoreError> {
    // An agency that is gone leaves its open mismatches to the site, as everything that nobody owns.
    let site = place.org.site().as_str();
    let mut open: ByKind<(i64, i64, i64)> = HashMap::new();
    for Tally { agency, kind, count, amount, oldest } in tallies(&place.store).await? {
        let agency = if place.org.agency(&agency).is_some() { agency } else { site.to_string() };
        let entry = open.entry((agency, kind.as_str().to_string())).or_insert((0, 0, i64::MAX));
        *entry = (entry.0 + count, entry.1.saturating_add(amount), entry.2.min(micros(oldest)));
    }
    Ok(open)
}

async fn read_totals(place: &Place) -> Result<ByKind<(i64, i64)>, StoreError> {
    let sql = "SELECT agency, kind, opened, resolved FROM payment_mismatch_totals";
    let rows = sqlx::query(sql).fetch_all(place.store.reader()).await.doing(DOING)?;
    let decode = |row: &sqlx::any::AnyRow| {
        Ok(((row.try_get("agency")?, row.try_get("kind")?), (row.try_get("opened")?, row.try_get("resolved")?)))
    };
    rows.iter().map(decode).collect::<Result<_, sqlx::Error>>().doing(DOING)
}
