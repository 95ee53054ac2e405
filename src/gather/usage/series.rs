//! Brings the usage metrics in line with the state database, which alone knows: so they survive a restart.

use crate::config::Id;
use crate::feed::Place;
use crate::metrics::columns::{app, app_events, dossiers};
use crate::store::{Doing, StoreError};
use sqlx::Row;

const DOING: &str = "reading usage totals";

/// Sets every series of the configured applications, and ends those of others.
pub(super) async fn refresh(place: &Place, apps: &[Id]) -> Result<(), StoreError> {
    let reader = place.store.reader();
    let is_ours = |agency: &str, name: &str| place.org.agency(agency).is_some() && apps.iter().any(|id| &**id == name);

    let table = place.metrics.table(app::TABLE);
    // The latest period of each; of several that end together the longest, which has the most users.
    let sql = "SELECT c.agency, c.app, MAX(c.value) AS value FROM usage_counts c \
               JOIN (SELECT app, agency, MAX(to_us) AS to_us FROM usage_counts WHERE event = '' GROUP BY app, agency) l \
               ON c.app = l.app AND c.agency = l.agency AND c.to_us = l.to_us WHERE c.event = '' GROUP BY c.agency, c.app";
    for row in sqlx::query(sql).fetch_all(reader).await.doing(DOING)? {
        let (agency, name) = (text(&row, "agency")?, text(&row, "app")?);
        if is_ours(&agency, &name) {
            table.set(table.row(&[&agency, &name]), app::ACTIVE_USERS, number(&row, "value")?);
        }
    }
    table.retain(|labels| is_ours(&labels[0], &labels[1]));

    let table = place.metrics.table(app_events::TABLE);
    let sql = "SELECT agency, app, event, total FROM usage_totals";
    for row in sqlx::query(sql).fetch_all(reader).await.doing(DOING)? {
        let (agency, name, event) = (text(&row, "agency")?, text(&row, "app")?, text(&row, "event")?);
        if is_ours(&agency, &name) {
            table.set(table.row(&[&agency, &name, &event]), app_events::EVENTS, number(&row, "total")?);
        }
    }
    table.retain(|labels| is_ours(&labels[0], &labels[1]));

    let table = place.metrics.table(dossiers::TABLE);
    let sql = "SELECT agency, step, channel, outcome, total FROM dossier_totals";
    for row in sqlx::query(sql).fetch_all(reader).await.doing(DOING)? {
        let (agency, step) = (text(&row, "agency")?, text(&row, "step")?);
        let (channel, outcome) = (text(&row, "channel")?, text(&row, "outcome")?);
        if place.org.agency(&agency).is_some() {
            let labels = [agency.as_str(), step.as_str(), channel.as_str(), outcome.as_str()];
            table.set(table.row(&labels), dossiers::DOSSIERS, number(&row, "total")?);
        }
    }
    table.retain(|labels| place.org.agency(&labels[0]).is_some());
    Ok(())
}

fn text(row: &sqlx::any::AnyRow, name: &str) -> Result<String, StoreError> {
    row.try_get(name).doing(DOING)
}

fn number(row: &sqlx::any::AnyRow, name: &str) -> Result<f64, StoreError> {
    let number: i64 = row.try_get(name).doing(DOING)?;
    Ok(number as f64)
}
