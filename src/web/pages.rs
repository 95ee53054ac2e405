//! The pages: server-rendered, in Vietnamese or English, without a script.

use super::access::{Denial, Identity};
use super::{AppState, attribution, guard, incidents as rows, language, overview as wall, runbooks};
use crate::config::site::Language;
use crate::evaluation::{Week, archive};
use crate::format;
use crate::incident::{Excused, Why, words};
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
const REFRESH: u32 = 15;

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
            ("overview.html", include_str!("templates/overview.html")),
            ("incidents.html", include_str!("templates/incidents.html")),
            ("ack.html", include_str!("templates/ack.html")),
            ("incident.html", include_str!("templates/incident.html")),
            ("maintenance.html", include_str!("templates/maintenance.html")),
            ("payments.html", include_str!("templates/payments.html")),
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

fn internal(error: impl std::error::Error + 'static) -> StatusCode {
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

fn agency_value(agency: &wall::AgencyView, language: Language) -> Value {
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
        name => &agency.name, colour => agency.colour, services,
        cameras => devices(agency.cameras), hotspots => devices(agency.hotspots),
        mismatches => agency.mismatches, money => format::dong(agency.mismatch_dong as i64, language),
        incidents => agency.incidents, critical => agency.critical,
        score => agency.score, score_text => agency.score.map(|score| format::decimal(score, 1, language)),
    }
}

pub(super) fn incident_value(state: &AppState, reader: &Reader, incident: &rows::Incident) -> Value {
    let config = state.config();
    let at = |us| format::date_time(crate::store::from_micros(us), &config.site.timezone);
    let agency = config.agencies.iter().find(|agency| *agency.id == *incident.agency);
    let (colour, word) = match (incident.resolved_us, incident.severity.as_str()) {
        (Some(_), _) => ("green", reader.pick("● đã khắc phục", "● resolved")),
        (None, "critical") => ("red", reader.pick("▼ nghiêm trọng", "▼ critical")),
        (None, _) => ("orange", reader.pick("◆ cảnh báo", "◆ warning")),
    };
    context! {
        id => incident.id, colour, state => word, subject => &incident.subject,
        area => area_word(&incident.area, reader),
        agency => agency.map_or(incident.agency.as_str(), |agency| agency.name.as_str()),
        opened => at(incident.opened_us), resolved => incident.resolved_us.map(at),
        excused => incident.excused.as_ref().map(|excused| excused_words(state, reader, excused)),
        acknowledged => acknowledged_words(state, reader, incident),
    }
}

/// Who is on it; only while it holds and something fires.
fn acknowledged_words(state: &AppState, reader: &Reader, incident: &rows::Incident) -> Option<String> {
    let holds = |until: &Timestamp| incident.resolved_us.is_none() && reader.now < *until;
    let (person, until) = incident.acknowledged.as_ref().filter(|(_, until)| holds(until))?;
    let config = state.config();
    let known = config.people.iter().find(|known| *known.id == **person);
    let name = known.map_or(person.as_str(), |known| known.name.as_str());
    let until = format::date_time(*until, &config.site.timezone);
    Some(format!(
        "{} {name} ({} {until})",
        reader.pick("đã tiếp nhận:", "acknowledged by"),
        reader.pick("đến", "until")
    ))
}

fn excused_words(state: &AppState, reader: &Reader, excused: &Excused) -> String {
    let since = format::date_time(excused.since, &state.config().site.timezone);
    let why = match excused.why {
        Why::Cause(_) => format!("{} {}", reader.pick("không tính lỗi: do", "excused by"), excused.by),
        Why::Silenced | Why::Inhibited => words::excused(excused, reader.language),
    };
    format!("{why} {} {since}", reader.pick("từ", "since"))
}

fn area_word<'a>(area: &'a str, reader: &Reader) -> &'a str {
    match area {
        "service" => reader.pick("dịch vụ", "services"),
        "payment" => reader.pick("thanh toán", "payments"),
        "camera" => "camera",
        "hotspot" => reader.pick("điểm wifi", "hotspots"),
        "usage" => reader.pick("sử dụng ứng dụng", "use of applications"),
        "host" => reader.pick("máy chủ", "host"),
        "dependency" => reader.pick("hạ tầng dùng chung", "shared infrastructure"),
        "self" => "ioc-watch",
        other => other,
    }
}

pub(super) async fn incidents(State(state): State<AppState>, reader: Reader) -> Page {
    let list = rows::list(state.store(), reader.identity.visible()).await.map_err(internal)?;
    let incidents: Vec<Value> = list.iter().map(|incident| incident_value(&state, &reader, incident)).collect();
    let silences = silences(&state, &reader).await?;
    let may_act = reader.identity.may_answer();
    reader.render(&state, "incidents.html", context! { incidents, silences, may_act, refresh => REFRESH })
}

/// What nobody is to hear of now or later, as far as the reader may know.
async fn silences(state: &AppState, reader: &Reader) -> Result<Vec<Value>, StatusCode> {
    let config = state.config();
    let at = |us| format::date_time(crate::store::from_micros(us), &config.site.timezone);
    let shown = rows::silences(state.store(), reader.now).await.map_err(internal)?;
    let shown = shown.into_iter().filter_map(|silence| {
        let matchers: Vec<_> = silence.matchers.iter().filter_map(|matcher| matcher.read().ok()).collect();
        if !super::silences_v2::is_for(&reader.identity, &matchers) {
            return None;
        }
        let person = config.people.iter().find(|person| *person.id == *silence.created_by);
        let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        Some(context! {
            id => silence.id, matchers => matchers.join(", "), comment => silence.comment,
            person => person.map_or(silence.created_by.as_str(), |person| person.name.as_str()),
            starts => at(silence.starts_us), ends => at(silence.ends_us),
        })
    });
    Ok(shown.collect())
}

pub(super) async fn incident(State(state): State<AppState>, reader: Reader, Path(id): Path<i64>) -> Page {
    let Some(detail) = rows::find(state.store(), id).await.map_err(internal)? else {
        return Err(StatusCode::NOT_FOUND);
    };
    // What is not theirs is not there.
    if !reader.identity.sees(&detail.incident.agency) {
        return Err(StatusCode::NOT_FOUND);
    }
    let config = state.config();
    let at = |us| format::date_time(crate::store::from_micros(us), &config.site.timezone);
    let is_seen = |labels: &serde_json::Value| {
        // Groups need not be of one agency.
        reader.identity.visible().is_none()
            || labels
                .get("agency")
                .and_then(|agency| agency.as_str())
                .is_some_and(|agency| reader.identity.sees(agency))
    };
    let alerts: Vec<Value> = detail
        .alerts
        .iter()
        .filter(|alert| is_seen(&alert.labels))
        .map(|alert| {
            let text = |key: &str| alert.annotations.get(key).and_then(|value| value.as_str()).unwrap_or("");
            let said = |key: &str| {
                let english = text(&format!("{key}_en"));
                if reader.language == Language::En && !english.is_empty() { english } else { text(key) }.to_string()
            };
            let colour = match (alert.resolved_us, alert.severity.as_str()) {
                (Some(_), _) => "green",
                (None, "critical") => "red",
                (None, _) => "orange",
            };
            context! {
                name => alert.labels.get("alertname").and_then(|name| name.as_str()).unwrap_or(""),
                summary => said("summary"), description => said("description"), runbook => runbook_link(text("runbook")),
                excused => alert.excused.as_ref().filter(|_| alert.resolved_us.is_none())
                    .map(|excused| excused_words(&state, &reader, excused)),
                colour, starts => at(alert.starts_us), resolved => alert.resolved_us.map(at),
            }
        })
        .collect();
    let timeline: Vec<Value> = detail.timeline.iter().map(|event| event_value(&state, &reader, event)).collect();
    let incident = incident_value(&state, &reader, &detail.incident);
    let may_act = detail.is_open && reader.identity.may_answer();
    reader.render(&state, "incident.html", context! { incident, alerts, timeline, may_act, id })
}

/// A line of the timeline.
pub(super) fn event_value(state: &AppState, reader: &Reader, event: &rows::Event) -> Value {
    let config = state.config();
    let person = config.people.iter().find(|person| *person.id == *event.person);
    context! {
        at => format::date_time(crate::store::from_micros(event.at_us), &config.site.timezone),
        event => event_word(&event.event, reader), detail => &event.detail,
        person => person.map_or(event.person.as_str(), |person| person.name.as_str()),
    }
}

/// Ours become pages here; of others' only what a browser opens as a page. Never `javascript:`.
fn runbook_link(link: &str) -> Option<String> {
    let name = link.rsplit('/').next().unwrap_or("").trim_end_matches(".md");
    if runbooks::find(name).is_some() {
        return Some(format!("/runbooks/{name}"));
    }
    (link.starts_with("https://") || link.starts_with("http://")).then(|| link.to_string())
}

fn event_word<'a>(event: &'a str, reader: &Reader) -> &'a str {
    match event {
        "opened" => reader.pick("mở sự cố", "opened"),
        "fired" => reader.pick("thêm cảnh báo", "alert fired"),
        "ended" => reader.pick("cảnh báo kết thúc", "alert ended"),
        "excused" => reader.pick("không tính lỗi", "excused"),
        "excuse_ended" => reader.pick("hết được miễn lỗi", "no longer excused"),
        "reopened" => reader.pick("tái diễn", "reopened"),
        "resolved" => reader.pick("đã khắc phục", "resolved"),
        "mailed" => reader.pick("đã gửi thư", "mailed"),
        "nobody" => reader.pick("chưa có người chịu trách nhiệm", "no one responsible"),
        "closed" => reader.pick("đóng sự cố", "closed"),
        "acknowledged" => reader.pick("đã tiếp nhận", "acknowledged"),
        "ack_expired" => reader.pick("hết hạn tiếp nhận", "acknowledgement expired"),
        "commented" => reader.pick("ghi chú", "comment"),
        "escalated" => reader.pick("báo lên", "escalated"),
        "skipped" => reader.pick("bỏ qua vì không có ai", "skipped: it names nobody"),
        "reminded" => reader.pick("nhắc lại", "reminded"),
        "silenced" => reader.pick("tạm tắt thông báo đến", "silenced until"),
        "undeliverable" => reader.pick("thư không đến được", "mail did not arrive"),
        "dismissed" => reader.pick("xác nhận đã xử lý xong", "resolved by hand"),
        other => other,
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
    let count = |n: usize, vi, en| format!("{n} {}", reader.pick(vi, en));
    let facts = [
        config.file.display().to_string(),
        count(config.agencies.len(), "đơn vị", "agencies"),
        count(config.services.len(), "dịch vụ", "services"),
        count(config.mqtt.len(), "máy chủ MQTT", "MQTT brokers"),
        count(config.usage.len(), "nguồn số liệu sử dụng", "usage sources"),
        count(config.people.len(), "người nhận", "people"),
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
