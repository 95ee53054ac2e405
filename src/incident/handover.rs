//! Duty changes hands: who comes on and who goes off get one mail each, with the agency's open incidents, answered or
//! not; and who comes on takes the place of who goes off in the threads of those incidents.
//!
//! Whom the rota had on duty when it was last looked at is kept in the state database and changes in the transaction that
//! writes the mails: a handover while the daemon was away is mailed at its next start, and none is mailed twice. A rota
//! that is new has nobody to hand over.

use super::change::Change;
use super::letter::Told;
use super::life::Incident;
use super::rows::{Entry, Open};
use super::settings::Settings;
use super::stage::Incidents;
use super::writes::Writes;
use crate::config::Id;
use crate::config::organisation::Agency;
use crate::mail::Outgoing;
use crate::org::Shift;
use crate::store::{Doing, Store, StoreError, Tx, micros};
use jiff::Timestamp;
use sqlx::Row;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whom each rota had on duty, by agency; empty for nobody.
pub(super) type Keepers = BTreeMap<String, String>;

/// One change of hands.
pub(super) struct Handover<'a> {
    pub agency: &'a Agency,
    /// Who goes off, by id; `None`: nobody was on duty.
    pub off: Option<String>,
    /// Who comes on.
    pub on: Option<Id>,
    pub shift: Shift,
    /// The agency's open incidents that people were told of, worst first.
    pub incidents: Vec<&'a Incident>,
}

pub(super) async fn load(store: &Store) -> Result<Keepers, StoreError> {
    const DOING: &str = "reading who was on duty";
    let rows = sqlx::query("SELECT agency, person FROM duty_shifts").fetch_all(store.reader()).await.doing(DOING)?;
    let keeper = |row: &sqlx::any::AnyRow| Ok((row.try_get("agency")?, row.try_get("person")?));
    rows.iter().map(keeper).collect::<Result<_, sqlx::Error>>().doing(DOING)
}

async fn write(tx: &mut Tx, agency: &str, person: &str, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO duty_shifts (agency, person, since_us) VALUES ($1, $2, $3) \
         ON CONFLICT (agency) DO UPDATE SET person = excluded.person, since_us = excluded.since_us",
    )
    .bind(agency)
    .bind(person)
    .bind(micros(now))
    .execute(&mut **tx)
    .await
    .doing("writing who is on duty")?;
    Ok(())
}

async fn forget(tx: &mut Tx, agency: &str) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM duty_shifts WHERE agency = $1").bind(agency);
    query.execute(&mut **tx).await.doing("forgetting a rota")?;
    Ok(())
}

impl Incidents {
    /// Lets duty change hands where it has, and returns when it may next.
    pub(super) async fn hand_over(&self, settings: &Settings, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let org = &settings.desk.org;
        let shifts: BTreeMap<&str, Shift> = org
            .agencies()
            .iter()
            .filter_map(|agency| Some((agency.id.as_str(), org.shift(&agency.id, now)?)))
            .collect();
        let next = shifts.values().filter_map(|shift| shift.to).min();
        let known = self.state().keepers.clone();
        let keeper = |shift: &Shift| shift.person().map(ToString::to_string).unwrap_or_default();
        let changed: Vec<(&str, &Shift)> = shifts
            .iter()
            .filter(|(agency, shift)| known.get(**agency) != Some(&keeper(shift)))
            .map(|(agency, shift)| (*agency, shift))
            .collect();
        let gone: Vec<&String> = known.keys().filter(|agency| !shifts.contains_key(agency.as_str())).collect();
        if changed.is_empty() && gone.is_empty() {
            return Ok(next);
        }
        let _turn = self.turn.lock().await;
        let mut change = Change::default();
        let mut keepers = known.clone();
        for agency in gone {
            forget(change.tx(&self.store).await?, agency).await?;
            keepers.remove(agency);
        }
        for (id, shift) in changed {
            write(change.tx(&self.store).await?, id, &keeper(shift), now).await?;
            keepers.insert(id.to_owned(), keeper(shift));
            let Some(agency) = org.agency(id) else { continue };
            let hands_over = agency.duty.as_ref().is_some_and(|duty| duty.handover);
            if let Some(off) = known.get(id).filter(|_| hands_over) {
                self.change_hands(settings, agency, off, shift, now, &mut change);
            }
        }
        self.commit(change, now).await?;
        self.state().keepers = keepers;
        Ok(next)
    }

    fn change_hands(
        &self,
        settings: &Settings,
        agency: &Agency,
        off: &str,
        shift: &Shift,
        now: Timestamp,
        change: &mut Change,
    ) {
        let open: Vec<(String, Open)> = {
            let state = self.state();
            let of_agency = state.open.iter().filter(|(_, open)| {
                let incident = &open.incident;
                incident.agency == *agency.id && incident.resolved.is_none() && incident.first_mail.is_some()
            });
            of_agency.map(|(key, open)| (key.clone(), open.clone())).collect()
        };
        let mut incidents: Vec<&Incident> = open.iter().map(|(_, open)| open.incident.as_ref()).collect();
        incidents.sort_by_key(|incident| (std::cmp::Reverse(incident.severity), incident.opened));
        let off = Some(off.to_owned()).filter(|off| !off.is_empty());
        let handover = Handover { agency, off, on: shift.person().cloned(), shift: shift.clone(), incidents };
        let mut mails: Vec<Outgoing> = Vec::new();
        for mail in settings.desk.handover(&handover, &self.links, now) {
            match mail {
                Ok(mail) => mails.push(mail),
                Err(error) => {
                    tracing::error!(agency = agency.id.as_str(), error, "a handover mail could not be made");
                    self.metrics.own.emails.with_label_values(&["failed"]).inc();
                }
            }
        }
        change.writes.mails(mails);
        let (off, on) = (handover.off.clone(), handover.on.clone());
        if let (Some(off), Some(on)) = (off, on) {
            for (key, open) in open {
                if let Some(open) = take_over(&mut change.writes, settings, open, &off, &on, now) {
                    change.open.push((key, Some(open)));
                }
            }
        }
    }
}

/// Who comes on is told from now on what who goes off was told; `None` if that is nothing.
fn take_over(
    writes: &mut Writes,
    settings: &Settings,
    mut open: Open,
    off: &str,
    on: &Id,
    now: Timestamp,
) -> Option<Open> {
    let is_told = |person: &str| open.told.iter().any(|told| told.person == person);
    if !is_told(off) {
        return None;
    }
    let incident = Arc::make_mut(&mut open.incident);
    if incident.escalation.asked.remove(off) {
        incident.escalation.asked.insert(on.to_string());
    }
    if !is_told(on) {
        // The thread's first mail, of which the handover mail speaks, was another's: what follows still is one thread.
        incident.mails += 1;
        if let Some(told) = settings.desk.told_without_mail(incident, on) {
            writes.told(incident.id, &told);
            open.told.push(told);
        }
    }
    writes.incident(&open.incident, None);
    let entry = Entry { at: now, event: "handed_over".into(), person: on.to_string(), detail: String::new() };
    writes.lines(&mut open, [entry]);
    Some(open)
}

impl super::letter::Desk {
    /// Somebody who is told from now on, as if a mail had been the first.
    fn told_without_mail(&self, incident: &Incident, person: &Id) -> Option<Told> {
        let from = self.from.as_ref()?;
        self.newly_told(incident, person, from)
    }
}
