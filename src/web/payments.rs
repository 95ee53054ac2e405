//! Payment mismatches: `GET /api/ioc/v1/mismatches` as JSON and CSV, and the page `/payments`. The ledger itself belongs
//! to `gather/payment`.

use super::AppState;
use super::access::Identity;
use super::pages::{Page, Reader};
use crate::format;
use crate::gather::payment::{self, Cursor, Filter, Kind, MismatchInfo, Tally};
use axum::extract::{Query, State};
use axum::http::header::{self, HeaderMap};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::Timestamp;
use minijinja::{Value, context};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Mismatches in one answer, if nothing else is asked, and at most.
const PAGE: u32 = 1_000;
const LONGEST: u32 = 10_000;
/// Dossiers that the page lists.
const LISTED: u32 = 200;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    agency: Option<String>,
    kind: Option<String>,
    /// `open` (the default), `closed` or `all`.
    state: Option<String>,
    /// Opened or closed at this time or later.
    since: Option<String>,
    limit: Option<u32>,
    /// Of the answer before: its `next`.
    after: Option<String>,
    /// `json` (the default) or `csv`.
    format: Option<String>,
}

/// What is wrong with the question.
type Refused = (StatusCode, Json<serde_json::Value>);

fn refuse(message: impl Into<String>) -> Refused {
    (StatusCode::BAD_REQUEST, Json(json!({"error": message.into()})))
}

impl Asked {
    /// The question, as far as `identity` may ask it: what is not theirs is not there.
    fn filter(&self, identity: &Identity) -> Result<Filter, Refused> {
        let visible = identity.visible().map(|ids| ids.iter().map(ToString::to_string).collect::<BTreeSet<String>>());
        let agencies = match &self.agency {
            Some(agency) => Some(identity.sees(agency).then(|| agency.clone()).into_iter().collect()),
            None => visible,
        };
        let kind = match &self.kind {
            None => None,
            Some(kind) => Some(Kind::parse(kind).ok_or_else(|| {
                let allowed = Kind::ALL.map(Kind::as_str).join(", ");
                refuse(format!("kind: {kind:?} is none of {allowed}"))
            })?),
        };
        let is_open = match self.state.as_deref() {
            None | Some("open") => Some(true),
            Some("closed") => Some(false),
            Some("all") => None,
            Some(state) => return Err(refuse(format!("state: {state:?} is none of open, closed, all"))),
        };
        let since = self.since.as_ref().map(|since| {
            since
                .parse::<Timestamp>()
                .map_err(|_| refuse(format!("since: {since:?} is not a time such as 2026-01-31T00:00:00Z")))
        });
        let after = self.after.as_ref().map(|after| {
            Cursor::parse(after).ok_or_else(|| refuse(format!("after: {after:?} is not the \"next\" of an answer")))
        });
        Ok(Filter { agencies, kind, is_open, since: since.transpose()?, after: after.transpose()? })
    }
}

pub(super) async fn mismatches(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response, Response> {
    let filter = asked.filter(&identity).map_err(IntoResponse::into_response)?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    let is_csv = match asked.format.as_deref() {
        None => accept.starts_with("text/csv"),
        Some("csv") => true,
        Some("json") => false,
        Some(format) => {
            return Err(refuse(format!("format: {format:?} is none of json, csv")).into_response());
        }
    };
    let limit = asked.limit.unwrap_or(PAGE).clamp(1, LONGEST);
    let found = payment::list(state.store(), &filter, limit).await;
    let (mismatches, next) = found.map_err(|error| internal(error).into_response())?;
    let next = next.map(|next| next.to_string());
    if !is_csv {
        let mismatches: Vec<serde_json::Value> = mismatches.iter().map(as_json).collect();
        return Ok(Json(json!({"mismatches": mismatches, "next": next})).into_response());
    }
    let mut response = as_csv(&mismatches).map_err(|error| internal(error).into_response())?.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    let disposition = HeaderValue::from_static("attachment; filename=\"mismatches.csv\"");
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    // A file has no place for it.
    let next = next.map(|next| url::form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>());
    if let Some(next) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
        headers.insert("x-next", next);
    }
    Ok(response)
}

fn internal(error: impl std::error::Error + 'static) -> StatusCode {
    tracing::error!(error = &error as &dyn std::error::Error, "listing payment mismatches failed");
    StatusCode::INTERNAL_SERVER_ERROR
}

fn as_json(mismatch: &MismatchInfo) -> serde_json::Value {
    json!({
        "kind": mismatch.kind.as_str(), "agency": mismatch.agency, "dossier": mismatch.dossier,
        "txnRef": mismatch.txn_ref, "amount": mismatch.amount, "since": mismatch.since.to_string(),
        "openedAt": mismatch.opened.to_string(), "closedAt": mismatch.closed.map(|closed| closed.to_string()),
        "closedBy": mismatch.closed_by,
    })
}

fn as_csv(mismatches: &[MismatchInfo]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "kind",
        "agency",
        "dossier",
        "txn_ref",
        "amount",
        "since",
        "opened",
        "closed",
        "closed_by",
    ])?;
    for mismatch in mismatches {
        writer.write_record([
            mismatch.kind.as_str(),
            &mismatch.agency,
            &format::safe_cell(&mismatch.dossier),
            &format::safe_cell(&mismatch.txn_ref),
            &mismatch.amount.to_string(),
            &mismatch.since.to_string(),
            &mismatch.opened.to_string(),
            &mismatch.closed.map_or(String::new(), |closed| closed.to_string()),
            &mismatch.closed_by,
        ])?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

pub(super) async fn page(State(state): State<AppState>, reader: Reader, Query(asked): Query<Asked>) -> Page {
    let asked = Asked { agency: asked.agency, kind: asked.kind, ..Asked::default() };
    let filter = asked.filter(&reader.identity).map_err(|(status, _)| status)?;
    let mut tallies = payment::tallies(state.store()).await.map_err(internal)?;
    tallies.retain(|tally| reader.identity.sees(&tally.agency));
    let (listed, next) = payment::list(state.store(), &filter, LISTED).await.map_err(internal)?;
    let config = state.config();
    let language = reader.language;
    let sum = |of: fn(&Tally) -> i64| tallies.iter().map(of).fold(0_i64, i64::saturating_add);
    let total = format::integer(sum(|tally| tally.count), language);
    let money = format::dong(sum(|tally| tally.amount), language);
    let name = |id: &str| {
        let known = config.agencies.iter().find(|agency| *agency.id == *id);
        known.map_or_else(|| id.to_string(), |agency| agency.name.clone())
    };
    let chosen = match (&asked.agency, filter.kind) {
        (None, None) => None,
        (agency, kind) => {
            let words = [agency.as_ref().map(|id| name(id)), kind.map(|kind| kind.title(language).to_string())];
            Some(words.into_iter().flatten().collect::<Vec<_>>().join(": "))
        }
    };
    let rows: Vec<Value> = listed
        .iter()
        .map(|mismatch| {
            context! {
                dossier => &mismatch.dossier, txn_ref => &mismatch.txn_ref, kind => mismatch.kind.title(language),
                amount => format::dong(mismatch.amount, language), agency => name(&mismatch.agency),
                since => format::date_time(mismatch.since, &config.site.timezone),
                age => age(mismatch.since, &reader), colour => colour(mismatch.kind),
            }
        })
        .collect();
    let content = context! {
        agencies => agency_values(&tallies, &reader, &name), rows, chosen, total, money, has_more => next.is_some(),
        listed => LISTED, has_payments => config.payments.is_some(), refresh => 30,
    };
    reader.render(&state, "payments.html", content)
}

/// By agency, the one with the oldest money first.
fn agency_values(tallies: &[Tally], reader: &Reader, name: &dyn Fn(&str) -> String) -> Vec<Value> {
    let mut agencies: BTreeMap<&str, Vec<&Tally>> = BTreeMap::new();
    for tally in tallies {
        agencies.entry(&tally.agency).or_default().push(tally);
    }
    let mut agencies: Vec<(&str, Vec<&Tally>)> = agencies.into_iter().collect();
    agencies.sort_by_key(|(_, tallies)| tallies.iter().map(|tally| tally.oldest).min());
    let values = agencies.into_iter().map(|(id, mut tallies)| {
        tallies.sort_by_key(|tally| tally.kind);
        let sum = |of: fn(&Tally) -> i64| tallies.iter().map(|tally| of(tally)).fold(0_i64, i64::saturating_add);
        let worst = tallies.iter().any(|tally| tally.kind == Kind::PaidNotRecorded);
        let kinds: Vec<Value> = tallies
            .iter()
            .map(|tally| {
                context! {
                    id => tally.kind.as_str(), kind => tally.kind.title(reader.language),
                    count => format::integer(tally.count, reader.language),
                    amount => format::dong(tally.amount, reader.language), age => age(tally.oldest, reader),
                    colour => colour(tally.kind),
                }
            })
            .collect();
        context! {
            id, name => name(id), kinds, colour => if worst { "red" } else { "orange" },
            count => format::integer(sum(|tally| tally.count), reader.language),
            amount => format::dong(sum(|tally| tally.amount), reader.language),
        }
    });
    values.collect()
}

fn colour(kind: Kind) -> &'static str {
    if kind == Kind::PaidNotRecorded { "red" } else { "orange" }
}

fn age(since: Timestamp, reader: &Reader) -> String {
    let Reader { now, language, .. } = reader;
    format::duration(Duration::try_from(now.duration_since(since)).unwrap_or_default(), *language)
}
