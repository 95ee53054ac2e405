//! Brings the usage metrics in line with the state database, which alone knows: so they survive a restart.

use super::access_log::LineResult;
use super::dossiers;
use super::pace::{Pace, pace};
use super::standing::{Rules, Standing, receipt_gap};
use super::tables::{self, LOST, Spread};
use super::unused::unused_working_days;
use crate::config::usage::{Dossiers, Grain, Period, UsageRows, UsageSource};
use crate::feed::Place;
use crate::metrics::columns::{
    access_log, access_log_file, app, app_events, dossier_month, dossier_standing, dossiers as dossier_columns, target,
};
use crate::store::{Doing, StoreError};
use jiff::{SignedDuration, Timestamp};
use sqlx::Row;
use std::collections::{BTreeMap, BTreeSet, HashSet};

const DOING: &str = "reading usage totals";

/// Receipt gaps are looked for among counts of this time: what is older is either answered or beyond help, and dossiers that
/// were withdrawn, which never get a slip, drop out.
const GAP: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Sets every series of the configured sources, and ends those of others.
pub(super) async fn refresh(place: &Place, sources: &[UsageSource], now: Timestamp) -> Result<(), StoreError> {
    users(place, sources, now).await?;
    events(place, sources).await?;
    lines(place, sources).await?;
    dossier_totals(place).await?;
    this_month(place, now).await?;
    standings(place, sources, now).await?;
    targets(place, sources, now).await
}

fn seconds(time: Timestamp) -> f64 {
    time.as_microsecond() as f64 / 1e6
}

/// Users of the last period, and for how long there were none.
async fn users(place: &Place, sources: &[UsageSource], now: Timestamp) -> Result<(), StoreError> {
    let table = place.metrics.table(app::TABLE);
    let mut shown: HashSet<(String, String)> = HashSet::new();
    let known = tables::uses(&place.store).await?;
    for source in sources {
        let Some(limit) = source.unused_after() else { continue };
        let Some(uses) = known.get(source.app.as_str()) else { continue };
        // Who is expected to use it, or whoever was ever reported.
        let named = source.agencies.iter().map(|id| id.as_str());
        let agencies: BTreeSet<&str> = named.chain(uses.agencies.keys().map(String::as_str)).collect();
        for agency in agencies {
            if place.org.agency(agency).is_none() {
                continue;
            }
            let row = table.row(&[agency, &source.app]);
            shown.insert((agency.to_owned(), source.app.to_string()));
            let own = uses.agencies.get(agency);
            if let Some(users) = own.map(|own| own.users) {
                table.set(row, app::ACTIVE_USERS, users as f64);
            }
            if let Some(last) = own.and_then(|own| own.last) {
                table.set(row, app::LAST_USED, seconds(last));
            }
            let unused = unused_working_days(uses.of(agency), &place.org, now);
            table.set(row, app::UNUSED, f64::from(unused));
            table.set(row, app::UNUSED_LIMIT, f64::from(limit));
        }
    }
    table.retain(|labels| shown.contains(&(labels[0].to_string(), labels[1].to_string())));
    Ok(())
}

async fn events(place: &Place, sources: &[UsageSource]) -> Result<(), StoreError> {
    let is_ours =
        |agency: &str, name: &str| place.org.agency(agency).is_some() && sources.iter().any(|s| &*s.app == name);
    let table = place.metrics.table(app_events::TABLE);
    let sql = "SELECT agency, app, event, total FROM usage_totals";
    for row in sqlx::query(sql).fetch_all(place.store.reader()).await.doing(DOING)? {
        let (agency, name, event) = (text(&row, "agency")?, text(&row, "app")?, text(&row, "event")?);
        if is_ours(&agency, &name) {
            table.set(table.row(&[&agency, &name, &event]), app_events::EVENTS, number(&row, "total")?);
        }
    }
    table.retain(|labels| is_ours(labels[0], labels[1]));
    Ok(())
}

async fn lines(place: &Place, sources: &[UsageSource]) -> Result<(), StoreError> {
    let logs: HashSet<&str> = sources
        .iter()
        .filter(|source| matches!(source.rows, UsageRows::AccessLog { .. }))
        .map(|source| source.app.as_str())
        .collect();
    let agency = place.org.site().as_str();
    let (by_result, by_file) = (place.metrics.table(access_log::TABLE), place.metrics.table(access_log_file::TABLE));
    for app in &logs {
        for result in LineResult::ALL {
            by_result.add(by_result.row(&[agency, app, result.as_str()]), access_log::LINES, 0.0);
        }
        by_file.add(by_file.row(&[agency, app]), access_log_file::LOST, 0.0);
    }
    let sql = "SELECT app, result, total FROM access_log_lines";
    for row in sqlx::query(sql).fetch_all(place.store.reader()).await.doing(DOING)? {
        let (app, result, total) = (text(&row, "app")?, text(&row, "result")?, number(&row, "total")?);
        if !logs.contains(app.as_str()) {
            continue;
        }
        if result == LOST {
            by_file.set(by_file.row(&[agency, &app]), access_log_file::LOST, total);
        } else {
            by_result.set(by_result.row(&[agency, &app, &result]), access_log::LINES, total);
        }
    }
    by_result.retain(|labels| logs.contains(labels[1]));
    by_file.retain(|labels| logs.contains(labels[1]));
    Ok(())
}

async fn dossier_totals(place: &Place) -> Result<(), StoreError> {
    let table = place.metrics.table(dossier_columns::TABLE);
    let sql = "SELECT agency, step, channel, outcome, total FROM dossier_totals";
    for row in sqlx::query(sql).fetch_all(place.store.reader()).await.doing(DOING)? {
        let (agency, step) = (text(&row, "agency")?, text(&row, "step")?);
        let (channel, outcome) = (text(&row, "channel")?, text(&row, "outcome")?);
        if place.org.agency(&agency).is_some() {
            let labels = [agency.as_str(), step.as_str(), channel.as_str(), outcome.as_str()];
            table.set(table.row(&labels), dossier_columns::DOSSIERS, number(&row, "total")?);
        }
    }
    table.retain(|labels| place.org.agency(labels[0]).is_some());
    Ok(())
}

/// What the four rates are computed from, for the present month.
async fn this_month(place: &Place, now: Timestamp) -> Result<(), StoreError> {
    let (first, last) = Period::Month.around(place.org.date(now));
    let (from, to) = (place.org.span_of(first).0, place.org.span_of(last).1);
    let mut sums: BTreeMap<[String; 3], i64> = BTreeMap::new();
    for count in tables::dossier_counts(&place.store, from, to).await? {
        if place.org.agency(&count.agency).is_some() {
            // Both channels of a step are there, so that a rate of nothing is 0 and not unknown.
            for channel in ["online", "counter"] {
                sums.entry([count.agency.clone(), count.step.clone(), channel.to_owned()]).or_default();
            }
            *sums.entry([count.agency, count.step, count.channel]).or_default() += count.count;
        }
    }
    let table = place.metrics.table(dossier_month::TABLE);
    for ([agency, step, channel], sum) in &sums {
        table.set(table.row(&[agency, step, channel]), dossier_month::DOSSIERS, *sum as f64);
    }
    table.retain(|labels| sums.contains_key(&[labels[0].to_string(), labels[1].to_string(), labels[2].to_string()]));
    Ok(())
}

fn dossier_sources(sources: &[UsageSource]) -> impl Iterator<Item = (&UsageSource, &Dossiers)> {
    sources.iter().filter_map(|source| match &source.rows {
        UsageRows::Dossiers(dossiers) => Some((source, &**dossiers)),
        _ => None,
    })
}

async fn standings(place: &Place, sources: &[UsageSource], now: Timestamp) -> Result<(), StoreError> {
    let table = place.metrics.table(dossier_standing::TABLE);
    let mut shown: HashSet<(String, String)> = HashSet::new();
    for (source, config) in dossier_sources(sources) {
        let app = source.app.as_str();
        let mut show = |agency: &str, column, value: f64| {
            if place.org.agency(agency).is_some() {
                shown.insert((agency.to_owned(), app.to_owned()));
                table.set(table.row(&[agency, app]), column, value);
            }
        };
        match config.grain {
            Grain::Single => {
                for (agency, standing) in standing(place, source, config, now).await? {
                    show(&agency, dossier_standing::OPEN, f64::from(standing.open));
                    show(&agency, dossier_standing::WITHOUT_RECEIPT, f64::from(standing.without_receipt));
                    show(&agency, dossier_standing::DUE_SOON, f64::from(standing.due_soon));
                    show(&agency, dossier_standing::OVERDUE, f64::from(standing.overdue));
                    show(&agency, dossier_standing::WITHOUT_APOLOGY, f64::from(standing.without_apology));
                    let longest = standing.longest_overdue.as_secs_f64();
                    show(&agency, dossier_standing::LONGEST_OVERDUE, longest);
                }
            }
            Grain::Counts => {
                let within = SignedDuration::try_from(config.receipt_within).unwrap_or(SignedDuration::MAX);
                for (agency, submitted, receipted) in
                    tables::receipts(&place.store, app, now - GAP, now, within).await?
                {
                    let gap = receipt_gap(submitted, receipted);
                    show(&agency, dossier_standing::WITHOUT_RECEIPT, f64::from(gap));
                }
            }
        }
    }
    table.retain(|labels| shown.contains(&(labels[0].to_string(), labels[1].to_string())));
    Ok(())
}

/// By agency; of one that has no open dossier it is known that there is none.
async fn standing(
    place: &Place,
    source: &UsageSource,
    config: &Dossiers,
    now: Timestamp,
) -> Result<BTreeMap<String, Standing>, StoreError> {
    let mut standings: BTreeMap<String, Standing> = BTreeMap::new();
    if !dossiers::is_known(&place.store, &source.app).await? {
        return Ok(standings);
    }
    for agency in tables::reporting(&place.store, &source.app).await? {
        standings.insert(agency, Standing::default());
    }
    let rules = Rules::of(config);
    for dossier in dossiers::open(&place.store, &source.app).await? {
        standings.entry(dossier.agency.clone()).or_default().add(&dossier, rules, &place.org, now);
    }
    Ok(standings)
}

async fn targets(place: &Place, sources: &[UsageSource], now: Timestamp) -> Result<(), StoreError> {
    let table = place.metrics.table(target::TABLE);
    let mut shown: HashSet<[String; 3]> = HashSet::new();
    for (source, config) in dossier_sources(sources).filter(|(_, config)| !config.targets.is_empty()) {
        for (target, pace) in paces(place, source, config, now).await? {
            let labels = [target.agency.as_str(), source.app.as_str(), target.id.as_str()];
            shown.insert(labels.map(str::to_owned));
            let row = table.row(&labels);
            let end = place.org.span_of(pace.last).1;
            let cells = [
                (target::GOAL, Some(pace.goal as f64)),
                (target::DONE, Some(pace.done as f64)),
                (target::OBSERVED, pace.observed_per_day),
                (target::NEEDED, pace.needed_per_day),
                (target::PROJECTED, pace.projected),
                (target::DAYS_ELAPSED, Some(pace.days_elapsed)),
                (target::DAYS_LEFT, Some(pace.days_left)),
                (target::END, Some(seconds(end))),
            ];
            table.update(row, |row| {
                for (column, value) in cells {
                    match value {
                        Some(value) => row.set(column, value),
                        None => row.clear(column),
                    }
                }
            });
        }
    }
    table.retain(|labels| shown.contains(&[labels[0].to_string(), labels[1].to_string(), labels[2].to_string()]));
    Ok(())
}

/// The targets of a source that hold now, with the way to each.
pub(super) async fn paces<'c>(
    place: &Place,
    source: &UsageSource,
    config: &'c Dossiers,
    now: Timestamp,
) -> Result<Vec<(&'c crate::config::usage::Target, Pace)>, StoreError> {
    let Some(until) = tables::known_until(&place.store, &source.app).await? else { return Ok(Vec::new()) };
    let today = place.org.date(now);
    let mut sums: BTreeMap<(jiff::civil::Date, jiff::civil::Date), Spread> = BTreeMap::new();
    let mut found = Vec::new();
    for target in config.targets.iter().filter(|target| target.holds(today)) {
        let (first, last) = target.every.around(today);
        if let std::collections::btree_map::Entry::Vacant(entry) = sums.entry((first, last)) {
            let (from, to) = (place.org.span_of(first).0, place.org.span_of(last).1);
            entry.insert(tables::spread(&place.store, &source.app, from, to).await?);
        }
        let done = sums[&(first, last)].sum(&target.agency, target.step, target.channel);
        found.extend(pace(target, done, until, &place.org, now).map(|pace| (target, pace)));
    }
    Ok(found)
}

fn text(row: &sqlx::any::AnyRow, name: &str) -> Result<String, StoreError> {
    row.try_get(name).doing(DOING)
}

fn number(row: &sqlx::any::AnyRow, name: &str) -> Result<f64, StoreError> {
    let number: i64 = row.try_get(name).doing(DOING)?;
    Ok(number as f64)
}
