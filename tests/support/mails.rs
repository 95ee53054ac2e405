//! The mails of a schedule of outages: what the incident stage writes beside what the rules call for.
//!
//! What is called for is said twice, both without a word of the program's. [`Rule`] states DESIGN.md 8 for one subject in
//! terms of what the checks have shown so far, and every mail must be one of its mails, at its tick. And by the truth
//! nobody is told of an outage that was never his.

use crate::attribution::TICK;
use crate::outages::{Check, MINUTE, SECOND, Schedule};
use ioc_watch::alert::Alert;
use ioc_watch::attribution::{Ledger, SubjectKind};
use ioc_watch::config::Config;
use ioc_watch::incident::Incidents;
use ioc_watch::mail::Outbox;
use ioc_watch::metrics::Metrics;
use ioc_watch::org::Org;
use ioc_watch::store::Store;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// As in the configuration of the schedule.
const GROUP_WAIT: i64 = MINUTE;
const GROUP_INTERVAL: i64 = 5 * MINUTE;

/// One mail: when (the tick), about what, to whom, and whether it says that it is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mail {
    pub at: i64,
    pub target: usize,
    pub person: String,
    pub is_over: bool,
}

/// What the last check of a target showed.
#[derive(Debug, Clone, Copy)]
struct Seen {
    begun: i64,
    is_up: bool,
    /// When it was last found to change.
    since: i64,
}

pub struct Mails {
    stage: Option<(Incidents, Outbox)>,
    seen: Vec<Option<Seen>>,
    /// What the stage was told to be firing.
    firing: Vec<Option<Alert>>,
    rules: Vec<Rule>,
    called_for: Vec<Mail>,
    pub written: Vec<Mail>,
}

impl Mails {
    pub fn new(schedule: &Schedule) -> Mails {
        let n_targets = schedule.targets.len();
        Mails {
            stage: None,
            seen: vec![None; n_targets],
            firing: vec![None; n_targets],
            rules: vec![Rule::default(); n_targets],
            called_for: Vec::new(),
            written: Vec::new(),
        }
    }

    /// The daemon begins, or begins again.
    pub async fn resume(&mut self, config: &Config, store: &Store, ledger: &Ledger, now: Timestamp) {
        let metrics: Arc<Metrics> = Arc::default();
        let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
        let org = Arc::new(Org::new(config));
        let stage = Incidents::resume(store.clone(), outbox.clone(), org, config, metrics, now).await.unwrap();
        self.stage = Some((stage.with_ledger(ledger.clone()), outbox));
    }

    pub fn see(&mut self, check: &Check) {
        let old = self.seen[check.target];
        let since = old.filter(|old| old.is_up == check.is_up).map_or(check.begun, |old| old.since);
        self.seen[check.target] = Some(Seen { begun: check.begun, is_up: check.is_up, since });
    }

    /// What fires is what the last check found down. Nothing is said of what was not looked at.
    pub async fn tick(&mut self, schedule: &Schedule, tick: i64) {
        let now = schedule.at(tick);
        let mut alerts = Vec::new();
        for (target, seen) in self.seen.iter().enumerate() {
            let fires = seen.is_some_and(|seen| !seen.is_up);
            match (&mut self.firing[target], fires) {
                (firing @ None, true) => alerts.push(firing.insert(alert(schedule, target, now)).clone()),
                (firing @ Some(_), false) => {
                    alerts.extend(firing.take().map(|alert| Alert { ends_at: Some(now), ..alert }));
                }
                _ => {}
            }
        }
        let (stage, outbox) = self.stage.as_ref().unwrap();
        if !alerts.is_empty() {
            stage.receive(&alerts, now).await.unwrap();
        }
        stage.tick(now).await.unwrap();
        while let Some(waiting) = outbox.due(now, 1).await.unwrap().pop() {
            outbox.sent(&[waiting.id], now).await.unwrap();
            let subject = crate::incidents::header(&waiting.mail.message, "Subject");
            let target = schedule.targets.iter().position(|t| subject.contains(&format!(" {} is down", t.subject.id)));
            let target = target.unwrap_or_else(|| panic!("of what is {subject:?}?"));
            let is_over = subject.contains("[Resolved]");
            self.written.push(Mail { at: tick, target, person: waiting.mail.person, is_over });
        }
        for target in 0..schedule.targets.len() {
            let fires = self.firing[target].is_some();
            let is_excused = fires && self.is_excused(schedule, target, tick);
            if let Some(is_over) = self.rules[target].tick(fires, is_excused, tick) {
                let person = format!("it-{}", schedule.targets[target].agency);
                self.called_for.push(Mail { at: tick, target, person, is_over });
            }
        }
    }

    /// Something that it needs is down as far as checks have shown, or it is under an announced maintenance; or it was so
    /// and nobody has looked at the subject since.
    fn is_excused(&self, schedule: &Schedule, target: usize, now: i64) -> bool {
        let this = &schedule.targets[target];
        let Some(seen) = self.seen[target] else { return false };
        let waits = |end: i64| now <= end + this.bound() && seen.begun < end;
        let by_need = this
            .needs
            .iter()
            .any(|need| self.seen[*need].is_some_and(|need| !need.is_up || (waits(need.since) && need.since < now)));
        let by_window = schedule.windows.iter().any(|window| {
            window.target == target
                && window.announced.is_none_or(|announced| announced < now)
                && window.from <= now
                && (now < window.to || waits(window.to))
        });
        by_need || by_window
    }

    /// Compares what was written with what was called for.
    pub fn judge(&self, schedule: &Schedule) -> Result<(), String> {
        let (mut written, mut called_for) = (self.written.clone(), self.called_for.clone());
        written.sort();
        called_for.sort();
        let id = |mail: &Mail| &schedule.targets[mail.target].subject.id;
        if let Some(mail) = written.iter().find(|mail| !called_for.contains(mail)) {
            return Err(format!("{mail:?} about {} was not called for; {}", id(mail), self.near(schedule, mail)));
        }
        if let Some(mail) = called_for.iter().find(|mail| !written.contains(mail)) {
            return Err(format!("{mail:?} about {} is missing; {}", id(mail), self.near(schedule, mail)));
        }
        if written.len() != called_for.len() {
            return Err("a mail was written twice".into());
        }
        let mut open: BTreeMap<usize, i64> = BTreeMap::new();
        for mail in &written {
            let is_first = !mail.is_over && open.insert(mail.target, mail.at).is_none();
            let is_last = mail.is_over && open.remove(&mail.target).is_some();
            if !is_first && !is_last {
                return Err(format!("{mail:?} about {} has no counterpart", id(mail)));
            }
            if is_first {
                blame(schedule, mail)?;
            }
        }
        Ok(())
    }

    /// What was called for and written of the same target within half an hour, and the truth.
    fn near(&self, schedule: &Schedule, mail: &Mail) -> String {
        let is_near = |at: i64| (at - mail.at).abs() < 30 * MINUTE;
        let of = |mails: &[Mail]| -> Vec<(i64, bool)> {
            let near = mails.iter().filter(|other| other.target == mail.target && is_near(other.at));
            near.map(|other| (other.at / SECOND, other.is_over)).collect()
        };
        let edges = schedule.edges(mail.target).into_iter().filter(|edge| is_near(*edge));
        let truth: Vec<_> = edges.map(|edge| (edge / SECOND, schedule.truth(mail.target, edge))).collect();
        format!("called for {:?}, written {:?}, truth {truth:?}", of(&self.called_for), of(&self.written))
    }
}

/// An accusing mail: by the truth the target was down for reasons of its own, at some moment since it could have fired.
fn blame(schedule: &Schedule, mail: &Mail) -> Result<(), String> {
    let this = &schedule.targets[mail.target];
    let from = mail.at - GROUP_INTERVAL - GROUP_WAIT - this.bound() - 2 * TICK;
    let own = this.cause.map_or("own", |cause| cause.as_str());
    let mut moments: Vec<i64> =
        schedule.edges(mail.target).into_iter().filter(|e| from < *e && *e <= mail.at).collect();
    moments.extend([from, mail.at]);
    // "Set back" is known only afterwards, and so is a maintenance that somebody announces later.
    let comes_later = |at: i64| {
        schedule.windows.iter().any(|window| {
            window.target == mail.target
                && window.from <= at
                && at < window.to
                && window.announced.is_some_and(|announced| announced >= mail.at)
        })
    };
    let is_own = |at: &i64| {
        schedule.truth(mail.target, *at) == own || schedule.is_set_back(mail.target, *at) || comes_later(*at)
    };
    if moments.iter().any(is_own) {
        return Ok(());
    }
    let told: Vec<_> = moments.iter().map(|at| (at, schedule.truth(mail.target, *at))).collect();
    Err(format!("{mail:?} accuses {} of what was not its own: {told:?}", this.subject.id))
}

fn alert(schedule: &Schedule, target: usize, now: Timestamp) -> Alert {
    let this = &schedule.targets[target];
    let (name, area) = match this.subject.kind {
        SubjectKind::Dependency => ("dependency", "dependency"),
        _ => ("service", "service"),
    };
    let labels = [
        ("alertname", "Down"),
        ("agency", this.agency),
        ("area", area),
        ("severity", "warning"),
        (name, &this.subject.id),
    ];
    let summary = format!("{} is down", this.subject.id);
    Alert {
        labels: labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        annotations: [("summary".to_string(), summary.clone()), ("summary_en".to_string(), summary)].into(),
        starts_at: now,
        ends_at: None,
        generator_url: "".into(),
        end_is_assumed: false,
    }
}

/// When mails about one subject are due.
#[derive(Debug, Clone, Default)]
struct Rule {
    /// Whoever answers for it knows that it is down.
    is_told: bool,
    last_mail: Option<i64>,
    was_excused: bool,
    /// Nobody is told within `group_wait` after an excuse.
    not_before: i64,
    /// Since when there is something to tell.
    since: Option<i64>,
    /// Since when it no longer fires.
    ended: Option<i64>,
}

impl Rule {
    /// Whether a mail goes out at this tick, and whether it says that it is over.
    fn tick(&mut self, fires: bool, is_excused: bool, now: i64) -> Option<bool> {
        let spaced = self.last_mail.is_none_or(|last| last + GROUP_INTERVAL <= now);
        if !fires {
            let ended = *self.ended.get_or_insert(now);
            (self.was_excused, self.not_before) = (false, 0);
            if self.is_told && spaced {
                (self.is_told, self.last_mail, self.since) = (false, Some(now), None);
                return Some(true);
            }
            if !self.is_told && ended + GROUP_INTERVAL <= now {
                // The incident is closed; the next one knows nothing of it.
                *self = Rule { ended: self.ended, ..Rule::default() };
            }
            return None;
        }
        self.ended = None;
        if self.was_excused && !is_excused {
            self.not_before = now + GROUP_WAIT;
        }
        self.was_excused = is_excused;
        if is_excused {
            self.since = None;
        }
        if self.is_told || is_excused || now < self.not_before {
            return None;
        }
        let collected = self.not_before > 0 || *self.since.get_or_insert(now) + GROUP_WAIT <= now;
        if !(collected && spaced) {
            return None;
        }
        (self.is_told, self.last_mail, self.since) = (true, Some(now), None);
        Some(false)
    }
}
