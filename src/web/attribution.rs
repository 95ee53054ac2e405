//! The API of attribution: availability with its causes, overrides, maintenance, dependencies.
//!
//! Whoever is bound to an agency sees and announces what is theirs, and nothing else; for what has begun already they
//! need somebody who sees the whole site, or an agency could excuse its own outage afterwards.
//!
//! Past 500 lines because all of its routes share that one rule of who may do what.

use super::AppState;
use super::access::Identity;
use crate::attribution::{
    AttributionError, AvailabilityQuery, Cause, Maintenance, NewMaintenance, NewOverride, Scope, Subject, SubjectKind,
};
use crate::config::site::Language;
use crate::format;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is told of by default.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The longest stretch one answer tells of: a year and a month.
const LONGEST: SignedDuration = SignedDuration::from_hours(400 * 24);
/// Windows this long past, and this far ahead, are listed by default.
const AROUND: SignedDuration = SignedDuration::from_hours(90 * 24);

/// An answer that is not the one hoped for.
#[derive(Debug)]
pub(super) struct Refusal(pub StatusCode, pub String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, message.into())
}

fn forbidden(message: impl Into<String>) -> Refusal {
    Refusal(StatusCode::FORBIDDEN, message.into())
}

impl From<AttributionError> for Refusal {
    fn from(error: AttributionError) -> Refusal {
        match error {
            AttributionError::Store(error) => error.into(),
            AttributionError::NotFound(_) => Refusal(StatusCode::NOT_FOUND, error.to_string()),
            AttributionError::Ended(_) => Refusal(StatusCode::CONFLICT, error.to_string()),
            _ => bad(error.to_string()),
        }
    }
}

impl From<crate::store::StoreError> for Refusal {
    fn from(error: crate::store::StoreError) -> Refusal {
        tracing::error!(error = &error as &dyn std::error::Error, "a request about attribution failed");
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, "the state database did not answer".into())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Refusal {
        Refusal(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Refusal {
        bad(rejection.body_text())
    }
}

type Answer = Result<Response, Refusal>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    from: Option<String>,
    to: Option<String>,
    agency: Option<String>,
    subject: Option<String>,
    kind: Option<String>,
    cause: Option<String>,
    format: Option<String>,
}

impl Asked {
    fn range(
        &self,
        state: &AppState,
        before: SignedDuration,
        after: SignedDuration,
    ) -> Result<[Timestamp; 2], Refusal> {
        let now = Timestamp::now();
        let given = |name, text: &Option<String>| text.as_deref().map(|text| moment(state, name, text)).transpose();
        let to = given("to", &self.to)?.unwrap_or_else(|| now.saturating_add(after).unwrap_or(now));
        let default = to.min(now).saturating_sub(before).unwrap_or(to);
        let from = given("from", &self.from)?.unwrap_or(default);
        if from >= to {
            return Err(bad(format!("from ({from}) is not before to ({to})")));
        }
        if to.duration_since(from) > LONGEST {
            return Err(bad("from and to lie more than 400 days apart"));
        }
        Ok([from, to])
    }

    fn kinds(&self) -> Result<Vec<SubjectKind>, Refusal> {
        let words = self.kind.as_deref().unwrap_or("").split(',').map(str::trim).filter(|word| !word.is_empty());
        let parse = |word: &str| {
            let all = SubjectKind::ALL.map(SubjectKind::as_str).join(", ");
            SubjectKind::parse(word).ok_or_else(|| bad(format!("kind: {word:?} is none of {all}")))
        };
        words.map(parse).collect()
    }
}

/// A time with its offset, or as the site's clocks show it.
pub(super) fn moment(state: &AppState, name: &str, text: &str) -> Result<Timestamp, Refusal> {
    let text = text.trim();
    let civil = || {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        state.config().site.timezone.to_timestamp(civil).ok()
    };
    let wrong = || bad(format!("{name}: {text:?} is not a time such as 2026-01-31T08:00 or 2026-01-31T01:00:00Z"));
    text.parse::<Timestamp>().ok().or_else(civil).ok_or_else(wrong)
}

fn cause(text: &str) -> Result<Cause, Refusal> {
    let wrong = "own, maintenance, unknown, own_uplink, power, telecom, gateway, national, platform";
    Cause::parse(text.trim()).ok_or_else(|| bad(format!("cause: {text:?} is none of {wrong}")))
}

/// `GET /api/ioc/v1/availability`
pub(super) async fn availability(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Answer {
    let Query(asked) = asked?;
    let [from, to] = asked.range(&state, WEEK, SignedDuration::ZERO)?;
    let agencies = match &asked.agency {
        Some(agency) if !identity.sees(agency) => {
            return Err(forbidden(format!("agency {agency:?} is not yours to see")));
        }
        Some(agency) => Some(BTreeSet::from([agency.clone()])),
        None => identity.visible().map(|visible| visible.iter().map(ToString::to_string).collect()),
    };
    let query = AvailabilityQuery {
        from,
        to,
        now: Timestamp::now(),
        kinds: asked.kinds()?,
        subject: asked.subject.clone(),
        agencies,
        cause: asked.cause.as_deref().map(cause).transpose()?,
    };
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let csv = match asked.format.as_deref() {
        Some("csv") => true,
        Some("json") => false,
        Some(other) => return Err(bad(format!("format: {other:?} is neither json nor csv"))),
        None => accepts.contains("text/csv"),
    };
    let found = state.ledger().availability(&query).await?;
    if !csv {
        return Ok(Json(found).into_response());
    }
    let text = table(&found).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "availability could not be written as CSV");
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error".into())
    })?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response())
}

/// One line an interval.
fn table(found: &crate::attribution::Availability) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "agency",
        "kind",
        "subject",
        "from",
        "to",
        "seconds",
        "state",
        "cause",
        "automatic_cause",
        "by",
        "reason",
        "override",
        "override_by",
        "override_reason",
    ])?;
    for subject in &found.subjects {
        for stretch in &subject.intervals {
            let judged = stretch.overridden.as_ref();
            writer.write_record([
                subject.agency.as_str(),
                subject.subject.kind.as_str(),
                &subject.subject.id,
                &stretch.from.to_string(),
                &stretch.to.to_string(),
                &stretch.to.duration_since(stretch.from).as_secs_f64().to_string(),
                stretch.state.as_str(),
                stretch.cause.as_str(),
                stretch.automatic_cause.as_str(),
                &plain(&stretch.by),
                &plain(&stretch.reason),
                &judged.map(|judged| judged.id.to_string()).unwrap_or_default(),
                &judged.map(|judged| plain(&judged.who)).unwrap_or_default(),
                &judged.map(|judged| plain(&judged.reason)).unwrap_or_default(),
            ])?;
        }
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// A spreadsheet must not take what somebody wrote for a formula.
fn plain(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

/// `GET /api/ioc/v1/overrides`
pub(super) async fn overrides(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Answer {
    let Query(asked) = asked?;
    let [from, to] = asked.range(&state, AROUND, SignedDuration::ZERO)?;
    let mut found = state.ledger().overrides(from, to, None).await?;
    found.retain(|judged| {
        let agency = state.ledger().agency_of(&judged.subject);
        let is_asked = asked.subject.as_ref().is_none_or(|id| **id == *judged.subject.id);
        is_asked && identity.sees(agency.as_deref().unwrap_or(""))
    });
    Ok(Json(json!({"overrides": found})).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostedOverride {
    kind: String,
    subject: String,
    from: String,
    to: String,
    cause: String,
    reason: String,
}

/// `POST /api/ioc/v1/overrides`
pub(super) async fn add_override(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    posted: Result<Json<PostedOverride>, JsonRejection>,
) -> Answer {
    let Json(posted) = posted?;
    let kind = SubjectKind::parse(&posted.kind).ok_or_else(|| bad(format!("kind: {:?} is unknown", posted.kind)))?;
    let subject = Subject { kind, id: posted.subject.into() };
    let agency = state.ledger().agency_of(&subject).unwrap_or_default();
    if !identity.sees(&agency) {
        return Err(forbidden(format!("{:?} is not yours to judge", subject.id)));
    }
    let new = NewOverride {
        from: moment(&state, "from", &posted.from)?,
        to: moment(&state, "to", &posted.to)?,
        cause: cause(&posted.cause)?,
        reason: posted.reason,
        who: identity.name.clone(),
        subject: subject.clone(),
    };
    let (cause, who) = (new.cause, identity.name);
    let id = state.ledger().add_override(new, Timestamp::now()).await?;
    tracing::info!(override.id = id, who, subject = &*subject.id, "{who} laid downtime of {} at {cause}", subject.id);
    Ok((StatusCode::CREATED, Json(json!({"id": id}))).into_response())
}

/// `DELETE /api/ioc/v1/overrides/{id}`
pub(super) async fn withdraw_override(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<i64>,
) -> Answer {
    state.ledger().withdraw_override(id, &identity.name, Timestamp::now()).await?;
    tracing::info!(override.id = id, who = identity.name, "{} withdrew the override {id}", identity.name);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The windows around now, with only what `identity` sees of them.
pub(super) async fn windows(
    state: &AppState,
    identity: &Identity,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Maintenance>, Refusal> {
    let mut found = state.ledger().maintenance(from, to).await?;
    if identity.visible().is_some() {
        for window in &mut found {
            let scope = &mut window.scope;
            scope.services.retain(|id| identity.sees(&owner(state, SubjectKind::Service, id)));
            scope.dependencies.retain(|id| identity.sees(&owner(state, SubjectKind::Dependency, id)));
            scope.devices.retain(|id| identity.sees(&device_owner(state, id)));
            scope.sites.retain(|id| identity.sees(&site_owner(state, id)));
            scope.agencies.retain(|id| identity.sees(id));
        }
        found.retain(|window| window.scope != Scope::default());
    }
    Ok(found)
}

fn owner(state: &AppState, kind: SubjectKind, id: &str) -> String {
    state.ledger().agency_of(&Subject { kind, id: id.into() }).unwrap_or_default()
}

fn device_owner(state: &AppState, id: &str) -> String {
    let camera = owner(state, SubjectKind::Camera, id);
    if camera.is_empty() { owner(state, SubjectKind::Hotspot, id) } else { camera }
}

fn site_owner(state: &AppState, id: &str) -> String {
    let config = state.config();
    config.sites.iter().find(|site| *site.id == *id).map(|site| site.agency.to_string()).unwrap_or_default()
}

/// `GET /api/ioc/v1/maintenance`
pub(super) async fn maintenance(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Answer {
    let Query(asked) = asked?;
    let [from, to] = asked.range(&state, AROUND, AROUND)?;
    Ok(Json(json!({"maintenance": windows(&state, &identity, from, to).await?})).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostedMaintenance {
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    sites: Vec<String>,
    #[serde(default)]
    agencies: Vec<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    from: String,
    to: String,
    reason: String,
}

/// `POST /api/ioc/v1/maintenance`
pub(super) async fn announce(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    posted: Result<Json<PostedMaintenance>, JsonRejection>,
) -> Answer {
    let Json(posted) = posted?;
    let PostedMaintenance { services, devices, sites, agencies, dependencies, from, to, reason } = posted;
    let scope = Scope { services, devices, sites, agencies, dependencies };
    let (from, to) = (moment(&state, "from", &from)?, moment(&state, "to", &to)?);
    let id = announce_window(&state, &identity, scope, from, to, reason).await?;
    Ok((StatusCode::CREATED, Json(json!({"id": id}))).into_response())
}

/// Announces a window for `identity`, for the API and the page alike.
pub(super) async fn announce_window(
    state: &AppState,
    identity: &Identity,
    scope: Scope,
    from: Timestamp,
    to: Timestamp,
    reason: String,
) -> Result<i64, Refusal> {
    let now = Timestamp::now();
    if let Some(unknown) = scope.agencies.iter().find(|id| !state.config().agencies.iter().any(|a| *a.id == ***id)) {
        return Err(bad(format!("agency {unknown:?} is not known")));
    }
    check_owners(state, identity, &scope)?;
    if identity.visible().is_some() && from < now {
        return Err(forbidden("work that has begun is announced by who sees the whole site"));
    }
    let author = identity.name.clone();
    let new = NewMaintenance { scope, from, to, reason, author: author.clone() };
    let id = state.ledger().add_maintenance(new, now).await?;
    tracing::info!(maintenance.id = id, who = author, "{author} announced maintenance {id} from {from} to {to}");
    Ok(id)
}

/// Whether all of a scope is theirs. What nobody is known to own is only for who sees everything.
fn check_owners(state: &AppState, identity: &Identity, scope: &Scope) -> Result<(), Refusal> {
    let foreign =
        |ids: &[String], owner: &dyn Fn(&str) -> String| ids.iter().find(|id| !identity.sees(&owner(id))).cloned();
    let found = foreign(&scope.services, &|id| owner(state, SubjectKind::Service, id))
        .or_else(|| foreign(&scope.dependencies, &|id| owner(state, SubjectKind::Dependency, id)))
        .or_else(|| foreign(&scope.devices, &|id| device_owner(state, id)))
        .or_else(|| foreign(&scope.sites, &|id| site_owner(state, id)))
        .or_else(|| foreign(&scope.agencies, &|id| id.to_owned()));
    found.map_or(Ok(()), |id| Err(forbidden(format!("{id:?} is not yours"))))
}

/// `DELETE /api/ioc/v1/maintenance/{id}`
pub(super) async fn cancel(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<i64>,
) -> Answer {
    cancel_window(&state, &identity, id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Ends a window for `identity`, for the API and the page alike.
pub(super) async fn cancel_window(state: &AppState, identity: &Identity, id: i64) -> Result<(), Refusal> {
    let all = state.ledger().maintenance(Timestamp::MIN, Timestamp::MAX).await?;
    let window = all.into_iter().find(|window| window.id == Some(id)).ok_or(AttributionError::NotFound(id))?;
    check_owners(state, identity, &window.scope)?;
    state.ledger().cancel_maintenance(id, &identity.name, Timestamp::now()).await?;
    tracing::info!(maintenance.id = id, who = identity.name, "{} cancelled the maintenance {id}", identity.name);
    Ok(())
}

/// A dependency as pages and API show it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DependencyView {
    pub id: String,
    pub name: String,
    pub agency: String,
    pub cause: &'static str,
    /// up | down | unknown
    pub state: &'static str,
    pub since: Option<Timestamp>,
    /// `12 phút`
    pub lasting: Option<String>,
    /// By what it is excused itself.
    pub excused_by: Option<String>,
    /// What is down because of it, by kind; of what the reader sees.
    pub affected: BTreeMap<&'static str, usize>,
}

/// The dependencies that `identity` owns or needs.
pub(super) fn dependency_views(
    state: &AppState,
    identity: &Identity,
    language: Language,
    now: Timestamp,
) -> Vec<DependencyView> {
    let config = state.config();
    if config.dependencies.is_empty() {
        return Vec::new();
    }
    let ledger = state.ledger();
    let mut affected: BTreeMap<String, BTreeMap<&'static str, usize>> = BTreeMap::new();
    for (subject, agency, excuse) in ledger.excuses(now) {
        let is_down = ledger.current(&subject).is_some_and(|(state, _)| state == crate::attribution::State::Down);
        if is_down && identity.sees(&agency) && !excuse.dependency.is_empty() {
            *affected.entry(excuse.dependency).or_default().entry(subject.kind.as_str()).or_default() += 1;
        }
    }
    let needed = |id: &crate::config::Id| {
        let services = config.services.iter().filter(|service| identity.sees(&service.agency));
        let sites = config.sites.iter().filter(|site| identity.sees(&site.agency));
        services.map(|s| &s.depends_on).chain(sites.map(|s| &s.depends_on)).any(|needs| needs.contains(id))
    };
    let views = config.dependencies.iter().filter_map(|dependency| {
        let agency = dependency.agency.as_ref().unwrap_or(&config.site.agency);
        if !identity.sees(agency) && !needed(&dependency.id) {
            return None;
        }
        let subject = Subject { kind: SubjectKind::Dependency, id: dependency.id.shared() };
        let current = ledger.current(&subject);
        let lasting = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        Some(DependencyView {
            name: dependency.name.clone(),
            agency: agency.to_string(),
            cause: dependency.cause.as_str(),
            state: current.map_or("unknown", |(state, _)| state.as_str()),
            since: current.map(|(_, since)| since),
            lasting: current.map(|(_, since)| format::duration(lasting(since), language)),
            excused_by: ledger.excuse(&subject, now).map(|excuse| excuse.by),
            affected: affected.remove(&*subject.id).unwrap_or_default(),
            id: subject.id.to_string(),
        })
    });
    views.collect()
}

/// `GET /api/ioc/v1/dependencies`
pub(super) async fn dependencies(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
) -> Json<Value> {
    let views = dependency_views(&state, &identity, Language::En, Timestamp::now());
    Json(json!({"dependencies": views}))
}
