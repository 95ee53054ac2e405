//! What the wall shows: each agency with its services, devices, payments, incidents and last score. Read from the metrics
//! and the ledger, so that it shows what dashboards and rules see.

use super::AppState;
use super::access::Identity;
use crate::attribution::{State, Subject, SubjectKind};
use crate::config::Config;
use crate::config::devices::DeviceKind;
use crate::config::site::Language;
use crate::format;
use crate::metrics::{Column, Metrics, columns};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;

#[derive(Debug, Clone, Serialize, Default)]
pub struct AgencyView {
    pub id: String,
    pub name: String,
    /// red | orange | green | none
    pub colour: &'static str,
    pub services: Vec<ServiceView>,
    pub cameras: Devices,
    pub hotspots: Devices,
    pub mismatches: f64,
    pub mismatch_dong: f64,
    pub incidents: f64,
    /// Whether one of them is critical.
    pub critical: bool,
    pub score: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ServiceView {
    pub id: String,
    pub name: String,
    pub kind: &'static str,
    /// up | down | unknown
    pub state: &'static str,
    /// Microseconds since 1970 UTC.
    pub since_us: Option<i64>,
    /// `12 phút`
    pub lasting: Option<String>,
    /// Days until the leaf certificate expires.
    pub certificate_days: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize, Default)]
pub struct Devices {
    pub installed: u32,
    pub up: u32,
    pub usable: u32,
    /// Known not to do what they are for, speaking or not.
    pub unusable: u32,
    /// Neither up nor down.
    pub unknown: u32,
}

/// Every agency that has something to show and that `identity` sees, in the order of the file.
pub fn agencies(state: &AppState, identity: &Identity, language: Language, now: Timestamp) -> Vec<AgencyView> {
    let mut views = all(state, identity, language, now);
    views.retain(AgencyView::has_something);
    views
}

/// Every agency that `identity` sees.
pub fn all(state: &AppState, identity: &Identity, language: Language, now: Timestamp) -> Vec<AgencyView> {
    let config = state.config();
    let mut views: Vec<AgencyView> = config
        .agencies
        .iter()
        .filter(|agency| identity.sees(&agency.id))
        .map(|agency| AgencyView { id: agency.id.to_string(), name: agency.name.clone(), ..AgencyView::default() })
        .collect();
    let places: HashMap<String, usize> =
        views.iter().enumerate().map(|(place, view)| (view.id.clone(), place)).collect();
    let mut view = |agency: &str, change: &mut dyn FnMut(&mut AgencyView)| {
        if let Some(place) = places.get(agency) {
            change(&mut views[*place]);
        }
    };
    for service in services(state, &config, language, now) {
        view(&service.0, &mut |view| view.services.push(service.1.clone()));
    }
    let metrics = state.metrics();
    devices(metrics, &mut view);
    rows(metrics, columns::payment_mismatch::TABLE, |labels, value| {
        view(labels[0], &mut |view| {
            view.mismatches += value(columns::payment_mismatch::OPEN).unwrap_or(0.0);
            view.mismatch_dong += value(columns::payment_mismatch::AMOUNT).unwrap_or(0.0);
        });
    });
    rows(metrics, columns::incidents::TABLE, |labels, value| {
        let open = value(columns::incidents::OPEN).unwrap_or(0.0);
        view(labels[0], &mut |view| {
            view.incidents += open;
            view.critical |= open > 0.0 && &*labels[2] == "critical";
        });
    });
    rows(metrics, columns::agency_score::TABLE, |labels, value| {
        view(labels[0], &mut |view| view.score = value(columns::agency_score::SCORE));
    });
    for view in &mut views {
        view.colour = view.light();
    }
    views
}

impl AgencyView {
    fn has_something(&self) -> bool {
        !self.services.is_empty()
            || self.cameras.installed + self.hotspots.installed > 0
            || self.mismatches > 0.0
            || self.incidents > 0.0
    }

    /// Red: citizens are stopped now. Orange: something is open. None: nothing is known.
    fn light(&self) -> &'static str {
        let devices = [self.cameras, self.hotspots];
        if self.critical || self.services.iter().any(|service| service.state == "down") {
            "red"
        } else if self.incidents > 0.0
            || self.mismatches > 0.0
            || devices.iter().any(|d| d.unusable > 0 || d.up + d.unknown < d.installed)
        {
            "orange"
        } else if self.services.iter().any(|service| service.state == "up") || devices.iter().any(|d| d.up > 0) {
            "green"
        } else {
            "none"
        }
    }
}

/// The configured services with their agency.
pub fn services(state: &AppState, config: &Config, language: Language, now: Timestamp) -> Vec<(String, ServiceView)> {
    let mut expiry: HashMap<String, f64> = HashMap::new();
    rows(state.metrics(), columns::service_tls::TABLE, |labels, value| {
        if labels[3] == "leaf"
            && let Some(at) = value(columns::service_tls::EXPIRY)
        {
            expiry.insert(labels[1].to_string(), (at - now.as_second() as f64) / 86_400.0);
        }
    });
    let services = config.services.iter().map(|service| {
        let subject = Subject { kind: SubjectKind::Service, id: service.id.shared() };
        let current = state.ledger().current(&subject);
        let since = current.map(|(_, since)| since);
        let view = ServiceView {
            id: service.id.to_string(),
            name: service.name.clone(),
            kind: service.kind.as_str(),
            state: current.map_or(State::Unknown, |(state, _)| state).as_str(),
            since_us: since.map(crate::store::micros),
            lasting: since.map(|since| {
                let length = Duration::try_from(now.duration_since(since)).unwrap_or_default();
                format::duration(length, language)
            }),
            certificate_days: expiry.get(service.id.as_str()).copied(),
        };
        (service.agency.to_string(), view)
    });
    services.collect()
}

fn devices(metrics: &Metrics, view: &mut impl FnMut(&str, &mut dyn FnMut(&mut AgencyView))) {
    rows(metrics, columns::device::TABLE, |labels, value| {
        if value(columns::device::INSTALLED) != Some(1.0) {
            return;
        }
        let (up, usable) = (value(columns::device::UP), value(columns::device::USABLE));
        view(labels[0], &mut |view| {
            let is_camera = &*labels[1] == DeviceKind::Camera.as_str();
            let devices = if is_camera { &mut view.cameras } else { &mut view.hotspots };
            devices.installed += 1;
            devices.up += u32::from(up == Some(1.0));
            devices.unknown += u32::from(up.is_none());
            devices.usable += u32::from(usable == Some(1.0));
            devices.unusable += u32::from(usable == Some(0.0));
        });
    });
}

/// Calls `each` with the labels of every row and a reader of its cells.
pub(super) fn rows(
    metrics: &Metrics,
    table: crate::metrics::TableId,
    mut each: impl FnMut(&[&str], &dyn Fn(Column) -> Option<f64>),
) {
    let table = metrics.table(table);
    let snapshot = table.snapshot();
    let mut labels = Vec::new();
    for row in 0..snapshot.rows() {
        if snapshot.values(row, &mut labels) {
            each(&labels, &|column| snapshot.value(row, column));
        }
    }
}
