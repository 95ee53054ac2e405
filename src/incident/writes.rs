//! What a change writes to the tables of `rows.rs` and to the outbox: gathered step by step, written by few statements
//! just before the transaction ends. A thousand alerts at once are a thousand incidents, each with a row here and lines
//! there; a statement for each of them took most of the time until their mails could go.

use super::letter::Told;
use super::life::{Excused, Incident, Member};
use super::rows::{Entry, Open};
use crate::config::site::Language;
use crate::mail::{Call, Outbox, Outgoing};
use crate::store::{Doing, StoreError, Tx, json_rows, micros, placeholder_rows, rows_at_once};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Mails in memory before they are written.
const MAILS: usize = 200;

/// Rows on their way into a transaction; of an incident and of an alert only the last.
#[derive(Debug, Default)]
pub(super) struct Writes {
    incidents: BTreeMap<i64, Row>,
    /// By incident and fingerprint.
    alerts: BTreeMap<(i64, String), Written>,
    /// Incident, number within it, line.
    lines: Vec<(i64, i64, Entry)>,
    told: Vec<(i64, Told)>,
    mails: Vec<Outgoing>,
    calls: Vec<Call>,
    tells: bool,
}

/// An incident as its row has it: without its alerts, which may be thousands and have rows of their own.
#[derive(Debug)]
struct Row {
    incident: Incident,
    told: String,
    excused: Option<Excused>,
    /// When it was closed.
    closed: Option<Timestamp>,
}

/// An alert on its way, see [`Writes::alert`].
#[derive(Debug)]
struct Written {
    member: Arc<Member>,
    is_known: bool,
}

impl Row {
    fn of(incident: &Incident, closed: Option<Timestamp>) -> Row {
        let (told, excused) = (json(&*incident.told), incident.excused().cloned());
        Row { incident: incident.without_alerts(), told, excused, closed }
    }
}

impl Writes {
    pub fn incident(&mut self, incident: &Incident, closed: Option<Timestamp>) {
        self.incidents.insert(incident.id, Row::of(incident, closed));
    }

    /// `is_known`: what it says stands in the database already.
    pub fn alert(&mut self, incident: i64, fingerprint: &str, member: &Arc<Member>, is_known: bool) {
        let alerts = &mut self.alerts;
        let written = alerts.entry((incident, fingerprint.to_owned()));
        let written = written.or_insert_with(|| Written { member: member.clone(), is_known });
        *written = Written { member: member.clone(), is_known: is_known && written.is_known };
    }

    /// Lines of its timeline, in their order.
    pub fn lines(&mut self, open: &mut Open, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.lines.push((open.incident.id, open.seq, entry));
            open.seq += 1;
        }
    }

    pub fn told(&mut self, incident: i64, told: &Told) {
        self.told.push((incident, told.clone()));
    }

    pub fn mails(&mut self, mails: Vec<Outgoing>) {
        self.tells |= !mails.is_empty();
        self.mails.extend(mails);
    }

    pub fn calls(&mut self, calls: Vec<Call>) {
        self.tells |= !calls.is_empty();
        self.calls.extend(calls);
    }

    /// Whether so much has come together that it had better be written.
    pub fn is_full(&self) -> bool {
        self.mails.len() >= MAILS
    }

    pub fn is_empty(&self) -> bool {
        let Writes { incidents, alerts, lines, told, mails, calls, tells: _ } = self;
        incidents.is_empty()
            && alerts.is_empty()
            && (lines.is_empty() && told.is_empty() && mails.is_empty() && calls.is_empty())
    }

    /// Whether somebody is told something, in what was written already too.
    pub fn tells(&self) -> bool {
        self.tells
    }

    /// Writes everything to `tx`, as of `now`.
    pub async fn flush(&mut self, tx: &mut Tx, outbox: &Outbox, now: Timestamp) -> Result<(), StoreError> {
        let Writes { incidents, alerts, lines, told, mails, calls, tells } = std::mem::take(self);
        self.tells = tells;
        write_incidents(tx, &incidents.into_values().collect::<Vec<_>>()).await?;
        let alerts: Vec<((i64, String), Written)> = alerts.into_iter().collect();
        write_texts(tx, &alerts.iter().filter(|(_, written)| !written.is_known).collect::<Vec<_>>()).await?;
        write_lives(tx, &alerts).await?;
        write_lines(tx, &lines).await?;
        write_told(tx, &told, now).await?;
        outbox.enqueue(tx, &mails, now).await?;
        outbox.enqueue_calls(tx, &calls, now).await
    }
}

async fn write_incidents(tx: &mut Tx, incidents: &[Row]) -> Result<(), StoreError> {
    const COLUMNS: usize = 20;
    for chunk in incidents.chunks(rows_at_once(COLUMNS)) {
        let sql = format!(
            "INSERT INTO incidents (id, group_key, agency, area, severity, subject, subject_en, opened_us, resolved_us, closed_us, \
             changed_us, first_mail_us, last_mail_us, mails, told, excused_us, excused_by, escalation, excused_why, flaps) \
             VALUES {} \
             ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, subject = excluded.subject, subject_en = excluded.subject_en, \
             resolved_us = excluded.resolved_us, closed_us = excluded.closed_us, changed_us = excluded.changed_us, \
             first_mail_us = excluded.first_mail_us, last_mail_us = excluded.last_mail_us, mails = excluded.mails, \
             told = excluded.told, excused_us = excluded.excused_us, excused_by = excluded.excused_by, \
             escalation = excluded.escalation, excused_why = excluded.excused_why, flaps = excluded.flaps",
            placeholder_rows(chunk.len(), COLUMNS)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for Row { incident, told, excused, closed } in chunk {
            let excused = excused.as_ref();
            query = query.bind(incident.id).bind(&incident.key).bind(&incident.agency).bind(incident.area.as_str());
            query = query.bind(incident.severity.as_str()).bind(&incident.subject).bind(&incident.subject_en);
            query = query.bind(micros(incident.opened));
            query = query.bind(incident.resolved.map(micros)).bind(closed.map(micros));
            query = query.bind(incident.changed.map(micros)).bind(incident.first_mail.map(micros));
            query = query.bind(incident.last_mail.map(micros)).bind(incident.mails);
            query = query.bind(told).bind(excused.map(|excused| micros(excused.since)));
            query = query.bind(excused.map(|excused| excused.by.clone())).bind(json(&incident.escalation));
            query = query.bind(excused.map(|excused| excused.why.as_str())).bind(json(&incident.flaps));
        }
        query.execute(&mut **tx).await.doing("writing incidents")?;
    }
    Ok(())
}

/// Rows that go over as one parameter, see [`Dialect`](crate::store::Dialect): bounds its length.
const ROWS: usize = 500;

/// What alerts say: long, and seldom another.
async fn write_texts(tx: &mut Tx, alerts: &[&((i64, String), Written)]) -> Result<(), StoreError> {
    // The condition tells SQLite that ON belongs to no join.
    let sql = format!(
        "INSERT INTO alert_texts (incident, fingerprint, severity, labels, annotations, generator_url) \
         SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 \
         FROM {} WHERE TRUE \
         ON CONFLICT (incident, fingerprint) DO UPDATE SET severity = excluded.severity, \
         annotations = excluded.annotations, generator_url = excluded.generator_url",
        tx.dialect().rows(1)
    );
    for chunk in alerts.chunks(ROWS) {
        let rows = chunk.iter().map(|((incident, fingerprint), Written { member, .. })| {
            let alert = &member.alert;
            let (labels, annotations) = (json(&alert.labels), json(&alert.annotations));
            (*incident, fingerprint, member.severity.as_str(), labels, annotations, &*alert.generator_url)
        });
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(json_rows(rows));
        query.execute(&mut **tx).await.doing("writing what alerts say")?;
    }
    Ok(())
}

/// Times and excuses of alerts: most writes of an alert are that it ended, or began again.
async fn write_lives(tx: &mut Tx, alerts: &[((i64, String), Written)]) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO alerts (incident, fingerprint, starts_us, ends_us, resolved_us, excused_us, excused_cause, excused_by, \
         freed_us, dismissed_us) \
         SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT), \
         CAST(value ->> 4 AS BIGINT), CAST(value ->> 5 AS BIGINT), value ->> 6, value ->> 7, CAST(value ->> 8 AS BIGINT), \
         CAST(value ->> 9 AS BIGINT) FROM {} WHERE TRUE \
         ON CONFLICT (incident, fingerprint) DO UPDATE SET starts_us = excluded.starts_us, ends_us = excluded.ends_us, \
         resolved_us = excluded.resolved_us, excused_us = excluded.excused_us, excused_cause = excluded.excused_cause, \
         excused_by = excluded.excused_by, freed_us = excluded.freed_us, dismissed_us = excluded.dismissed_us",
        tx.dialect().rows(1)
    );
    for chunk in alerts.chunks(ROWS) {
        let rows = chunk.iter().map(|((incident, fingerprint), Written { member, .. })| {
            let (alert, excused) = (&member.alert, member.excused.as_ref());
            (
                *incident,
                fingerprint,
                micros(alert.starts_at),
                alert.ends_at.map(micros),
                member.resolved.map(micros),
                excused.map(|excused| micros(excused.since)),
                excused.map(|excused| excused.why.as_str()),
                excused.map(|excused| excused.by.as_str()),
                member.freed.map(micros),
                member.dismissed.map(micros),
            )
        });
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(json_rows(rows));
        query.execute(&mut **tx).await.doing("writing what became of alerts")?;
    }
    Ok(())
}

async fn write_lines(tx: &mut Tx, lines: &[(i64, i64, Entry)]) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO incident_timeline (incident, seq, at_us, event, person, detail) \
         SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), CAST(value ->> 2 AS BIGINT), value ->> 3, \
         value ->> 4, value ->> 5 FROM {}",
        tx.dialect().rows(1)
    );
    for chunk in lines.chunks(ROWS) {
        let rows = chunk.iter().map(|(incident, seq, entry)| {
            (incident, seq, micros(entry.at), &entry.event, &entry.person, &entry.detail)
        });
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(json_rows(rows));
        query.execute(&mut **tx).await.doing("writing timelines of incidents")?;
    }
    Ok(())
}

async fn write_told(tx: &mut Tx, told: &[(i64, Told)], now: Timestamp) -> Result<(), StoreError> {
    const COLUMNS: usize = 8;
    for chunk in told.chunks(rows_at_once(COLUMNS)) {
        let sql = format!(
            "INSERT INTO incident_told (incident, person, name, address, language, subject, message_id, told_us) VALUES {}",
            placeholder_rows(chunk.len(), COLUMNS)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (incident, told) in chunk {
            let language = if told.language == Language::Vi { "vi" } else { "en" };
            query = query.bind(*incident).bind(&told.person).bind(&told.name).bind(&told.address).bind(language);
            query = query.bind(&told.subject).bind(&told.message_id).bind(micros(now));
        }
        query.execute(&mut **tx).await.doing("writing who was told")?;
    }
    Ok(())
}

/// Maps with text keys and lists of plain values: they can always be written.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
