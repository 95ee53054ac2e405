//! What a change writes to the tables of `rows.rs` and to the outbox: gathered step by step, written by few statements
//! just before the transaction ends. A thousand alerts at once are a thousand incidents, each with a row here and lines
//! there; a statement for each of them took most of the time until their mails could go.

use super::letter::Told;
use super::life::{Incident, Member};
use super::rows::{Entry, Open};
use crate::config::site::Language;
use crate::mail::{Call, Outbox, Outgoing};
use crate::store::{Doing, StoreError, Tx, micros, placeholder_rows, rows_at_once};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use std::collections::BTreeMap;

/// Mails in memory before they are written.
const MAILS: usize = 200;

/// Rows on their way into a transaction; of an incident and of an alert only the last.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// With the time at which it was closed.
    incidents: BTreeMap<i64, (Incident, Option<Timestamp>)>,
    /// By incident and fingerprint.
    alerts: BTreeMap<(i64, String), Member>,
    /// Incident, number within it, line.
    lines: Vec<(i64, i64, Entry)>,
    told: Vec<(i64, Told)>,
    mails: Vec<Outgoing>,
    calls: Vec<Call>,
    tells: bool,
}

impl Writes {
    pub fn incident(&mut self, incident: &Incident, closed: Option<Timestamp>) {
        self.incidents.insert(incident.id, (incident.clone(), closed));
    }

    pub fn alert(&mut self, incident: i64, fingerprint: &str, member: &Member) {
        self.alerts.insert((incident, fingerprint.to_owned()), member.clone());
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
        write_alerts(tx, &alerts.into_iter().collect::<Vec<_>>()).await?;
        write_lines(tx, &lines).await?;
        write_told(tx, &told, now).await?;
        outbox.enqueue(tx, &mails, now).await?;
        outbox.enqueue_calls(tx, &calls, now).await
    }
}

async fn write_incidents(tx: &mut Tx, incidents: &[(Incident, Option<Timestamp>)]) -> Result<(), StoreError> {
    const COLUMNS: usize = 19;
    for chunk in incidents.chunks(rows_at_once(COLUMNS)) {
        let sql = format!(
            "INSERT INTO incidents (id, group_key, agency, area, severity, subject, opened_us, resolved_us, closed_us, \
             changed_us, first_mail_us, last_mail_us, mails, told, excused_us, excused_by, escalation, excused_why, flaps) \
             VALUES {} \
             ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, subject = excluded.subject, \
             resolved_us = excluded.resolved_us, closed_us = excluded.closed_us, changed_us = excluded.changed_us, \
             first_mail_us = excluded.first_mail_us, last_mail_us = excluded.last_mail_us, mails = excluded.mails, \
             told = excluded.told, excused_us = excluded.excused_us, excused_by = excluded.excused_by, \
             escalation = excluded.escalation, excused_why = excluded.excused_why, flaps = excluded.flaps",
            placeholder_rows(chunk.len(), COLUMNS)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (incident, closed) in chunk {
            let excused = incident.excused();
            query = query.bind(incident.id).bind(&incident.key).bind(&incident.agency).bind(incident.area.as_str());
            query = query.bind(incident.severity.as_str()).bind(&incident.subject).bind(micros(incident.opened));
            query = query.bind(incident.resolved.map(micros)).bind(closed.map(micros));
            query = query.bind(incident.changed.map(micros)).bind(incident.first_mail.map(micros));
            query = query.bind(incident.last_mail.map(micros)).bind(incident.mails);
            query = query.bind(json(&incident.told)).bind(excused.map(|excused| micros(excused.since)));
            query = query.bind(excused.map(|excused| excused.by.clone())).bind(json(&incident.escalation));
            query = query.bind(excused.map(|excused| excused.why.as_str())).bind(json(&incident.flaps));
        }
        query.execute(&mut **tx).await.doing("writing incidents")?;
    }
    Ok(())
}

async fn write_alerts(tx: &mut Tx, alerts: &[((i64, String), Member)]) -> Result<(), StoreError> {
    const COLUMNS: usize = 14;
    for chunk in alerts.chunks(rows_at_once(COLUMNS)) {
        let sql = format!(
            "INSERT INTO alerts (incident, fingerprint, severity, labels, annotations, generator_url, starts_us, ends_us, \
             resolved_us, excused_us, excused_cause, excused_by, freed_us, dismissed_us) VALUES {} \
             ON CONFLICT (incident, fingerprint) DO UPDATE SET severity = excluded.severity, \
             annotations = excluded.annotations, generator_url = excluded.generator_url, starts_us = excluded.starts_us, \
             ends_us = excluded.ends_us, resolved_us = excluded.resolved_us, excused_us = excluded.excused_us, \
             excused_cause = excluded.excused_cause, excused_by = excluded.excused_by, freed_us = excluded.freed_us, \
             dismissed_us = excluded.dismissed_us",
            placeholder_rows(chunk.len(), COLUMNS)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for ((incident, fingerprint), member) in chunk {
            let (alert, excused) = (&member.alert, member.excused.as_ref());
            query = query.bind(*incident).bind(fingerprint).bind(member.severity.as_str());
            query = query.bind(json(&alert.labels)).bind(json(&alert.annotations)).bind(&*alert.generator_url);
            query = query.bind(micros(alert.starts_at)).bind(alert.ends_at.map(micros));
            query = query.bind(member.resolved.map(micros)).bind(excused.map(|excused| micros(excused.since)));
            query = query.bind(excused.map(|excused| excused.why.as_str()));
            query = query.bind(excused.map(|excused| excused.by.clone()));
            query = query.bind(member.freed.map(micros)).bind(member.dismissed.map(micros));
        }
        query.execute(&mut **tx).await.doing("writing alerts")?;
    }
    Ok(())
}

async fn write_lines(tx: &mut Tx, lines: &[(i64, i64, Entry)]) -> Result<(), StoreError> {
    const COLUMNS: usize = 6;
    for chunk in lines.chunks(rows_at_once(COLUMNS)) {
        let sql = format!(
            "INSERT INTO incident_timeline (incident, seq, at_us, event, person, detail) VALUES {}",
            placeholder_rows(chunk.len(), COLUMNS)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (incident, seq, entry) in chunk {
            query = query.bind(*incident).bind(*seq).bind(micros(entry.at));
            query = query.bind(&entry.event).bind(&entry.person).bind(&entry.detail);
        }
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
