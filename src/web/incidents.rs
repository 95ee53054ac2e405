//! Reads incidents for pages and API. The tables belong to `incident/`; here are only reading statements.

use crate::attribution::Cause;
use crate::config::Id;
use crate::config::organisation::Area;
use crate::incident::escalation::Escalation;
use crate::incident::silence::WrittenMatcher;
use crate::incident::{Excused, Severity, Why};
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
    /// In the site's language.
    pub subject: String,
    /// In English; "" if it was written by an earlier version.
    pub subject_en: String,
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
pub const MAX_ROWS: i64 = 200;
const COLUMNS: &str = "id, agency, area, severity, subject, subject_en, opened_us, resolved_us, closed_us, excused_us, excused_by, excused_why, \
     escalation";

/// Which incidents are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub agency: Option<String>,
    pub area: Option<Area>,
    pub severity: Option<Severity>,
    pub state: Option<State>,
    /// Those that were open then or later.
    pub since: Option<Timestamp>,
    /// Those with a smaller number: what follows the page that ended with it.
    pub before: Option<i64>,
}

/// How an incident stands, for those who look for some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Something fires.
    Open,
    /// Something fires, and all that does is excused.
    Excused,
    /// Nothing fires any more.
    Resolved,
}

impl State {
    pub const ALL: [State; 3] = [State::Open, State::Excused, State::Resolved];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Excused => "excused",
            State::Resolved => "resolved",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }

    fn condition(self) -> &'static str {
        match self {
            State::Open => "resolved_us IS NULL",
            State::Excused => "resolved_us IS NULL AND excused_us IS NOT NULL",
            State::Resolved => "resolved_us IS NOT NULL",
        }
    }
}

/// In which order a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// For people: those that fire, then the latest.
    OpenFirst,
    /// For programs that read page after page: by number, the latest first.
    Latest,
}

/// A value in the place of a `$n`.
enum Bound {
    Text(String),
    Number(i64),
}

/// At most `at_most` incidents; of the agencies `visible` only, if given.
pub async fn list(
    store: &Store,
    visible: Option<&Arc<BTreeSet<Id>>>,
    filter: &Filter,
    order: Order,
    at_most: i64,
) -> Result<Vec<Incident>, StoreError> {
    const DOING: &str = "listing the incidents";
    let mut bound = Vec::new();
    let mut place = |value: Bound| {
        bound.push(value);
        format!("${}", bound.len())
    };
    let limit = place(Bound::Number(at_most));
    let mut conditions = vec!["1 = 1".to_owned()];
    if let Some(visible) = visible {
        let places: Vec<String> = visible.iter().map(|agency| place(Bound::Text(agency.to_string()))).collect();
        conditions.push(format!("agency IN ({})", places.join(", ")));
    }
    let texts = [
        ("agency", filter.agency.clone()),
        ("area", filter.area.map(|area| area.as_str().to_owned())),
        ("severity", filter.severity.map(|severity| severity.as_str().to_owned())),
    ];
    for (column, value) in texts {
        conditions.extend(value.map(|value| format!("{column} = {}", place(Bound::Text(value)))));
    }
    conditions.extend(filter.state.map(|state| state.condition().to_owned()));
    if let Some(since) = filter.since {
        conditions.push(format!("(resolved_us IS NULL OR resolved_us >= {})", place(Bound::Number(micros(since)))));
    }
    conditions.extend(filter.before.map(|before| format!("id < {}", place(Bound::Number(before)))));
    let order = match order {
        Order::OpenFirst => "CASE WHEN resolved_us IS NULL THEN 0 ELSE 1 END, opened_us DESC, id DESC",
        Order::Latest => "id DESC",
    };
    let conditions = conditions.join(" AND ");
    let sql = format!("SELECT {COLUMNS} FROM incidents WHERE {conditions} ORDER BY {order} LIMIT {limit}");
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for value in bound {
        query = match value {
            Bound::Text(text) => query.bind(text),
            Bound::Number(number) => query.bind(number),
        };
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
         excused_cause AS excused_why FROM alerts JOIN alert_texts USING (incident, fingerprint) WHERE incident = $1 \
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
        subject_en: row.try_get("subject_en")?,
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

/// A silence that applies, will, or did.
#[derive(Debug, Clone)]
pub struct Shown {
    pub id: String,
    pub matchers: Vec<WrittenMatcher>,
    pub starts_us: i64,
    pub ends_us: i64,
    pub created_by: String,
    pub comment: String,
}

/// The silences that were not over at `since`, the last to end first.
pub async fn silences(store: &Store, since: Timestamp) -> Result<Vec<Shown>, StoreError> {
    const DOING: &str = "listing the silences";
    let rows = sqlx::query(
        "SELECT id, matchers, starts_us, ends_us, created_by, comment FROM silences WHERE ends_us > $1 \
         ORDER BY ends_us DESC, id LIMIT $2",
    )
    .bind(micros(since))
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
