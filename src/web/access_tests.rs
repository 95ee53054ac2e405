//! Tests of `access.rs`: the decision without a router.

use super::*;
use crate::config::Secret;

fn token(name: &str, may: &[Right]) -> Token {
    Token { name: name.into(), secret: Secret::new("s"), may: may.iter().copied().collect(), agency: None }
}

fn holder(may: &[Right]) -> Option<Identity> {
    Some(Identity::token(&token("t", may), &[]))
}

fn agency(id: &str, parent: Option<&str>) -> Agency {
    Agency {
        id: Id::parse(id).unwrap(),
        code: None,
        name: id.into(),
        level: None,
        parent: parent.and_then(Id::parse),
        since: None,
        until: None,
        merged_into: None,
        leader: Vec::new(),
        deputy: Vec::new(),
        areas: Default::default(),
        duty: None,
    }
}

const HOUSE: House<'_> = House { has_users: false, external_host: Some("ioc.example"), has_metrics_token: true };

fn local_peer() -> Situation<'static> {
    Situation {
        peer: "127.0.0.1".parse().ok(),
        host: Some("127.0.0.1:9470"),
        origin: None,
        fetch_site: None,
        forwarded: false,
        private: true,
    }
}

fn peer(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Without users, every route in every situation: what a situation allows depends on the route's access alone.
#[test]
fn without_users_every_route_in_every_situation() {
    use Denial::{ForeignHost, ForeignOrigin, NotLocal};
    let l = local_peer();
    let ok = Ok(());
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
        ("through a proxy that hides the name", Situation { forwarded: true, ..l }, [ok, Err(NotLocal), Err(NotLocal)]),
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
        ("a browser says cross-site", Situation { fetch_site: Some("cross-site"), ..l }, [ok, ok, Err(ForeignOrigin)]),
    ];
    for (name, situation, [read, metrics, write]) in rows {
        for route in ROUTES {
            let expected = match route.access {
                Public => ok,
                // A mail opens it from anywhere.
                Link if route.method == GET && situation.host.is_some() => ok,
                // There is nothing to log in to; a foreign page may not ask even so.
                Login | Link if write == Err(ForeignOrigin) => write,
                Login | Link if situation.host.is_none() => read,
                Login | Link => ok,
                Read if route.right == Some(Metrics) => metrics,
                Read => read,
                Write => write,
            };
            let decided = decide(route, &situation, HOUSE, None).map(|_| ());
            assert_eq!(decided, expected, "{name}: {} {}", route.method, route.path);
        }
    }
}

#[test]
fn metrics_are_guarded_only_once_there_is_a_token_for_them() {
    let forwarded = Situation { forwarded: true, ..local_peer() };
    let route = of(GET, "/metrics").unwrap();
    let open = House { has_metrics_token: false, ..HOUSE };
    assert_eq!(decide(route, &forwarded, open, None).map(|_| ()), Ok(()));
    assert_eq!(decide(route, &forwarded, HOUSE, None), Err(Denial::NotLocal));
}

/// A token proves its holder wherever they are; it has exactly its rights, and no page.
#[test]
fn a_token_has_exactly_its_rights() {
    let elsewhere = Situation { peer: peer("192.0.2.7"), host: Some("evil.example"), forwarded: true, ..local_peer() };
    for right in Right::ALL {
        for route in ROUTES.iter().filter(|route| matches!(route.access, Read | Write)) {
            let decided = decide(route, &elsewhere, HOUSE, holder(&[right])).map(|_| ());
            let expected = if route.right == Some(right) { Ok(()) } else { Err(Denial::NoRight) };
            assert_eq!(decided, expected, "{right:?} {} {}", route.method, route.path);
        }
    }
    assert!(of(&Method::PUT, "/metrics").is_none());
    assert_eq!(of(&Method::HEAD, "/metrics").map(|route| route.path), Some("/metrics"));
}

#[test]
fn an_agency_sees_itself_and_what_is_below_it() {
    let agencies = [
        agency("xa-1", Some("huyen")),
        agency("thon-1", Some("xa-1")),
        agency("huyen", Some("tinh")),
        agency("tinh", None),
        agency("khac", Some("tinh")),
    ];
    let bound = |id: &str| {
        let token = Token { agency: Id::parse(id), ..token("t", &[Query]) };
        Identity::token(&token, &agencies)
    };
    let seen = |identity: &Identity| {
        let all = ["tinh", "huyen", "xa-1", "thon-1", "khac", ""];
        all.into_iter().filter(|id| identity.sees(id)).collect::<Vec<_>>()
    };
    assert_eq!(seen(&bound("huyen")), ["huyen", "xa-1", "thon-1"]);
    assert_eq!(seen(&bound("thon-1")), ["thon-1"]);
    assert_eq!(seen(&bound("tinh")).len(), 5);
    assert_eq!(seen(&Identity::local()).len(), 6);
    assert_eq!(seen(&Identity::nobody()), [""; 0]);
}

#[test]
fn the_table_has_no_line_twice_and_no_line_that_nobody_passes() {
    for (index, route) in ROUTES.iter().enumerate() {
        let earlier = &ROUTES[..index];
        let twice = earlier.iter().any(|other| other.method == route.method && other.path == route.path);
        assert!(!twice, "{} {}", route.method, route.path);
        let is_open = matches!(route.access, Public | Login | Link);
        // Rows are handed in by programs, never by people.
        let is_for_nobody = route.roles.is_empty() && route.right.is_none();
        assert_eq!(is_open, is_for_nobody, "{} {}", route.method, route.path);
    }
}
