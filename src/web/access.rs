//! Who may do what: one table of every route, one pure decision. No handler decides for itself; a handler of a route of
//! scope [`Scope::Own`] asks [`Identity::sees`] what to show and take.
//!
//! Without a users file the daemon listens on loopback only, so whoever reads is on this machine or came through a proxy
//! that the operator put in front. Still:
//!
//! - a page in somebody's browser can make that browser send requests here, or point a name of its own at 127.0.0.1:
//!   so reads want a `Host` that is ours, and writes no `Origin` but ours;
//! - a proxy makes strangers look local: so a write that was forwarded is nobody's;
//! - a bearer token proves its holder by itself: it needs none of this, has exactly its rights, and a wrong one is
//!   refused even where nothing would have been asked;
//! - `/metrics` names subjects and their state. Once a token for it exists the operator has said who reads it: a local
//!   process that came directly, or a holder of the token; no longer what a proxy forwards.
//!
//! With a users file nobody is trusted for where they are: whatever is not public needs a session, HTTP Basic or a token.
//! Browsers send the first two by themselves, so both want a `Host` that is ours and, for writes, no `Origin` but ours;
//! a session's forms carry a token besides (see `guard.rs`).

use crate::config::organisation::Agency;
use crate::config::site::{Language, Right, Token};
use crate::config::users::{Role, User};
use crate::config::{Config, Id};
use axum::http::Method;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Says nothing about anybody: for load balancers, supervisors and who has not logged in yet.
    Public,
    /// The login itself: nobody is known yet, but no foreign page may send it.
    Login,
    /// Whoever holds a signed link of ours, as its handler finds out. It is opened from anywhere, a mail above all; what
    /// acts is sent by no foreign page.
    Link,
    Read,
    /// Changes something, or keeps us busy: no foreign page may send it.
    Write,
}

/// What a route means to somebody who sees one agency only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Nothing of any agency is in it.
    Neutral,
    /// Its handler shows and takes what [`Identity::sees`], and nothing else.
    Own,
    /// It is about the whole site: refused.
    Whole,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: &'static Method,
    /// As the router knows it.
    pub path: &'static str,
    pub access: Access,
    /// What a token needs; `None`: no token opens it.
    pub right: Option<Right>,
    /// Which users may.
    pub roles: &'static [Role],
    pub scope: Scope,
}

use Access::{Link, Login, Public, Read, Write};
use Right::{Alerts, Bounces, Heartbeats, Metrics, Payments, Query, Reload, Silences, Usage};
use Scope::{Neutral, Own, Whole};

const GET: &Method = &Method::GET;
const POST: &Method = &Method::POST;
const DELETE: &Method = &Method::DELETE;

const ALL: &[Role] = &Role::ALL;
/// Run the centre: silences, maintenance, alerts by hand.
const OPERATE: &[Role] = &[Role::Operator, Role::Admin];
/// Answer for an incident.
const ANSWER: &[Role] = &[Role::Operator, Role::Leader, Role::Admin];
/// Say whose an outage was. For the whole site only: nobody judges their own agency.
const JUDGE: &[Role] = &[Role::Operator, Role::Evaluator, Role::Admin];
const ADMIN: &[Role] = &[Role::Admin];

/// Every route there is. What is not listed here is refused.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    line(GET,    "/-/healthy",               Public, None,           &[],     Neutral),
    line(GET,    "/-/ready",                 Public, None,           &[],     Neutral),
    line(POST,   "/-/reload",                Write,  Some(Reload),   ADMIN,   Whole),
    line(GET,    "/metrics",                 Read,   Some(Metrics),  ALL,     Own),
    line(GET,    "/api/v1/query",            Read,   Some(Query),    ALL,     Own),
    // Reads by POST: a body has room for long expressions. As a write, so that no foreign page can keep us busy.
    line(POST,   "/api/v1/query",            Write,  Some(Query),    ALL,     Own),
    line(GET,    "/api/v1/query_range",      Read,   Some(Query),    ALL,     Own),
    line(POST,   "/api/v1/query_range",      Write,  Some(Query),    ALL,     Own),
    line(GET,    "/api/v1/query_exemplars",  Read,   Some(Query),    ALL,     Neutral),
    line(POST,   "/api/v1/query_exemplars",  Write,  Some(Query),    ALL,     Neutral),
    line(GET,    "/api/v1/series",           Read,   Some(Query),    ALL,     Own),
    line(POST,   "/api/v1/series",           Write,  Some(Query),    ALL,     Own),
    line(GET,    "/api/v1/labels",           Read,   Some(Query),    ALL,     Own),
    line(POST,   "/api/v1/labels",           Write,  Some(Query),    ALL,     Own),
    line(GET,    "/api/v1/label/{name}/values", Read, Some(Query),   ALL,     Own),
    line(GET,    "/api/v1/metadata",         Read,   Some(Query),    ALL,     Neutral),
    line(GET,    "/api/v1/rules",            Read,   Some(Query),    ALL,     Own),
    line(GET,    "/api/v1/alerts",           Read,   Some(Query),    ALL,     Own),
    line(GET,    "/api/v1/status/buildinfo", Read,   Some(Query),    ALL,     Neutral),
    line(GET,    "/api/v2/alerts",           Read,   Some(Alerts),   ALL,     Own),
    line(POST,   "/api/v2/alerts",           Write,  Some(Alerts),   OPERATE, Own),
    line(GET,    "/api/v2/alerts/groups",    Read,   Some(Alerts),   ALL,     Own),
    line(GET,    "/api/v2/receivers",        Read,   Some(Alerts),   ALL,     Neutral),
    line(GET,    "/api/v2/status",           Read,   Some(Alerts),   ALL,     Neutral),
    line(GET,    "/api/v2/silences",         Read,   Some(Silences), ALL,     Own),
    line(POST,   "/api/v2/silences",         Write,  Some(Silences), OPERATE, Own),
    line(GET,    "/api/v2/silence/{id}",     Read,   Some(Silences), ALL,     Own),
    line(DELETE, "/api/v2/silence/{id}",     Write,  Some(Silences), OPERATE, Own),
    line(GET,    "/api/ioc/v1/openapi.json", Read,   Some(Query),    ALL,     Neutral),
    line(GET,    "/api/ioc/v1/agencies",     Read,   Some(Query),    ALL,     Own),
    line(GET,    "/api/ioc/v1/services",     Read,   Some(Query),    ALL,     Own),
    line(GET,    "/api/ioc/v1/devices",      Read,   Some(Query),    ALL,     Own),
    line(GET,    "/api/ioc/v1/heartbeats",   Read,   Some(Query),    ALL,     Own),
    line(POST,   "/api/ioc/v1/heartbeats/{id}", Write, Some(Heartbeats), OPERATE, Own),
    line(GET,    "/api/ioc/v1/incidents",    Read,   Some(Query),    ALL,     Own),
    line(GET,    "/api/ioc/v1/incidents/{id}", Read, Some(Query),    ALL,     Own),
    line(POST,   "/api/ioc/v1/incidents/{id}/{action}", Write, Some(Silences), ANSWER, Own),
    line(GET,    "/api/ioc/v1/mismatches",   Read,   Some(Query),    ALL,     Own),
    line(GET,    "/api/ioc/v1/scorecards",   Read,   Some(Query),    ALL,     Own),
    line(GET,    "/api/ioc/v1/availability", Read,   Some(Query),    ALL,     Own),
    line(GET,    "/api/ioc/v1/dependencies", Read,   Some(Query),    ALL,     Own),
    line(GET,    "/api/ioc/v1/maintenance",  Read,   Some(Query),    ALL,     Own),
    line(POST,   "/api/ioc/v1/maintenance",  Write,  Some(Silences), OPERATE, Own),
    line(DELETE, "/api/ioc/v1/maintenance/{id}", Write, Some(Silences), OPERATE, Own),
    line(GET,    "/api/ioc/v1/overrides",    Read,   Some(Query),    ALL,     Own),
    line(POST,   "/api/ioc/v1/overrides",    Write,  None,           JUDGE,   Whole),
    line(DELETE, "/api/ioc/v1/overrides/{id}", Write, None,          JUDGE,   Whole),
    line(GET,    "/api/ioc/v1/outbox",       Read,   None,           ANSWER,  Own),
    line(POST,   "/api/ioc/v1/bounces",      Write,  Some(Bounces),  ADMIN,   Whole),
    // By programs only: what people know they put into files.
    line(POST,   "/api/ioc/v1/payments/portal",  Write, Some(Payments), &[],  Own),
    line(POST,   "/api/ioc/v1/payments/gateway", Write, Some(Payments), &[],  Own),
    line(POST,   "/api/ioc/v1/usage",        Write,  Some(Usage),    &[],     Own),
    line(GET,    "/",                        Read,   None,           ALL,     Own),
    line(GET,    "/agencies/{id}",           Read,   None,           ALL,     Own),
    line(GET,    "/incidents",               Read,   None,           ALL,     Own),
    line(GET,    "/incidents/{id}",          Read,   None,           ALL,     Own),
    line(POST,   "/incidents/{id}",          Write,  None,           ANSWER,  Own),
    line(GET,    "/silences",                Read,   None,           ALL,     Own),
    line(POST,   "/silences/{id}",           Write,  None,           ANSWER,  Own),
    line(GET,    "/ack/{token}",             Link,   None,           &[],     Neutral),
    line(POST,   "/ack/{token}",             Link,   None,           &[],     Neutral),
    line(GET,    "/payments",                Read,   None,           ALL,     Own),
    line(GET,    "/devices",                 Read,   None,           ALL,     Own),
    line(GET,    "/maintenance",             Read,   None,           ALL,     Own),
    line(POST,   "/maintenance",             Write,  None,           OPERATE, Own),
    line(GET,    "/reports",                 Read,   None,           ALL,     Neutral),
    line(GET,    "/reports/{week}",          Read,   None,           ALL,     Own),
    line(GET,    "/status",                  Read,   None,           ALL,     Whole),
    line(GET,    "/runbooks/{name}",         Read,   None,           ALL,     Neutral),
    line(GET,    "/assets/style.css",        Public, None,           &[],     Neutral),
    line(GET,    "/login",                   Public, None,           &[],     Neutral),
    line(POST,   "/login",                   Login,  None,           &[],     Neutral),
    line(POST,   "/logout",                  Write,  None,           ALL,     Neutral),
];

const fn line(
    method: &'static Method,
    path: &'static str,
    access: Access,
    right: Option<Right>,
    roles: &'static [Role],
    scope: Scope,
) -> Route {
    Route { method, path, access, right, roles, scope }
}

/// The line of a route; `None` if the table does not know it.
pub fn of(method: &Method, path: &str) -> Option<&'static Route> {
    // What answers GET answers HEAD.
    let method = if method == Method::HEAD { GET } else { method };
    ROUTES.iter().find(|route| route.method == method && route.path == path)
}

/// What is known of a request but for its credentials.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Of the connection; never what a header says.
    pub peer: Option<IpAddr>,
    /// With the port, as sent.
    pub host: Option<&'a str>,
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`: the browser's own word for where a request comes from.
    pub fetch_site: Option<&'a str>,
    /// A proxy said that it forwards.
    pub forwarded: bool,
    /// Nobody on the way could read it: TLS, this machine alone, or a proxy that the configuration trusts.
    pub private: bool,
}

/// What the configuration says.
#[derive(Debug, Clone, Copy)]
pub struct House<'a> {
    /// There is a users file.
    pub has_users: bool,
    /// Of the site's external URL.
    pub external_host: Option<&'a str>,
    /// Some token may read the metrics.
    pub has_metrics_token: bool,
}

/// Who asks, as the guard found out; every handler finds it in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's or token's name; `local` for who comes from this machine without either. For timelines and records.
    pub name: String,
    /// Sees and writes this agency and those below it only; `None` all of them.
    pub agency: Option<Id>,
    /// The person of the configuration that the user is.
    pub person: Option<Id>,
    /// That the user's pages are in.
    pub language: Option<Language>,
    pub kind: Kind,
    /// What the session's forms carry; `None` without a session.
    pub csrf: Option<String>,
    /// `agency` and those below it.
    visible: Option<Arc<BTreeSet<Id>>>,
}

/// How somebody is known, and so what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// On this machine, where no users file asks for more.
    Local,
    /// Of a public route.
    Nobody,
    Token(BTreeSet<Right>),
    User(BTreeSet<Role>),
}

impl Identity {
    /// Someone on this machine, where no users file asks for more.
    pub fn local() -> Identity {
        Identity::unbound("local", Kind::Local)
    }

    pub(super) fn nobody() -> Identity {
        Identity::unbound("", Kind::Nobody)
    }

    fn unbound(name: &str, kind: Kind) -> Identity {
        Identity { name: name.into(), agency: None, person: None, language: None, kind, csrf: None, visible: None }
    }

    pub fn token(token: &Token, agencies: &[Agency]) -> Identity {
        Identity::unbound(&token.name, Kind::Token(token.may.clone())).bound(token.agency.as_ref(), agencies)
    }

    /// `csrf` if it is a session.
    pub fn user(user: &User, config: &Config, csrf: Option<String>) -> Identity {
        let person = config.people.iter().find(|person| Some(&person.id) == user.person.as_ref());
        Identity {
            person: user.person.clone(),
            language: user.language.or(person.and_then(|person| person.language)),
            csrf,
            ..Identity::unbound(&user.name, Kind::User(user.roles.clone()))
                .bound(user.agency.as_ref(), &config.agencies)
        }
    }

    fn bound(mut self, agency: Option<&Id>, agencies: &[Agency]) -> Identity {
        self.visible = agency.map(|agency| Arc::new(subtree(agency, agencies)));
        self.agency = agency.cloned();
        self
    }

    /// Whether the agency is theirs to see and write. What belongs to no agency is seen by who is not bound to one.
    pub fn sees(&self, agency: &str) -> bool {
        self.kind != Kind::Nobody && self.visible.as_ref().is_none_or(|visible| visible.contains(agency))
    }

    /// Whether an alert with these labels is theirs to see: groups need not be of one agency.
    pub(super) fn sees_alert(&self, labels: &serde_json::Value) -> bool {
        let agency = labels.get("agency").and_then(serde_json::Value::as_str);
        self.visible.is_none() || agency.is_some_and(|agency| self.sees(agency))
    }

    /// The agencies they see; `None` all of them.
    pub fn visible(&self) -> Option<&Arc<BTreeSet<Id>>> {
        self.visible.as_ref()
    }

    /// Whether they may answer for incidents, so that a page shows them how.
    pub(super) fn may_answer(&self) -> bool {
        of(POST, "/incidents/{id}").is_some_and(|route| self.may(route))
    }

    fn may(&self, route: &Route) -> bool {
        let fits = self.visible.is_none() || route.scope != Whole;
        fits && match &self.kind {
            Kind::Local => true,
            Kind::Nobody => false,
            Kind::Token(rights) => route.right.is_some_and(|right| rights.contains(&right)),
            Kind::User(roles) => route.roles.iter().any(|role| roles.contains(role)),
        }
    }
}

/// An agency and all below it.
fn subtree(root: &Id, agencies: &[Agency]) -> BTreeSet<Id> {
    let mut found = BTreeSet::from([root.clone()]);
    loop {
        let below = agencies.iter().filter(|agency| agency.parent.as_ref().is_some_and(|p| found.contains(p)));
        let new: Vec<Id> = below.map(|agency| agency.id.clone()).filter(|id| !found.contains(id)).collect();
        if new.is_empty() {
            return found;
        }
        found.extend(new);
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// The route is not in the table.
    UnknownRoute,
    /// 401: the credentials are wrong.
    BadCredentials,
    /// 401: there are none.
    Unknown,
    /// Not theirs: the role or right, or not for all agencies.
    NoRight,
    /// The `Host` is not one of ours.
    ForeignHost,
    /// The request comes from a page that is not ours.
    ForeignOrigin,
    /// A session's request without its token.
    NoFormToken,
    /// Forwarded by a proxy, or not from this machine.
    NotLocal,
    /// In clear over a network.
    InClear,
}

impl Denial {
    pub fn message(self) -> &'static str {
        match self {
            Denial::UnknownRoute => "no access is defined for this path",
            Denial::BadCredentials => "the credentials are not right",
            Denial::Unknown => "log in, or send HTTP Basic credentials or a bearer token",
            Denial::NoRight => "you have not the right to do this, or only for one agency",
            Denial::ForeignHost => "the Host header is neither an address of ours nor the site's external_url",
            Denial::ForeignOrigin => "the request comes from a page of another site",
            Denial::NoFormToken => "the form is too old or not ours: load the page again",
            Denial::NotLocal => "without a token this is open to this machine only, and not through a proxy",
            Denial::InClear => "only the trusted proxies may ask without TLS",
        }
    }

    /// [`Denial::message`] for Vietnamese readers.
    pub fn message_vi(self) -> &'static str {
        match self {
            Denial::UnknownRoute => "không có trang này",
            Denial::BadCredentials => "thông tin đăng nhập không đúng",
            Denial::Unknown => "hãy đăng nhập",
            Denial::NoRight => "bạn không có quyền này, hoặc chỉ có quyền với một đơn vị",
            Denial::ForeignHost => "tên máy chủ trong địa chỉ không phải của hệ thống này (xem external_url)",
            Denial::ForeignOrigin => "yêu cầu đến từ trang của một hệ thống khác",
            Denial::NoFormToken => "biểu mẫu đã cũ: hãy tải lại trang",
            Denial::NotLocal => "chỉ mở cho chính máy này, không qua máy chủ trung gian",
            Denial::InClear => "không dùng TLS thì chỉ máy chủ trung gian tin cậy được truy cập",
        }
    }
}

/// Decides. `proven` is who the credentials prove, if there were any.
pub fn decide(
    route: &Route,
    situation: &Situation<'_>,
    house: House<'_>,
    proven: Option<Identity>,
) -> Result<Identity, Denial> {
    if route.access == Public {
        return Ok(proven.unwrap_or_else(Identity::nobody));
    }
    if house.has_users && !situation.private {
        return Err(Denial::InClear);
    }
    if matches!(route.access, Login | Link) {
        our_host(situation, house)?;
        if route.method != GET {
            same_origin(situation)?;
        }
        return Ok(proven.unwrap_or_else(Identity::nobody));
    }
    match proven {
        Some(identity) => {
            if !matches!(identity.kind, Kind::Token(_)) {
                our_host(situation, house)?;
                if route.access == Write {
                    same_origin(situation)?;
                }
            }
            if identity.may(route) { Ok(identity) } else { Err(Denial::NoRight) }
        }
        None if house.has_users => our_host(situation, house).and(Err(Denial::Unknown)),
        None => local(route, situation, house),
    }
}

/// Without users and without a token: who is on this machine.
fn local(route: &Route, situation: &Situation<'_>, house: House<'_>) -> Result<Identity, Denial> {
    let is_local = situation.peer.is_some_and(|peer| peer.to_canonical().is_loopback()) && !situation.forwarded;
    let host = situation.host.map(without_port).ok_or(Denial::ForeignHost)?;
    if route.access == Write {
        if !is_local {
            return Err(Denial::NotLocal);
        }
        if !is_loopback_name(host) {
            return Err(Denial::ForeignHost);
        }
        return same_origin(situation).map(|()| Identity::local());
    }
    if !is_loopback_name(host) && !is_external(host, house) {
        return Err(Denial::ForeignHost);
    }
    let guarded = route.right == Some(Metrics) && house.has_metrics_token;
    if guarded && !is_local { Err(Denial::NotLocal) } else { Ok(Identity::local()) }
}

/// With users: a name that a stranger points at us is not ours; an address is nobody's name.
fn our_host(situation: &Situation<'_>, house: House<'_>) -> Result<(), Denial> {
    let host = situation.host.map(without_port).ok_or(Denial::ForeignHost)?;
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let is_address = !house.has_users || address.parse::<IpAddr>().is_ok();
    if is_address || is_loopback_name(host) || is_external(host, house) { Ok(()) } else { Err(Denial::ForeignHost) }
}

fn is_external(host: &str, house: House<'_>) -> bool {
    house.external_host.is_some_and(|external| external.eq_ignore_ascii_case(host))
}

pub(super) fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.split_inclusive(']').next().unwrap_or(host);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback_name(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// No page at all, or one of ours: the same host *and port*, for another program's pages live on another port.
fn same_origin(situation: &Situation<'_>) -> Result<(), Denial> {
    let foreign_site = situation.fetch_site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let foreign_origin = situation.origin.is_some_and(|origin| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_none() || host != situation.host
    });
    if foreign_site || foreign_origin { Err(Denial::ForeignOrigin) } else { Ok(()) }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
