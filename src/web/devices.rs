//! Cameras and hotspots: `GET /api/ioc/v1/devices` as JSON and CSV, and the page `/devices`, which sets the inventory
//! beside what was really heard. What is known of them belongs to `gather/device`.

use super::AppState;
use super::access::Identity;
use super::pages::{Page, Reader};
use crate::attribution::State as Presence;
use crate::config::devices::DeviceKind;
use crate::config::site::Language;
use crate::format;
use crate::gather::device::Fleet;
use crate::gather::device::fleet::{Count, DeviceInfo, Filter, Listed};
use axum::extract::{Query, State};
use axum::http::header::{self, HeaderMap};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use minijinja::{Value, context};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Devices in one answer, if nothing else is asked, and at most.
const PAGE: usize = 1_000;
const LONGEST: usize = 10_000;
/// Devices that each list of the page names.
const NAMED: usize = 200;

/// The routes, with their state given.
pub fn routes(state: AppState, fleet: Arc<Fleet>) -> Router {
    Router::new()
        .route("/api/ioc/v1/devices", get(list))
        .route("/devices", get(page))
        .layer(Extension(fleet))
        .with_state(state)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    agency: Option<String>,
    kind: Option<String>,
    site: Option<String>,
    village: Option<String>,
    state: Option<String>,
    usable: Option<bool>,
    /// `planned`, `installed` and so on; several are separated by commas.
    listed: Option<String>,
    /// `true` or `false`: whether it was ever heard.
    heard: Option<bool>,
    limit: Option<usize>,
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

/// The value of that name, or what would have been one.
fn one_of<T: Copy>(key: &str, text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, Refused> {
    all.iter().copied().find(|value| name(*value) == text).ok_or_else(|| {
        let allowed: Vec<&str> = all.iter().copied().map(name).collect();
        refuse(format!("{key}: {text:?} is none of {}", allowed.join(", ")))
    })
}

impl Asked {
    fn filter(&self) -> Result<Filter, Refused> {
        const STATES: [Presence; 3] = [Presence::Up, Presence::Down, Presence::Unknown];
        let kind = self.kind.as_deref().map(|text| one_of("kind", text, &DeviceKind::ALL, DeviceKind::as_str));
        let state = self.state.as_deref().map(|text| one_of("state", text, &STATES, Presence::as_str));
        let listed = self
            .listed
            .as_deref()
            .map(|texts| texts.split(',').map(|text| one_of("listed", text, &Listed::ALL, Listed::as_str)).collect());
        Ok(Filter {
            agency: self.agency.clone(),
            kind: kind.transpose()?,
            site: self.site.clone(),
            village: self.village.clone(),
            state: state.transpose()?,
            usable: self.usable,
            listed: listed.transpose()?,
            heard: self.heard,
            after: self.after.clone(),
        })
    }
}

/// An unlisted device of nobody is seen by who sees all.
fn sees(identity: &Identity, agency: Option<&str>) -> bool {
    match agency {
        Some(agency) => identity.sees(agency),
        None => identity.visible().is_none(),
    }
}

async fn list(
    Extension(fleet): Extension<Arc<Fleet>>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response, Response> {
    let filter = asked.filter().map_err(IntoResponse::into_response)?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    let is_csv = match asked.format.as_deref() {
        None => accept.starts_with("text/csv"),
        Some("csv") => true,
        Some("json") => false,
        Some(format) => return Err(refuse(format!("format: {format:?} is none of json, csv")).into_response()),
    };
    let limit = asked.limit.unwrap_or(PAGE).clamp(1, LONGEST);
    let (devices, has_more) = fleet.list(&filter, limit, |agency| sees(&identity, agency));
    let next = devices.last().filter(|_| has_more).map(|last| last.id.clone());
    if !is_csv {
        let devices: Vec<serde_json::Value> = devices.iter().map(as_json).collect();
        return Ok(Json(json!({"devices": devices, "next": next})).into_response());
    }
    let csv = as_csv(&devices).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "listing devices failed");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })?;
    let mut response = csv.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    let disposition = HeaderValue::from_static("attachment; filename=\"devices.csv\"");
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    // A file has no place for it. An id needs no encoding.
    if let Some(next) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
        headers.insert("x-next", next);
    }
    Ok(response)
}

fn as_json(device: &DeviceInfo) -> serde_json::Value {
    json!({
        "id": device.id, "listed": device.listed.as_str(), "agency": device.agency.as_deref(),
        "kind": device.kind.map(DeviceKind::as_str), "site": device.site, "village": device.village,
        "name": device.name, "lat": device.place.map(|(lat, _)| lat), "lon": device.place.map(|(_, lon)| lon),
        "state": device.state.map(Presence::as_str), "usable": device.usable, "heard": device.was_heard,
        "lastSeen": device.last_seen.map(|at| at.to_string()), "rateLimited": device.n_limited,
        "flaps": device.n_flaps,
    })
}

/// Begins with the inventory's columns, so that rows can be copied there.
fn as_csv(devices: &[DeviceInfo]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "id",
        "kind",
        "agency",
        "site",
        "village",
        "name",
        "lat",
        "lon",
        "listed",
        "state",
        "usable",
        "heard",
        "last_seen",
        "rate_limited",
        "flaps",
    ])?;
    let degrees = |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
    for device in devices {
        writer.write_record([
            device.id.as_str(),
            device.kind.map_or("", DeviceKind::as_str),
            device.agency.as_deref().unwrap_or(""),
            &device.site,
            &format::safe_cell(&device.village),
            &format::safe_cell(&device.name),
            &degrees(device.place.map(|(lat, _)| lat)),
            &degrees(device.place.map(|(_, lon)| lon)),
            device.listed.as_str(),
            device.state.map_or("", Presence::as_str),
            device.usable.map_or("", |usable| if usable { "true" } else { "false" }),
            if device.was_heard { "true" } else { "false" },
            &device.last_seen.map_or(String::new(), |at| at.to_string()),
            &device.n_limited.to_string(),
            &device.n_flaps.to_string(),
        ])?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

async fn page(State(state): State<AppState>, Extension(fleet): Extension<Arc<Fleet>>, reader: Reader) -> Page {
    let config = state.config();
    let language = reader.language;
    let name = |id: &str| {
        let known = config.agencies.iter().find(|agency| *agency.id == *id);
        known.map_or_else(|| id.to_string(), |agency| agency.name.clone())
    };
    let counts: Vec<Value> = fleet
        .counts(|agency| reader.identity.sees(agency))
        .into_iter()
        .map(|((agency, kind), count)| count_value(&agency, name(&agency), kind, count, language))
        .collect();
    let silent = Filter { listed: Some(vec![Listed::Installed]), heard: Some(false), ..Filter::default() };
    let strangers = Filter { listed: Some(vec![Listed::Unlisted, Listed::Discovered]), ..Filter::default() };
    let rows = |filter: &Filter| {
        let (devices, has_more) = fleet.list(filter, NAMED, |agency| sees(&reader.identity, agency));
        let rows: Vec<Value> = devices
            .iter()
            .map(|device| {
                context! {
                    id => &device.id, kind => device.kind.map(|kind| kind_title(kind, language)),
                    agency => device.agency.as_deref().map(name), site => &device.site, village => &device.village,
                    name => &device.name, is_admitted => device.listed == Listed::Discovered,
                    seen => device.last_seen.map(|at| format::date_time(at, &config.site.timezone)),
                }
            })
            .collect();
        context! { rows, has_more }
    };
    let content = context! {
        counts, silent => rows(&silent), strangers => rows(&strangers), named => NAMED,
        has_devices => !config.mqtt.is_empty(), refresh => 30,
    };
    reader.render(&state, "devices.html", content)
}

fn count_value(agency: &str, name: String, kind: DeviceKind, count: Count, language: Language) -> Value {
    let Count { planned, installed, never_heard, up, usable, unknown, discovered } = count;
    let number = |number: usize| format::integer(number as i64, language);
    context! {
        agency, name, kind => kind_title(kind, language), kind_id => kind.as_str(),
        planned => number(planned), installed => number(installed), never_heard => number(never_heard),
        up => number(up), usable => number(usable), unknown => number(unknown), discovered => number(discovered),
        share => (installed > 0).then(|| format::rate(usable as i64, installed as i64, language)),
        colour => if installed == 0 { "none" } else if 2 * up < installed { "red" } else if up < installed { "orange" } else { "green" },
    }
}

fn kind_title(kind: DeviceKind, language: Language) -> &'static str {
    match (kind, language) {
        (DeviceKind::Camera, Language::Vi) => "camera",
        (DeviceKind::Hotspot, Language::Vi) => "điểm wifi",
        (DeviceKind::Camera, Language::En) => "cameras",
        (DeviceKind::Hotspot, Language::En) => "hotspots",
    }
}
