//! The page of one agency: its services, devices, payments, use of applications, dossiers, targets, incidents and last
//! scorecard. It shows what the metrics and tables hold; nothing is computed here that a rule or dashboard would not see.

use super::incident_pages::incident_value;
use super::incidents::{self, Filter, Order};
use super::pages::{Page, Reader, agency_value, internal};
use super::{AppState, overview};
use crate::config::site::Language;
use crate::config::usage::{Period, UsageRows};
use crate::config::{Config, Id};
use crate::evaluation::archive;
use crate::format;
use crate::gather::payment::Kind;
use crate::gather::usage::{self, rates};
use crate::metrics::columns::{app, dossier_standing, payment_mismatch, target};
use crate::org::Org;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::civil::Date;
use minijinja::{Value, context};
use std::time::Duration;

/// Incidents that are over, beside the open ones.
const PAST_INCIDENTS: usize = 10;

pub(super) async fn page(State(state): State<AppState>, reader: Reader, Path(id): Path<String>) -> Page {
    let config = state.config();
    // What is not theirs is not there.
    let Some(agency) = config.agencies.iter().find(|agency| *agency.id == *id && reader.identity.sees(&id)) else {
        return Err(StatusCode::NOT_FOUND);
    };
    let views = overview::all(&state, &reader.identity, reader.language, reader.now);
    let view = views.iter().find(|view| view.id == id).ok_or(StatusCode::NOT_FOUND)?;
    let parent = agency.parent.as_ref().and_then(|parent| config.agencies.iter().find(|agency| agency.id == *parent));
    // A link to what they do not see would lead nowhere.
    let parent = parent.filter(|parent| reader.identity.sees(&parent.id));
    let parent = parent.map(|parent| context! { id => parent.id.as_str(), name => &parent.name });
    let rates = online_rates(&state, &config, &reader, &id).await?;
    let incidents = shown_incidents(&state, &reader, &agency.id).await?;
    let scorecard = scorecard(&state, &reader, &id).await?;
    let content = context! {
        agency => agency_value(view, reader.language),
        level => agency.level.as_deref().map(|level| level_word(level, &reader)), parent, rates, incidents, scorecard,
        mismatches => mismatches(&state, &reader, &id),
        applications => applications(&state, &reader, &id),
        dossiers => dossiers(&state, &reader, &id),
        targets => targets(&state, &config, &reader, &id),
        refresh => 60,
    };
    reader.render(&state, "agency.html", content)
}

/// The levels that the guide names, in the reader's words; any other as it is.
fn level_word<'a>(level: &'a str, reader: &Reader) -> &'a str {
    match level {
        "province" => reader.pick("cấp tỉnh", "province"),
        "department" => reader.pick("sở, ngành", "department"),
        "district" => reader.pick("cấp huyện", "district"),
        "commune" => reader.pick("cấp xã", "commune"),
        "operator" => reader.pick("đơn vị vận hành", "operator"),
        other => other,
    }
}

/// Open differences by kind.
fn mismatches(state: &AppState, reader: &Reader, agency: &str) -> Vec<Value> {
    let mut shown = Vec::new();
    overview::rows(state.metrics(), payment_mismatch::TABLE, |labels, value| {
        let open = value(payment_mismatch::OPEN).filter(|open| *open > 0.0 && *labels[0] == *agency);
        let Some(open) = open else { return };
        let kind = Kind::parse(labels[1]).map_or(labels[1], |kind| kind.title(reader.language)).to_owned();
        let amount = format::dong(value(payment_mismatch::AMOUNT).unwrap_or_default() as i64, reader.language);
        shown.push(context! { kind, open => format::integer(open as i64, reader.language), amount });
    });
    shown
}

fn applications(state: &AppState, reader: &Reader, agency: &str) -> Vec<Value> {
    let number = |value: f64| format::decimal(value, 0, reader.language);
    let mut shown = Vec::new();
    overview::rows(state.metrics(), app::TABLE, |labels, value| {
        if *labels[0] != *agency {
            return;
        }
        let (unused, limit) = (value(app::UNUSED), value(app::UNUSED_LIMIT));
        let is_unused = unused.zip(limit).is_some_and(|(unused, limit)| unused >= limit);
        shown.push(context! {
            app => labels[1], users => value(app::ACTIVE_USERS).map(number),
            unused => unused.filter(|days| *days >= 1.0).map(number), is_unused,
        });
    });
    shown
}

/// The four rates of this month, each with its counts and its change from last month's in points.
async fn online_rates(
    state: &AppState,
    config: &Config,
    reader: &Reader,
    agency: &str,
) -> Result<Vec<Value>, StatusCode> {
    let org = Org::new(config);
    let (first, last) = Period::Month.around(org.date(reader.now));
    let before = Period::Month.around(first.yesterday().unwrap_or(first));
    let now = month(state, &org, agency, (first, last)).await?;
    let then = month(state, &org, agency, before).await?;
    let share = |rate: rates::OnlineRate| (rate.all > 0).then(|| rate.online as f64 / rate.all as f64);
    let shown = now.into_iter().zip(then).filter(|(now, then)| now.all + then.all > 0).map(|(now, then)| {
        let change = share(now).zip(share(then)).map(|(now, then)| format::points(now - then, reader.language));
        context! {
            step => step_word(now.step, reader), rate => format::rate(now.online, now.all, reader.language), change,
            before => format::rate(then.online, then.all, reader.language),
        }
    });
    Ok(shown.collect())
}

async fn month(
    state: &AppState,
    org: &Org,
    agency: &str,
    (first, last): (Date, Date),
) -> Result<[rates::OnlineRate; 4], StatusCode> {
    let counts =
        usage::dossier_counts(state.store(), org.span_of(first).0, org.span_of(last).1).await.map_err(internal)?;
    Ok(rates::online_rates(&counts, agency))
}

fn step_word(step: usage::Step, reader: &Reader) -> &'static str {
    let (vi, en) = match step {
        usage::Step::Submitted => ("Tiếp nhận trực tuyến", "Received online"),
        usage::Step::Receipted => ("Cấp giấy hẹn trực tuyến", "Receipted online"),
        usage::Step::Processed => ("Xử lý trực tuyến", "Processed online"),
        usage::Step::Paid => ("Thanh toán trực tuyến", "Paid online"),
        usage::Step::Returned => ("Trả kết quả trực tuyến", "Returned online"),
    };
    if reader.language == Language::Vi { vi } else { en }
}

fn dossiers(state: &AppState, reader: &Reader, agency: &str) -> Vec<Value> {
    let mut shown = Vec::new();
    overview::rows(state.metrics(), dossier_standing::TABLE, |labels, value| {
        if *labels[0] != *agency {
            return;
        }
        let count = |column| value(column).map(|count| format::integer(count as i64, reader.language));
        let longest = value(dossier_standing::LONGEST_OVERDUE).filter(|seconds| *seconds >= 60.0);
        shown.push(context! {
            app => labels[1],
            open => count(dossier_standing::OPEN), due_soon => count(dossier_standing::DUE_SOON),
            overdue => count(dossier_standing::OVERDUE), without_apology => count(dossier_standing::WITHOUT_APOLOGY),
            without_receipt => count(dossier_standing::WITHOUT_RECEIPT),
            longest => longest.map(|seconds| working_time(seconds, reader)),
        });
    });
    shown
}

/// Hours, not days: a working day has fewer hours than a day.
fn working_time(seconds: f64, reader: &Reader) -> String {
    if seconds < 3_600.0 {
        return format::duration(Duration::from_secs_f64(seconds), reader.language);
    }
    let hours = format::integer((seconds / 3_600.0) as i64, reader.language);
    format!("{hours} {}", reader.pick("giờ làm việc", "working hours"))
}

fn targets(state: &AppState, config: &Config, reader: &Reader, agency: &str) -> Vec<Value> {
    let language = reader.language;
    let named = |app: &str, id: &str| {
        let lists = config.usage.iter().filter(|source| *source.app == *app).filter_map(|source| match &source.rows {
            UsageRows::Dossiers(dossiers) => Some(&dossiers.targets),
            _ => None,
        });
        let found = lists.flatten().find(|target| *target.id == *id && *target.agency == *agency);
        found.map_or(id.to_owned(), |target| target.name.clone())
    };
    let mut shown = Vec::new();
    overview::rows(state.metrics(), target::TABLE, |labels, value| {
        let (Some(goal), Some(done)) = (value(target::GOAL), value(target::DONE)) else { return };
        if *labels[0] != *agency {
            return;
        }
        let end = value(target::END).and_then(|end| jiff::Timestamp::from_second(end as i64 - 1).ok());
        let projected = value(target::PROJECTED);
        shown.push(context! {
            name => named(labels[1], labels[2]),
            rate => format::rate(done as i64, goal as i64, language),
            end => end.map(|end| format::date(end.to_zoned_datetime(config.site.timezone.clone()).date())),
            days_left => value(target::DAYS_LEFT).map(|days| format::decimal(days, 1, language)),
            observed => value(target::OBSERVED).map(|pace| format::decimal(pace, 1, language)),
            needed => value(target::NEEDED).map(|pace| format::decimal(pace, 1, language)),
            projected => projected.map(|projected| format::decimal(projected, 0, language)),
            colour => match projected {
                Some(projected) if projected >= goal => "green",
                Some(_) => "orange",
                None => "none",
            },
        });
    });
    shown
}

/// Open ones, then the last that are over.
async fn shown_incidents(state: &AppState, reader: &Reader, agency: &Id) -> Result<Vec<Value>, StatusCode> {
    let filter = Filter { agency: Some(agency.to_string()), ..Filter::default() };
    let visible = reader.identity.visible();
    let list = incidents::list(state.store(), visible, &filter, Order::OpenFirst, incidents::MAX_ROWS).await;
    let list = list.map_err(internal)?;
    let n_open = list.iter().filter(|incident| incident.resolved_us.is_none()).count();
    let shown = list.iter().take(n_open + PAST_INCIDENTS).map(|incident| incident_value(state, reader, incident));
    Ok(shown.collect())
}

async fn scorecard(state: &AppState, reader: &Reader, agency: &str) -> Result<Option<Value>, StatusCode> {
    let weeks = archive::weeks(state.store(), 1).await.map_err(internal)?;
    let Some(week) = weeks.first() else { return Ok(None) };
    let kept = archive::load(state.store(), *week).await.map_err(internal)?;
    let explained = kept.and_then(|kept| kept.report.explained(agency, reader.language));
    Ok(explained.map(|(card, words)| {
        let judged = card.indicators.iter().zip(words).map(|(judged, (title, reason))| {
            context! { title, reason, colour => judged.colour.as_str() }
        });
        context! {
            week => week.to_string(), colour => card.colour.as_str(),
            score => card.score.map(|score| format::decimal(score, 1, reader.language)),
            indicators => judged.collect::<Vec<_>>(),
        }
    }))
}
