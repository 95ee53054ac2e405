//! The pure step of an alerting rule's state, as Prometheus's `rules/alerting.go`: inactive, pending, firing, kept
//! firing, resolved. Times stand in the state; the clock is never read.
//!
//! Three differences, the first two so that nobody is told what is not known:
//!
//! - An alert restored after a restart that is not in the result stays as it was until its data are there: until its
//!   subject has been present in [`super::shape::presence`] for [`CONFIRM`] without the alert holding, or [`GIVE_UP`]
//!   after the start.
//! - A rule that exceeds its limit fails and keeps its alerts; Prometheus forgets them.
//! - A resolved alert is kept until its end was handed on, not for 15 minutes: it is handed on in a transaction, which
//!   either happened or did not.

use crate::alert::LabelSet;
use crate::labels::{self, Labels, Name};
use jiff::Timestamp;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

static ALERTS: LazyLock<Name> = LazyLock::new(|| Name::from("ALERTS"));
static ALERTS_FOR_STATE: LazyLock<Name> = LazyLock::new(|| Name::from("ALERTS_FOR_STATE"));

pub(super) type LabelMap = std::collections::BTreeMap<String, String>;
/// The alerts of one rule by their labels; boxed, since a table has up to twice as many places as it has entries.
pub(super) type Alerts = HashMap<LabelSet, Box<Active>>;

/// An alert that fires, and whose annotations show another value by now, is handed on again after so long, as Prometheus
/// does (`rules.alert.resend-delay`).
pub(super) const RESEND: Duration = Duration::from_secs(60);
/// One of which nothing changed is handed on again after so long.
pub(super) const RESEND_SAME: Duration = Duration::from_secs(5 * 60);
/// How long a restored alert's data must be there without it holding before it resolves: two checks of 30 s.
pub(super) const CONFIRM: Duration = Duration::from_secs(60);
/// When a restored alert whose data never came resolves, after the start.
pub(super) const GIVE_UP: Duration = Duration::from_secs(10 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Firing,
    Resolved,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Firing => "firing",
            State::Resolved => "resolved",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        [State::Pending, State::Firing, State::Resolved].into_iter().find(|state| state.as_str() == text)
    }
}

/// One alert of a rule; its labels are the key under which it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Active {
    pub state: State,
    pub annotations: LabelSet,
    /// The value that the annotations were made for; `None` if they are to be made anew.
    pub annotated: Option<f64>,
    pub value: f64,
    /// The labels of the result; `None` until there was one since the start.
    pub series: Option<Labels>,
    /// When the expression began to hold.
    pub active_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub keep_firing_since: Option<Timestamp>,
    /// Set from a restart until the data confirm or refute it.
    pub restored: Option<Restored>,
    /// What the expression gave in the evaluation that is going on.
    pub hit: Option<Hit>,
    /// Noted for the first time in it.
    pub is_new: bool,
    /// The state database does not have this state.
    pub is_unsaved: bool,
    /// When it was handed on last.
    pub told: Option<Timestamp>,
    /// When it was handed on without being kept yet.
    pub telling: Option<Timestamp>,
    /// In this state: the labels of its `ALERTS` and its `ALERTS_FOR_STATE` series as the engine keeps them.
    pub recorded: Option<(State, Labels, Labels)>,
}

/// Of a restored alert: since when its data have been there without it holding.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Restored {
    pub refuted_since: Option<Timestamp>,
}

/// What the expression gave for one label set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hit {
    pub series: Labels,
    pub value: f64,
    /// Unless those that it has will do.
    pub annotations: Option<Annotations>,
}

/// What the templates gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Annotations {
    pub texts: LabelSet,
    /// Some of them could not be expanded.
    pub failed: bool,
}

/// What the step needs to know of its rule and of the world.
pub(super) struct Setting<'a> {
    pub hold: Duration,
    pub keep_firing_for: Duration,
    /// When the ruler started.
    pub started: Timestamp,
    /// Whether the data of the alert with these labels are there.
    pub is_present: &'a dyn Fn(&LabelSet) -> bool,
}

/// Where a result with these labels is noted at `now`, as its [`Active::hit`], for [`step`].
pub(super) fn place(active: &mut Alerts, labels: LabelSet, now: Timestamp) -> &mut Active {
    match active.entry(labels) {
        Entry::Vacant(place) => place.insert(Box::new(Active { is_new: true, ..Active::new(now) })),
        Entry::Occupied(place) => place.into_mut(),
    }
}

/// Takes back what was noted.
pub(super) fn forget(active: &mut Alerts) {
    active.retain(|_, alert| {
        alert.hit = None;
        !alert.is_new
    });
}

/// One evaluation at `now`, of which the results were noted. Returns the labels of those that are forgotten.
pub(super) fn step(active: &mut Alerts, setting: &Setting<'_>, now: Timestamp) -> Vec<LabelSet> {
    let mut gone = Vec::new();
    active.retain(|labels, alert| {
        let before = (alert.state, alert.keep_firing_since);
        let is_new = alert.is_new;
        let keep = match alert.hit.take() {
            Some(hit) => {
                alert.hold(hit, setting.hold, now);
                true
            }
            None => is_unknown(labels, alert, setting, now) || step_missing(alert, setting, now),
        };
        alert.is_unsaved |= is_new || before != (alert.state, alert.keep_firing_since);
        if !keep {
            gone.push(labels.clone());
        }
        keep
    });
    gone
}

impl Active {
    pub fn new(now: Timestamp) -> Active {
        Active {
            state: State::Pending,
            annotations: LabelSet::default(),
            annotated: None,
            value: f64::NAN,
            series: None,
            active_at: now,
            fired_at: None,
            resolved_at: None,
            keep_firing_since: None,
            restored: None,
            hit: None,
            is_new: false,
            is_unsaved: false,
            told: None,
            telling: None,
            recorded: None,
        }
    }

    /// The step of an alert that holds.
    fn hold(&mut self, hit: Hit, hold: Duration, now: Timestamp) {
        if self.state == State::Resolved {
            *self = Active::new(now);
        }
        // A clock that was set back must not make it wait until that time comes again.
        self.active_at = self.active_at.min(now);
        self.is_new = false;
        self.value = hit.value;
        self.renew(hit.annotations);
        self.series = Some(hit.series);
        self.restored = None;
        self.keep_firing_since = None;
        if self.state == State::Pending && elapsed(self.active_at, now) >= hold {
            self.state = State::Firing;
            self.fired_at = Some(now);
        }
    }

    /// Takes annotations that were made for its value.
    pub fn renew(&mut self, annotations: Option<Annotations>) {
        if let Some(annotations) = annotations {
            self.annotations = annotations.texts;
            self.annotated = (!annotations.failed).then_some(self.value);
        }
    }

    /// Whether it is to be handed on at `now`; `renews` if its annotations may have become others.
    pub fn is_due(&self, now: Timestamp, renews: bool) -> bool {
        let is_same = !renews && self.annotated.is_some();
        let resend = if is_same { RESEND_SAME } else { RESEND };
        let is_old = |told: Timestamp| now < told || elapsed(told, now) >= resend;
        self.state != State::Pending && (self.is_unsaved || self.told.is_none_or(is_old))
    }

    /// What it was is kept and handed on. False if nobody has to know of it any more.
    pub fn committed(&mut self) -> bool {
        self.is_unsaved = false;
        self.told = self.telling.take().or(self.told);
        self.state != State::Resolved
    }

    /// Its `ALERTS` and `ALERTS_FOR_STATE` samples; none of one that is resolved. [`keep_recorded`] brings the labels back.
    fn samples(&mut self, labels: &LabelSet) -> Option<[(Labels, f64); 2]> {
        if self.state == State::Resolved {
            return None;
        }
        let (alerts, for_state) = match self.recorded.take() {
            Some((state, alerts, for_state)) if state == self.state => (alerts, for_state),
            _ => {
                let labels = Labels::of_sorted(None, labels.iter().filter(|(name, _)| *name != labels::NAME));
                let alerts = labels.named(&ALERTS).with("alertstate", self.state.as_str());
                (alerts, labels.named(&ALERTS_FOR_STATE))
            }
        };
        Some([(alerts, 1.0), (for_state, self.active_at.as_second() as f64)])
    }
}

/// The `ALERTS` and `ALERTS_FOR_STATE` samples of a rule.
pub(super) fn samples(active: &mut Alerts) -> Vec<(Labels, f64)> {
    active.iter_mut().filter_map(|(labels, alert)| alert.samples(labels)).flatten().collect()
}

/// Remembers the labels of [`samples`] once they were recorded. No alert came or went meanwhile.
pub(super) fn keep_recorded(active: &mut Alerts, samples: Vec<(Labels, f64)>) {
    let mut samples = samples.into_iter().map(|(labels, _)| labels);
    for alert in active.values_mut().filter(|alert| alert.state != State::Resolved) {
        let (Some(alerts), Some(for_state)) = (samples.next(), samples.next()) else { break };
        alert.recorded = Some((alert.state, alerts, for_state));
    }
}

/// Whether a restored alert that is not in the result must stay for want of data.
fn is_unknown(labels: &LabelSet, alert: &mut Active, setting: &Setting<'_>, now: Timestamp) -> bool {
    if alert.state == State::Resolved {
        return false;
    }
    let Some(restored) = &mut alert.restored else { return false };
    restored.refuted_since = if (setting.is_present)(labels) { restored.refuted_since.or(Some(now)) } else { None };
    let refuted = restored.refuted_since.is_some_and(|since| elapsed(since, now) >= CONFIRM);
    if refuted || elapsed(setting.started, now) >= GIVE_UP {
        alert.restored = None;
        return false;
    }
    true
}

/// The step of an alert that does not hold any more; false if it is to be forgotten.
fn step_missing(alert: &mut Active, setting: &Setting<'_>, now: Timestamp) -> bool {
    match alert.state {
        State::Pending => false,
        State::Resolved => true,
        State::Firing => {
            if !setting.keep_firing_for.is_zero() {
                let since = *alert.keep_firing_since.get_or_insert(now);
                if elapsed(since, now) < setting.keep_firing_for {
                    return true;
                }
            }
            alert.state = State::Resolved;
            alert.resolved_at = Some(now);
            true
        }
    }
}

/// Zero if the clock was set back.
fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Firing, Pending, Resolved};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn labels() -> LabelSet {
        LabelSet::from([("a".to_owned(), "b".to_owned())])
    }

    struct Story {
        active: Alerts,
        hold: u64,
        keep: u64,
        present: bool,
    }

    impl Story {
        /// One step, handed on; the state after it and whether it was to be stored.
        fn step(&mut self, second: i64, holds: bool) -> (Option<State>, bool) {
            if holds {
                let hit = Hit { series: Labels::default(), annotations: None, value: 1.0 };
                place(&mut self.active, labels(), at(second)).hit = Some(hit);
            }
            let present = self.present;
            let setting = Setting {
                hold: Duration::from_secs(self.hold),
                keep_firing_for: Duration::from_secs(self.keep),
                started: at(0),
                is_present: &|_| present,
            };
            let gone = step(&mut self.active, &setting, at(second));
            let alert = self.active.get(&labels());
            let (state, is_unsaved) = (alert.map(|alert| alert.state), alert.is_some_and(|alert| alert.is_unsaved));
            self.active.retain(|_, alert| alert.committed());
            (state, is_unsaved || !gone.is_empty())
        }
    }

    fn story(hold: u64, keep: u64) -> Story {
        Story { active: Alerts::new(), hold, keep, present: false }
    }

    fn restored(state: State, hold: u64) -> Story {
        let mut alert = Active::new(at(-100));
        alert.state = state;
        alert.restored = Some(Restored::default());
        Story { active: Alerts::from([(labels(), Box::new(alert))]), ..story(hold, 0) }
    }

    #[test]
    fn an_alert_waits_fires_resolves_and_is_forgotten() {
        let mut story = story(30, 0);
        assert_eq!(story.step(0, true), (Some(Pending), true));
        assert_eq!(story.step(15, true), (Some(Pending), false));
        assert_eq!(story.step(30, true), (Some(Firing), true));
        assert_eq!(story.step(45, true), (Some(Firing), false));
        assert_eq!(story.step(60, false), (Some(Resolved), true));
        assert_eq!(story.step(75, false), (None, false));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_longer_than_for() {
        let mut story = story(30, 0);
        assert_eq!(story.step(3_600, true), (Some(Pending), true));
        assert_eq!(story.step(0, true), (Some(Pending), false));
        assert_eq!(story.step(30, true), (Some(Firing), true));
    }

    #[test]
    fn an_alert_is_handed_on_when_it_changes_and_now_and_then() {
        let mut alert = Active::new(at(0));
        assert!(!alert.is_due(at(0), true));
        alert.state = Firing;
        alert.telling = Some(at(0));
        assert!(alert.is_due(at(0), true));
        assert!(alert.committed());
        for (second, is_due) in [(0, false), (59, false), (60, true), (-1, true)] {
            assert_eq!(alert.is_due(at(second), true), is_due, "{second}");
        }
        // Of one whose annotations are made only once nothing changes meanwhile.
        alert.annotated = Some(1.0);
        for (second, is_due) in [(60, false), (299, false), (300, true), (-1, true)] {
            assert_eq!(alert.is_due(at(second), false), is_due, "{second}");
        }
        (alert.state, alert.is_unsaved) = (Resolved, true);
        assert!(alert.is_due(at(15), false));
        assert!(!alert.committed());
    }

    #[test]
    fn a_pending_alert_that_ends_is_forgotten_and_waits_again() {
        let mut story = story(30, 0);
        story.step(0, true);
        assert_eq!(story.step(15, false), (None, true));
        assert_eq!(story.step(30, true), (Some(Pending), true));
        assert_eq!(story.step(45, true), (Some(Pending), false));
    }

    #[test]
    fn without_for_it_fires_at_once_and_one_that_ended_begins_anew() {
        let mut story = story(0, 0);
        assert_eq!(story.step(0, true), (Some(Firing), true));
        assert_eq!(story.step(15, false), (Some(Resolved), true));
        assert_eq!(story.step(30, true), (Some(Firing), true));
        assert_eq!(story.active[&labels()].active_at, at(30));
        assert_eq!(story.active[&labels()].resolved_at, None);
    }

    #[test]
    fn keep_firing_for_bridges_gaps() {
        let mut story = story(0, 60);
        story.step(0, true);
        assert_eq!(story.step(15, false), (Some(Firing), true));
        assert_eq!(story.step(60, false), (Some(Firing), false));
        assert_eq!(story.step(70, true), (Some(Firing), true));
        assert_eq!(story.step(85, false), (Some(Firing), true));
        assert_eq!(story.step(145, false), (Some(Resolved), true));
    }

    #[test]
    fn a_restored_alert_does_not_resolve_for_want_of_data() {
        let mut story = restored(Firing, 30);
        assert_eq!(story.step(15, false), (Some(Firing), false));
        assert_eq!(story.step(599, false), (Some(Firing), false));
        assert_eq!(story.step(600, false), (Some(Resolved), true));
    }

    #[test]
    fn a_restored_alert_resolves_once_its_data_refute_it() {
        let mut story = restored(Firing, 30);
        story.step(15, false);
        story.present = true;
        assert_eq!(story.step(30, false), (Some(Firing), false));
        assert_eq!(story.step(75, false), (Some(Firing), false));
        assert_eq!(story.step(90, false), (Some(Resolved), true));
    }

    #[test]
    fn a_restored_pending_alert_does_not_wait_again() {
        let mut story = restored(Pending, 110);
        assert_eq!(story.step(5, false), (Some(Pending), false));
        assert_eq!(story.step(15, true), (Some(Firing), true));
        assert_eq!(story.active[&labels()].restored, None);
        assert_eq!(story.step(30, false), (Some(Resolved), true));
    }
}
