//! One axum router: access, metrics, query API, alert API, pages.
//!
//! `access.rs` says who may do what, `guard.rs` sees to it for every request with what `credentials.rs` proves; the other
//! files are the routes. A new
//! route needs a line in the table of `access.rs`, or it is refused.

pub mod access;
pub mod ack;
pub mod acts;
mod admin;
mod agency;
pub mod alerts_v2;
mod api;
mod attribution;
mod credentials;
pub mod devices;
#[cfg(test)]
mod devices_tests;
mod front;
mod guard;
pub mod heartbeats;
mod incident_pages;
mod incidents;
mod incidents_api;
mod language;
mod login;
mod maintenance;
pub mod outbox;
mod overview;
mod pages;
mod payments;
mod posted_v2;
pub mod push;
mod query;
mod query_form;
mod query_json;
mod query_labels;
mod query_rules;
mod runbooks;
pub mod session;
mod silences_v2;
pub mod standby;
mod state;
mod status_v2;
mod throttle;
pub mod tls;

pub use front::Front;
pub use state::{AppState, Parts, ReloadRequest, StatusBoard, TaskStatus};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum_server::tls_rustls::RustlsAcceptor;
use std::net::SocketAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::TimeoutLayer;

/// A request that takes longer is answered 503. Longer than any query or reload should take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// From the opening of a connection to the end of a request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For open requests when the daemon stops.
const GRACE: Duration = Duration::from_secs(5);
/// Of a request's body. A batch of some thousand alerts fits.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// The whole router. `extra` are routers of other rooms (the alert API) with their state given; their routes pass the
/// same access table.
pub fn router(state: AppState, extra: Router) -> Router {
    Router::new()
        .route("/-/healthy", get(admin::healthy))
        .route("/-/ready", get(admin::ready))
        .route("/-/reload", axum::routing::post(admin::reload))
        .route("/metrics", get(admin::metrics))
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/query_exemplars", get(query::exemplars).post(query::exemplars))
        .route("/api/v1/series", get(query_labels::series).post(query_labels::series))
        .route("/api/v1/labels", get(query_labels::names).post(query_labels::names))
        .route("/api/v1/label/{name}/values", get(query_labels::values))
        .route("/api/v1/metadata", get(query_labels::metadata))
        .route("/api/v1/rules", get(query_rules::rules))
        .route("/api/v1/alerts", get(query_rules::alerts))
        .route("/api/v1/status/buildinfo", get(query::build_info))
        .route("/api/ioc/v1/agencies", get(api::agencies))
        .route("/api/ioc/v1/services", get(api::services))
        .route("/api/ioc/v1/openapi.json", get(api::openapi))
        .route("/api/ioc/v1/incidents", get(incidents_api::list))
        .route("/api/ioc/v1/incidents/{id}", get(incidents_api::one))
        .route("/api/ioc/v1/mismatches", get(payments::mismatches))
        .route("/api/ioc/v1/scorecards", get(api::scorecards))
        .route("/api/ioc/v1/availability", get(attribution::availability))
        .route("/api/ioc/v1/dependencies", get(attribution::dependencies))
        .route("/api/ioc/v1/maintenance", get(attribution::maintenance).post(attribution::announce))
        .route("/api/ioc/v1/maintenance/{id}", axum::routing::delete(attribution::cancel))
        .route("/api/ioc/v1/overrides", get(attribution::overrides).post(attribution::add_override))
        .route("/api/ioc/v1/overrides/{id}", axum::routing::delete(attribution::withdraw_override))
        .route("/", get(pages::overview))
        .route("/agencies/{id}", get(agency::page))
        .route("/payments", get(payments::page))
        .route("/maintenance", get(maintenance::page).post(maintenance::send))
        .route("/incidents", get(incident_pages::list))
        .route("/incidents/{id}", get(incident_pages::one))
        .route("/silences", get(incident_pages::silences))
        .route("/reports", get(pages::reports))
        .route("/reports/{week}", get(pages::report))
        .route("/status", get(pages::status))
        .route("/runbooks/{name}", get(pages::runbook))
        .route("/assets/style.css", get(pages::style))
        .route("/login", get(login::page).post(login::enter))
        .route("/logout", axum::routing::post(login::leave))
        .with_state(state.clone())
        .merge(extra)
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
        // A scrape is the largest answer and a daily thousandfold: the fastest level already makes it a tenth.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(from_fn_with_state(state, guard::guard))
}

/// Serves until `shutdown`, then lets open requests finish for a while. With `certificates` it speaks TLS only.
pub async fn serve(
    listener: tokio::net::TcpListener,
    router: Router,
    certificates: Option<tls::Certificates>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let handle = axum_server::Handle::new();
    let server = axum_server::from_tcp(listener.into_std()?)?.handle(handle.clone());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serve = async {
        match certificates {
            Some(certificates) => {
                let mut server = server.acceptor(RustlsAcceptor::new(certificates.acceptor()));
                limit(server.http_builder());
                server.serve(service).await
            }
            None => {
                let mut server = server;
                limit(server.http_builder());
                server.serve(service).await
            }
        }
    };
    let stop = async {
        shutdown.cancelled().await;
        handle.graceful_shutdown(Some(GRACE));
        std::future::pending::<()>().await
    };
    tokio::select! {
        served = serve => served,
        () = stop => Ok(()),
    }
}

fn limit(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder.http1().timer(hyper_util::rt::TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
}

#[cfg(test)]
mod attribution_tests;
#[cfg(test)]
mod door_tests;
#[cfg(test)]
mod openapi_tests;
#[cfg(test)]
mod payments_tests;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
