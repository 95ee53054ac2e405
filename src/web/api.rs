//! The product's own API: what the pages show, as JSON. Incidents stand in `incidents_api.rs`, what is attributed in
//! `attribution.rs`, the description of all of it in `openapi.json`.

use super::access::Identity;
use super::{AppState, overview};
use crate::config::site::Language;
use crate::evaluation::archive;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Describes every route of this API (OpenAPI 3.1). Tests see to it that it describes all, and that answers are as it says.
const OPENAPI: &str = include_str!("openapi.json");

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

type Answer = Result<Json<Value>, StatusCode>;

/// Logs what went wrong; strangers need not know.
fn internal(error: impl std::error::Error + 'static) -> StatusCode {
    tracing::error!(error = &error as &dyn std::error::Error, "a page or API request failed");
    StatusCode::INTERNAL_SERVER_ERROR
}

pub(super) async fn agencies(State(state): State<AppState>, Extension(identity): Extension<Identity>) -> Json<Value> {
    Json(json!({"agencies": overview::agencies(&state, &identity, Language::En, Timestamp::now())}))
}

pub(super) async fn services(State(state): State<AppState>, Extension(identity): Extension<Identity>) -> Json<Value> {
    let services: Vec<Value> = overview::services(&state, &state.config(), Language::En, Timestamp::now())
        .into_iter()
        .filter(|(agency, _)| identity.sees(agency))
        .map(|(agency, service)| json!({"agency": agency, "service": service}))
        .collect();
    Json(json!({"services": services}))
}

/// Of the latest evaluated week.
pub(super) async fn scorecards(State(state): State<AppState>, Extension(identity): Extension<Identity>) -> Answer {
    let weeks = archive::weeks(state.store(), 1).await.map_err(internal)?;
    let Some(week) = weeks.first() else { return Ok(Json(json!({"week": null, "scorecards": []}))) };
    let Some(kept) = archive::load(state.store(), *week).await.map_err(internal)? else {
        return Ok(Json(json!({"week": null, "scorecards": []})));
    };
    let cards: Vec<Value> = kept
        .report
        .scorecards()
        .filter(|(agency, _)| identity.sees(&agency.id))
        .map(|(agency, card)| {
            let indicators: Vec<Value> = kept
                .report
                .profile
                .indicators
                .iter()
                .zip(&card.indicators)
                .map(|(indicator, judged)| {
                    let measured = agency.measured.get(&indicator.id);
                    json!({"indicator": indicator.id, "measured": measured, "points": judged.points,
                           "weight": indicator.weight, "colour": judged.colour})
                })
                .collect();
            json!({"agency": agency.id, "score": card.score, "colour": card.colour,
                   "underperforming": card.underperforming, "indicators": indicators})
        })
        .collect();
    Ok(Json(json!({"week": week.to_string(), "sha256": kept.sha256, "scorecards": cards})))
}
