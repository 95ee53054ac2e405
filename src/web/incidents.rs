//! Reads incidents for pages and API. The tables belong to `incident/`; here are only reading statements.

use crate::attribution::Cause;
use crate::config::Id;
use crate::incident::escalation::Escalation;
use crate::incident::silence::WrittenMatcher;
use crate::incident::{Excused, Why};
use crate::store::{Doing, Store, StoreError, from_micros, micros};
use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// As a list shows it.
#[derive(Debug, Clone)]
pub struct Incident {
    pub id: i64,
    pub agency: String,
    pub area: String,
    pub severity: String,
    pub subject: String,
    pub opened_us: i64,
    pub resolved_us: Option<i64>,
    /// Since when and by what all that fires is excused.
    pub excused: Option<Excused>,
    /// Who answered last, and until when that stops the escalation.
    pub acknowledged: Option<(String, Timestamp)>,
}

#[derive(Debug, Clone)]
pub struct IncidentAlert {
    pub labels: serde_json::Value,
    pub annotations: serde_json::Value,
    pub severity: String,
    pub starts_us: i64,
    pub resolved_us: Option<i64>,
    pub excused: Option<Excused>,
}

#[derive(Debug, Clone)]
pub struct Event {
    pub at_us: i64,
    pub event: String,
    pub person: String,
    pub detail: String,
}

#[derive(Debug, Clone)]
pub struct Detail {
    pub incident: Incident,
    pub alerts: Vec<IncidentAlert>,
    pub timeline: Vec<Event>,
    /// People can still do something to it.
    pub is_open: bool,
}

/// Rows a page or an answer holds at most.
const MAX_ROWS: i64 = 200;
const COLUMNS: &str = "id, agency, area, severity, subject, opened_us, resolved_us, closed_us, excused_us, excused_by, excused_why, \
     escalation";

/// Open ones first, then the latest; of the agencies `visible` only, if given.
pub async fn list(store: &Store, visible: Option<&Arc<BTreeSet<Id>>>) -> Result<Vec<Incident>, StoreError> {
    const DOING: &str = "listing the incidents";
    let places: Vec<String> = (0..visible.map_or(0, |ids| ids.len())).map(|index| format!("${}", index + 2)).collect();
    let filter = if visible.is_some() { format!("WHERE agency IN ({})", places.join(", ")) } else { String::new() };
    let sql = format!(
        "SELECT {COLUMNS} FROM incidents {filter} \
         ORDER BY CASE WHEN resolved_us IS NULL THEN 0 ELSE 1 END, opened_us DESC LIMIT $1"
    );
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(MAX_ROWS);
    for agency in visible.into_iter().flat_map(|ids| ids.iter()) {
        query = query.bind(agency.as_str());
    }
    let rows = query.fetch_all(store.reader()).await.doing(DOING)?;
    rows.iter().map(incident).collect::<Result<_, _>>().doing(DOING)
}

pub async fn find(store: &Store, id: i64) -> Result<Option<Detail>, StoreError> {
    const DOING: &str = "reading an incident";
    let sql = format!("SELECT {COLUMNS} FROM incidents WHERE id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(store.reader()).await.doing(DOING)?;
    let Some(row) = row else { return Ok(None) };
    let alerts = sqlx::query(
        "SELECT labels, annotations, severity, starts_us, resolved_us, excused_us, excused_by, \
         excused_cause AS excused_why FROM alerts WHERE incident = $1 \
         ORDER BY CASE WHEN resolved_us IS NULL THEN 0 ELSE 1 END, starts_us LIMIT $2",
    )
    .bind(id)
    .bind(MAX_ROWS)
    .fetch_all(store.reader())
    .await
    .doing(DOING)?;
    let timeline = sqlx::query(
        "SELECT at_us, event, person, detail FROM incident_timeline WHERE incident = $1 ORDER BY seq DESC LIMIT $2",
    )
    .bind(id)
    .bind(MAX_ROWS)
    .fetch_all(store.reader())
    .await
    .doing(DOING)?;
    let detail = || -> Result<Detail, sqlx::Error> {
        Ok(Detail {
            incident: incident(&row)?,
            alerts: alerts.iter().map(alert).collect::<Result<_, _>>()?,
            timeline: timeline.iter().map(event).collect::<Result<_, _>>()?,
            is_open: row.try_get::<Option<i64>, _>("closed_us")?.is_none(),
        })
    };
    detail().map(Some).doing(DOING)
}

fn incident(row: &AnyRow) -> Result<Incident, sqlx::Error> {
    Ok(Incident {
        id: row.try_get("id")?,
        agency: row.try_get("agency")?,
        area: row.try_get("area")?,
        severity: row.try_get("severity")?,
        subject: row.try_get("subject")?,
        opened_us: row.try_get("opened_us")?,
        resolved_us: row.try_get("resolved_us")?,
        excused: excused(row)?,
        acknowledged: acknowledged(&row.try_get::<String, _>("escalation")?),
    })
}

/// By what it is, or at its end was, excused.
fn excused(row: &AnyRow) -> Result<Option<Excused>, sqlx::Error> {
    let Some(since) = row.try_get::<Option<i64>, _>("excused_us")? else { return Ok(None) };
    let why: Option<String> = row.try_get("excused_why")?;
    // What an earlier version wrote of an incident has no kind: all it knew were causes.
    let why = why.as_deref().and_then(Why::parse).unwrap_or(Why::Cause(Cause::Maintenance));
    let by: Option<String> = row.try_get("excused_by")?;
    Ok(Some(Excused { why, by: by.unwrap_or_default(), since: from_micros(since) }))
}

fn acknowledged(escalation: &str) -> Option<(String, Timestamp)> {
    // Before the first mail there is none.
    let escalation: Escalation = serde_json::from_str(escalation).ok()?;
    Some((escalation.acks.last()?.person.clone(), escalation.held_until?))
}

fn alert(row: &AnyRow) -> Result<IncidentAlert, sqlx::Error> {
    let json = |column: &str| -> Result<serde_json::Value, sqlx::Error> {
        let text: String = row.try_get(column)?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    };
    Ok(IncidentAlert {
        labels: json("labels")?,
        annotations: json("annotations")?,
        severity: row.try_get("severity")?,
        starts_us: row.try_get("starts_us")?,
        resolved_us: row.try_get("resolved_us")?,
        excused: excused(row)?,
    })
}

fn event(row: &AnyRow) -> Result<Event, sqlx::Error> {
    Ok(Event {
        at_us: row.try_get("at_us")?,
        event: row.try_get("event")?,
        person: row.try_get("person")?,
        detail: row.try_get("detail")?,
    })
}

/// A silence that applies, or will.
#[derive(Debug, Clone)]
pub struct Shown {
    pub id: String,
    pub matchers: Vec<WrittenMatcher>,
    pub starts_us: i64,
    pub ends_us: i64,
    pub created_by: String,
    pub comment: String,
}

/// The silences that are not over, the next to end first.
pub async fn silences(store: &Store, now: Timestamp) -> Result<Vec<Shown>, StoreError> {
    const DOING: &str = "listing the silences";
    let rows = sqlx::query(
        "SELECT id, matchers, starts_us, ends_us, created_by, comment FROM silences WHERE ends_us > $1 \
         ORDER BY ends_us LIMIT $2",
    )
    .bind(micros(now))
    .bind(MAX_ROWS)
    .fetch_all(store.reader())
    .await
    .doing(DOING)?;
    let shown = |row: &AnyRow| -> Result<Shown, sqlx::Error> {
        Ok(Shown {
            id: row.try_get("id")?,
            matchers: serde_json::from_str(&row.try_get::<String, _>("matchers")?).unwrap_or_default(),
            starts_us: row.try_get("starts_us")?,
            ends_us: row.try_get("ends_us")?,
            created_by: row.try_get("created_by")?,
            comment: row.try_get("comment")?,
        })
    };
    rows.iter().map(shown).collect::<Result<_, _>>().doing(DOING)
}
