//! The page behind the link in a mail about an incident. The link is the right: nobody logs in. Opening it only shows, as
//! mail scanners and previews open every link; what acts is the page's form. How links are made and what they prove
//! stands in `incident/link.rs`, the rules of acting in `incident/acts.rs`.

use super::AppState;
use super::guard::Origin;
use super::incident_pages::{event_value, incident_value};
use super::incidents as rows;
use super::pages::{Page, Reader};
use super::throttle::{Attempt, Throttle};
use crate::config::organisation::Person;
use crate::incident::{BadLink, Claim, Deed, Done, Incidents};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use axum::{Extension, Form, Router};
use minijinja::{Value, context};
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of the form: a comment of 2,000 letters, each of which takes up to nine in a form.
const MAX_FORM: usize = 32 * 1024;
/// Lines of the timeline, the latest.
const TIMELINE: usize = 15;

/// What the routes work with.
#[derive(Clone)]
struct Desk {
    incidents: Arc<Incidents>,
    /// Of those who come with links that prove nothing. A good link never waits: who guesses learns nothing by it, and
    /// one who guesses behind an office's address keeps nobody there from answering.
    throttle: Arc<Mutex<Throttle>>,
}

/// The routes, with their state given.
pub fn routes(state: AppState, incidents: Arc<Incidents>) -> Router {
    let desk = Desk { incidents, throttle: Arc::default() };
    Router::new()
        .route("/ack/{token}", get(show).post(act))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .layer(Extension(desk))
        .with_state(state)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sent {
    action: String,
    text: String,
}

/// Shows and changes nothing.
async fn show(
    State(state): State<AppState>,
    Extension(desk): Extension<Desk>,
    Extension(origin): Extension<Origin>,
    mut reader: Reader,
    Path(token): Path<String>,
) -> Page {
    match desk.admit(&state, &mut reader, &token, origin) {
        Ok((claim, person)) => page(&state, &reader, &claim, &person, &token, None).await,
        Err(refusal) => refusal.answer(&state, &reader),
    }
}

/// The form of the page; then the page again, where the timeline shows what was done.
async fn act(
    State(state): State<AppState>,
    Extension(desk): Extension<Desk>,
    Extension(origin): Extension<Origin>,
    mut reader: Reader,
    Path(token): Path<String>,
    Form(sent): Form<Sent>,
) -> Page {
    let (claim, person) = match desk.admit(&state, &mut reader, &token, origin) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.answer(&state, &reader),
    };
    let deed = match sent.action.as_str() {
        "acknowledge" => Deed::Acknowledge,
        "comment" => Deed::Comment(sent.text),
        _ => return Err(StatusCode::BAD_REQUEST),
    };
    let done = desk.incidents.act(claim.incident, &claim.person, deed, reader.now).await;
    let done = done.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "an answer from a mail could not be kept");
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    let (status, problem) = match done {
        Done::Acknowledged(_) | Done::Commented | Done::Resolved => {
            return Ok(Redirect::to(&address(&token, &reader)).into_response());
        }
        Done::NotOpen => (StatusCode::CONFLICT, reader.pick("Sự cố đã đóng.", "The incident is closed.")),
        Done::NotFiring => (
            StatusCode::CONFLICT,
            reader.pick("Không còn cảnh báo nào đang xảy ra.", "Nothing fires in this incident any more."),
        ),
        Done::NoText => (StatusCode::BAD_REQUEST, reader.pick("Hãy ghi nội dung.", "The comment is empty.")),
        // This page asks for neither.
        Done::Silenced(_) | Done::NotSilenced => return Err(StatusCode::INTERNAL_SERVER_ERROR),
    };
    page(&state, &reader, &claim, &person, &token, Some((status, problem))).await
}

fn address(token: &str, reader: &Reader) -> String {
    format!("/ack/{token}{}", reader.suffix)
}

async fn page(
    state: &AppState,
    reader: &Reader,
    claim: &Claim,
    person: &Person,
    token: &str,
    problem: Option<(StatusCode, &str)>,
) -> Page {
    let found = rows::find(state.store(), claim.incident).await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "reading an incident for its mail's page failed");
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    let Some(detail) = found else { return Refusal::Gone.answer(state, reader) };
    let incident = incident_value(state, reader, &detail.incident);
    let mut latest: Vec<rows::Event> = detail.timeline.into_iter().take(TIMELINE).collect();
    // A Message-ID helps nobody who answers from a telephone.
    latest.iter_mut().filter(|event| event.event == "mailed").for_each(|event| event.detail.clear());
    let timeline: Vec<Value> = latest.iter().map(|event| event_value(state, reader, event)).collect();
    let content = context! {
        bare => true, incident, timeline, is_open => detail.is_open, name => &person.name,
        action => address(token, reader), page => format!("/incidents/{}{}", claim.incident, reader.suffix),
        problem => problem.map(|(_, message)| message),
    };
    let mut response = reader.render(state, "ack.html", content)?;
    if let Some((status, _)) = problem {
        *response.status_mut() = status;
    }
    Ok(response)
}

/// Why a link opens nothing.
enum Refusal {
    Forged,
    /// Its person is nobody of the configuration any more.
    Foreign,
    Expired,
    /// The incident is no longer kept.
    Gone,
    /// Too many that proved nothing came from there.
    Throttled(Duration),
}

impl Desk {
    /// Whose link it is, and what it opens. The page is in that person's language unless another was chosen.
    fn admit(
        &self,
        state: &AppState,
        reader: &mut Reader,
        token: &str,
        origin: Origin,
    ) -> Result<(Claim, Person), Refusal> {
        let config = state.config();
        let proven = self.incidents.read_link(token, reader.now).map_err(|bad| match bad {
            BadLink::Forged => Refusal::Forged,
            BadLink::Expired => Refusal::Expired,
        });
        let person = |claim: &Claim| config.people.iter().find(|person| person.id.as_str() == claim.person).cloned();
        let admitted = proven.and_then(|claim| match person(&claim) {
            Some(person) => Ok((claim, person)),
            None => Err(Refusal::Foreign),
        });
        match admitted {
            Ok((claim, person)) => {
                if reader.suffix.is_empty() {
                    // As the mail is, whatever the browser prefers.
                    reader.language = person.language.unwrap_or(config.site.language);
                }
                Ok((claim, person))
            }
            Err(refusal) => Err(self.slow_down(refusal, origin)),
        }
    }

    /// Notes a link that proves nothing; never the link itself.
    fn slow_down(&self, refusal: Refusal, origin: Origin) -> Refusal {
        let client = origin.client.map_or_else(|| "?".to_owned(), |client| client.to_string());
        let attempt = Attempt { account: &client, known: false, peer: origin.client };
        // The map of failures cannot be left half-changed by a panic.
        let begun = self.throttle.lock().unwrap_or_else(PoisonError::into_inner).begin(attempt, Instant::now());
        if let Err(wait) = begun {
            // The first ones were told; thousands may follow, and are counted by route and status.
            tracing::debug!(%client, "a link from a mail that proves nothing has to wait");
            return Refusal::Throttled(wait);
        }
        let reason = refusal.as_str();
        tracing::warn!(%client, reason, "a link from a mail, opened from {client}, was refused: {reason}");
        refusal
    }
}

impl Refusal {
    fn as_str(&self) -> &'static str {
        match self {
            Refusal::Forged => "forged",
            Refusal::Foreign => "its person is not in the configuration",
            Refusal::Expired => "expired",
            Refusal::Gone => "the incident is no longer kept",
            Refusal::Throttled(_) => "throttled",
        }
    }

    fn answer(self, state: &AppState, reader: &Reader) -> Page {
        let (status, problem) = match self {
            Refusal::Forged | Refusal::Foreign => (
                StatusCode::FORBIDDEN,
                reader.pick(
                    "Liên kết không hợp lệ. Hãy mở lại liên kết trong thư mới nhất, hoặc đăng nhập để xem sự cố.",
                    "This link is not valid. Open the one in the latest mail, or log in to see the incident.",
                ),
            ),
            Refusal::Expired => (
                StatusCode::GONE,
                reader.pick(
                    "Liên kết đã hết hạn. Hãy mở liên kết trong thư mới nhất, hoặc đăng nhập để xem sự cố.",
                    "This link has expired. Open the one in the latest mail, or log in to see the incident.",
                ),
            ),
            Refusal::Gone => {
                (StatusCode::GONE, reader.pick("Sự cố này không còn được lưu.", "This incident is no longer kept."))
            }
            Refusal::Throttled(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                reader.pick(
                    "Quá nhiều liên kết không hợp lệ từ địa chỉ này. Hãy thử lại sau ít phút.",
                    "Too many invalid links from this address. Try again in some minutes.",
                ),
            ),
        };
        let page = format!("/incidents{}", reader.suffix);
        let mut response = reader.render(state, "ack.html", context! { bare => true, problem, page })?;
        *response.status_mut() = status;
        if let Refusal::Throttled(wait) = self {
            let seconds = wait.as_secs_f64().ceil() as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        Ok(response)
    }
}

#[cfg(test)]
#[path = "ack_tests.rs"]
mod tests;
