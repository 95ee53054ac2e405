//! Plays a schedule of outages to the ledger and compares what it wrote with the truth.

use crate::mails::Mails;
use crate::outages::{Check, SECOND, Schedule, Target};
use ioc_watch::attribution::{Graph, Interval, Ledger, NewMaintenance, Scope, State, SubjectKind};
use ioc_watch::store::Store;
use std::collections::BTreeMap;
use std::path::Path;

pub const TICK: i64 = 15 * SECOND;
/// As often the daemon says that it is alive.
const HEARTBEAT: i64 = 2 * SECOND;

/// The ledger of a schedule's whole run, by target.
///
/// With `mails` the incident stage is told what fires, as the ruler would tell it.
pub async fn play(
    schedule: &Schedule,
    checks: &[Check],
    store: &Store,
    dir: &Path,
    mut mails: Option<&mut Mails>,
) -> Vec<Vec<Interval>> {
    let config = schedule.config(dir);
    let resume = async || {
        let ledger = Ledger::resume(store.clone()).await.unwrap();
        ledger.set_graph(Graph::new(&config, []));
        ledger
    };
    let mut ledger = resume().await;
    if let Some(mails) = &mut mails {
        mails.resume(&config, store, &ledger, schedule.at(0)).await;
    }
    let mut absences = schedule.absences.clone();
    absences.sort_by_key(|absence| absence.from);
    let mut absences = absences.into_iter().peekable();
    let mut announcements: Vec<_> = schedule.windows.iter().filter(|window| window.announced.is_some()).collect();
    announcements.sort_by_key(|window| window.announced);
    let mut announcements = announcements.into_iter().peekable();
    let mut checks = checks.iter().peekable();
    let mut tick = 0;
    while tick < schedule.end {
        tick += TICK;
        // What happens before this tick, in its order.
        loop {
            let check = checks.peek().map_or(i64::MAX, |check| check.ended);
            let stop = absences.peek().map_or(i64::MAX, |absence| absence.from);
            let word = announcements.peek().map_or(i64::MAX, |window| window.announced.unwrap());
            let next = check.min(stop).min(word);
            if next >= tick {
                break;
            }
            if next == check {
                let check = checks.next().unwrap();
                let target = &schedule.targets[check.target];
                let (state, reason) = if check.is_up { (State::Up, "") } else { (State::Down, "refused") };
                ledger.observe(&target.subject, target.agency, state, schedule.at(check.begun), reason);
                if let Some(mails) = &mut mails {
                    mails.see(check);
                }
            } else if next == word {
                let window = announcements.next().unwrap();
                announce(&ledger, schedule, window).await;
            } else {
                let absence = absences.next().unwrap();
                ledger.heartbeat(schedule.at(absence.from / HEARTBEAT * HEARTBEAT)).await.unwrap();
                ledger = resume().await;
                if let Some(mails) = &mut mails {
                    mails.resume(&config, store, &ledger, schedule.at(absence.to)).await;
                }
                tick = tick.max(absence.to / TICK * TICK + TICK);
            }
        }
        ledger.tick(schedule.at(tick));
        ledger.flush().await.unwrap();
        if let Some(mails) = &mut mails {
            mails.tick(schedule, tick).await;
        }
    }
    let (from, to) = (schedule.at(0), schedule.at(schedule.end));
    let services = ledger.intervals(SubjectKind::Service, from, to).await.unwrap();
    let dependencies = ledger.intervals(SubjectKind::Dependency, from, to).await.unwrap();
    let all: Vec<Interval> = services.into_iter().chain(dependencies).collect();
    let of = |target: &Target| all.iter().filter(|interval| interval.subject == target.subject).cloned().collect();
    schedule.targets.iter().map(of).collect()
}

async fn announce(ledger: &Ledger, schedule: &Schedule, window: &crate::outages::Window) {
    let scope = Scope { services: vec![schedule.targets[window.target].subject.id.to_string()], ..Scope::default() };
    let (from, to) = (schedule.at(window.from), schedule.at(window.to));
    let new = NewMaintenance { scope, from, to, reason: "Nâng cấp".into(), author: "it-ioc".into() };
    ledger.add_maintenance(new, schedule.at(window.announced.unwrap())).await.unwrap();
}

/// How far the ledger's edges are from the truth's, in seconds.
#[derive(Debug, Default)]
pub struct Errors {
    /// From the fact.
    pub from_fact: Vec<f64>,
    /// From the moment at which the fact could first be known.
    pub from_knowable: Vec<f64>,
}

/// Compares a target's intervals with the truth; the first difference is the error.
pub fn compare(
    schedule: &Schedule,
    checks: &[Check],
    target: usize,
    intervals: &[Interval],
    errors: &mut Errors,
) -> Result<(), String> {
    let this = &schedule.targets[target];
    let time = |at: jiff::Timestamp| at.duration_since(schedule.start).as_micros() as i64;
    let rows: Vec<(i64, i64, String)> = intervals
        .iter()
        .map(|interval| {
            let label = match interval.state {
                State::Down => interval.cause.clone(),
                state => state.as_str().into(),
            };
            (time(interval.from), interval.until.map_or(schedule.end, time), label)
        })
        .collect();
    for (pair, states) in rows.windows(2).zip(intervals.windows(2)) {
        if pair[0].1 != pair[1].0 {
            return Err(format!("{}: {:?} and {:?} do not meet", this.subject.id, pair[0], pair[1]));
        }
        if states[0].until.is_none() {
            return Err(format!("{}: {:?} lasts before {:?}", this.subject.id, pair[0], pair[1]));
        }
    }
    let edges = schedule.edges(target);
    let zones: Vec<(i64, i64, Vec<&str>)> = edges.iter().map(|edge| zone(schedule, target, *edge)).collect();
    let mut moments: Vec<i64> = zones.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
    moments.extend(rows.iter().map(|row| row.0));
    moments.extend(&edges);
    moments.sort_unstable();
    for pair in moments.windows(2).filter(|pair| pair[0] < pair[1] && pair[0] >= rows[0].0) {
        let now = pair[0];
        let row = rows.iter().find(|row| row.0 <= now && now < row.1);
        let Some((_, _, label)) = row else { return Err(format!("{}: nothing at {now}", this.subject.id)) };
        let truth = schedule.truth(target, now);
        let is_allowed =
            zones.iter().any(|(from, to, labels)| *from <= now && now < *to && labels.contains(&label.as_str()));
        if label != truth && !is_allowed {
            let near: Vec<_> =
                rows.iter().filter(|row| row.1 > now - 900 * SECOND && row.0 < now + 900 * SECOND).collect();
            let edges: Vec<_> = edges
                .iter()
                .filter(|edge| (*edge - now).abs() < 900 * SECOND)
                .map(|edge| (edge, schedule.truth(target, *edge)))
                .collect();
            let id = &this.subject.id;
            return Err(format!("{id}: {label} at {now}, in truth {truth}; rows {near:?}; truth {edges:?}"));
        }
    }
    measure(schedule, checks, target, &rows, &edges, errors);
    Ok(())
}

/// Around an edge of the truth: from when to when the ledger may differ, and what it may say.
///
/// An edge between up and down is seen by the subject's own check, one between causes by its dependencies'. A moment when
/// several of them end at once is seen by one after the other. After an absence both have to be looked at anew, and our
/// last heartbeat is a little before our end.
fn zone(schedule: &Schedule, target: usize, edge: i64) -> (i64, i64, Vec<&'static str>) {
    let this = &schedule.targets[target];
    let (before, after) = (schedule.truth(target, edge - 1), schedule.truth(target, edge));
    let needs = this.needs.iter().map(|need| &schedule.targets[*need]);
    let slowest = needs.clone().map(Target::bound).max().unwrap_or(0).max(this.bound());
    let bound = match (before, after) {
        (_, "up") | ("up", _) => this.bound(),
        _ => slowest,
    };
    let mut labels = vec![before, after];
    labels.extend(needs.filter_map(|need| need.cause).map(|cause| cause.as_str()));
    if before == "unknown" {
        // What was so before we went away is held to be so until we have looked again.
        let absence = schedule.absences.iter().find(|absence| absence.to == edge);
        labels.extend(absence.map(|absence| schedule.truth(target, absence.from - 1)));
    }
    let (early, late) = if after == "unknown" { (HEARTBEAT, 0) } else { (0, bound + TICK) };
    (edge - early, edge + late, labels)
}

/// Notes how late the ledger's edges are.
fn measure(
    schedule: &Schedule,
    checks: &[Check],
    target: usize,
    rows: &[(i64, i64, String)],
    edges: &[i64],
    errors: &mut Errors,
) {
    let first_check = |targets: &[usize], edge: i64| {
        // They are in the order in which they end, soon after they begin.
        let later = &checks[checks.partition_point(|check| check.ended < edge)..];
        let near = later.iter().take_while(|check| check.ended < edge + 20 * 60 * SECOND);
        let of = near.filter(|check| targets.contains(&check.target) && check.begun >= edge);
        of.map(|check| check.begun).min()
    };
    let needs = &schedule.targets[target].needs;
    for &edge in edges {
        let (before, after) = (schedule.truth(target, edge - 1), schedule.truth(target, edge));
        let found = rows
            .iter()
            .filter(|row| row.2 == after && row.0 >= edge - HEARTBEAT)
            .map(|row| row.0)
            .min_by_key(|from| (from - edge).abs());
        let Some(found) = found else { continue };
        let knowable = match (before, after) {
            (_, "unknown") => Some(edge / HEARTBEAT * HEARTBEAT),
            ("maintenance", _) | (_, "maintenance") if before != "up" && after != "up" => Some(edge),
            (_, "up") | ("up", _) | ("unknown", _) => first_check(&[target], edge),
            _ => {
                let changed: Vec<usize> = needs
                    .iter()
                    .copied()
                    .chain([target])
                    .filter(|need| schedule.is_down(*need, edge - 1) != schedule.is_down(*need, edge))
                    .collect();
                first_check(&changed, edge)
            }
        };
        let Some(knowable) = knowable else { continue };
        // Further away it is the edge of something else, which the comparison judges.
        if (found - edge).abs() < 5 * 60 * SECOND {
            errors.from_fact.push((found - edge) as f64 / SECOND as f64);
            errors.from_knowable.push((found - knowable) as f64 / SECOND as f64);
        }
    }
}

/// Seconds of every label, for a word about a run.
pub fn totals(all: &[Vec<Interval>]) -> BTreeMap<String, i64> {
    let mut totals = BTreeMap::new();
    for interval in all.iter().flatten() {
        let label = if interval.state == State::Down { interval.cause.clone() } else { interval.state.to_string() };
        let length = interval.until.map_or(0, |until| until.duration_since(interval.from).as_secs());
        *totals.entry(label).or_default() += length;
    }
    totals
}
