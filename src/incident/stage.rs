//! [`Incidents`]: the open incidents in memory and in the state database, which change together.
//!
//! One change at a time is computed, its mails composed; then it is written in one transaction, and memory follows after
//! its commit. The store has one transaction at a time, for which others wait (the mails that were sent, above all), so
//! it begins as late as can be. The rules are in `life.rs`; here they are given alerts and time, and what they say is
//! carried out.

use super::address::{self, Address};
use super::change::Change;
use super::excuse::{Excuser, PlacedDevice};
use super::handover::{self, Keepers};
use super::inhibit::Inhibitor;
use super::letter::{Evidence, NoEvidence};
use super::life::{self, Event, Incident, Member};
use super::link::{BadLink, Claim, Links};
use super::quiet::Version;
use super::rows::{self, Entry, Open, RECORDED};
use super::settings::Settings;
use super::silence::Silences;
use super::tell::Telling;
use super::timeline;
use crate::alert::Alert;
use crate::attribution::Ledger;
use crate::config::Config;
use crate::mail::Outbox;
use crate::metrics::Metrics;
use crate::org::Org;
use crate::store::{Store, StoreError, Tx};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Incidents carried forward in one transaction: bounds how long it holds others up.
const AT_ONCE: usize = 100;

/// The incident stage. It lives as long as the daemon; a reload calls [`Incidents::configure`].
pub struct Incidents {
    pub(super) store: Store,
    pub(super) outbox: Outbox,
    pub(super) metrics: Arc<Metrics>,
    /// `None`: nothing is ever excused.
    pub(super) excuser: Option<Excuser>,
    pub(super) links: Links,
    settings: Mutex<Arc<Settings>>,
    /// Held from before a change is computed until memory has it. Whoever holds a transaction must not wait for it.
    pub(super) turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    pub(super) changed: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub open: HashMap<String, Open>,
    pub recorded: BTreeMap<String, Member>,
    pub silences: Silences,
    pub inhibitor: Inhibitor,
    /// Whom the rotas had on duty.
    pub keepers: Keepers,
    next_id: i64,
    /// When duty changes hands next; `None` if that has to be found out.
    handover: Option<Timestamp>,
    /// The excuses that the open incidents were last compared with.
    excuses: Option<Version>,
    /// The last tick; `None` if what is due has to be found out anew.
    ticked: Option<Timestamp>,
}

/// The alerts of one group that came together.
struct Group {
    address: Address,
    alerts: Vec<(Alert, super::Severity)>,
}

impl Incidents {
    /// Takes up the incidents where the last run left them. What fired then fires until its source says otherwise;
    /// an alert with an announced end gets the time to be announced again.
    pub async fn resume(
        store: Store,
        outbox: Outbox,
        org: Arc<Org>,
        config: &Config,
        metrics: Arc<Metrics>,
        now: Timestamp,
    ) -> Result<Incidents, StoreError> {
        let settings = Settings::new(config, org, Arc::new(NoEvidence));
        let loaded = rows::load(&store).await?;
        let links = Links::open(&store, now).await?;
        let grace = now.saturating_add(settings.resolve_timeout).unwrap_or(now);
        let silences = Silences::load(&store, now).await?;
        let keepers = handover::load(&store).await?;
        let mut state =
            State { next_id: loaded.next_id, recorded: loaded.recorded, silences, keepers, ..State::default() };
        let mut open = loaded.open;
        let members = open.iter_mut().flat_map(|open| Arc::make_mut(&mut open.incident).members.values_mut());
        let members = members.map(Arc::make_mut);
        for member in members.chain(state.recorded.values_mut()).filter(|member| member.resolved.is_none()) {
            member.alert.ends_at = member.alert.ends_at.map(|end| end.max(grace));
        }
        for open in &mut open {
            open.due = settings.with_rules(&open.incident, None, now, |rules| open.incident.next_due(rules));
        }
        state.open = open.into_iter().map(|open| (open.incident.key.clone(), open)).collect();
        let incidents = Incidents {
            store,
            outbox,
            metrics,
            excuser: None,
            links,
            settings: Mutex::new(Arc::new(settings)),
            turn: tokio::sync::Mutex::default(),
            state: Mutex::new(state),
            changed: Notify::new(),
        };
        incidents.find_sources(&incidents.settings(), &[], now);
        incidents.measure(now);
        Ok(incidents)
    }

    /// Uses another configuration from now on; open incidents stay as they are, and escalate by the new policies.
    pub fn configure(&self, config: &Config, org: Arc<Org>) {
        let evidence = self.settings().evidence.clone();
        let settings = Arc::new(Settings::new(config, org, evidence));
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings.clone();
        self.find_sources(&settings, &[], Timestamp::now());
        self.state().ticked = None;
        self.changed.notify_one();
    }

    /// Asks `evidence` for every mail from now on.
    pub fn with_evidence(self, evidence: Arc<dyn Evidence>) -> Incidents {
        {
            let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            let new = Settings { evidence, ..settings.as_ref().clone() };
            *settings = Arc::new(new);
        }
        self
    }

    /// Asks `ledger` from now on whose an alert is.
    pub fn with_ledger(mut self, ledger: Ledger) -> Incidents {
        self.excuser = Some(Excuser::new(ledger));
        self
    }

    /// Which devices stand where from now on, for alerts about sites and villages.
    pub fn place(&self, devices: impl IntoIterator<Item = PlacedDevice>) {
        if let Some(excuser) = &self.excuser {
            excuser.place(devices);
        }
    }

    /// What a link from a mail proves at `now`.
    pub fn read_link(&self, token: &str, now: Timestamp) -> Result<Claim, BadLink> {
        self.links.read(token, now)
    }

    /// The path of a link as a mail written at `written` has it.
    #[cfg(test)]
    pub(crate) fn link_for(&self, person: &str, incident: i64, written: Timestamp) -> String {
        self.links.path(incident, person, written)
    }

    /// The ledger's excuses may have changed.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Takes in alerts, firing and resolved.
    pub async fn receive(&self, alerts: &[Alert], now: Timestamp) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let change = self.take_in(alerts, now).await?;
        self.commit(change, now).await
    }

    /// [`Incidents::receive`]. What their sender keeps is written by `beside`, and committed with the alerts, incidents and
    /// mails, or nothing is.
    pub async fn receive_with(
        &self,
        alerts: &[Alert],
        now: Timestamp,
        beside: impl AsyncFnOnce(&mut Tx) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let mut change = self.take_in(alerts, now).await?;
        beside(change.tx(&self.store).await?).await?;
        self.commit(change, now).await
    }

    /// What follows from alerts. `turn` is held until it is committed.
    async fn take_in(&self, alerts: &[Alert], now: Timestamp) -> Result<Change, StoreError> {
        let settings = self.settings();
        self.find_sources(&settings, alerts, now);
        let mut change = Change::default();
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        // Counted when they begin to fire, not each time they are posted.
        let mut misaddressed = HashMap::new();
        for alert in alerts {
            let is_agency = |id: &str| settings.desk.org.agency(id).is_some();
            let address = address::address(alert, is_agency, settings.desk.org.site());
            if address.is_recorded_only(alert) {
                self.record(alert, &address, now, &mut change);
                continue;
            }
            if let Some(reason) = address.misaddressed {
                misaddressed.insert(alert.fingerprint(), reason);
            }
            let key = address.group_key(alert, &settings.group_by);
            let severity = address.severity;
            let group = groups.entry(key).or_insert_with(|| Group { address, alerts: Vec::new() });
            group.alerts.push((alert.clone(), severity));
        }
        for (key, group) in groups {
            let known = self.state().open.get(&key).cloned();
            let open = match known {
                Some(open) => open,
                None if group.alerts.iter().all(|(alert, _)| alert.is_resolved(now)) => continue,
                None => {
                    let id = change.next_id.unwrap_or_else(|| self.state().next_id);
                    change.next_id = Some(id + 1);
                    let (agency, area) = (group.address.agency.clone(), group.address.area);
                    let incident = Incident::open(id, key.clone(), agency, area, now).into();
                    Open { incident, told: Vec::new(), seq: 0, due: None }
                }
            };
            let events = self.advance(&settings, open, &group.alerts, Vec::new(), now, &mut change).await?;
            for event in events {
                if let Event::Fired(fingerprint) = event
                    && let Some(reason) = misaddressed.get(&fingerprint)
                {
                    self.metrics.own.alerts_misaddressed.with_label_values(&[reason.as_str()]).inc();
                }
            }
        }
        Ok(change)
    }

    /// Lets time pass: mails that are due are written, announced ends happen, ended incidents close.
    pub async fn tick(&self, now: Timestamp) -> Result<(), StoreError> {
        let settings = self.settings();
        let hands_over = {
            let state = self.state();
            state.ticked.is_none_or(|ticked| now < ticked) || state.handover.is_none_or(|at| at <= now)
        };
        if hands_over {
            // Where no rota changes any more, a reload may bring one, which is looked at then.
            let next = self.hand_over(&settings, now).await?;
            self.state().handover = Some(next.unwrap_or(Timestamp::MAX));
        }
        let (version, due, ended) = {
            let state = self.state();
            let version = self.excuses_version(&state, now);
            let is_stale = state.excuses != Some(version);
            // A clock that was set back, or another configuration: what was due some time may be due another.
            let is_anew = state.ticked.is_none_or(|ticked| now < ticked);
            let is_due = |open: &Open| {
                is_anew
                    || open.due.is_some_and(|due| due <= now)
                    || (is_stale && self.has_other_excuses(&state, &settings, &open.incident, now))
            };
            let mut due: Vec<(i64, String)> = state
                .open
                .iter()
                .filter(|(_, open)| is_due(open))
                .map(|(key, open)| (open.incident.id, key.clone()))
                .collect();
            due.sort();
            (version, due, state.recorded.values().any(|member| member.alert.is_resolved(now)))
        };
        for keys in due.chunks(AT_ONCE) {
            let _turn = self.turn.lock().await;
            let mut change = Change::default();
            for (_, key) in keys {
                let Some(open) = self.state().open.get(key).cloned() else { continue };
                self.advance(&settings, open, &[], Vec::new(), now, &mut change).await?;
            }
            self.commit(change, now).await?;
        }
        {
            let mut state = self.state();
            (state.excuses, state.ticked) = (Some(version), Some(now));
        }
        // Offices change hands while nothing else does.
        self.measure(now);
        if ended { self.end_recorded(now).await } else { Ok(()) }
    }

    /// The incidents that are not closed, oldest first.
    pub fn open(&self) -> Vec<Incident> {
        let mut open: Vec<Incident> = self.state().open.values().map(|open| (*open.incident).clone()).collect();
        open.sort_by_key(|incident| incident.id);
        open
    }

    /// Every alert that fires, recorded ones included, by labels.
    pub fn firing(&self) -> Vec<Alert> {
        let state = self.state();
        let members = state.open.values().flat_map(|open| open.incident.members.values().map(|member| &**member));
        let firing = members.filter(|member| member.resolved.is_none()).chain(state.recorded.values());
        let mut alerts: Vec<Alert> = firing.map(|member| member.alert.clone()).collect();
        drop(state);
        alerts.sort_by(|a, b| a.labels.iter().cmp(&b.labels));
        alerts
    }

    /// Alerts in memory with `coming`, for senders that must be bounded. Below `bound` those that are known already may
    /// be counted twice.
    pub fn n_with(&self, coming: &[Alert], bound: usize) -> usize {
        let state = self.state();
        let n_known = state.open.values().map(|open| open.incident.members.len()).sum::<usize>() + state.recorded.len();
        if n_known + coming.len() <= bound {
            return n_known + coming.len();
        }
        let members = state.open.values().flat_map(|open| open.incident.members.keys().map(|key| &**key));
        let known: HashSet<&str> = members.chain(state.recorded.keys().map(String::as_str)).collect();
        let new: HashSet<String> =
            coming.iter().map(Alert::fingerprint).filter(|fingerprint| !known.contains(&**fingerprint)).collect();
        n_known + new.len()
    }

    /// What happened in an incident, oldest first; also of closed ones.
    pub async fn timeline(&self, incident: i64) -> Result<Vec<Entry>, StoreError> {
        rows::timeline(&self.store, incident).await
    }

    /// One step of one incident, noted in `change`. `done` happened to it just before.
    pub(super) async fn advance(
        &self,
        settings: &Settings,
        open: Open,
        alerts: &[(Alert, super::Severity)],
        done: Vec<Event>,
        now: Timestamp,
        change: &mut Change,
    ) -> Result<Vec<Event>, StoreError> {
        let key = open.incident.key.clone();
        // What a person did to it is in `open` already; what is written is compared with what was.
        let known = self.state().open.get(&key).map(|open| open.incident.clone());
        let before = known.unwrap_or_else(|| open.incident.clone());
        let coming = alerts.iter().map(|(alert, _)| alert);
        let excuses = self.excuses_of(&self.state(), settings, &before, coming, now);
        let one = alerts.first().map(|(alert, _)| alert);
        let incident = Arc::unwrap_or_clone(open.incident);
        let (mut incident, stepped) =
            settings.with_rules(&before, one, now, |rules| life::step(incident, alerts, &excuses, now, rules));
        let events: Vec<Event> = done.into_iter().chain(stepped).collect();
        let is_closed = events.contains(&Event::Closed);
        if incident.subject.is_empty() {
            // What nobody is mailed about has a name, too.
            settings.desk.entitle(&mut incident);
        }
        let mut open = Open { incident: Arc::new(incident), ..open };
        let mut entries = timeline::entries(&events, &open.incident, settings, now);
        if let Some(telling) = Telling::of(&events, &open.incident, settings, now) {
            entries.extend(self.tell(settings, &mut open, &telling, now, change).await);
        }
        let is_same = open.incident.changed == before.changed
            && open.incident.excused() == before.excused()
            && open.incident.escalation == before.escalation;
        if !events.is_empty() || !is_same {
            change.writes.incident(&open.incident, is_closed.then_some(now));
        }
        // Both are in order, and most of them the same: one pass over the two instead of a search for each.
        let mut olds = before.members.iter().peekable();
        for (fingerprint, member) in &open.incident.members {
            while olds.next_if(|(earlier, _)| *earlier < fingerprint).is_some() {}
            let old = olds.next_if(|(same, _)| *same == fingerprint).map(|(_, old)| old);
            if !old.is_some_and(|old| Arc::ptr_eq(old, member) || old.lives_like(member)) {
                let is_known = old.is_some_and(|old| old.says_what(member));
                change.writes.alert(open.incident.id, fingerprint, member, is_known);
            }
        }
        change.writes.lines(&mut open, entries);
        life::forget_ended(Arc::make_mut(&mut open.incident));
        open.due = settings.with_rules(&open.incident, None, now, |rules| open.incident.next_due(rules));
        change.open.push((key, (!is_closed).then_some(open)));
        if change.writes.is_full() {
            self.flush(change, now).await?;
        }
        Ok(events)
    }

    fn record(&self, alert: &Alert, address: &Address, now: Timestamp, change: &mut Change) {
        let fingerprint = alert.fingerprint();
        let known = self.state().recorded.get(&fingerprint).cloned();
        let ends = alert.is_resolved(now);
        let resolved = ends.then(|| alert.ends_at.unwrap_or(now));
        let alert = match &known {
            Some(known) if !ends => life::merged(&known.alert, alert),
            _ => alert.clone(),
        };
        let member = Member { resolved, updated: now, ..Member::new(alert, address.severity) };
        match known {
            None if ends => return,
            Some(_) if !ends => {}
            _ => change.writes.alert(RECORDED, &fingerprint, &Arc::new(member.clone()), false),
        }
        change.recorded.push((fingerprint, (!ends).then_some(member)));
    }

    async fn end_recorded(&self, now: Timestamp) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let ended: Vec<(String, Member)> = {
            let state = self.state();
            let ended = state.recorded.iter().filter(|(_, member)| member.alert.is_resolved(now));
            ended.map(|(fingerprint, member)| (fingerprint.clone(), member.clone())).collect()
        };
        let mut change = Change::default();
        for (fingerprint, mut member) in ended {
            member.resolved = member.alert.ends_at;
            change.writes.alert(RECORDED, &fingerprint, &member.into(), true);
            change.recorded.push((fingerprint, None));
        }
        self.commit(change, now).await
    }

    /// Writes what a change gathered.
    async fn flush(&self, change: &mut Change, now: Timestamp) -> Result<(), StoreError> {
        let mut writes = std::mem::take(&mut change.writes);
        writes.flush(change.tx(&self.store).await?, &self.outbox, now).await?;
        change.writes = writes;
        Ok(())
    }

    /// Writes what a change gathered and ends its transaction; then memory follows.
    pub(super) async fn commit(&self, mut change: Change, now: Timestamp) -> Result<(), StoreError> {
        if !change.writes.is_empty() {
            self.flush(&mut change, now).await?;
        }
        if let Some(tx) = change.tx.take() {
            tx.commit().await?;
        }
        self.apply(change, now);
        Ok(())
    }

    /// Memory follows what was committed.
    fn apply(&self, change: Change, now: Timestamp) {
        {
            let mut state = self.state();
            state.next_id = change.next_id.unwrap_or(state.next_id);
            for (key, open) in change.open {
                match open {
                    Some(open) => drop(state.open.insert(key, open)),
                    None => drop(state.open.remove(&key)),
                }
            }
            for (fingerprint, member) in change.recorded {
                match member {
                    Some(member) => drop(state.recorded.insert(fingerprint, member)),
                    None => drop(state.recorded.remove(&fingerprint)),
                }
            }
            change.silences.into_iter().for_each(|silence| state.silences.put(silence));
        }
        self.find_sources(&self.settings(), &[], Timestamp::default());
        self.measure(now);
        if change.writes.tells() {
            self.outbox.wake();
        }
        self.changed.notify_one();
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Changes under this lock are whole inserts and removals; a panic elsewhere cannot leave a half-made one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
