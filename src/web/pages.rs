//! The pages: server-rendered, in Vietnamese or English, without a script. Those of incidents and silences stand in
//! `incident_pages.rs`.

use super::access::{Denial, Identity};
use super::{AppState, attribution, guard, language, overview as wall, runbooks};
use crate::config::site::Language;
use crate::evaluation::{Week, archive};
use crate::format;
use axum::extract::{Path, Query, State};
use axum::http::header::{self, HeaderMap};
use axum::http::{StatusCode, request::Parts};
use axum::response::{Html, IntoResponse, Response};
use jiff::Timestamp;
use minijinja::{Environment, Value, context};
use serde::Deserialize;
use std::sync::OnceLock;

pub(super) type Page = Result<Response, StatusCode>;

/// How often the wall renews itself, in seconds.
pub(super) const REFRESH: u32 = 15;

#[derive(Deserialize)]
struct Parameters {
    lang: Option<String>,
}

/// What every page needs of a request.
pub(super) struct Reader {
    pub(super) language: Language,
    /// Carried along by links when the language was chosen by hand.
    pub(super) suffix: &'static str,
    pub(super) now: Timestamp,
    /// Who reads.
    pub(super) identity: Identity,
}

impl axum::extract::FromRequestParts<AppState> for Reader {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Reader, Self::Rejection> {
        let chosen = Query::<Parameters>::try_from_uri(&parts.uri).ok().and_then(|Query(given)| given.lang);
        let accept = parts.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        // The guard put it there; without it nobody would see anything.
        let identity = parts.extensions.get::<Identity>().cloned().unwrap_or_else(Identity::nobody);
        let own = identity.language.map(|language| if language == Language::Vi { "vi" } else { "en" });
        let language = language::negotiate(chosen.as_deref().or(own), accept, state.language());
        let suffix = match (chosen, language) {
            (None, _) => "",
            (Some(_), Language::Vi) => "?lang=vi",
            (Some(_), Language::En) => "?lang=en",
        };
        Ok(Reader { language, suffix, now: Timestamp::now(), identity })
    }
}

impl Reader {
    pub(super) fn pick<'a>(&self, vi: &'a str, en: &'a str) -> &'a str {
        if self.language == Language::Vi { vi } else { en }
    }

    pub(super) fn render(&self, state: &AppState, template: &str, content: Value) -> Page {
        let config = state.config();
        let vi = self.language == Language::Vi;
        let frame = context! {
            lang => if vi { "vi" } else { "en" },
            other => if vi { "en" } else { "vi" },
            suffix => self.suffix,
            site => &config.site.name,
            user => &self.identity.name,
            csrf => &self.identity.csrf,
            sees_all => self.identity.visible().is_none(),
            now => format::date_time(self.now, &config.site.timezone),
            L => Value::from_function(move |vietnamese: String, english: String| if vi { vietnamese } else { english }),
        };
        let rendered = templates().get_template(template).and_then(|page| page.render(context! { ..content, ..frame }));
        rendered.map(|html| Html(html).into_response()).map_err(internal)
    }
}

impl Reader {
    /// The page of somebody who is refused.
    pub(super) fn refusal(&self, state: &AppState, denial: Denial) -> Page {
        let message = self.pick(denial.message_vi(), denial.message());
        let mut response = self.render(state, "denied.html", context! { message })?;
        *response.status_mut() = StatusCode::FORBIDDEN;
        Ok(response)
    }
}

/// The one page of a daemon that stands by. Whoever asks: nobody is known there.
pub(super) fn standby(state: &AppState, language: Language, leader: &str) -> Page {
    let reader = Reader { language, suffix: "", now: Timestamp::now(), identity: Identity::nobody() };
    let external_url = state.config().site.external_url.clone();
    reader.render(state, "standby.html", context! { leader, external_url, bare => true, refresh => REFRESH })
}

fn templates() -> &'static Environment<'static> {
    static TEMPLATES: OnceLock<Environment<'static>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let files = [
            ("base.html", include_str!("templates/base.html")),
            ("denied.html", include_str!("templates/denied.html")),
            ("standby.html", include_str!("templates/standby.html")),
            ("login.html", include_str!("templates/login.html")),
            ("agency.html", include_str!("templates/agency.html")),
            ("overview.html", include_str!("templates/overview.html")),
            ("incidents.html", include_str!("templates/incidents.html")),
            ("ack.html", include_str!("templates/ack.html")),
            ("incident.html", include_str!("templates/incident.html")),
            ("silences.html", include_str!("templates/silences.html")),
            ("maintenance.html", include_str!("templates/maintenance.html")),
            ("payments.html", include_str!("templates/payments.html")),
            ("devices.html", include_str!("templates/devices.html")),
            ("reports.html", include_str!("templates/reports.html")),
            ("status.html", include_str!("templates/status.html")),
            ("runbook.html", include_str!("templates/runbook.html")),
        ];
        let mut environment = Environment::new();
        for (name, source) in files {
            if let Err(error) = environment.add_template(name, source) {
                // A test renders every page; this can only be a mistake in the program.
                tracing::error!(error = &error as &dyn std::error::Error, template = name, "a template is broken");
            }
        }
        environment
    })
}

pub(super) fn internal(error: impl std::error::Error + 'static) -> StatusCode {
    tracing::error!(error = &error as &dyn std::error::Error, "rendering a page failed");
    StatusCode::INTERNAL_SERVER_ERROR
}

pub(super) async fn style() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")];
    (headers, include_str!("templates/style.css")).into_response()
}

pub(super) async fn overview(State(state): State<AppState>, reader: Reader) -> Page {
    let agencies = wall::agencies(&state, &reader.identity, reader.language, reader.now);
    let count = |colour: &str| agencies.iter().filter(|agency| agency.colour == colour).count();
    let counts = context! {
        red => count("red"), orange => count("orange"), green => count("green"), none => count("none"),
    };
    let agencies: Vec<Value> = agencies.iter().map(|agency| agency_value(agency, reader.language)).collect();
    let dependencies: Vec<Value> = attribution::dependency_views(&state, &reader.identity, reader.language, reader.now)
        .iter()
        .map(|dependency| {
            context! {
                name => &dependency.name, state => dependency.state, lasting => &dependency.lasting,
                affected => dependency.affected.values().sum::<usize>(),
            }
        })
        .collect();
    reader.render(&state, "overview.html", context! { agencies, counts, dependencies, refresh => REFRESH })
}

pub(super) fn agency_value(agency: &wall::AgencyView, language: Language) -> Value {
    let services: Vec<Value> = agency
        .services
        .iter()
        .map(|service| {
            context! {
                name => &service.name, state => service.state, lasting => service.lasting.clone(),
                certificate_days => service.certificate_days,
            }
        })
        .collect();
    let devices = |devices: wall::Devices| {
        let wall::Devices { installed, up, usable, unusable, unknown } = devices;
        context! { installed, up, usable, unusable, unknown }
    };
    context! {
        id => &agency.id, name => &agency.name, colour => agency.colour, services,
        cameras => devices(agency.cameras), hotspots => devices(agency.hotspots),
        mismatches => agency.mismatches, money => format::dong(agency.mismatch_dong as i64, language),
        incidents => agency.incidents, critical => agency.critical,
        score => agency.score, score_text => agency.score.map(|score| format::decimal(score, 1, language)),
    }
}

pub(super) async fn reports(State(state): State<AppState>, reader: Reader) -> Page {
    let weeks = archive::weeks(state.store(), 104).await.map_err(internal)?;
    let weeks: Vec<Value> = weeks
        .iter()
        .map(|week| {
            let (from, to) = (format::date(week.monday()), format::date(week.sunday()));
            context! { week => week.to_string(), from, to }
        })
        .collect();
    reader.render(&state, "reports.html", context! { weeks })
}

/// The stored bytes; in the other language, or for who sees one agency only, rendered from the stored values.
pub(super) async fn report(State(state): State<AppState>, reader: Reader, Path(week): Path<String>) -> Page {
    let week = Week::parse(&week).ok_or(StatusCode::NOT_FOUND)?;
    let kept = archive::load(state.store(), week).await.map_err(internal)?.ok_or(StatusCode::NOT_FOUND)?;
    let html = if reader.identity.visible().is_some() {
        let mut own = kept.report;
        own.agencies.retain(|agency| reader.identity.sees(&agency.id));
        own.html(reader.language).map_err(internal)?
    } else if kept.language == reader.language {
        kept.html
    } else {
        kept.report.html(reader.language).map_err(internal)?
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_SECURITY_POLICY, guard::report_policy(&html));
    Ok((headers, Html(html)).into_response())
}

pub(super) async fn status(State(state): State<AppState>, reader: Reader) -> Page {
    let config = state.config();
    let board = state.status().snapshot();
    let at = |time| format::date_time(time, &config.site.timezone);
    let count = |n: usize, vi, (one, several)| format!("{n} {}", reader.pick(vi, if n == 1 { one } else { several }));
    let facts = [
        config.file.display().to_string(),
        count(config.agencies.len(), "đơn vị", ("agency", "agencies")),
        count(config.services.len(), "dịch vụ", ("service", "services")),
        count(config.mqtt.len(), "máy chủ MQTT", ("MQTT broker", "MQTT brokers")),
        count(config.usage.len(), "nguồn số liệu sử dụng", ("usage source", "usage sources")),
        count(config.people.len(), "người nhận", ("person", "people")),
    ];
    let tasks: Vec<Value> = board
        .tasks
        .iter()
        .map(|(name, task)| {
            context! {
                name, running => task.running, since => at(task.since), restarts => task.restarts,
                last_error => &task.last_error,
            }
        })
        .collect();
    let (reload_at, reload_error) = match board.last_reload {
        Some((time, outcome)) => (Some(at(time)), outcome.err()),
        None => (None, None),
    };
    let content = context! {
        version => env!("CARGO_PKG_VERSION"), ready => state.is_ready(), started => at(board.started),
        facts => facts.join(" · "), reload_at, reload_error, tasks, refresh => REFRESH,
    };
    reader.render(&state, "status.html", content)
}

pub(super) async fn runbook(State(state): State<AppState>, reader: Reader, Path(name): Path<String>) -> Page {
    let text = runbooks::find(&name).ok_or(StatusCode::NOT_FOUND)?;
    reader.render(&state, "runbook.html", context! { name, body => runbooks::html(text) })
}
