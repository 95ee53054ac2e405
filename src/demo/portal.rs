//! Simulated portals over real TLS: each answers, hangs, loses its payments or cannot be reached, as the story tells it.
//!
//! A citizen's way through one: `/dang-nhap` (a form with a CSRF field and a session cookie), `/ho-so` (the dossier is
//! filed, its code comes back), `/ho-so/{code}/thanh-toan` (the fee is paid), `/ho-so/{code}` (the receipt slip).

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Json};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How a portal behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Answers,
    /// Accepts, shakes hands, reads the request, and says nothing more.
    Hangs,
    /// Everything answers, but paying a fee ends in an error.
    PaymentFails,
    /// The line to it is cut: connections are reset before a byte is sent.
    Unreachable,
}

/// A certificate authority of the demo's own, and a server certificate for loopback.
pub struct Authority {
    /// PEM, for `ca_file`.
    pub ca_pem: String,
    server: Arc<rustls::ServerConfig>,
}

impl Authority {
    pub fn new() -> anyhow::Result<Authority> {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(DnType::CommonName, "ioc-watch demo CA");
        let ca_key = KeyPair::generate()?;
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
        params.distinguished_name.push(DnType::CommonName, "ioc-watch demo portal");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        Ok(Authority { ca_pem: ca_certificate.pem(), server: Arc::new(server) })
    }
}

/// Whoever does not shake hands by then is let go.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that wait to be served.
const BACKLOG: usize = 64;
/// What the login form hides, and what the session cookie holds after it came back.
const CSRF: &str = "c5a9";
const SESSION: &str = "phien-demo";

/// A running portal; it stops when the token given to [`Portal::start`] is cancelled.
pub struct Portal {
    pub port: u16,
    behaviour: watch::Sender<Behaviour>,
}

impl Portal {
    /// Listens on a free loopback port. `title` appears in the page.
    pub async fn start(authority: &Authority, title: &str, shutdown: CancellationToken) -> anyhow::Result<Portal> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (behaviour, watched) = watch::channel(Behaviour::Answers);
        let acceptor = TlsAcceptor::from(authority.server.clone());
        let (shaken, connections) = mpsc::channel(BACKLOG);
        let accepting = accept(listener, acceptor, watched.clone(), shaken);
        let stop = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = accepting => {}
            }
        });
        let router = router(Arc::new(Pages { title: title.to_owned(), behaviour: watched, filed: AtomicU32::new(0) }));
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                // It ends only when the listener does.
                _ = axum::serve(Connections { connections, address }, router) => {}
            }
        });
        Ok(Portal { port: address.port(), behaviour })
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.port)
    }
}

/// Accepts and shakes hands, each connection on its own, so that a slow one holds up nobody.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    behaviour: watch::Receiver<Behaviour>,
    shaken: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors: the next accept may do better.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if *behaviour.borrow() == Behaviour::Unreachable {
            // Dropped: the client sees the connection closed in the middle of its handshake.
            continue;
        }
        let (acceptor, shaken) = (acceptor.clone(), shaken.clone());
        tokio::spawn(async move {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                // Nobody serves any more: the demo is stopping.
                let _ = shaken.send((stream, peer)).await;
            }
        });
    }
}

/// Connections that shook hands, as `axum::serve` wants them.
struct Connections {
    connections: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl axum::serve::Listener for Connections {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

struct Pages {
    title: String,
    behaviour: watch::Receiver<Behaviour>,
    /// Dossiers so far.
    filed: AtomicU32,
}

fn router(pages: Arc<Pages>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/dang-nhap", get(login_form).post(login))
        .route("/ho-so", post(file_dossier))
        .route("/ho-so/{code}", get(receipt).delete(withdraw))
        .route("/ho-so/{code}/thanh-toan", post(pay))
        .layer(from_fn_with_state(pages.clone(), behave))
        .with_state(pages)
}

async fn behave(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let behaviour = *pages.behaviour.borrow();
    match behaviour {
        // Until the client gives up.
        Behaviour::Hangs => std::future::pending().await,
        Behaviour::PaymentFails if request.uri().path().ends_with("/thanh-toan") => {
            (StatusCode::INTERNAL_SERVER_ERROR, "Hệ thống đang bận, vui lòng thử lại sau\n").into_response()
        }
        _ => next.run(request).await,
    }
}

fn html(title: &str, inner: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"vi\"><meta charset=\"utf-8\"><title>{title}</title><h1>{title}</h1>{inner}</html>\n"
    ))
}

async fn front(State(pages): State<Arc<Pages>>) -> Html<String> {
    html(&pages.title, "<p>Dịch vụ công trực tuyến</p>")
}

async fn login_form(State(pages): State<Arc<Pages>>) -> Html<String> {
    let form = format!(
        "<form method=\"post\"><input type=\"hidden\" name=\"csrf\" value=\"{CSRF}\"><input name=\"user\">\
         <input name=\"password\" type=\"password\"></form>"
    );
    html(&pages.title, &form)
}

#[derive(Deserialize)]
struct Login {
    csrf: String,
    user: String,
}

async fn login(Form(login): Form<Login>) -> Response {
    if login.csrf != CSRF || login.user.is_empty() {
        return StatusCode::FORBIDDEN.into_response();
    }
    ([(header::SET_COOKIE, format!("phien={SESSION}; Path=/; Secure; HttpOnly"))], "Đã đăng nhập\n").into_response()
}

fn is_logged_in(headers: &HeaderMap) -> bool {
    let wanted = format!("phien={SESSION}");
    headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(&wanted))
}

async fn file_dossier(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    if !is_logged_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let number = pages.filed.fetch_add(1, Ordering::Relaxed) + 1;
    Json(serde_json::json!({"status": "ok", "maHoSo": format!("THU-{number:04}")})).into_response()
}

async fn pay(headers: HeaderMap) -> Response {
    if !is_logged_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    Json(serde_json::json!({"status": "paid"})).into_response()
}

async fn receipt(State(pages): State<Arc<Pages>>, Path(code): Path<String>, headers: HeaderMap) -> Response {
    if !is_logged_in(&headers) || !is_code(&code) {
        return StatusCode::NOT_FOUND.into_response();
    }
    html(&pages.title, &format!("<p>Giấy hẹn {code}: Đã tiếp nhận</p>")).into_response()
}

async fn withdraw(Path(code): Path<String>, headers: HeaderMap) -> StatusCode {
    if is_logged_in(&headers) && is_code(&code) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

fn is_code(code: &str) -> bool {
    code.strip_prefix("THU-").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}
