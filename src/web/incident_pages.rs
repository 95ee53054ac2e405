//! The pages of incidents and of silences. What they show is read in `incidents.rs`; what people do there, done in
//! `acts.rs`.

use super::incidents::{self as rows, Filter, Order, State as Stands};
use super::pages::{Page, REFRESH, Reader, internal};
use super::{AppState, runbooks};
use crate::config::organisation::Area;
use crate::config::site::Language;
use crate::format;
use crate::incident::names::Names;
use crate::incident::{Excused, Severity, Why, words};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use minijinja::{Value, context};
use serde::Deserialize;

/// Silences that are over for no longer are shown.
const OVER: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Incidents of a page that follows another.
const AT_ONCE: i64 = 100;

/// What the links of the list choose; what cannot be read is not chosen.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Chosen {
    agency: String,
    area: String,
    severity: String,
    state: String,
    before: String,
}

impl Chosen {
    fn filter(&self) -> Filter {
        Filter {
            agency: (!self.agency.is_empty()).then(|| self.agency.clone()),
            area: Area::parse(&self.area),
            severity: Severity::parse(&self.severity),
            state: Stands::parse(&self.state),
            since: None,
            before: self.before.parse().ok(),
        }
    }

    /// The address of the list with another choice for `name`.
    fn with(&self, reader: &Reader, name: &str, value: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let choices =
            [("state", &self.state), ("severity", &self.severity), ("area", &self.area), ("agency", &self.agency)];
        for (key, chosen) in choices {
            let chosen = if key == name { value } else { chosen.as_str() };
            if !chosen.is_empty() {
                query.append_pair(key, chosen);
            }
        }
        if name == "before" {
            query.append_pair(name, value);
        }
        query.extend_pairs(reader.suffix.strip_prefix("?lang=").map(|language| ("lang", language)));
        let query = query.finish();
        if query.is_empty() { "/incidents".into() } else { format!("/incidents?{query}") }
    }

    /// The choices of one kind: what to write, where it leads, whether it is chosen.
    fn choices(&self, reader: &Reader, name: &str, chosen: &str, words: &[(&str, &str)]) -> Vec<Value> {
        let all = [("", reader.pick("tất cả", "all"))];
        let choice = |(value, word): &(&str, &str)| {
            context! { word => *word, href => self.with(reader, name, value), is_chosen => *value == chosen }
        };
        all.iter().chain(words).map(choice).collect()
    }
}

pub(super) async fn list(
    State(state): State<AppState>,
    reader: Reader,
    chosen: Result<Query<Chosen>, QueryRejection>,
) -> Page {
    let chosen = chosen.map(|Query(chosen)| chosen).unwrap_or_default();
    let filter = chosen.filter();
    let follows = filter.before.is_some();
    // One more says whether there are more.
    let (order, at_most) = if follows { (Order::Latest, AT_ONCE) } else { (Order::OpenFirst, rows::MAX_ROWS) };
    let visible = reader.identity.visible();
    let mut found = rows::list(state.store(), visible, &filter, order, at_most + 1).await.map_err(internal)?;
    let has_more = i64::try_from(found.len()).is_ok_and(|n_found| n_found > at_most);
    found.truncate(usize::try_from(at_most).unwrap_or(usize::MAX));
    // What fires stands first whatever its number: the next page begins below the least of the others, if there are any.
    let resolved = found.iter().filter(|incident| follows || incident.resolved_us.is_some());
    let least = resolved.map(|incident| incident.id).min().or_else(|| found.iter().map(|incident| incident.id).min());
    let next = least.filter(|_| has_more).map(|least| chosen.with(&reader, "before", &least.to_string()));
    let incidents: Vec<Value> = found
        .iter()
        .map(|incident| {
            let value = incident_value(&state, &reader, incident);
            context! { by_agency => chosen.with(&reader, "agency", &incident.agency), ..value }
        })
        .collect();
    let states = [
        ("open", reader.pick("đang xảy ra", "firing")),
        ("excused", reader.pick("không tính lỗi", "excused")),
        ("resolved", reader.pick("đã khắc phục", "resolved")),
    ];
    let severities =
        [("critical", reader.pick("nghiêm trọng", "critical")), ("warning", reader.pick("cảnh báo", "warning"))];
    let areas = Area::ALL.map(|area| (area.as_str(), area_word(area.as_str(), &reader)));
    let filters = [
        (reader.pick("Trạng thái", "State"), chosen.choices(&reader, "state", &chosen.state, &states)),
        (reader.pick("Mức độ", "Severity"), chosen.choices(&reader, "severity", &chosen.severity, &severities)),
        (reader.pick("Lĩnh vực", "Area"), chosen.choices(&reader, "area", &chosen.area, &areas)),
    ];
    let config = state.config();
    let agency = config.agencies.iter().find(|agency| *agency.id == *chosen.agency).map(|agency| agency.name.as_str());
    let content = context! {
        incidents, next, refresh => REFRESH,
        filters => filters.map(|(name, choices)| context! { name, folds => choices.len() > 5, choices }),
        agency => filter.agency.as_deref().map(|id| agency.unwrap_or(id)),
        without_agency => chosen.with(&reader, "agency", ""),
        silences => silence_values(&state, &reader, reader.now).await?, may_act => reader.identity.may_answer(),
    };
    reader.render(&state, "incidents.html", content)
}

/// `GET /silences`
pub(super) async fn silences(State(state): State<AppState>, reader: Reader) -> Page {
    let since = reader.now.saturating_sub(OVER).unwrap_or(reader.now);
    let (over, current): (Vec<Value>, Vec<Value>) = silence_values(&state, &reader, since)
        .await?
        .into_iter()
        .partition(|silence| silence.get_attr("is_over").is_ok_and(|is_over| is_over.is_true()));
    let may_act = reader.identity.may_answer();
    reader.render(&state, "silences.html", context! { current, over, may_act, refresh => REFRESH })
}

/// What nobody is to hear of, or was not since then, as far as the reader may know.
async fn silence_values(state: &AppState, reader: &Reader, since: Timestamp) -> Result<Vec<Value>, StatusCode> {
    let config = state.config();
    let at = |us| format::date_time(crate::store::from_micros(us), &config.site.timezone);
    let now_us = crate::store::micros(reader.now);
    let shown = rows::silences(state.store(), since).await.map_err(internal)?;
    let shown = shown.into_iter().filter_map(|silence| {
        let matchers: Vec<_> = silence.matchers.iter().filter_map(|matcher| matcher.read().ok()).collect();
        if !super::silences_v2::is_for(&reader.identity, &matchers) {
            return None;
        }
        let person = config.people.iter().find(|person| *person.id == *silence.created_by);
        let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        let is_over = silence.ends_us <= now_us;
        let (colour, word) = match (is_over, silence.starts_us > now_us) {
            (true, _) => ("none", reader.pick("○ đã hết", "○ over")),
            (_, true) => ("none", reader.pick("○ sắp tới", "○ to come")),
            (_, false) => ("orange", reader.pick("◆ đang tắt", "◆ active")),
        };
        Some(context! {
            id => silence.id, matchers => matchers.join(", "), comment => silence.comment, is_over, colour, state => word,
            person => person.map_or(silence.created_by.as_str(), |person| person.name.as_str()),
            starts => at(silence.starts_us), ends => at(silence.ends_us),
        })
    });
    Ok(shown.collect())
}

pub(super) async fn one(State(state): State<AppState>, reader: Reader, Path(id): Path<i64>) -> Page {
    let Some(detail) = rows::find(state.store(), id).await.map_err(internal)? else {
        return Err(StatusCode::NOT_FOUND);
    };
    // What is not theirs is not there.
    if !reader.identity.sees(&detail.incident.agency) {
        return Err(StatusCode::NOT_FOUND);
    }
    let config = state.config();
    let at = |us| format::date_time(crate::store::from_micros(us), &config.site.timezone);
    let names = Names::new(&config);
    let alerts: Vec<Value> = detail
        .alerts
        .iter()
        .filter(|alert| reader.identity.sees_alert(&alert.labels))
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
                summary => names.put_into(&said("summary"), |label| {
                    alert.labels.get(label).and_then(|value| value.as_str()).unwrap_or("")
                }),
                description => said("description"), runbook => runbook_link(text("runbook")),
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

pub(super) fn incident_value(state: &AppState, reader: &Reader, incident: &rows::Incident) -> Value {
    let config = state.config();
    let at = |us| format::date_time(crate::store::from_micros(us), &config.site.timezone);
    let agency = config.agencies.iter().find(|agency| *agency.id == *incident.agency);
    let (colour, word) = match (incident.resolved_us, incident.severity.as_str()) {
        (Some(_), _) => ("green", reader.pick("● đã khắc phục", "● resolved")),
        (None, "critical") => ("red", reader.pick("▼ nghiêm trọng", "▼ critical")),
        (None, _) => ("orange", reader.pick("◆ cảnh báo", "◆ warning")),
    };
    let is_in_english = reader.language == Language::En && !incident.subject_en.is_empty();
    let subject = if is_in_english { &incident.subject_en } else { &incident.subject };
    context! {
        id => incident.id, colour, state => word, subject,
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
        "camera" => reader.pick("camera", "cameras"),
        "hotspot" => reader.pick("điểm wifi", "hotspots"),
        "usage" => reader.pick("sử dụng ứng dụng", "use of applications"),
        "host" => reader.pick("máy chủ", "host"),
        "dependency" => reader.pick("hạ tầng dùng chung", "shared infrastructure"),
        "self" => "ioc-watch",
        other => other,
    }
}

/// A line of the timeline.
pub(super) fn event_value(state: &AppState, reader: &Reader, event: &rows::Event) -> Value {
    let config = state.config();
    let person = config.people.iter().find(|person| *person.id == *event.person);
    context! {
        at => format::date_time(crate::store::from_micros(event.at_us), &config.site.timezone),
        event => event_word(&event.event, reader),
        // The id by which a mail is found in the mail server's log is for the API.
        detail => match event.event.as_str() {
            "mailed" => String::new(),
            "escalated" | "skipped" => step_word(&event.detail, reader),
            _ => event.detail.clone(),
        },
        person => person.map_or(event.person.as_str(), |person| person.name.as_str()),
    }
}

/// A step of the escalation in the reader's language; the timeline has it in the site's.
fn step_word(detail: &str, reader: &Reader) -> String {
    match detail.rsplit(' ').next().and_then(|number| number.parse::<u32>().ok()) {
        Some(number) => format!("{} {number}", reader.pick("bậc", "step")),
        None => detail.to_owned(),
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
        "handed_over" => reader.pick("bàn giao ca trực cho", "duty handed over to"),
        "closed" => reader.pick("đóng sự cố", "closed"),
        "acknowledged" => reader.pick("đã tiếp nhận", "acknowledged"),
        "worsened" => reader.pick("nâng mức độ", "severity raised"),
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
