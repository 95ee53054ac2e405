//! Who may do what: one table of every route, one pure decision. No handler decides for itself.
//!
//! This is the rule of a daemon without a users file. It listens on loopback only, so whoever reads is on this machine
//! or came through a proxy that the operator put in front. Still:
//!
//! - a page in somebody's browser can make that browser send requests here, or point a name of its own at 127.0.0.1:
//!   so reads want a `Host` that is ours, and writes no `Origin` but ours;
//! - a proxy makes strangers look local: so a write that was forwarded is nobody's;
//! - a bearer token proves its holder by itself: it needs none of this, has exactly its rights, and a wrong one is
//!   refused even where nothing would have been asked.
//!
//! `/metrics` names subjects and their state. Once a token for it exists the operator has said who reads it: a local
//! process that came directly, or a holder of the token; no longer what a proxy forwards.

use crate::config::Id;
use crate::config::site::{Right, Token};
use axum::http::Method;
use std::net::IpAddr;

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Says nothing about anybody: for load balancers and supervisors.
    Public,
    /// Reads; a token needs the right, if there is one that covers the route.
    Read(Option<Right>),
    /// Changes something.
    Write(Option<Right>),
}

use Access::{Public, Read, Write};

/// Every route there is: method, path as the router knows it, access. What is not listed here is refused.
pub const ROUTES: &[(Method, &str, Access)] = &[
    (Method::GET, "/-/healthy", Public),
    (Method::GET, "/-/ready", Public),
    (Method::POST, "/-/reload", Write(Some(Right::Reload))),
    (Method::GET, "/metrics", Read(Some(Right::Metrics))),
    (Method::GET, "/api/v1/query", Read(Some(Right::Query))),
    // Reads by POST: a body has room for long expressions. As a write, so that no foreign page can keep us busy.
    (Method::POST, "/api/v1/query", Write(Some(Right::Query))),
    (Method::GET, "/api/v1/query_range", Read(Some(Right::Query))),
    (Method::POST, "/api/v1/query_range", Write(Some(Right::Query))),
    (Method::GET, "/api/v1/status/buildinfo", Read(Some(Right::Query))),
    (Method::GET, "/api/v2/alerts", Read(Some(Right::Alerts))),
    (Method::POST, "/api/v2/alerts", Write(Some(Right::Alerts))),
    (Method::GET, "/api/v2/alerts/groups", Read(Some(Right::Alerts))),
    (Method::GET, "/api/v2/receivers", Read(Some(Right::Alerts))),
    (Method::GET, "/api/v2/status", Read(Some(Right::Alerts))),
    (Method::GET, "/api/v2/silences", Read(Some(Right::Silences))),
    (Method::POST, "/api/v2/silences", Write(Some(Right::Silences))),
    (Method::GET, "/api/v2/silence/{id}", Read(Some(Right::Silences))),
    (Method::DELETE, "/api/v2/silence/{id}", Write(Some(Right::Silences))),
    (Method::GET, "/api/ioc/v1/agencies", Read(Some(Right::Query))),
    (Method::GET, "/api/ioc/v1/services", Read(Some(Right::Query))),
    (Method::GET, "/api/ioc/v1/incidents", Read(Some(Right::Query))),
    (Method::GET, "/api/ioc/v1/scorecards", Read(Some(Right::Query))),
    (Method::GET, "/", Read(None)),
    (Method::GET, "/incidents", Read(None)),
    (Method::GET, "/incidents/{id}", Read(None)),
    (Method::GET, "/reports", Read(None)),
    (Method::GET, "/reports/{week}", Read(None)),
    (Method::GET, "/status", Read(None)),
    (Method::GET, "/runbooks/{name}", Read(None)),
    (Method::GET, "/assets/style.css", Read(None)),
];

/// The access of a route; `None` if the table does not know it.
pub fn of(method: &Method, path: &str) -> Option<Access> {
    // What answers GET answers HEAD.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    ROUTES.iter().find(|(m, p, _)| m == method && *p == path).map(|(_, _, access)| *access)
}

/// What is known of who asks.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    pub peer: Option<IpAddr>,
    /// With the port, as sent.
    pub host: Option<&'a str>,
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`: the browser's own word for where a request comes from.
    pub fetch_site: Option<&'a str>,
    /// A proxy said that it forwards.
    pub forwarded: bool,
    /// The whole `Authorization` header.
    pub authorization: Option<&'a str>,
}

/// Who asks, as the guard found out; every handler finds it in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's or token's name; `local` for who comes from this machine without either. For timelines and records.
    pub name: String,
    /// Sees and writes this agency only; `None` all of them.
    pub agency: Option<Id>,
}

impl Identity {
    /// Someone on this machine, where no users file asks for more.
    pub fn local() -> Identity {
        Identity { name: "local".to_owned(), agency: None }
    }

    pub fn sees(&self, agency: &str) -> bool {
        self.agency.as_ref().is_none_or(|own| own.as_str() == agency)
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// The route is not in the table.
    UnknownRoute,
    /// 401: the credentials are wrong.
    BadToken,
    /// The token does not have the right, or not for all agencies.
    NoRight,
    /// The `Host` is not one of ours.
    ForeignHost,
    /// The request comes from a page that is not ours.
    ForeignOrigin,
    /// Forwarded by a proxy, or not from this machine.
    NotLocal,
}

impl Denial {
    pub fn message(self) -> &'static str {
        match self {
            Denial::UnknownRoute => "no access is defined for this path",
            Denial::BadToken => "the Authorization header holds no known bearer token",
            Denial::NoRight => "the token has not the right to do this",
            Denial::ForeignHost => "the Host header is neither a loopback address nor the site's external_url",
            Denial::ForeignOrigin => "the request comes from a page of another site",
            Denial::NotLocal => "without a token this is open to this machine only, and not through a proxy",
        }
    }
}

/// Decides. `external_host` is the host of the site's external URL.
pub fn decide(
    access: Access,
    situation: &Situation<'_>,
    tokens: &[Token],
    external_host: Option<&str>,
) -> Result<Identity, Denial> {
    let right = match access {
        Public => return Ok(Identity::local()),
        Read(right) | Write(right) => right,
    };
    if let Some(authorization) = situation.authorization {
        let token = bearer(authorization).and_then(|secret| find(tokens, secret)).ok_or(Denial::BadToken)?;
        // None of today's routes limits what it shows or takes to one agency, so a token that is limited opens none.
        let may = right.is_some_and(|right| token.may.contains(&right)) && token.agency.is_none();
        let identity = Identity { name: token.name.clone(), agency: token.agency.clone() };
        return if may { Ok(identity) } else { Err(Denial::NoRight) };
    }
    let is_local = situation.peer.is_some_and(|peer| peer.to_canonical().is_loopback()) && !situation.forwarded;
    let host = situation.host.map(without_port).ok_or(Denial::ForeignHost)?;
    match access {
        Public => Ok(Identity::local()),
        Write(_) => {
            if !is_local {
                return Err(Denial::NotLocal);
            }
            if !is_loopback_name(host) {
                return Err(Denial::ForeignHost);
            }
            same_origin(situation).map(|()| Identity::local())
        }
        Read(right) => {
            if !is_loopback_name(host) && !external_host.is_some_and(|external| external.eq_ignore_ascii_case(host)) {
                return Err(Denial::ForeignHost);
            }
            let guarded = right == Some(Right::Metrics) && tokens.iter().any(|t| t.may.contains(&Right::Metrics));
            if guarded && !is_local { Err(Denial::NotLocal) } else { Ok(Identity::local()) }
        }
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, secret) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// Compares digests, and every token every time: neither the place of the first wrong byte nor which token was nearly
/// right shows in the time it takes.
fn find<'a>(tokens: &'a [Token], secret: &str) -> Option<&'a Token> {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let given = digest(secret);
    let mut found = None;
    for token in tokens {
        let known = digest(token.secret.expose());
        let difference = given.as_ref().iter().zip(known.as_ref()).fold(0, |all, (a, b)| all | (a ^ b));
        if difference == 0 && !secret.is_empty() {
            found = Some(token);
        }
    }
    found
}

fn without_port(host: &str) -> &str {
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
mod tests {
    use super::*;
    use crate::config::{Id, Secret};

    fn token(name: &str, may: &[Right], agency: Option<&str>) -> Token {
        let agency = agency.and_then(Id::parse);
        Token {
            name: name.into(),
            secret: Secret::new(format!("s-{name}")),
            may: may.iter().copied().collect(),
            agency,
        }
    }

    fn tokens() -> Vec<Token> {
        use Right::{Alerts, Metrics, Query, Reload, Silences};
        vec![
            token("all", &[Alerts, Metrics, Query, Reload, Silences], None),
            token("none", &[], None),
            token("bound", &[Alerts, Metrics, Query, Reload, Silences], Some("tam-ky")),
        ]
    }

    fn local() -> Situation<'static> {
        Situation {
            peer: "127.0.0.1".parse().ok(),
            host: Some("127.0.0.1:9470"),
            origin: None,
            fetch_site: None,
            forwarded: false,
            authorization: None,
        }
    }

    /// Every route times every situation: what a situation allows depends on the route's access alone.
    #[test]
    fn every_route_in_every_situation() {
        use Denial::{BadToken, ForeignHost, ForeignOrigin, NoRight, NotLocal};
        let l = local();
        let ok = Ok(());
        let peer = |text: &str| text.parse().ok();
        // What happens to a read, to /metrics (with a metrics token configured), and to a write.
        type Row = (&'static str, Situation<'static>, [Result<(), Denial>; 3]);
        let rows: Vec<Row> = vec![
            ("direct", l, [ok, ok, ok]),
            ("localhost", Situation { host: Some("localhost:9470"), ..l }, [ok, ok, ok]),
            ("IPv6", Situation { peer: peer("::1"), host: Some("[::1]:9470"), ..l }, [ok, ok, ok]),
            ("IPv4 in IPv6", Situation { peer: peer("::ffff:127.0.0.1"), ..l }, [ok, ok, ok]),
            ("a name that points here", Situation { host: Some("evil.example"), ..l }, [Err(ForeignHost); 3]),
            ("a name that looks local", Situation { host: Some("127.0.0.1.evil.example"), ..l }, [Err(ForeignHost); 3]),
            ("no host", Situation { host: None, ..l }, [Err(ForeignHost); 3]),
            ("the external name", Situation { host: Some("ioc.example"), ..l }, [ok, ok, Err(ForeignHost)]),
            (
                "through a proxy",
                Situation { host: Some("ioc.example"), forwarded: true, ..l },
                [ok, Err(NotLocal), Err(NotLocal)],
            ),
            (
                "through a proxy that hides the name",
                Situation { forwarded: true, ..l },
                [ok, Err(NotLocal), Err(NotLocal)],
            ),
            ("from elsewhere", Situation { peer: peer("192.0.2.7"), ..l }, [ok, Err(NotLocal), Err(NotLocal)]),
            ("no peer known", Situation { peer: None, ..l }, [ok, Err(NotLocal), Err(NotLocal)]),
            (
                "our page",
                Situation { origin: Some("http://127.0.0.1:9470"), fetch_site: Some("same-origin"), ..l },
                [ok, ok, ok],
            ),
            ("a foreign page", Situation { origin: Some("https://evil.example"), ..l }, [ok, ok, Err(ForeignOrigin)]),
            (
                "another local program's page",
                Situation { origin: Some("http://127.0.0.1:3000"), ..l },
                [ok, ok, Err(ForeignOrigin)],
            ),
            ("a page without an origin", Situation { origin: Some("null"), ..l }, [ok, ok, Err(ForeignOrigin)]),
            (
                "a browser says cross-site",
                Situation { fetch_site: Some("cross-site"), ..l },
                [ok, ok, Err(ForeignOrigin)],
            ),
            ("a good token", Situation { authorization: Some("Bearer s-all"), ..l }, [ok, ok, ok]),
            (
                "a good token from elsewhere",
                Situation {
                    authorization: Some("bearer s-all"),
                    peer: peer("192.0.2.7"),
                    host: Some("ioc.example"),
                    forwarded: true,
                    ..l
                },
                [ok, ok, ok],
            ),
            ("a wrong token", Situation { authorization: Some("Bearer s-al"), ..l }, [Err(BadToken); 3]),
            ("an empty token", Situation { authorization: Some("Bearer "), ..l }, [Err(BadToken); 3]),
            ("another scheme", Situation { authorization: Some("Basic czphbGw="), ..l }, [Err(BadToken); 3]),
            ("a token without rights", Situation { authorization: Some("Bearer s-none"), ..l }, [Err(NoRight); 3]),
            ("a token of one agency", Situation { authorization: Some("Bearer s-bound"), ..l }, [Err(NoRight); 3]),
        ];
        for (name, situation, [read, metrics, write]) in rows {
            for (method, path, access) in ROUTES {
                let expected = match access {
                    Public => ok,
                    Read(Some(Right::Metrics)) => metrics,
                    // Pages are nobody's right: a token opens none of them.
                    Read(None) if situation.authorization.is_some() && read == ok => Err(NoRight),
                    Read(_) => read,
                    Write(_) => write,
                };
                let decided = decide(*access, &situation, &tokens(), Some("ioc.example")).map(|_| ());
                assert_eq!(decided, expected, "{name}: {method} {path}");
            }
        }
    }

    #[test]
    fn metrics_are_guarded_only_once_there_is_a_token_for_them() {
        let forwarded = Situation { forwarded: true, ..local() };
        let access = of(&Method::GET, "/metrics").unwrap();
        assert_eq!(decide(access, &forwarded, &[token("a", &[Right::Alerts], None)], None).map(|_| ()), Ok(()));
        assert_eq!(decide(access, &forwarded, &[token("m", &[Right::Metrics], None)], None), Err(Denial::NotLocal));
    }

    #[test]
    fn a_token_has_exactly_its_rights() {
        let tokens = [token("p", &[Right::Metrics, Right::Alerts], None)];
        let situation = Situation { authorization: Some("Bearer s-p"), ..local() };
        let rows = [
            (Method::GET, "/metrics", Ok(())),
            (Method::POST, "/api/v2/alerts", Ok(())),
            (Method::GET, "/api/v1/query", Err(Denial::NoRight)),
            (Method::POST, "/-/reload", Err(Denial::NoRight)),
            (Method::POST, "/api/v2/silences", Err(Denial::NoRight)),
        ];
        for (method, path, expected) in rows {
            let decided = decide(of(&method, path).unwrap(), &situation, &tokens, None).map(|_| ());
            assert_eq!(decided, expected, "{method} {path}");
        }
        assert_eq!(of(&Method::PUT, "/metrics"), None);
        assert_eq!(of(&Method::HEAD, "/metrics"), of(&Method::GET, "/metrics"));
    }
}
