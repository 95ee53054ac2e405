//! The tables `incidents`, `alerts`, `alert_texts`, `incident_timeline` and `incident_told`: what is read of them. What a
//! change writes to them stands in `writes.rs`.

use super::address::Severity;
use super::letter::Told;
use super::life::{Excused, Incident, Member, Why};
use crate::alert::Alert;
use crate::attribution::Cause;
use crate::config::organisation::Area;
use crate::config::site::Language;
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Alerts that are recorded only stand under this incident.
pub const RECORDED: i64 = 0;

/// One line of an incident's timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: Timestamp,
    /// A closed set, see the migration.
    pub event: String,
    /// A person's id, or empty.
    pub person: String,
    pub detail: String,
}

/// An incident as the stage holds it.
#[derive(Debug, Clone)]
pub struct Open {
    /// Shared with who compares it with what becomes of it: it may have thousands of alerts.
    pub incident: Arc<Incident>,
    pub told: Vec<Told>,
    /// Of the next timeline entry.
    pub seq: i64,
    /// When time alone will change something, as of the last change; `None`: never.
    pub due: Option<Timestamp>,
}

/// What was open when the last run ended.
#[derive(Default)]
pub struct Loaded {
    pub open: Vec<Open>,
    /// Recorded alerts that fire, by fingerprint.
    pub recorded: BTreeMap<String, Member>,
    pub next_id: i64,
}

/// Adds a line to the timeline of an incident that nobody holds: it is closed.
pub async fn append_timeline(tx: &mut Tx, incident: i64, entry: &Entry) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO incident_timeline (incident, seq, at_us, event, person, detail) \
         SELECT $1, COALESCE(MAX(seq) + 1, 0), $2, $3, $4, $5 FROM incident_timeline WHERE incident = $1",
    )
    .bind(incident)
    .bind(micros(entry.at))
    .bind(&entry.event)
    .bind(&entry.person)
    .bind(&entry.detail)
    .execute(&mut **tx)
    .await
    .doing("adding to an incident's timeline")?;
    Ok(())
}

pub async fn timeline(store: &Store, incident: i64) -> Result<Vec<Entry>, StoreError> {
    const DOING: &str = "reading an incident's timeline";
    let rows =
        sqlx::query("SELECT at_us, event, person, detail FROM incident_timeline WHERE incident = $1 ORDER BY seq")
            .bind(incident)
            .fetch_all(store.reader())
            .await
            .doing(DOING)?;
    let entry = |row: &AnyRow| {
        Ok(Entry {
            at: from_micros(row.try_get("at_us")?),
            event: row.try_get("event")?,
            person: row.try_get("person")?,
            detail: row.try_get("detail")?,
        })
    };
    rows.iter().map(entry).collect::<Result<_, sqlx::Error>>().doing(DOING)
}

/// Reads what was open. Rows that cannot be read (a label value of a later version) are left out and logged.
pub async fn load(store: &Store) -> Result<Loaded, StoreError> {
    const DOING: &str = "resuming incidents";
    let mut loaded = Loaded::default();
    let pool = store.reader();
    let last: Option<i64> = sqlx::query_scalar("SELECT MAX(id) FROM incidents").fetch_one(pool).await.doing(DOING)?;
    loaded.next_id = last.unwrap_or(RECORDED) + 1;
    let incidents = sqlx::query(
        "SELECT id, group_key, agency, area, severity, subject, subject_en, opened_us, resolved_us, changed_us, first_mail_us, \
         last_mail_us, mails, told, escalation, flaps, (SELECT MAX(seq) FROM incident_timeline t WHERE t.incident = incidents.id) AS seq \
         FROM incidents WHERE closed_us IS NULL ORDER BY id",
    );
    for row in incidents.fetch_all(pool).await.doing(DOING)? {
        match read_open(&row).doing(DOING)? {
            Some(open) => loaded.open.push(open),
            None => tracing::error!("an incident in the state database cannot be read and is left out"),
        }
    }
    let mut by_id: BTreeMap<i64, &mut Open> = loaded.open.iter_mut().map(|open| (open.incident.id, open)).collect();
    let alerts = sqlx::query(
        "SELECT incident, fingerprint, severity, labels, annotations, generator_url, starts_us, ends_us, resolved_us, \
         excused_us, excused_cause, excused_by, freed_us, dismissed_us \
         FROM alerts JOIN alert_texts USING (incident, fingerprint) WHERE (incident = 0 AND resolved_us IS NULL) \
         OR incident IN (SELECT id FROM incidents WHERE closed_us IS NULL)",
    );
    for row in alerts.fetch_all(pool).await.doing(DOING)? {
        let incident: i64 = row.try_get("incident").doing(DOING)?;
        let Some((fingerprint, member)) = read_member(&row).doing(DOING)? else {
            tracing::error!(incident.id = incident, "an alert in the state database cannot be read and is left out");
            continue;
        };
        match by_id.get_mut(&incident) {
            Some(open) => drop(Arc::make_mut(&mut open.incident).members.insert(fingerprint.into(), member.into())),
            None if incident == RECORDED => drop(loaded.recorded.insert(fingerprint, member)),
            None => {}
        }
    }
    let told = sqlx::query(
        "SELECT incident, person, name, address, language, subject, message_id FROM incident_told \
         WHERE incident IN (SELECT id FROM incidents WHERE closed_us IS NULL) ORDER BY incident, told_us, person",
    );
    for row in told.fetch_all(pool).await.doing(DOING)? {
        let incident: i64 = row.try_get("incident").doing(DOING)?;
        if let Some(open) = by_id.get_mut(&incident) {
            open.told.push(read_told(&row).doing(DOING)?);
        }
    }
    Ok(loaded)
}

fn read_open(row: &AnyRow) -> Result<Option<Open>, sqlx::Error> {
    let time = |name: &str| row.try_get::<Option<i64>, _>(name).map(|us| us.map(from_micros));
    let (area, severity, told): (String, String, String) =
        (row.try_get("area")?, row.try_get("severity")?, row.try_get("told")?);
    let told: Option<BTreeSet<String>> = serde_json::from_str(&told).ok();
    let (Some(area), Some(severity), Some(told)) = (Area::parse(&area), Severity::parse(&severity), told) else {
        return Ok(None);
    };
    let incident = Incident {
        id: row.try_get("id")?,
        key: row.try_get("group_key")?,
        agency: row.try_get("agency")?,
        area,
        severity,
        subject: row.try_get("subject")?,
        subject_en: row.try_get("subject_en")?,
        opened: from_micros(row.try_get("opened_us")?),
        resolved: time("resolved_us")?,
        changed: time("changed_us")?,
        first_mail: time("first_mail_us")?,
        last_mail: time("last_mail_us")?,
        mails: row.try_get("mails")?,
        members: BTreeMap::new(),
        flaps: serde_json::from_str(&row.try_get::<String, _>("flaps")?).unwrap_or_default(),
        told: Arc::new(told),
        // What was open before there were escalations begins with its first.
        escalation: serde_json::from_str(&row.try_get::<String, _>("escalation")?).unwrap_or_default(),
    };
    let seq: Option<i64> = row.try_get("seq")?;
    Ok(Some(Open { incident: Arc::new(incident), told: Vec::new(), seq: seq.map_or(0, |last| last + 1), due: None }))
}

fn read_member(row: &AnyRow) -> Result<Option<(String, Member)>, sqlx::Error> {
    let time = |name: &str| row.try_get::<Option<i64>, _>(name).map(|us| us.map(from_micros));
    let (severity, labels, annotations): (String, String, String) =
        (row.try_get("severity")?, row.try_get("labels")?, row.try_get("annotations")?);
    let (Some(severity), Ok(labels), Ok(annotations)) =
        (Severity::parse(&severity), serde_json::from_str(&labels), serde_json::from_str(&annotations))
    else {
        return Ok(None);
    };
    let alert = Alert {
        labels,
        annotations,
        starts_at: from_micros(row.try_get("starts_us")?),
        ends_at: time("ends_us")?,
        generator_url: row.try_get::<String, _>("generator_url")?.into(),
        // Whatever is posted after a restart says more than the grace that follows one.
        end_is_assumed: true,
    };
    let why: Option<String> = row.try_get("excused_cause")?;
    let by: Option<String> = row.try_get("excused_by")?;
    let excused = time("excused_us")?.map(|since| Excused {
        why: why.as_deref().and_then(Why::parse).unwrap_or(Why::Cause(Cause::Unknown)),
        by: by.unwrap_or_default(),
        since,
    });
    let (resolved, freed, dismissed) = (time("resolved_us")?, time("freed_us")?, time("dismissed_us")?);
    let updated = resolved.unwrap_or(alert.starts_at);
    let member = Member { alert, severity, resolved, excused, freed, dismissed, updated };
    Ok(Some((row.try_get("fingerprint")?, member)))
}

fn read_told(row: &AnyRow) -> Result<Told, sqlx::Error> {
    let language: String = row.try_get("language")?;
    Ok(Told {
        person: row.try_get("person")?,
        name: row.try_get("name")?,
        address: row.try_get("address")?,
        language: if language == "en" { Language::En } else { Language::Vi },
        subject: row.try_get("subject")?,
        message_id: row.try_get("message_id")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Database;
    use sqlx::AssertSqlSafe;

    #[tokio::test]
    async fn alerts_of_an_earlier_version_keep_what_they_said_and_when() {
        const MIGRATION: &str = include_str!("../store/migrations/0073_alert_texts.sql");
        const BEFORE: &str = "CREATE TABLE alerts (incident BIGINT NOT NULL, fingerprint TEXT NOT NULL, severity TEXT NOT NULL, \
             labels TEXT NOT NULL, annotations TEXT NOT NULL, generator_url TEXT NOT NULL, starts_us BIGINT NOT NULL, \
             ends_us BIGINT, resolved_us BIGINT, excused_us BIGINT, excused_cause TEXT, excused_by TEXT, freed_us BIGINT, \
             dismissed_us BIGINT, PRIMARY KEY (incident, fingerprint))";
        const ROWS: &str = "INSERT INTO alerts VALUES \
             (0, 'a', 'info', '{\"alertname\":\"Watchdog\"}', '{\"summary\":\"é\"}', 'url', 1, 9, NULL, 5, 'silenced', 'by', 6, 7), \
             (0, 'b', 'info', '{}', '{}', '', 2, 3, 4, NULL, NULL, NULL, NULL, NULL)";
        for Database { store, .. } in &Database::both().await {
            let mut tx = store.begin().await.unwrap();
            for sql in ["DROP TABLE alerts", "DROP TABLE alert_texts", BEFORE, ROWS, MIGRATION] {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.unwrap();
            }
            tx.commit().await.unwrap();
            let recorded = load(store).await.unwrap().recorded;
            let [(fingerprint, member)] = &recorded.iter().collect::<Vec<_>>()[..] else { panic!("{recorded:?}") };
            let at = |us| from_micros(us);
            assert_eq!((fingerprint.as_str(), member.severity), ("a", Severity::Info));
            assert_eq!(
                (member.alert.label("alertname"), member.alert.annotations.get("summary")),
                ("Watchdog", Some("é"))
            );
            assert_eq!((&*member.alert.generator_url, member.alert.starts_at), ("url", at(1)));
            assert_eq!((member.alert.ends_at, member.freed, member.dismissed), (Some(at(9)), Some(at(6)), Some(at(7))));
            let excused = Excused { why: Why::Silenced, by: "by".to_owned(), since: at(5) };
            assert_eq!(member.excused, Some(excused));
        }
    }
}
