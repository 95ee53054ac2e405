//! Devices by the API and on their page: what is shown, filtered, paged, and to whom.

use super::AppState;
use super::devices;
use super::door_tests::{as_user, locked};
use super::tests::{House, ask, request};
use crate::config::Id;
use crate::config::devices::DeviceKind;
use crate::gather::device::fleet::{Fleet, Now, Settings};
use crate::gather::device::inventory::{Inventory, Life, Listing};
use crate::gather::device::{Hearer, Outcome};
use crate::metrics::Metrics;
use axum::Router;
use axum::http::{Method, StatusCode};
use std::sync::Arc;

/// Cameras of two agencies, one of them never heard, one retired, and two strangers, one of nobody.
pub(super) async fn fleet(state: &AppState) -> Arc<Fleet> {
    let listing = |id: &str, agency: &str, life, name: &str| Listing {
        id: Id::parse(id).unwrap(),
        kind: DeviceKind::Camera,
        agency: Id::parse(agency).unwrap(),
        site: "nvh-1".into(),
        village: "Thôn 1".into(),
        name: name.into(),
        place: Some((15.57, 108.47)),
        life,
        offline_after: None,
    };
    let devices = vec![
        listing("cam-3", "hoi-an", Life::Installed, "Cổng <chợ>"),
        listing("cam-1", "tam-ky", Life::Installed, "=Cổng"),
        listing("cam-2", "tam-ky", Life::Installed, "Sân"),
        listing("cam-4", "tam-ky", Life::Planned, "Sau"),
        listing("cam-5", "tam-ky", Life::Retired, "Cũ"),
    ];
    let (store, ledger) = (state.store().clone(), state.ledger().clone());
    let settings = Settings::new(&state.config());
    let now = Now::read();
    let metrics = Arc::new(Metrics::new());
    let inventory = Inventory { devices: devices.into_iter().map(Arc::new).collect() };
    let fleet = Fleet::open(metrics, ledger, store, settings, &inventory, now).await.unwrap();
    fleet.connect_for_test("main", now);
    let mut session = fleet.session(0, now);
    for (id, online) in [("cam-1", true), ("cam-3", false)] {
        let found = session.find(None, None, id, None).unwrap();
        session.status(found, None, online, false);
    }
    for (agency, id) in [(Some("tam-ky"), "la-1"), (None, "la-2"), (Some("=nowhere"), "la-3")] {
        let refused = session.find(agency, Some(DeviceKind::Camera), id, None);
        assert_eq!(refused.map(|_| ()), Err(Outcome::Unlisted));
    }
    drop(session);
    fleet
}

async fn furnished() -> House {
    let mut house = locked("").await;
    let routes = devices::routes(house.state.clone(), fleet(&house.state).await);
    house.router = super::router(house.state.clone(), Router::new().merge(routes));
    house
}

async fn get(house: &House, user: &str, path: &str) -> (StatusCode, String) {
    let (status, _, body) = ask(house, as_user(request(Method::GET, path), user)).await;
    (status, body)
}

fn ids(body: &str) -> String {
    let answer: serde_json::Value = serde_json::from_str(body).unwrap();
    let ids: Vec<&str> = answer["devices"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap()).collect();
    ids.join(" ")
}

#[tokio::test]
async fn devices_are_listed_filtered_paged_and_seen_by_their_agency_only() {
    let house = furnished().await;
    let path = "/api/ioc/v1/devices";
    for (user, query, expected) in [
        ("viewer", "", "cam-1 cam-2 cam-3 cam-4 cam-5 la-1 la-2 la-3"),
        ("viewer", "?listed=installed&heard=false", "cam-2"),
        ("viewer", "?listed=unlisted,discovered", "la-1 la-2 la-3"),
        ("viewer", "?state=down", "cam-3"),
        ("viewer", "?state=unknown", "cam-2"),
        ("viewer", "?agency=tam-ky&listed=planned,retired", "cam-4 cam-5"),
        ("viewer", "?kind=hotspot", ""),
        ("viewer", "?village=Th%C3%B4n%201&state=up", "cam-1"),
        ("viewer", "?site=nvh-2", ""),
        ("viewer-tk", "", "cam-1 cam-2 cam-4 cam-5 la-1"),
        ("viewer-tk", "?agency=hoi-an", ""),
    ] {
        let (status, body) = get(&house, user, &format!("{path}{query}")).await;
        assert_eq!((status, ids(&body)), (StatusCode::OK, expected.to_string()), "{user} {query}");
    }
    let (mut after, mut paged) = (String::new(), Vec::new());
    loop {
        let (_, body) = get(&house, "viewer", &format!("{path}?limit=3{after}")).await;
        paged.push(ids(&body));
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let Some(next) = answer["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(paged, ["cam-1 cam-2 cam-3", "cam-4 cam-5 la-1", "la-2 la-3"]);
    for query in ["?kind=toaster", "?state=gone", "?listed=installed,gone", "?format=xml", "?usable=maybe"] {
        assert_eq!(get(&house, "viewer", &format!("{path}{query}")).await.0, StatusCode::BAD_REQUEST, "{query}");
    }
    let (_, csv) = get(&house, "viewer-tk", &format!("{path}?format=csv&listed=installed&heard=false")).await;
    let head = "id,kind,agency,site,village,name,lat,lon,listed,state,usable,heard,last_seen,rate_limited,flaps";
    assert_eq!(
        csv,
        format!("{head}\ncam-2,camera,tam-ky,nvh-1,Thôn 1,Sân,15.57,108.47,installed,unknown,,false,,0,0\n")
    );
    let (_, csv) = get(&house, "viewer", &format!("{path}?format=csv&state=up")).await;
    assert!(csv.contains("'=Cổng"), "no cell that a spreadsheet computes: {csv}");
}

#[tokio::test]
async fn the_page_sets_the_inventory_beside_what_was_heard_in_both_languages() {
    let house = furnished().await;
    let (status, vi) = get(&house, "viewer", "/devices").await;
    assert_eq!(status, StatusCode::OK);
    for expected in [
        "Có trong danh mục, chưa từng nghe thấy",
        "<b>cam-2</b>",
        "Nghe thấy, không có trong danh mục",
        "<b>la-2</b>",
        "UBND TP. Tam Kỳ",
    ] {
        assert!(vi.contains(expected), "{expected} in {vi}");
    }
    let (_, en) = get(&house, "viewer-tk", "/devices?lang=en").await;
    for expected in ["Listed, never heard", "Heard, not listed", "<b>la-1</b>"] {
        assert!(en.contains(expected), "{expected} in {en}");
    }
    for foreign in ["la-2", "cam-3", "Hội An"] {
        assert!(!en.contains(foreign), "{foreign}");
    }
}
