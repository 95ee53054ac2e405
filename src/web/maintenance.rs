//! The page of maintenance windows: what is announced, and a form to announce more. Decisions stand in `attribution.rs`.

use super::AppState;
use super::attribution::{Refusal, announce_window, cancel_window, moment, windows};
use super::pages::{Page, Reader};
use crate::attribution::{Maintenance, Scope};
use crate::format;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::SignedDuration;
use minijinja::{Value, context};
use serde::Deserialize;

/// Windows that ended this long ago, or begin this far ahead, are shown.
const AROUND: SignedDuration = SignedDuration::from_hours(90 * 24);

pub(super) async fn page(State(state): State<AppState>, reader: Reader) -> Page {
    show(&state, &reader, None).await
}

async fn show(state: &AppState, reader: &Reader, refused: Option<String>) -> Page {
    let now = reader.now;
    let (from, to) = (now.saturating_sub(AROUND).unwrap_or(now), now.saturating_add(AROUND).unwrap_or(now));
    let mut found = windows(state, &reader.identity, from, to).await.map_err(|Refusal(status, _)| status)?;
    found.reverse();
    let shown: Vec<Value> = found.iter().map(|window| window_value(state, reader, window)).collect();
    let content = context! { windows => shown, refused };
    reader.render(state, "maintenance.html", content)
}

fn window_value(state: &AppState, reader: &Reader, window: &Maintenance) -> Value {
    let config = state.config();
    let at = |time| format::date_time(time, &config.site.timezone);
    let to = window.cancelled.map_or(window.to, |cancelled| cancelled.min(window.to));
    let (colour, word) = match (window.cancelled.is_some(), window.from <= reader.now, reader.now < to) {
        (true, _, _) => ("none", reader.pick("○ đã hủy", "○ cancelled")),
        (_, false, _) => ("none", reader.pick("○ sắp tới", "○ to come")),
        (_, true, true) => ("orange", reader.pick("◆ đang diễn ra", "◆ going on")),
        (_, true, false) => ("green", reader.pick("● đã xong", "● over")),
    };
    let scope = &window.scope;
    let lists = [&scope.services, &scope.devices, &scope.sites, &scope.agencies, &scope.dependencies];
    let what: Vec<&str> = lists.into_iter().flatten().map(String::as_str).collect();
    let author =
        if window.id.is_none() { reader.pick("tệp cấu hình", "configuration file") } else { &window.author };
    context! {
        id => window.id, colour, state => word, what => what.join(", "), from => at(window.from), to => at(window.to),
        reason => &window.reason, author, may_cancel => window.id.is_some() && window.cancelled.is_none() && reader.now < to,
    }
}

/// What the forms of the page send: a new window, or the number of one to be cancelled. Lists are words.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sent {
    cancel: Option<i64>,
    services: String,
    devices: String,
    sites: String,
    agencies: String,
    dependencies: String,
    from: String,
    to: String,
    reason: String,
}

pub(super) async fn send(
    State(state): State<AppState>,
    reader: Reader,
    Form(sent): Form<Sent>,
) -> Result<Response, StatusCode> {
    match carry_out(&state, &reader, sent).await {
        Ok(()) => Ok(Redirect::to(&format!("/maintenance{}", reader.suffix)).into_response()),
        Err(Refusal(status, message)) => {
            let page = show(&state, &reader, Some(message)).await?;
            Ok((status, page).into_response())
        }
    }
}

async fn carry_out(state: &AppState, reader: &Reader, sent: Sent) -> Result<(), Refusal> {
    if let Some(id) = sent.cancel {
        return cancel_window(state, &reader.identity, id).await;
    }
    let words = |text: &str| {
        let words = text.split([',', ';', ' ', '\n', '\r', '\t']).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect::<Vec<String>>()
    };
    let scope = Scope {
        services: words(&sent.services),
        devices: words(&sent.devices),
        sites: words(&sent.sites),
        agencies: words(&sent.agencies),
        dependencies: words(&sent.dependencies),
    };
    let (from, to) = (moment(state, "from", &sent.from)?, moment(state, "to", &sent.to)?);
    announce_window(state, &reader.identity, scope, from, to, sent.reason).await.map(drop)
}
