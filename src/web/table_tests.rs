//! Every route for everybody, by the guard and the table of `access.rs`, before handlers that do nothing.

use super::door_tests::{PASSWORD, USERS, as_user, basic, locked, with};
use super::tests::{House, request};
use super::{access, guard};
use axum::Router;
use axum::http::{Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, on};
use std::fmt::Write;
use tower::ServiceExt;

/// Everybody in columns: nobody; the users of [`USERS`]; the tokens alerts, silences, metrics, query, reload, and the
/// one of Tam Kỳ that has all these rights; that with the right to bounces alone is in `outbox_tests.rs`. `+` passes, `-` is forbidden (403), `?` is asked who it is (401).
const EXPECTED: &str = "
GET    /-/healthy                       + +++++ +++ +++++ +
GET    /-/ready                         + +++++ +++ +++++ +
POST   /-/reload                        ? ----+ --- ----+ -
GET    /metrics                         ? +++++ +++ --+-- +
GET    /api/v1/query                    ? +++++ +++ ---+- +
POST   /api/v1/query                    ? +++++ +++ ---+- +
GET    /api/v1/query_range              ? +++++ +++ ---+- +
POST   /api/v1/query_range              ? +++++ +++ ---+- +
GET    /api/v1/query_exemplars          ? +++++ +++ ---+- +
POST   /api/v1/query_exemplars          ? +++++ +++ ---+- +
GET    /api/v1/series                   ? +++++ +++ ---+- +
POST   /api/v1/series                   ? +++++ +++ ---+- +
GET    /api/v1/labels                   ? +++++ +++ ---+- +
POST   /api/v1/labels                   ? +++++ +++ ---+- +
GET    /api/v1/label/{name}/values      ? +++++ +++ ---+- +
GET    /api/v1/metadata                 ? +++++ +++ ---+- +
GET    /api/v1/rules                    ? +++++ +++ ---+- +
GET    /api/v1/alerts                   ? +++++ +++ ---+- +
GET    /api/v1/status/buildinfo         ? +++++ +++ ---+- +
GET    /api/v2/alerts                   ? +++++ +++ +---- +
POST   /api/v2/alerts                   ? -+--+ -++ +---- +
GET    /api/v2/alerts/groups            ? +++++ +++ +---- +
GET    /api/v2/receivers                ? +++++ +++ +---- +
GET    /api/v2/status                   ? +++++ +++ +---- +
GET    /api/v2/silences                 ? +++++ +++ -+--- +
POST   /api/v2/silences                 ? -+--+ -++ -+--- +
GET    /api/v2/silence/{id}             ? +++++ +++ -+--- +
DELETE /api/v2/silence/{id}             ? -+--+ -++ -+--- +
GET    /api/ioc/v1/openapi.json         ? +++++ +++ ---+- +
GET    /api/ioc/v1/agencies             ? +++++ +++ ---+- +
GET    /api/ioc/v1/services             ? +++++ +++ ---+- +
GET    /api/ioc/v1/devices              ? +++++ +++ ---+- +
GET    /api/ioc/v1/heartbeats           ? +++++ +++ ---+- +
POST   /api/ioc/v1/heartbeats/{id}      ? -+--+ -++ ----- -
GET    /api/ioc/v1/incidents            ? +++++ +++ ---+- +
GET    /api/ioc/v1/incidents/{id}       ? +++++ +++ ---+- +
POST   /api/ioc/v1/incidents/{id}/{action} ? -++-+ -++ -+--- +
GET    /api/ioc/v1/mismatches           ? +++++ +++ ---+- +
GET    /api/ioc/v1/scorecards           ? +++++ +++ ---+- +
GET    /api/ioc/v1/availability         ? +++++ +++ ---+- +
GET    /api/ioc/v1/dependencies         ? +++++ +++ ---+- +
GET    /api/ioc/v1/maintenance          ? +++++ +++ ---+- +
POST   /api/ioc/v1/maintenance          ? -+--+ -++ -+--- +
DELETE /api/ioc/v1/maintenance/{id}     ? -+--+ -++ -+--- +
GET    /api/ioc/v1/overrides            ? +++++ +++ ---+- +
POST   /api/ioc/v1/overrides            ? -+-++ --- ----- -
DELETE /api/ioc/v1/overrides/{id}       ? -+-++ --- ----- -
GET    /api/ioc/v1/outbox               ? -++-+ -++ ----- -
POST   /api/ioc/v1/bounces              ? ----+ --- ----- -
POST   /api/ioc/v1/payments/portal      ? ----- --- ----- -
POST   /api/ioc/v1/payments/gateway     ? ----- --- ----- -
POST   /api/ioc/v1/usage                ? ----- --- ----- -
GET    /                                ? +++++ +++ ----- -
GET    /agencies/{id}                   ? +++++ +++ ----- -
GET    /incidents                       ? +++++ +++ ----- -
GET    /incidents/{id}                  ? +++++ +++ ----- -
POST   /incidents/{id}                  ? -++-+ -++ ----- -
GET    /silences                        ? +++++ +++ ----- -
POST   /silences/{id}                   ? -++-+ -++ ----- -
GET    /ack/{token}                     + +++++ +++ +++++ +
POST   /ack/{token}                     + +++++ +++ +++++ +
GET    /payments                        ? +++++ +++ ----- -
GET    /devices                         ? +++++ +++ ----- -
GET    /maintenance                     ? +++++ +++ ----- -
POST   /maintenance                     ? -+--+ -++ ----- -
GET    /reports                         ? +++++ +++ ----- -
GET    /reports/{week}                  ? +++++ +++ ----- -
GET    /status                          ? +++++ --- ----- -
GET    /runbooks/{name}                 ? +++++ +++ ----- -
GET    /assets/style.css                + +++++ +++ +++++ +
GET    /login                           + +++++ +++ +++++ +
POST   /login                           + +++++ +++ +++++ +
POST   /logout                          > +++++ +++ ----- -
";

/// The guard and the table before handlers that always answer 204.
pub(super) fn stubs(house: &House) -> Router {
    let stub = || async { StatusCode::NO_CONTENT };
    let router = access::ROUTES.iter().fold(Router::new(), |router, route| {
        let method = MethodFilter::try_from(route.method.clone()).unwrap();
        router.route(route.path, on(method, stub))
    });
    router.layer(from_fn_with_state(house.state.clone(), guard::guard))
}

#[tokio::test]
async fn every_route_for_everybody() {
    let house = locked("").await;
    let router = stubs(&house);
    let mut callers: Vec<Option<String>> = vec![None];
    callers.extend(USERS.iter().map(|(name, ..)| Some(basic(name, PASSWORD))));
    let tokens = ["alerts", "silences", "metrics", "query", "reload", "tam-ky"];
    callers.extend(tokens.iter().map(|name| Some(format!("Bearer secret-of-{name}"))));
    let mut seen = String::from("\n");
    for route in access::ROUTES {
        let path = route
            .path
            .replace("{id}", "7")
            .replace("{week}", "2026-W47")
            .replace("{action}", "comment")
            .replace("{token}", "AAAA")
            .replace("{name}", "watchdog");
        let mut line = String::new();
        for (index, caller) in callers.iter().enumerate() {
            let mut request = request(route.method.clone(), &path);
            if let Some(authorization) = caller {
                request = with(request, header::AUTHORIZATION, authorization);
            }
            if [1, 6, 9, 14].contains(&index) {
                line.push(' ');
            }
            line.push(match router.clone().oneshot(request).await.unwrap().status() {
                StatusCode::NO_CONTENT => '+',
                StatusCode::FORBIDDEN => '-',
                StatusCode::UNAUTHORIZED => '?',
                StatusCode::SEE_OTHER => '>',
                _ => '!',
            });
        }
        let _ = writeln!(seen, "{:<6} {:<32} {line}", route.method.as_str(), route.path);
    }
    assert!(seen == EXPECTED, "{seen}");
}

/// A handler that the table does not know never runs, on a path that it knows neither.
#[tokio::test]
async fn what_is_not_in_the_table_does_not_run() {
    let house = locked("").await;
    let stub = || async { StatusCode::NO_CONTENT };
    let router = Router::new()
        .route("/metrics", axum::routing::any(stub))
        .route("/secret", axum::routing::any(stub))
        .layer(from_fn_with_state(house.state.clone(), guard::guard));
    for (method, path, expected) in [
        (Method::GET, "/metrics", 204),
        (Method::HEAD, "/metrics", 204),
        (Method::POST, "/metrics", 405),
        (Method::OPTIONS, "/metrics", 405),
        (Method::GET, "/secret", 403),
        (Method::POST, "/secret", 403),
    ] {
        let asked = as_user(request(method.clone(), path), "admin");
        assert_eq!(router.clone().oneshot(asked).await.unwrap().status().as_u16(), expected, "{method} {path}");
    }
}
