//! The locked house, called in process: what each sees, and the ways in that must not be. The routes are in
//! `table_tests.rs`.

use super::tests::{CONFIG, House, ask, house_with, request};
use crate::config::{self, users};
use axum::body::Body;
use axum::http::{HeaderName, Method, Request, StatusCode, header};
use base64::Engine;
use std::fmt::Write;
use std::sync::{Arc, LazyLock};
use tower::ServiceExt;

pub(super) const PASSWORD: &str = "mật khẩu thử";
static HASH: LazyLock<String> = LazyLock::new(|| users::hash_password(PASSWORD).unwrap());

/// Name, roles, agency.
pub(super) const USERS: [(&str, &str, Option<&str>); 8] = [
    ("viewer", "viewer", None),
    ("operator", "operator", None),
    ("leader", "leader", None),
    ("evaluator", "evaluator", None),
    ("admin", "admin", None),
    ("viewer-tk", "viewer", Some("tam-ky")),
    ("operator-tk", "operator, leader", Some("tam-ky")),
    ("admin-tk", "admin", Some("tam-ky")),
];

pub(super) fn users_file() -> String {
    USERS.iter().fold(String::new(), |mut text, (name, roles, agency)| {
        let agency = agency.map_or(String::new(), |agency| format!(", agency: {agency}"));
        let _ = writeln!(text, "{name}: {{hash: '{}', roles: [{roles}]{agency}, language: vi}}", *HASH);
        text
    })
}

/// The house of the other tests, with a users file and a token for each right.
pub(super) async fn locked(more: &str) -> House {
    let rights = ["alerts", "silences", "metrics", "query", "reload"];
    let mut tokens: String =
        rights.iter().map(|right| format!("{{name: {right}, token_file: {right}.token, may: [{right}]}}, ")).collect();
    let _ = write!(tokens, "{{name: tam-ky, token_file: tam-ky.token, may: [{}], agency: tam-ky}}", rights.join(", "));
    let config = format!("{CONFIG}server: {{users_file: users.yml, tokens: [{tokens}]{more}}}\n");
    let (users, mut files) = (users_file(), Vec::new());
    let secrets: Vec<(String, String)> =
        rights.iter().chain(&["tam-ky"]).map(|name| (format!("{name}.token"), format!("secret-of-{name}"))).collect();
    files.extend(secrets.iter().map(|(name, secret)| (name.as_str(), secret.as_str())));
    files.push(("users.yml", &users));
    house_with(&config, &files).await
}

pub(super) fn with(mut request: Request<Body>, name: HeaderName, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

pub(super) fn as_user(request: Request<Body>, user: &str) -> Request<Body> {
    with(request, header::AUTHORIZATION, &basic(user, PASSWORD))
}

fn form(path: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let mut request = request(Method::POST, path);
    *request.body_mut() = Body::from(body);
    with(request, header::CONTENT_TYPE, "application/x-www-form-urlencoded")
}

/// What a user of one agency gets of it and of the others.
#[tokio::test]
async fn somebody_of_one_agency_sees_nothing_of_another() {
    let house = locked("").await;
    house.state.history().sample(house.state.metrics(), jiff::Timestamp::now());
    let get = async |path: &str, user: &str| ask(&house, as_user(request(Method::GET, path), user)).await;
    let ways = [
        "/?lang=vi",
        "/incidents",
        "/reports/2026-W47",
        "/reports/2026-W47?lang=en",
        "/metrics",
        "/api/ioc/v1/agencies",
        "/api/ioc/v1/services",
        "/api/ioc/v1/incidents",
        "/api/ioc/v1/scorecards",
        "/api/v1/query?query=%7B__name__!%3D%22%22%7D",
    ];
    for path in ways {
        let (status, _, all) = get(path, "viewer").await;
        assert_eq!(status, StatusCode::OK, "{path}: {all}");
        let (status, _, own) = get(path, "viewer-tk").await;
        assert_eq!(status, StatusCode::OK, "{path}: {own}");
        for foreign in ["hoi-an", "nui-thanh", "Hội An", "Núi Thành", "qoffice", "ioc_watch_", "ioc_http"] {
            assert!(!own.contains(foreign), "{path} shows {foreign}:\n{own}");
        }
        assert!(own.contains("tam-ky") || own.contains("Tam Kỳ"), "{path} shows nothing:\n{own}");
        assert!(all.len() > own.len() || path.contains("incidents"), "{path}");
    }
    assert_eq!(get("/incidents/7", "viewer-tk").await.0, StatusCode::OK);
    let mut tx = house.state.store().begin().await.unwrap();
    let moved = "UPDATE incidents SET agency = 'hoi-an' WHERE id = 7";
    sqlx::query(moved).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(get("/incidents/7", "viewer-tk").await.0, StatusCode::NOT_FOUND);
    assert!(!get("/api/ioc/v1/incidents", "viewer-tk").await.2.contains("\"id\""));
}

/// No expression reaches what is not there.
#[tokio::test]
async fn no_query_reaches_another_agency() {
    let house = locked("").await;
    house.state.history().sample(house.state.metrics(), jiff::Timestamp::now());
    let reaching = [
        r#"ioc_device_up{agency="hoi-an"}"#,
        r#"ioc_device_up{agency="tam-ky"} or ioc_device_up{agency=~".+"}"#,
        r#"label_replace(ioc_device_up, "agency", "tam-ky", "agency", ".*")"#,
        r#"count(ioc_device_up) by (kind)"#,
        r#"sum(max_over_time(ioc_device_up[1h:1s] offset -1s))"#,
        r#"count({__name__=~".+",agency!="tam-ky"})"#,
        r#"absent(ioc_device_up) unless absent(ioc_device_up)"#,
        r#"topk(5, last_over_time({__name__=~".+",agency!~"x"}[5m])) and on() ioc_device_up"#,
        r#"(((ioc_device_up)))"#,
        r#"process_start_time_seconds"#,
    ];
    for expression in reaching {
        let query: String = url::form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let now = jiff::Timestamp::now().as_second();
        let ranged = format!("/api/v1/query_range?query={query}&start={}&end={}&step=10", now - 60, now + 60);
        for path in [format!("/api/v1/query?query={query}"), ranged] {
            let (status, _, body) = ask(&house, as_user(request(Method::GET, &path), "viewer-tk")).await;
            assert_eq!(status, StatusCode::OK, "{body}");
            assert!(body.contains(r#""result":[]"#), "{expression}: {body}");
        }
    }
    let own = "/api/v1/query?query=ioc_payment_mismatches_open";
    assert!(ask(&house, as_user(request(Method::GET, own), "viewer-tk")).await.2.contains("tam-ky"));
}

/// Logs in and gives the cookie as a browser sends it back.
async fn login(house: &House, user: &str, password: &str) -> (StatusCode, Option<String>) {
    let sent = form("/login", &[("user", user), ("password", password), ("next", "/incidents")]);
    let (status, headers, _) = ask(house, sent).await;
    let cookie = headers.get(header::SET_COOKIE).map(|value| value.to_str().unwrap().to_owned());
    (status, cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned()))
}

fn csrf_of(page: &str) -> &str {
    page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap()
}

#[tokio::test]
async fn a_session_from_login_to_logout() {
    let house = locked("").await;
    let page = |path: &str| with(request(Method::GET, path), header::ACCEPT, "text/html,*/*;q=0.8");
    let (status, headers, _) = ask(&house, page("/incidents?lang=vi")).await;
    assert_eq!(
        (status, headers[header::LOCATION].to_str().unwrap()),
        (StatusCode::SEE_OTHER, "/login?next=%2Fincidents%3Flang%3Dvi")
    );
    for (lang, expected) in [("vi", "Tên đăng nhập"), ("en", "User name")] {
        let (status, headers, body) = ask(&house, page(&format!("/login?lang={lang}&next=/incidents"))).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains(expected) && body.contains("value=\"&#x2f;incidents\""), "{body}");
        assert!(!body.contains("style=") && !body.contains("<script"));
        assert_eq!(headers[header::REFERRER_POLICY], "same-origin");
    }
    let (status, headers, body) = ask(&house, form("/login?lang=vi", &[("user", "viewer"), ("password", "x")])).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body.contains("không đúng") && headers.get(header::SET_COOKIE).is_none() && !body.contains("viewer-tk"));

    let sent = form("/login", &[("user", " Operator "), ("password", PASSWORD), ("next", "//evil.example")]);
    let (status, headers, _) = ask(&house, sent).await;
    assert_eq!(
        (status, headers[header::LOCATION].to_str().unwrap()),
        (StatusCode::SEE_OTHER, "/"),
        "a name as phones type it"
    );
    let set = headers[header::SET_COOKIE].to_str().unwrap();
    assert!(set.starts_with("ioc_session=") && set.ends_with("; HttpOnly; SameSite=Lax"), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    let mine = |request: Request<Body>| with(request, header::COOKIE, &cookie);
    let (status, _, body) = ask(&house, mine(page("/incidents"))).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("operator") && body.contains("Đăng xuất"), "the user's language: {body}");
    let csrf = csrf_of(&body).to_owned();

    // What a session writes carries its token, whatever else it is.
    let writes = [
        ("no token", form("/logout", &[]), StatusCode::FORBIDDEN),
        ("another's token", form("/logout", &[("csrf", &"0".repeat(csrf.len()))]), StatusCode::FORBIDDEN),
        ("no form", request(Method::POST, "/api/v1/query"), StatusCode::FORBIDDEN),
        (
            "a foreign page that knows it",
            with(form("/logout", &[("csrf", &csrf)]), header::ORIGIN, "https://evil.example"),
            StatusCode::FORBIDDEN,
        ),
        (
            "a form too long",
            form("/logout", &[("csrf", &csrf), ("x", &"x".repeat(70_000))]),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
        (
            "the token in a header",
            with(request(Method::POST, "/api/v1/query"), HeaderName::from_static("x-csrf-token"), &csrf),
            StatusCode::BAD_REQUEST,
        ),
    ];
    for (name, request, expected) in writes {
        assert_eq!(ask(&house, mine(request)).await.0, expected, "{name}");
    }
    assert_eq!(ask(&house, mine(page("/incidents"))).await.0, StatusCode::OK, "nothing of it ended the session");

    let (status, headers, _) = ask(&house, mine(form("/logout", &[("csrf", &csrf)]))).await;
    assert_eq!((status, headers[header::LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, "/login"));
    assert!(headers[header::SET_COOKIE].to_str().unwrap().contains("ioc_session=; Path=/; Max-Age=0"));
    let (status, headers, _) = ask(&house, mine(page("/incidents"))).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "replayed");
    assert!(headers[header::LOCATION].to_str().unwrap().starts_with("/login"));
    assert_eq!(ask(&house, mine(request(Method::GET, "/api/ioc/v1/agencies"))).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_session_ends_with_its_user_and_password() {
    let house = locked("").await;
    let (status, cookie) = login(&house, "viewer", PASSWORD).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let cookie = cookie.unwrap();
    let page = || with(request(Method::GET, "/api/ioc/v1/agencies"), header::COOKIE, &cookie);
    assert_eq!(ask(&house, page()).await.0, StatusCode::OK);
    let reload = |users: String| {
        std::fs::write(house.dir.path().join("users.yml"), users).unwrap();
        house.state.replace_config(Arc::new(config::load(&house.dir.path().join("ioc-watch.yml")).unwrap()));
    };
    let changed = users_file().replacen(&*HASH, &users::hash_password("another password").unwrap(), 1);
    reload(changed);
    assert_eq!(ask(&house, page()).await.0, StatusCode::UNAUTHORIZED, "another password");
    assert_eq!(login(&house, "viewer", PASSWORD).await.0, StatusCode::UNAUTHORIZED);
    reload(users_file());
    assert_eq!(ask(&house, page()).await.0, StatusCode::OK, "the same again");
    reload(users_file().lines().skip(1).map(|line| format!("{line}\n")).collect());
    assert_eq!(ask(&house, page()).await.0, StatusCode::UNAUTHORIZED, "removed");
    // Basic is remembered, but not beyond a change.
    let curl = || as_user(request(Method::GET, "/api/ioc/v1/agencies"), "operator");
    assert_eq!(ask(&house, curl()).await.0, StatusCode::OK);
    reload(users_file().lines().take(1).map(|line| format!("{line}\n")).collect());
    assert_eq!(ask(&house, curl()).await.0, StatusCode::UNAUTHORIZED, "removed");
}

/// Each forgery against a user who is logged in, a page and a write.
#[tokio::test]
async fn forged_requests_are_refused() {
    let house = locked("").await;
    let cookie = login(&house, "admin", PASSWORD).await.1.unwrap();
    let by = |request: Request<Body>, way: &str| match way {
        "basic" => as_user(request, "admin"),
        _ => with(request, header::COOKIE, &cookie),
    };
    let (_, _, page) = ask(&house, by(with(request(Method::GET, "/"), header::ACCEPT, "text/html"), "session")).await;
    let csrf = csrf_of(&page).to_owned();
    let token = HeaderName::from_static("x-csrf-token");
    let site = HeaderName::from_static("sec-fetch-site");
    let (ok, no) = (StatusCode::NO_CONTENT, StatusCode::FORBIDDEN);
    // Header, value, what becomes of a read and of a write.
    let rows: [(&str, HeaderName, &str, StatusCode, StatusCode); 10] = [
        ("ours", header::ORIGIN, "http://127.0.0.1:9470", ok, ok),
        ("a name that points here", header::HOST, "evil.example", no, no),
        ("a name that begins like ours", header::HOST, "ioc.example.evil.example", no, no),
        ("our name", header::HOST, "ioc.example", ok, ok),
        ("a foreign page", header::ORIGIN, "https://evil.example", ok, no),
        ("a page without an origin", header::ORIGIN, "null", ok, no),
        ("another program's page", header::ORIGIN, "http://127.0.0.1:3000", ok, no),
        ("the browser says cross-site", site.clone(), "cross-site", ok, no),
        ("the browser says same-site", site, "same-site", ok, no),
        ("a forged forwarder", HeaderName::from_static("x-forwarded-for"), "127.0.0.1", ok, ok),
    ];
    let router = super::table_tests::stubs(&house);
    for (name, header_name, value, read, write) in rows {
        for way in ["basic", "session"] {
            let asked = with(by(request(Method::GET, "/status"), way), header_name.clone(), value);
            assert_eq!(router.clone().oneshot(asked).await.unwrap().status(), read, "{name}, {way}");
            let asked = with(by(request(Method::POST, "/-/reload"), way), token.clone(), &csrf);
            let asked = with(asked, header_name.clone(), value);
            assert_eq!(router.clone().oneshot(asked).await.unwrap().status(), write, "{name}, {way}");
        }
        let sent = with(form("/login", &[("user", "admin"), ("password", PASSWORD)]), header_name.clone(), value);
        assert_eq!(router.clone().oneshot(sent).await.unwrap().status(), write, "{name}: login");
    }
    // Whoever comes from this machine is nobody for that.
    assert_eq!(ask(&house, request(Method::POST, "/-/reload")).await.0, StatusCode::UNAUTHORIZED);
    let wrong = with(request(Method::GET, "/"), header::AUTHORIZATION, "Bearer secret-of-nobody");
    assert_eq!(ask(&house, with(wrong, header::COOKIE, &cookie)).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn brute_force_is_slowed_down_and_the_right_password_with_it() {
    let house = locked("").await;
    let mut statuses = Vec::new();
    for attempt in 0..9 {
        statuses.push(login(&house, "admin", &format!("guess {attempt}")).await.0.as_u16());
    }
    assert_eq!(statuses[..6], [401; 6]);
    assert!(statuses[6..].iter().all(|status| *status == 429), "{statuses:?}");
    let (status, cookie) = login(&house, "admin", PASSWORD).await;
    assert_eq!((status, cookie), (StatusCode::TOO_MANY_REQUESTS, None));
    let curl = as_user(request(Method::GET, "/metrics"), "admin");
    let (status, headers, _) = ask(&house, curl).await;
    assert_eq!((status, headers.contains_key(header::RETRY_AFTER)), (StatusCode::TOO_MANY_REQUESTS, true));
    // Nobody learns from the answer whether a name exists.
    let (known, unknown) = (login(&house, "viewer", "x").await, login(&house, "nobody", "x").await);
    assert_eq!(known, unknown);
    let logins = &house.state.metrics().own.logins;
    assert!(logins.with_label_values(&["throttled"]).get() >= 5);
    assert_eq!(logins.with_label_values(&["wrong"]).get(), 8);
    assert_eq!(logins.with_label_values(&["ok"]).get(), 0);
}

/// Many names from one address; behind a proxy that is trusted, the addresses it names.
#[tokio::test]
async fn an_address_is_slowed_down_and_only_a_trusted_proxy_tells_it() {
    let house = locked(", trusted_proxies: [127.0.0.1]").await;
    let trusting = locked("").await;
    let from = HeaderName::from_static("x-forwarded-for");
    for (house, name, expected) in [(&trusting, "not trusted", 429), (&house, "trusted", 401)] {
        let mut last = 0;
        for index in 0..22 {
            let sent = form("/login", &[("user", &format!("user-{index}")), ("password", &"x".repeat(2_000))]);
            last = ask(house, with(sent, from.clone(), &format!("192.0.2.{index}"))).await.0.as_u16();
        }
        assert_eq!(last, expected, "{name}");
    }
    // What stands before the proxy's own word is the client's.
    let mut last = 0;
    for index in 0..22 {
        let sent = form("/login", &[("user", &format!("v-{index}")), ("password", &"x".repeat(2_000))]);
        last = ask(&house, with(sent, from.clone(), &format!("198.51.100.{index}, 203.0.113.9"))).await.0.as_u16();
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn where_the_browser_speaks_tls_the_cookie_is_for_tls_only() {
    let house = locked(", trusted_proxies: [127.0.0.1]").await;
    let sent = form("/login", &[("user", "viewer"), ("password", PASSWORD)]);
    let sent = with(sent, HeaderName::from_static("x-forwarded-proto"), "https");
    let (_, headers, _) = ask(&house, with(sent, header::HOST, "ioc.example")).await;
    let set = headers[header::SET_COOKIE].to_str().unwrap();
    assert!(set.starts_with("__Host-ioc_session=") && set.ends_with("; Secure"), "{set}");
    assert!(headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
    // In clear it is no session.
    let cookie = set.split(';').next().unwrap().replace("__Host-", "");
    let page = with(request(Method::GET, "/api/ioc/v1/agencies"), header::COOKIE, &cookie);
    assert_eq!(ask(&house, page).await.0, StatusCode::OK, "the plain name in the plain place is the same session");
    let page = with(request(Method::GET, "/api/ioc/v1/agencies"), header::COOKIE, &cookie);
    let page = with(page, HeaderName::from_static("x-forwarded-proto"), "https");
    assert_eq!(ask(&house, page).await.0, StatusCode::UNAUTHORIZED, "a cookie that anybody could have set");
}

/// A dashboard's first look: none of its requests is taken for a guess.
#[tokio::test]
async fn many_at_once_with_one_password_prove_it_once() {
    let house = locked("").await;
    let asked = (0..40).map(|_| ask(&house, as_user(request(Method::GET, "/api/ioc/v1/agencies"), "viewer")));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|(status, ..)| *status == StatusCode::OK));
    assert_eq!(house.state.metrics().own.logins.with_label_values(&["ok"]).get(), 1);
}

/// Who is refused a page is told on a page, in their language; a program gets a line.
#[tokio::test]
async fn a_person_who_is_refused_gets_a_page() {
    let house = locked("").await;
    for (language, expected) in [("vi", "không có quyền"), ("en", "have not the right")] {
        let asked = with(as_user(request(Method::GET, "/status"), "viewer-tk"), header::ACCEPT, "text/html");
        let (status, _, body) = ask(&house, with(asked, header::ACCEPT_LANGUAGE, language)).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(body.contains("<h1>") && body.contains(expected), "{body}");
    }
    let (_, _, body) = ask(&house, as_user(request(Method::GET, "/status"), "viewer-tk")).await;
    assert!(!body.contains('<'), "{body}");
}

/// In clear over a network nobody's password is even looked at, but for the proxies that are trusted.
#[tokio::test]
async fn in_clear_only_trusted_proxies_may_ask() {
    let house = locked(", trusted_proxies: [10.0.0.0/24]").await;
    let from = |request: Request<Body>, peer: [u8; 4]| {
        let mut request = with(request, HeaderName::from_static("x-forwarded-for"), "10.0.0.7, 127.0.0.1");
        request.extensions_mut().insert(axum::extract::ConnectInfo(std::net::SocketAddr::from((peer, 40_000))));
        request
    };
    let page = || as_user(request(Method::GET, "/api/ioc/v1/agencies"), "viewer");
    let token = || with(request(Method::GET, "/metrics"), header::AUTHORIZATION, "Bearer secret-of-metrics");
    let sent = || form("/login", &[("user", "viewer"), ("password", PASSWORD)]);
    for (peer, read, login) in [([10, 0, 0, 7], 200, 303), ([127, 0, 0, 1], 200, 303), ([192, 0, 2, 7], 403, 403)] {
        assert_eq!(ask(&house, from(page(), peer)).await.0.as_u16(), read, "{peer:?}");
        assert_eq!(ask(&house, from(token(), peer)).await.0.as_u16(), read, "{peer:?}");
        assert_eq!(ask(&house, from(sent(), peer)).await.0.as_u16(), login, "{peer:?}");
        assert_eq!(ask(&house, from(request(Method::GET, "/-/healthy"), peer)).await.0, StatusCode::OK);
    }
    assert_eq!(house.state.metrics().own.logins.with_label_values(&["ok"]).get(), 3, "one of them for two");
}
