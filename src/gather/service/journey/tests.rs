//! Journeys against a small portal: a login with a form token, a dossier, its payment, its receipt slip.

use super::super::{CheckResult, Outcome, Trust};
use super::JourneyCheck;
use crate::config::probes::Probe;
use crate::config::site::Language;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PASSWORD: &str = "mật-khẩu & 42";

/// What goes wrong, and what was asked.
#[derive(Default)]
struct Portal {
    trouble: Mutex<&'static str>,
    seen: Mutex<Vec<String>>,
}

type Shared = Arc<Portal>;

impl Portal {
    fn has(&self, trouble: &str) -> bool {
        *self.trouble.lock().unwrap() == trouble
    }

    fn note(&self, what: impl Into<String>) {
        self.seen.lock().unwrap().push(what.into());
    }
}

async fn serve(portal: Shared) -> SocketAddr {
    let router = Router::new()
        .route("/login", get(login_page).post(login))
        .route("/home", get(async |State(portal): State<Shared>| portal.note("home")))
        .route("/dossiers", post(file))
        .route("/dossiers/{code}", get(slip).delete(withdraw))
        .route("/dossiers/{code}/fee", post(pay))
        .with_state(portal);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn login_page() -> Html<&'static str> {
    Html("<form><INPUT type=hidden name='csrf' value='t&amp;1 2'></form>")
}

async fn login(State(portal): State<Shared>, Form(form): Form<HashMap<String, String>>) -> Response {
    portal.note(format!("login {}", form["csrf"]));
    if portal.has("echo") {
        // A page that says everything it was told.
        return (StatusCode::FORBIDDEN, format!("{form:?}")).into_response();
    }
    if form["csrf"] != "t&1 2" || form["password"] != PASSWORD {
        return StatusCode::FORBIDDEN.into_response();
    }
    ([(header::SET_COOKIE, "session=s3cr3t-session; Path=/; HttpOnly")], Redirect::to("/home")).into_response()
}

fn is_in(headers: &HeaderMap) -> bool {
    headers.get(header::COOKIE).is_some_and(|cookie| cookie == "session=s3cr3t-session")
}

async fn file(State(portal): State<Shared>, headers: HeaderMap, Json(body): Json<serde_json::Value>) -> Response {
    if !is_in(&headers) || body != serde_json::json!({"fee": 0, "test": true, "who": ["t&1 2"]}) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    portal.note("file");
    let slip = if portal.has("foreign") { "http://127.0.0.2:1/" } else { "/dossiers/H%201" };
    let code = if portal.has("no code") { serde_json::Value::Null } else { "H 1".into() };
    ([("x-slip", slip)], Json(serde_json::json!({"status": "ok", "code": code}))).into_response()
}

async fn pay(State(portal): State<Shared>, Path(code): Path<String>) -> Response {
    portal.note(format!("pay {code}"));
    if portal.has("hang") {
        std::future::pending::<()>().await;
    }
    Json(serde_json::json!({"paid": !portal.has("unpaid")})).into_response()
}

async fn slip(State(portal): State<Shared>, headers: HeaderMap, Path(code): Path<String>) -> Response {
    portal.note(format!("slip {code} {}", is_in(&headers)));
    let text = if portal.has("no slip") { "" } else { "Giấy hẹn" };
    Html(format!("<p class='a slip'>{text} {code}</p>")).into_response()
}

async fn withdraw(State(portal): State<Shared>, Path(code): Path<String>) -> StatusCode {
    portal.note(format!("withdraw {code}"));
    if portal.has("stuck") { StatusCode::CONFLICT } else { StatusCode::NO_CONTENT }
}

fn probe(address: SocketAddr, directory: &std::path::Path) -> Probe {
    std::fs::write(directory.join("password"), format!("{PASSWORD}\n")).unwrap();
    std::fs::set_permissions(directory.join("password"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!(
        r#"site: {{name: IOC, agency: ioc}}
people: [{{id: truc, name: Trực, email: truc@ioc.vn.example}}]
agencies: [{{id: ioc, name: IOC, leader: truc}}]
services:
  - id: nop
    agency: ioc
    timeout: 5s
    journey:
      secrets: {{password_file: password}}
      steps:
        - {{name: form, get: "http://{address}/login", capture: {{csrf: {{css: "input[name=csrf]", attr: value}}}}}}
        - {{name: login, post: "http://{address}/login", form: {{csrf: "{{{{csrf}}}}", password: "{{{{secret.password}}}}"}}}}
        - name: file
          post: "http://{address}/dossiers"
          json: {{fee: 0, test: true, who: ["{{{{csrf}}}}"]}}
          json_path: {{/status: ok}}
          capture: {{code: /code, slip: {{header: X-Slip}}}}
        - {{name: pay, post: "http://{address}/dossiers/{{{{code}}}}/fee", timeout: 500ms, json_path: {{/paid: true}}, think: 20ms}}
        - {{name: slip, get: "{{{{slip}}}}", body_contains: "Giấy hẹn {{{{code}}}}", capture: {{seen: {{css: .slip}}, digit: {{regex: "H (\\d)"}}}}}}
      finally:
        - {{name: withdraw, delete: "http://{address}/dossiers/{{{{code}}}}"}}
        - {{name: never, get: "http://{address}/{{{{seen}}}}{{{{digit}}}}", status: [404]}}
"#
    );
    let config = crate::config::load_text(&directory.join("x.yml"), &text, &|_| None);
    config.unwrap_or_else(|problems| panic!("{problems:?}")).services.remove(0).probe
}

struct Bench {
    portal: Shared,
    check: JourneyCheck,
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let portal = Shared::default();
        let directory = tempfile::tempdir().unwrap();
        let Probe::Journey(journey) = probe(serve(portal.clone()).await, directory.path()) else { panic!() };
        let check = JourneyCheck::new(&journey, &Trust::default()).await.unwrap();
        Bench { portal, check, _directory: directory }
    }

    /// The outcome with a trouble, and what the portal saw.
    async fn with(&self, trouble: &'static str) -> (Outcome, Vec<String>) {
        *self.portal.trouble.lock().unwrap() = trouble;
        self.portal.seen.lock().unwrap().clear();
        let outcome = self.check.run(Duration::from_secs(5)).await;
        (outcome, self.portal.seen.lock().unwrap().clone())
    }
}

fn steps(outcome: &Outcome) -> Vec<(&str, bool)> {
    outcome.steps.iter().map(|step| (step.name.as_str(), step.ok)).collect()
}

#[tokio::test]
async fn a_citizen_gets_through_and_the_test_dossier_is_withdrawn() {
    let (outcome, seen) = Bench::new().await.with("").await;
    assert_eq!(outcome.result, CheckResult::Ok, "{:?}", outcome.detail);
    assert_eq!(seen, ["login t&1 2", "home", "file", "pay H 1", "slip H 1 true", "withdraw H 1"]);
    let names = ["form", "login", "file", "pay", "slip", "withdraw", "never"];
    assert_eq!(steps(&outcome), names.map(|name| (name, true)));
    assert!(outcome.steps[5].cleans_up && outcome.redirects == 1);
}

#[tokio::test]
async fn a_journey_stops_at_the_failing_step_and_still_cleans_up() {
    let bench = Bench::new().await;
    // (trouble, result, failing step, English reason, whether the dossier was withdrawn)
    let rows = [
        ("no code", CheckResult::Content, "file", "the answer lacks \"code\", which later steps need", false),
        ("unpaid", CheckResult::Content, "pay", "the answer has not \"true\" at /paid", true),
        ("hang", CheckResult::Hang, "pay", "hangs: connected, then silence before the answer (waited 0.5 s)", true),
        ("no slip", CheckResult::Content, "slip", "the page lacks \"Giấy hẹn {{code}}\" (26 bytes searched)", true),
        (
            "foreign",
            CheckResult::Content,
            "slip",
            "the answer leads to an address that the journey does not name",
            true,
        ),
    ];
    for (trouble, result, failing, reason, is_withdrawn) in rows {
        let (outcome, seen) = bench.with(trouble).await;
        assert_eq!(outcome.result, result, "{trouble}: {:?}", outcome.detail);
        assert_eq!(outcome.detail.text(Language::En), format!("step \"{failing}\": {reason}"), "{trouble}");
        let last = outcome.steps.iter().rfind(|step| !step.cleans_up).unwrap();
        assert_eq!((last.name.as_str(), last.ok), (failing, false), "{trouble}");
        assert_eq!(seen.contains(&"withdraw H 1".to_owned()), is_withdrawn, "{trouble}: {seen:?}");
    }
    assert!(bench.with("unpaid").await.0.detail.text(Language::Vi).starts_with("bước \"pay\": "));
}

#[tokio::test]
async fn what_cannot_be_undone_is_noted_and_turns_no_verdict() {
    let bench = Bench::new().await;
    let (outcome, _) = bench.with("stuck").await;
    assert_eq!(outcome.result, CheckResult::Ok);
    assert!(steps(&outcome).contains(&("withdraw", false)));
}

#[tokio::test]
async fn no_secret_and_no_captured_value_is_in_an_outcome() {
    let bench = Bench::new().await;
    for trouble in ["", "echo", "unpaid", "no slip", "foreign", "stuck"] {
        let (outcome, _) = bench.with(trouble).await;
        let shown = format!("{outcome:?} {:?} {:?}", bench.check, outcome.detail.text(Language::Vi));
        for secret in [PASSWORD, "s3cr3t-session"] {
            assert!(!shown.contains(secret), "{trouble}: {shown}");
        }
    }
}
